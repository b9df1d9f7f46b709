//! A restore before and while it is carried out: the plan, or the work on it.

use maud::{Markup, html};

use super::restore_undo::{self, Before};
use super::{Named, diff::CollectionRow, restore_new::progress_steps};
use crate::{
    components::{
        Problem, alert_in_form,
        change::ChangeKind,
        form::Field,
        job::{self, Job, Kind},
        stages,
        system::System,
        table::scrolling,
        tag::{self, Environment},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls::{self, ChangesQuery},
};

/// Something that was looked at before writing.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it allows the restore.
    pub ok: bool,
    /// Whether it allows the restore but should be read first.
    pub warns: bool,
    /// What was seen.
    pub detail: String,
}

/// What a restore would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was looked at.
    pub preflight: Vec<Check>,
    /// Exactly what would be written.
    pub preview: Vec<CollectionRow>,
    /// Whether the records that would be written can be listed: not for ever.
    pub has_pages: bool,
    /// What to type.
    pub confirm_phrase: String,
    /// The write URL as typed, without its password.
    pub url_without_password: String,
    /// Whether a password was taken out of it.
    pub password_removed: bool,
    /// Why the confirmation was not accepted.
    pub problem: Option<Problem>,
}

impl Plan {
    fn is_ready(&self) -> bool {
        self.preflight.iter().all(|check| check.ok)
    }
}

/// What there is to show.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Planning or restoring, or having failed at it.
    Job(Box<Job>),
    /// Planned: to be confirmed.
    Planned(Plan),
}

/// A restore without a result.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The frame.
    pub shell: Shell,
    /// Its id.
    pub id: String,
    /// Where it belongs.
    pub project: Named,
    /// The snapshot's database.
    pub database: Named,
    /// What that is for.
    pub environment: Environment,
    /// The snapshot.
    pub snapshot: String,
    /// When that was taken.
    pub at_ms: i64,
    /// Of which system it is.
    pub system: System,
    /// Host, port and database of the target.
    pub target: String,
    /// Whether tables that hold rows are written.
    pub in_place: bool,
    /// Where in the target the collections go, where that is not what they are called.
    pub placement: Option<String>,
    /// Where it stands.
    pub stage: Stage,
    /// Of a restore in place that ended early: what was there before, and the way back.
    pub before: Option<Before>,
}

impl Restore {
    /// To be confirmed, after a wrong phrase.
    pub fn sample() -> Self {
        let check = |name: &str, ok, detail: &str| Check {
            name: name.to_owned(),
            ok,
            warns: false,
            detail: detail.to_owned(),
        };
        let mut preview = match super::diff::Diff::sample().outcome {
            super::diff::Outcome::Summary(rows) => rows,
            super::diff::Outcome::Job(_) => Vec::new(),
        };
        for row in &mut preview {
            let records = row.counts.unchanged + row.counts.added + row.counts.changed;
            row.counts = crate::components::change::Counts { added: records, ..Default::default() };
            row.schema_changes.clear();
            row.rekeyed = None;
        }
        Self {
            shell: Shell::sample(),
            id: "r1".to_owned(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            snapshot: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            system: System::PostgreSql,
            target: "localhost:5432/shop_restored".to_owned(),
            in_place: false,
            placement: None,
            stage: Stage::Planned(Plan {
                preflight: vec![
                    check("Target reachable", true, "PostgreSQL 17.2 on localhost:5432"),
                    check("Target empty", true, "The database does not exist and will be created"),
                    check("Extensions", true, "pg_trgm 1.6 is available"),
                ],
                preview,
                has_pages: false,
                confirm_phrase: "restore into shop_restored".to_owned(),
                url_without_password: "postgresql://admin@localhost:5432/shop_restored".to_owned(),
                password_removed: true,
                problem: Some(Problem::new("The phrase does not match.")),
            }),
            before: None,
        }
    }

    /// Into the tables that were backed up.
    pub fn sample_in_place() -> Self {
        let mut view = Self { in_place: true, target: "localhost:5432/shop".to_owned(), ..Self::sample() };
        if let (Stage::Planned(plan), super::diff::Outcome::Summary(rows)) =
            (&mut view.stage, super::diff::Diff::sample().outcome)
        {
            plan.preview = rows;
            plan.preview.iter_mut().for_each(|row| row.schema_changes.clear());
            plan.has_pages = true;
            plan.confirm_phrase = "shop".to_owned();
            plan.url_without_password = String::new();
            plan.password_removed = false;
            plan.problem = None;
            let check = |name: &str, warns, detail: &str| Check {
                name: name.to_owned(),
                ok: true,
                warns,
                detail: detail.to_owned(),
            };
            plan.preflight = vec![
                check("Target database", false, "PostgreSQL 17.2; the snapshot's source was 17.2"),
                check(
                    "Tables",
                    true,
                    "13 tables can be written, and these stay as they are: public.audit: the target's table has a column that the snapshot's has not: origin",
                ),
                check(
                    "Right to write",
                    false,
                    "reader may not write public.orders, which is enough to plan: carrying the plan out takes a user with SELECT, INSERT, UPDATE and DELETE on them",
                ),
                check("Triggers", false, "triggers on these tables are off while rows are written"),
            ];
        }
        view
    }

    /// One that the preflight refuses.
    pub fn sample_refused() -> Self {
        let mut view = Self::sample();
        if let Stage::Planned(plan) = &mut view.stage {
            plan.problem = None;
            plan.preflight[2].ok = false;
            plan.preflight[2].detail =
                "The extension postgis 3.5 is not available on the target: install it there".to_owned();
        }
        view
    }

    /// One of a snapshot that lacks something.
    pub fn sample_incomplete() -> Self {
        let mut view = Self::sample();
        if let Stage::Planned(plan) = &mut view.stage {
            plan.problem = None;
            let detail = "incomplete: these, or their definitions, were not read, and will be missing, empty or without \
                          what is theirs alone: public.payroll"
                .to_owned();
            plan.preflight.push(Check { name: "Snapshot".to_owned(), ok: true, warns: true, detail });
        }
        view
    }

    /// Some collections of a MongoDB snapshot.
    pub fn sample_documents() -> Self {
        let mut view = Self::sample();
        view.system = System::MongoDb;
        view.target = "localhost:27017/shop_restored".to_owned();
        view.placement = Some("Every collection goes into the database shop_restored.".to_owned());
        if let Stage::Planned(plan) = &mut view.stage {
            plan.problem = None;
            plan.preflight.truncate(2);
            plan.preflight[0].detail = "MongoDB 8.0.4 on localhost:27017".to_owned();
            plan.preflight[1].detail = "None of the collections exists yet".to_owned();
            plan.preview.truncate(2);
            plan.preview[0].name = "shop.orders".to_owned();
            plan.preview[1].name = "shop.customers".to_owned();
            plan.confirm_phrase = "shop_restored".to_owned();
            plan.url_without_password = "mongodb://admin@localhost:27017/shop_restored".to_owned();
        }
        view
    }

    /// Documents, in place, in more than one transaction.
    pub fn sample_documents_in_place() -> Self {
        let mut view = Self { in_place: true, ..Self::sample_documents() };
        view.target = "localhost:27017/shop".to_owned();
        view.placement = Some("Every collection goes into the database shop.".to_owned());
        if let Stage::Planned(plan) = &mut view.stage {
            plan.preflight[1] = Check {
                name: "Transactions".to_owned(),
                ok: true,
                warns: true,
                detail: "23411 documents in 3 transactions, since one takes at most 10000 documents and 16 MiB. If one \
                         fails, what those before it wrote stays, and can be undone"
                    .to_owned(),
            };
            plan.has_pages = true;
            plan.confirm_phrase = "shop".to_owned();
            plan.url_without_password = String::new();
            plan.password_removed = false;
        }
        view
    }

    /// Ended by somebody else's writes after it had written some.
    pub fn sample_cut_off() -> Self {
        let mut job = Job { kind: Kind::Restore, ..Job::sample_failed() };
        let problem = Problem::new("shop.orders: another transaction keeps writing to the same documents")
            .with_fix("What was written stays. Undo the restore to take back what was written.");
        job.problem = Some(problem);
        let stage = Stage::Job(Box::new(job));
        Self { stage, before: Some(Before::sample_documents()), ..Self::sample_documents_in_place() }
    }

    /// While rows are written.
    pub fn sample_running() -> Self {
        let job = Job { kind: Kind::Restore, ..Job::sample() };
        Self { stage: Stage::Job(Box::new(job)), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Restore) -> Markup {
    let (step, running) = match &view.stage {
        Stage::Planned(_) => (2, false),
        Stage::Job(job) if job.kind == Kind::RestorePlan => (2, job.state.is_open()),
        Stage::Job(job) => (3, job.state.is_open()),
    };
    let body = html! {
        h1 { "Restore " (view.database.name) " " (tag::environment(view.environment)) }
        (progress_steps(step))
        (route(view))
        @match &view.stage {
            Stage::Job(job) => {
                section.card.padded aria-label="Progress" {
                    (job::live(job, view.shell.now_ms, &urls::restore(&view.id)))
                }
                @if let Some(before) = &view.before { (restore_undo::section(before, view.shell.now_ms)) }
                @if !running {
                    p { a.button href=(urls::restore_new(&view.snapshot)) { "Start again" } }
                }
            }
            Stage::Planned(plan) => { (planned(view, plan)) }
        }
    };
    let crumbs = super::restores::crumbs();
    Frame::new(&view.shell, &format!("Restore {}", view.database.name), Section::Restores, &crumbs)
        .refreshing(running || view.before.as_ref().is_some_and(Before::is_open))
        .render(&body)
}

fn route(view: &Restore) -> Markup {
    html! {
        dl.facts.card.padded {
            (crate::components::fact("From", &html! {
                a href=(urls::snapshot(&view.snapshot)) { "Snapshot of " (view.database.name) } ", "
                (format::time(view.at_ms, view.shell.now_ms))
            }))
            (crate::components::fact("Into", &html! {
                code { (view.target) }
                @if let Some(placement) = &view.placement { div.sub { (placement) } }
            }))
        }
    }
}

fn planned(view: &Restore, plan: &Plan) -> Markup {
    let (warnings, checks): (Vec<&Check>, Vec<&Check>) =
        plan.preflight.iter().partition(|check| check.ok && check.warns);
    html! {
        @for check in warnings {
            (warning(&html! { p { strong { (check.name) ": " } (check.detail) } }))
        }
        section.card.padded aria-labelledby="preflight" {
            h2 #preflight { "Checks" }
            ol.stages { @for check in checks { (stages::row(Some(check.ok), &check.name, &check.detail, None)) } }
        }
        section.card aria-label="Preview" { (preview(view, plan)) }
        @if plan.is_ready() {
            (confirmation(view, plan))
        } @else {
            div.notice.bad {
                p { strong { "This restore would fail, so it is not offered." } " Mend what the checks name, then plan again." }
                p { a.button href=(urls::restore_new(&view.snapshot)) { "Plan again" } }
            }
        }
    }
}

/// What is done to records, in the order of [`ChangeKind::ALL`].
const WRITES: [&str; 3] = ["Inserts", "Updates", "Deletes"];

fn preview(view: &Restore, plan: &Plan) -> Markup {
    let (system, rows) = (view.system, &plan.preview);
    let total = |kind| rows.iter().map(|row| row.counts.of(kind)).sum::<u64>();
    scrolling(
        "What will be written",
        &html! {
            table.tally.stacked {
                caption {
                    "What will be written: " (format::count_of(total(ChangeKind::Added), "insert")) ", "
                    (format::count_of(total(ChangeKind::Changed), "update")) ", "
                    (format::count_of(total(ChangeKind::Removed), "delete"))
                }
                thead { tr {
                    th scope="col" { (system.collection_heading()) }
                    @for heading in WRITES { th.num scope="col" { (heading) } }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { code { (row.name) } }
                            @for (kind, heading) in ChangeKind::ALL.into_iter().zip(WRITES) {
                                td.num data-label=(heading) { (count(view, plan, row, kind)) }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// How many, and the way to see which.
fn count(view: &Restore, plan: &Plan, row: &CollectionRow, kind: ChangeKind) -> Markup {
    let n = row.counts.of(kind);
    let query = ChangesQuery { kind: Some(kind.as_str()), ..ChangesQuery::default() };
    html! {
        @if n > 0 && plan.has_pages {
            a href=(urls::changes_at(urls::restore_changes(&view.id, &row.name), &query)) { (format::count(n)) }
        } @else {
            (format::count(n))
        }
    }
}

fn confirmation(view: &Restore, plan: &Plan) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    let label = format!("Type \u{201c}{}\u{201d} to confirm", plan.confirm_phrase);
    html! {
        form.stack.card.padded method="post" action=(urls::restore_apply(&view.id)) {
            h2 { "Confirm" }
            @if view.in_place {
                p {
                    @match view.system {
                        System::PostgreSql => {
                            "This writes into tables that are in use. They are locked against other writers meanwhile. First "
                            "what they hold is kept in a safety snapshot; then the rows above are written, read again and "
                            "compared. Unless everything is as planned, nothing is changed."
                        }
                        System::MongoDb => {
                            "This writes into collections that are in use, and keeps nobody from writing meanwhile. First what "
                            "they hold is kept in a safety snapshot. Then the documents above are written in transactions, each "
                            "of which comes into effect only if they still hold what was read of them, and what they are to "
                            "hold afterwards. At the end everything is read again and compared."
                        }
                    }
                }
            }
            @if let Some(problem) = &plan.problem { (alert_in_form(problem)) }
            (Field::code("url", "URL with the right to write", &plan.url_without_password)
                .hint("The same server and database. Used once for this restore, never stored.")
                .error(plan.password_removed.then_some(removed))
                .render())
            (Field::code("confirm", &label, "").render())
            div.actions {
                button.primary type="submit" { "Restore into " (view.target) }
                a.button href=(urls::snapshot(&view.snapshot)) { "Cancel" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_phrase_is_told_where_the_page_is_opened() {
        let html = page(&Restore::sample()).into_string();
        let (_, form) = html.split_once("action=\"/restores/r1/apply\"").unwrap();
        assert!(
            form.contains("tabindex=\"-1\" autofocus><div class=\"notice bad\" role=\"alert\""),
            "{form}"
        );
        let fresh = page(&Restore::sample_in_place()).into_string();
        assert!(!fresh.contains("autofocus"), "{fresh}");
    }

    #[test]
    fn an_incomplete_snapshot_is_a_warning_and_no_passed_check() {
        let html = page(&Restore::sample_incomplete()).into_string();
        let (before, checks) = html.split_once("id=\"preflight\"").unwrap();
        assert!(before.contains("notice warn") && before.contains("public.payroll"), "{before}");
        assert!(!checks.contains("incomplete") && checks.contains("Type"), "{checks}");
    }
}
