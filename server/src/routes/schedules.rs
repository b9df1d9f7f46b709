//! A database's schedule: shown, previewed, set and removed.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use engine::repo::Snapshot;
use engine::retention::{Keep, Reason};
use serde::Deserialize;
use web::pages::schedule::{self as page_of, CatchUp, DueTime, InForce, Judged, Preview};
use web::urls;

use super::databases::{Backups, backups_of};
use super::place::{Place, id};
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::DatabaseId;
use crate::jobs::Job;
use crate::meta::Schedule;
use crate::schedule::{Frequency, Weekday};
use crate::service::databases;
use crate::service::schedules::{self, NewSchedule};

/// What the form sends.
#[derive(Clone, Debug, Deserialize)]
pub struct Typed {
    /// Empty for every day.
    weekday: String,
    time: String,
    timezone: String,
    last: String,
    daily: String,
    weekly: String,
    monthly: String,
    /// What the preview showed that was seen.
    reviewed: Option<String>,
    action: Action,
}

/// Which of the form's buttons was pressed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Save,
    Preview,
}

impl Typed {
    /// What stands in a form that nobody has filled in yet.
    fn of(schedule: Option<&Schedule>) -> Self {
        let keep = schedule.map(|schedule| schedule.keep).unwrap_or_default();
        let number = |count: Option<u32>| count.map(|count| count.to_string()).unwrap_or_default();
        let timing = schedule.map(|schedule| &schedule.timing);
        Self {
            weekday: timing.and_then(crate::schedule::Timing::weekday).map(value).unwrap_or_default(),
            time: timing.map_or_else(|| "02:00".to_owned(), crate::schedule::Timing::time),
            timezone: timing.map_or("UTC", |timing| timing.timezone()).to_owned(),
            last: number(keep.last),
            daily: number(keep.daily),
            weekly: number(keep.weekly),
            monthly: number(keep.monthly),
            reviewed: None,
            action: Action::Preview,
        }
    }

    fn schedule(&self) -> Result<NewSchedule> {
        let count = |field: &str, text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Problem::invalid(field, "Give a number, or nothing.")),
        };
        let weekday = Weekday::ALL.into_iter().find(|weekday| value(*weekday) == self.weekday);
        if weekday.is_none() && !self.weekday.is_empty() {
            return Err(Problem::invalid("weekday", "Choose a day of the week, or every day."));
        }
        Ok(NewSchedule {
            frequency: weekday.map_or(Frequency::Daily, |_| Frequency::Weekly),
            weekday,
            time: self.time.clone(),
            timezone: self.timezone.clone(),
            keep: Keep {
                last: count("last", &self.last)?,
                daily: count("daily", &self.daily)?,
                weekly: count("weekly", &self.weekly)?,
                monthly: count("monthly", &self.monthly)?,
            },
        })
    }

    /// What a preview shows, in one text: the rules, the zone that their days are of, and which snapshots go
    /// by them now. Where others would go by the time it is saved, it is shown again.
    fn review(&self, removed: &[Snapshot]) -> String {
        let Self { last, daily, weekly, monthly, timezone, .. } = self;
        let rules = [last, daily, weekly, monthly, timezone].map(|text| text.trim()).join(",");
        let mut going = blake3::Hasher::new();
        for snapshot in removed {
            going.update(&snapshot.id.0);
        }
        let going = going.finalize().to_hex();
        format!("{rules};{}:{}", removed.len(), &going[..16])
    }
}

fn value(weekday: Weekday) -> String {
    weekday.name().to_lowercase()
}

/// The schedule, and the form that changes it.
pub async fn form(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    let schedule = schedules::find(&app, visitor.user_id, id).await?;
    let typed = Typed::of(schedule.as_ref());
    Ok(html(page_of::page(&view(&app, &visitor, id, &typed).await?)))
}

/// Sets the schedule. Other rules than before are saved only once it was seen what they do.
pub async fn save(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    let view = view(&app, &visitor, id, &typed).await?;
    match saved(&app, &visitor, id, &typed).await {
        Ok(None) => Ok(see_other(&urls::schedule(&database))),
        Ok(Some((preview, reviewed))) => {
            let view = page_of::Schedule { preview: Some(preview), reviewed, ..view };
            Ok(html(page_of::page(&view)))
        }
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let view = page_of::Schedule { problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, page_of::page(&view)))
        }
    }
}

/// Saves it, or gives the preview that is to be seen before, and what shows that it was.
async fn saved(
    app: &App,
    visitor: &Visitor,
    id: DatabaseId,
    typed: &Typed,
) -> Result<Option<(Preview, String)>> {
    let new = typed.schedule()?;
    let preview = schedules::preview(app, visitor.user_id, id, &new).await?;
    let is_harmless = preview.removed.is_empty() && !schedules::changes_rules(app, id, &new).await?;
    let review = typed.review(&preview.removed);
    let seen = is_harmless || typed.reviewed.as_ref() == Some(&review);
    if typed.action == Action::Save && seen {
        schedules::set(app, visitor.user_id, id, new).await?;
        return Ok(None);
    }
    let freed = schedules::freed(app, visitor.user_id, id, &preview).await?;
    let kept = preview.kept.iter().map(|(snapshot, reasons)| judged(snapshot, reasons));
    let removed = preview.removed.iter().map(|snapshot| judged(snapshot, &[]));
    let freed_bytes = freed.map(|freed| freed.bytes);
    Ok(Some((Preview { kept: kept.collect(), removed: removed.collect(), freed_bytes }, review)))
}

/// Removes the schedule.
pub async fn remove(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    schedules::remove(&app, visitor.user_id, id).await?;
    Ok(see_other(&urls::schedule(&database)))
}

async fn view(app: &App, visitor: &Visitor, id: DatabaseId, typed: &Typed) -> Result<page_of::Schedule> {
    databases::find(app, visitor.user_id, id).await?;
    let place = Place::of(app, visitor, id).await?;
    let schedule = schedules::find(app, visitor.user_id, id).await?;
    let backups = backups_of(app, &place.database).await?;
    let in_force = schedule.map(|schedule| InForce {
        words: schedule.timing.to_string(),
        next_runs: schedules::next_runs(app, &schedule)
            .into_iter()
            .map(|at_ms| DueTime { at_ms, local: schedule.timing.local(at_ms) })
            .collect(),
        missed: schedules::missed(&schedule, &place.database, app.now_ms())
            .map(|found| missed(found, &backups)),
    });
    let Typed { last, daily, weekly, monthly, .. } = typed.clone();
    Ok(page_of::Schedule {
        shell: shell(app, visitor),
        database: place.named(),
        project: place.project,
        in_force,
        weekday: typed.weekday.clone(),
        weekdays: Weekday::ALL.map(|weekday| (value(weekday), weekday.name().to_owned())).to_vec(),
        time: typed.time.clone(),
        timezone: typed.timezone.clone(),
        keep: page_of::keep_fields([last, daily, weekly, monthly]),
        preview: None,
        reviewed: String::new(),
        problem: None,
    })
}

/// Missed runs as pages show them.
pub(super) fn missed(missed: schedules::Missed, backups: &Backups) -> page_of::Missed {
    let schedules::Missed { last_ms, runs, because, is_caught_up } = missed;
    // One that began before a run was due does not hold what was there by then.
    let would_do = |job: &Job| job.record.started_ms.is_none_or(|began_ms| began_ms >= last_ms);
    let catch_up = if is_caught_up {
        CatchUp::Done
    } else if backups.open.iter().any(would_do) {
        CatchUp::Underway
    } else {
        CatchUp::NotYet
    };
    page_of::Missed { last_ms, runs, because, catch_up }
}

fn judged(snapshot: &Snapshot, reasons: &[Reason]) -> Judged {
    let words = |reason: &Reason| match reason {
        Reason::NoRules => "there are no rules",
        Reason::Pinned => "pinned",
        Reason::NewestComplete => "the newest complete one",
        Reason::NotYet => "dated later than now",
        Reason::NothingNewerIsComplete => "incomplete, and nothing newer is complete",
        Reason::Last => "among the newest",
        Reason::Daily => "the newest of its day",
        Reason::Weekly => "the newest of its week",
        Reason::Monthly => "the newest of its month",
    };
    Judged {
        id: snapshot.id.to_string(),
        at_ms: snapshot.manifest.started_ms,
        reasons: reasons.iter().map(|reason| words(reason).to_owned()).collect(),
    }
}
