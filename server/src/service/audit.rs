//! What was done, by whom, and how it ended: recording it, and reading it back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

use crate::app::App;
use crate::audit::{Actor, Entry, Event, Filter, Outcome, action};
use crate::auth::Visitor;
use crate::error::{Problem, Result};
use crate::ids::UserId;
use crate::meta::{Page, Verified};

/// So long what somebody looked at is not told again: pages follow pages, and a log of every one would
/// hide what matters.
const READ_AGAIN_MS: i64 = 15 * 60 * 1000;

/// What was looked at lately, and by whom: the target and when it was told.
#[derive(Default)]
pub struct Readings(Mutex<HashMap<(UserId, String), i64>>);

impl Readings {
    fn is_told(&self, user: UserId, target: &str, now_ms: i64) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at_ms| (0..READ_AGAIN_MS).contains(&(now_ms - *at_ms)));
        told.contains_key(&(user, target.to_owned()))
    }

    fn tell(&self, user: UserId, target: String, now_ms: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((user, target), now_ms);
    }
}

/// Records that somebody looks at records, before they are shown. Names of tables and keys are customers'
/// data, which the log does not hold.
pub(super) async fn records_read(app: &App, user: UserId, event: Event) -> Result<()> {
    let (target, now_ms) = (event.target.clone(), app.now_ms());
    if app.readings.is_told(user, &target, now_ms) {
        return Ok(());
    }
    record(app, user, event, Ok(())).await?;
    app.readings.tell(user, target, now_ms);
    Ok(())
}

/// Records how an action of `user` ended, and hands its result on.
pub(super) async fn record<T>(app: &App, user: UserId, event: Event, done: Result<T>) -> Result<T> {
    record_in(app, Some(user), event, done).await
}

/// As [`record`], in the chain of `user` or in that of nobody.
pub(super) async fn record_in<T>(
    app: &App,
    user: Option<UserId>,
    event: Event,
    done: Result<T>,
) -> Result<T> {
    let (event, outcome) = match &done {
        Ok(_) => (event, Outcome::Succeeded),
        // Nothing that is the caller's was touched, and addresses of nothing can be made up without end.
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return done,
        Err(problem) => (event.with("problem", problem.slug), Outcome::Failed),
    };
    let written = app.meta.append_audit(user, app.now_ms(), event, outcome).await.map_err(Problem::from);
    match (done, written) {
        (done, Ok(())) => done,
        (Ok(_), Err(problem)) => Err(problem),
        (Err(first), Err(problem)) => {
            problem.log();
            Err(first)
        }
    }
}

/// Records that what was typed to confirm an action was wrong, and hands the problem on.
pub(super) async fn not_confirmed(app: &App, user: UserId, event: Event, problem: Problem) -> Problem {
    let event = event.with("confirmed", false);
    record(app, user, event, Err::<(), _>(problem)).await.expect_err("because a problem stays one")
}

/// Records that a refresh token came twice.
pub(super) async fn token_reused(app: &App, user: UserId, session: String) -> Result<()> {
    let event = Event::new(action::TOKEN_REUSED, format!("session/{session}")).by(Actor::Unknown);
    Ok(app.meta.append_audit(Some(user), app.now_ms(), event, Outcome::Failed).await?)
}

/// The caller's entries, newest first.
pub async fn list(
    app: &App,
    visitor: &Visitor,
    filter: Filter,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<Entry>> {
    let before = match cursor {
        None => None,
        Some(cursor) => Some(cursor.parse().map_err(|_| Problem::wrong_cursor())?),
    };
    Ok(app.meta.audit_entries(visitor.user_id, filter, before, limit).await?)
}

/// Follows the caller's chain from end to end.
pub async fn verify(app: &App, visitor: &Visitor) -> Result<Verified> {
    let verified = app.meta.verify_audit(visitor.user_id).await?;
    if let Some(found) = verified.broken {
        tracing::error!(user = %visitor.user_id, seq = found.at(), what = found.describe(), "the audit log is not what was written");
    }
    Ok(verified)
}

/// Records that the caller's entries are exported. What is exported begins after that.
pub async fn begin_export(app: &App, visitor: &Visitor) -> Result<()> {
    let event = Event::new(action::AUDIT_EXPORT, account(visitor.user_id));
    record(app, visitor.user_id, event, Ok(())).await
}

/// Some of the caller's lines behind number `after`, and the number to go on behind.
pub async fn lines(
    app: &App,
    user: UserId,
    filter: Filter,
    after: u64,
) -> Result<Option<(Vec<String>, u64)>> {
    Ok(app.meta.audit_lines(user, filter, after).await?)
}

/// A moment of a filter: RFC 3339, or a date, which means its beginning in UTC.
pub fn moment(field: &str, text: &str) -> Result<String> {
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    let moment = moment.ok_or_else(|| {
        Problem::invalid(field, "Give a moment such as 2026-02-03T14:00:00Z, or a date such as 2026-02-03.")
    })?;
    Ok(crate::api::rfc3339(moment.as_millisecond()))
}

/// An account as a target.
pub(super) fn account(user: UserId) -> String {
    format!("account/{user}")
}

/// A project as a target.
pub(super) fn project(id: crate::ids::ProjectId) -> String {
    format!("project/{id}")
}

/// A database as a target.
pub(super) fn database(id: crate::ids::DatabaseId) -> String {
    format!("database/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_dates() {
        assert_eq!(moment("from", "2026-02-03").unwrap(), "2026-02-03T00:00:00.000Z");
        assert_eq!(moment("from", "2026-02-03T14:00:00+02:00").unwrap(), "2026-02-03T12:00:00.000Z");
        assert!(moment("from", "yesterday").is_err());
    }
}
