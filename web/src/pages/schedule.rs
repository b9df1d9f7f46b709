//! When a database is backed up by itself, and which snapshots stay.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert,
        form::{Field, post_button},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// The rules for keeping snapshots: a form field's name, its label, and what stands in it.
#[derive(Clone, Debug)]
pub struct KeepField {
    /// Its name.
    pub name: &'static str,
    /// Its label.
    pub label: &'static str,
    /// A number as typed, or nothing.
    pub value: String,
}

/// A time at which something is due.
#[derive(Clone, Debug)]
pub struct DueTime {
    /// In milliseconds since 1970.
    pub at_ms: i64,
    /// By the schedule's clocks: `Wed 2026-02-04 02:00 UTC+01:00`.
    pub local: String,
}

impl DueTime {
    /// As the schedule's clocks show it.
    pub fn render(&self) -> Markup {
        html! { time datetime=(format::rfc3339(self.at_ms)) { span.at { (self.local) } } }
    }
}

/// Runs that were missed.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The last due time of them.
    pub last_ms: i64,
    /// How many.
    pub runs: u32,
    /// Why the last was, in a sentence.
    pub because: String,
    /// What has come of it since.
    pub catch_up: CatchUp,
}

/// What has come of runs that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// A complete backup was taken since.
    Done,
    /// A backup waits or runs that would be one.
    Underway,
    /// None before the next run.
    NotYet,
}

/// The schedule in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// `every day at 02:00 Europe/Berlin`.
    pub words: String,
    /// The next three due times.
    pub next_runs: Vec<DueTime>,
    /// Runs that were missed lately.
    pub missed: Option<Missed>,
}

/// A snapshot that rules keep, or do not.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its id.
    pub id: String,
    /// When it was taken.
    pub at_ms: i64,
    /// Why it stays.
    pub reasons: Vec<String>,
}

/// What the rules in the form would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What stays, newest first.
    pub kept: Vec<Judged>,
    /// What goes, newest first.
    pub removed: Vec<Judged>,
    /// The bytes that come free with it; none where counting them takes too long.
    pub freed_bytes: Option<u64>,
}

/// The form, and what came of submitting it.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Its id and name.
    pub database: Named,
    /// The schedule in force.
    pub in_force: Option<InForce>,
    /// The weekday as chosen; empty for every day.
    pub weekday: String,
    /// The weekdays: value and name.
    pub weekdays: Vec<(String, String)>,
    /// The time of day as typed.
    pub time: String,
    /// The time zone as typed.
    pub timezone: String,
    /// The rules as typed.
    pub keep: Vec<KeepField>,
    /// What the rules as typed would do now.
    pub preview: Option<Preview>,
    /// What is sent along once the preview was seen: the rules that it is of, and what goes by them.
    pub reviewed: String,
    /// Why the form was not accepted.
    pub problem: Option<Problem>,
}

impl Schedule {
    /// A nightly schedule that missed a run.
    pub fn sample() -> Self {
        let now = crate::samples::NOW_MS;
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            in_force: Some(InForce {
                words: "every day at 02:00 Europe/Berlin".to_owned(),
                next_runs: [(1, "Wed 2026-02-04"), (2, "Thu 2026-02-05"), (3, "Fri 2026-02-06")]
                    .map(|(day, date)| DueTime {
                        at_ms: now + day * 86_400_000,
                        local: format!("{date} 02:00 UTC+01:00"),
                    })
                    .to_vec(),
                missed: Some(Missed {
                    last_ms: now - 90_000_000,
                    runs: 2,
                    because: "The server was not running then, or could not note down that a backup begins."
                        .to_owned(),
                    catch_up: CatchUp::Done,
                }),
            }),
            weekday: String::new(),
            weekdays: ["monday", "sunday"].map(|day| (day.to_owned(), day.to_owned())).to_vec(),
            time: "02:00".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            keep: keep_fields(["", "7", "4", "12"].map(str::to_owned)),
            preview: None,
            reviewed: String::new(),
            problem: None,
        }
    }

    /// One whose missed run nothing catches up for yet.
    pub fn sample_missed() -> Self {
        let mut view = Self::sample();
        if let Some(missed) = view.in_force.as_mut().and_then(|in_force| in_force.missed.as_mut()) {
            missed.catch_up = CatchUp::NotYet;
        }
        view
    }

    /// None yet.
    pub fn sample_none() -> Self {
        Self { in_force: None, keep: keep_fields(Default::default()), ..Self::sample() }
    }

    /// With rules that would remove something.
    pub fn sample_preview() -> Self {
        let judged = |days: i64, reasons: &[&str]| Judged {
            id: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - days * 86_400_000,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        };
        let preview = Preview {
            kept: vec![judged(0, &["newest complete", "daily"]), judged(1, &["daily"])],
            removed: vec![judged(2, &[])],
            freed_bytes: Some(1_234_000),
        };
        Self { preview: Some(preview), reviewed: ",2,,,UTC;1:af1349b9f5f9a1a6".to_owned(), ..Self::sample() }
    }
}

/// The fields of the rules, with what stands in them: last, daily, weekly, monthly.
pub fn keep_fields(values: [String; 4]) -> Vec<KeepField> {
    let fields =
        [("last", "Newest snapshots"), ("daily", "Days"), ("weekly", "Weeks"), ("monthly", "Months")];
    fields.into_iter().zip(values).map(|((name, label), value)| KeepField { name, label, value }).collect()
}

/// The whole page.
pub fn page(view: &Schedule) -> Markup {
    let title = format!("Schedule of {}", view.database.name);
    let body = html! {
        h1 { (title) }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @match &view.in_force {
            Some(in_force) => { (in_force_card(view, in_force)) }
            None => { p { "Nothing is scheduled: a snapshot is taken only when somebody asks for one." } }
        }
        @if let Some(preview) = &view.preview { (preview_card(preview, view.shell.now_ms)) }
        (form(view))
    };
    let crumbs = super::snapshot::crumbs(&view.project, &view.database);
    Frame::new(&view.shell, &title, Section::Projects, &crumbs).render(&body)
}

fn in_force_card(view: &Schedule, in_force: &InForce) -> Markup {
    html! {
        section.card.padded aria-labelledby="in-force" {
            h2 #in-force { "A backup " (in_force.words) }
            p { "The next runs:" }
            ul { @for due in &in_force.next_runs { li { (due.render()) } } }
            @if let Some(missed) = &in_force.missed {
                (warning(&html! {
                    p {
                        (format::count_of(u64::from(missed.runs), "run")) " missed, the last one due at "
                        (format::time_absolute(missed.last_ms))
                        ". " (missed.because) " "
                        @match (missed.catch_up, in_force.next_runs.first()) {
                            (CatchUp::Done, _) => { "A backup has caught up for all of them." }
                            (CatchUp::Underway, _) => { "One backup catches up for all of them, and waits or runs now." }
                            (CatchUp::NotYet, Some(next)) => { "The next run is due on " (next.render()) "." }
                            (CatchUp::NotYet, None) => {}
                        }
                    }
                }))
            }
            (post_button(&urls::schedule_remove(&view.database.id), "Stop backing up by schedule", "danger-quiet"))
        }
    }
}

fn preview_card(preview: &Preview, now_ms: i64) -> Markup {
    html! {
        section.card.padded aria-labelledby="preview" {
            h2 #preview { "What these rules do with the snapshots that are there" }
            @if preview.removed.is_empty() && preview.kept.is_empty() {
                p { "There are no snapshots yet, so nothing goes now." }
            } @else if preview.removed.is_empty() {
                p { "All " (format::count_of(preview.kept.len() as u64, "snapshot")) " stay." }
            } @else {
                p {
                    strong { (format::count_of(preview.removed.len() as u64, "snapshot")) " would go" }
                    @match preview.freed_bytes {
                        Some(bytes) => { ", and with them " strong { (format::bytes(bytes)) } " that nothing else needs:" }
                        None => { ". How much would come free takes too long to count here; the page of each says what it costs:" }
                    }
                }
                ul {
                    @for snapshot in &preview.removed {
                        li { a href=(urls::snapshot(&snapshot.id)) { (format::time(snapshot.at_ms, now_ms)) } }
                    }
                }
            }
            @if !preview.kept.is_empty() {
                p { (format::count_of(preview.kept.len() as u64, "snapshot")) " would stay:" }
                ul {
                    @for snapshot in &preview.kept {
                        li {
                            a href=(urls::snapshot(&snapshot.id)) { (format::time(snapshot.at_ms, now_ms)) }
                            ": " (snapshot.reasons.join(", "))
                        }
                    }
                }
            }
            p.muted { "Nothing is changed yet: save below to put these rules in force." }
        }
    }
}

fn form(view: &Schedule) -> Markup {
    let time = Field { kind: "time", ..Field::text("time", "At", &view.time) };
    let zone = Field::text("timezone", "Time zone", &view.timezone);
    html! {
        form.stack.card.padded method="post" action=(urls::schedule(&view.database.id)) {
            h2 { @if view.in_force.is_some() { "Change it" } @else { "Back up by schedule" } }
            div.field {
                label for="weekday" { "On" }
                select #weekday name="weekday" {
                    option value="" { "Every day" }
                    @for (value, name) in &view.weekdays {
                        option value=(value) selected[*value == view.weekday] { (name) }
                    }
                }
            }
            (time.hint("A time that a day does not have, because clocks go forward over it, is as much later as they go.").render())
            (zone.hint("A name such as Europe/Berlin or UTC.").render())
            fieldset.choices {
                legend { "Keep the newest snapshot of so many" }
                @for keep in &view.keep {
                    (Field { kind: "number", optional: true, ..Field::text(keep.name, keep.label, &keep.value) }.render())
                }
            }
            p.muted { "Leave all empty to keep everything. The newest complete snapshot always stays, and so do pinned ones." }
            input type="hidden" name="reviewed" value=(view.reviewed);
            div.actions {
                button.primary type="submit" name="action" value="save" { "Save" }
                button type="submit" name="action" value="preview" { "Show what these rules keep" }
                a.button href=(urls::database_settings(&view.database.id)) { "Cancel" }
            }
        }
    }
}
