//! The page of the audit log.

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use web::pages::audit::{self as page_of, Audit, Checked, EntryRow};
use web::urls::{self, AuditQuery};

use super::{again, html, shell, shown};
use crate::api::audit::FilterQuery;
use crate::app::App;
use crate::audit::{Entry, Outcome, UNREADABLE, action};
use crate::auth::{PageUser, Visitor};
use crate::error::Result;
use crate::meta::Page;
use crate::service::audit;

const ROWS: usize = 50;

/// Actions as the filter offers them: in groups, then the groups' members by name.
const CHOICES: [(&str, &str); 17] = [
    ("account", "Account"),
    (action::SIGN_IN, "Signing in"),
    ("project", "Projects"),
    ("connection", "Connection tests"),
    ("database", "Databases"),
    ("schedule", "Schedules"),
    ("backup", "Backups"),
    ("live-diff", "Live comparisons"),
    ("snapshot", "Snapshots"),
    ("records", "Looking at records"),
    ("restore-plan", "Restore plans"),
    ("restore", "Restores"),
    ("verify", "Verifications"),
    ("prune", "Clean-ups"),
    ("job", "Cancelled jobs"),
    ("key", "Keys"),
    ("audit", "Audit log"),
];

/// Where a page of the log starts, and whether the chain is to be followed.
#[derive(Deserialize)]
pub struct Shown {
    cursor: Option<String>,
    verify: Option<String>,
}

/// The log, filtered.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Query(filter): Query<FilterQuery>,
    Query(at): Query<Shown>,
) -> Result<Response> {
    match entries(&app, &visitor, &filter, at.cursor.as_deref()).await {
        Ok(found) => {
            let view = view(&app, &visitor, &filter, found, at.cursor.is_some());
            let checked = match at.verify {
                Some(_) => Some(checked(&app, &visitor).await?),
                None => None,
            };
            Ok(html(page_of::page(&Audit { checked, ..view })))
        }
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let nothing = Page { items: Vec::new(), next_cursor: None };
            let view = view(&app, &visitor, &filter, nothing, false);
            Ok(again(&problem, page_of::page(&Audit { problem: Some(shown(&problem)), ..view })))
        }
    }
}

async fn entries(
    app: &App,
    visitor: &Visitor,
    filter: &FilterQuery,
    cursor: Option<&str>,
) -> Result<Page<Entry>> {
    audit::list(app, visitor, filter.filter()?, cursor, ROWS).await
}

async fn checked(app: &App, visitor: &Visitor) -> Result<Checked> {
    let verified = audit::verify(app, visitor).await?;
    let broken = verified.broken.map(|found| (found.at(), found.describe()));
    Ok(Checked { entries: verified.entries, broken, head: verified.head })
}

fn view(app: &App, visitor: &Visitor, filter: &FilterQuery, found: Page<Entry>, paged: bool) -> Audit {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let query = AuditQuery {
        action: text(&filter.action),
        actor: text(&filter.actor),
        target: text(&filter.target),
        result: text(&filter.result),
        from: text(&filter.from),
        to: text(&filter.to),
    };
    let next_url = found.next_cursor.map(|cursor| urls::audit_page(&query, Some(&cursor)));
    Audit {
        shell: shell(app, visitor),
        actions: CHOICES.map(|(action, words)| (action.to_owned(), words.to_owned())).to_vec(),
        actors: actors(visitor),
        results: Outcome::ALL.map(|result| result.as_str().to_owned()).to_vec(),
        rows: found.items.iter().map(row).collect(),
        first_url: paged.then(|| urls::audit_page(&query, None)),
        next_url,
        query,
        checked: None,
        problem: None,
    }
}

/// Whoever can have done something: value and words.
fn actors(visitor: &Visitor) -> Vec<(String, String)> {
    let others = [("schedule", "A schedule"), ("operator", "The operator"), ("unknown", "Somebody unknown")];
    let others = others.map(|(value, words)| (value.to_owned(), words.to_owned()));
    std::iter::once((visitor.email.clone(), visitor.email.clone())).chain(others).collect()
}

fn row(entry: &Entry) -> EntryRow {
    let fact = |(name, fact): (&String, &Value)| (name.replace('_', " "), words(fact));
    EntryRow {
        seq: entry.seq,
        at: entry.at.clone(),
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        target: entry.target.clone(),
        target_url: target_url(&entry.target),
        result: entry.result.as_str().to_owned(),
        good: entry.result == Outcome::Succeeded,
        detail: entry.detail.iter().map(fact).collect(),
        hash: entry.hash.clone(),
        is_readable: entry.action != UNREADABLE,
    }
}

/// A fact as people read it. Of the rules of a schedule those are told that are set.
fn words(fact: &Value) -> String {
    let all =
        |words: Vec<String>, none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
    match fact {
        Value::String(text) => text.clone(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        Value::Array(items) => all(items.iter().map(words).collect(), "none"),
        Value::Object(rules) => {
            let set = rules.iter().filter(|(_, rule)| !rule.is_null());
            all(set.map(|(name, rule)| format!("{name} {}", words(rule))).collect(), "no rules")
        }
        Value::Null | Value::Number(_) => fact.to_string(),
    }
}

/// Where a target is looked at, if there is a page of it. It may be gone by now.
fn target_url(target: &str) -> Option<String> {
    let (kind, id) = target.split_once('/')?;
    match kind {
        "project" => Some(urls::project(id)),
        "database" => Some(urls::database(id)),
        "snapshot" => Some(urls::snapshot(id)),
        "restore" => Some(urls::restore(id)),
        "diff" => Some(urls::diff(id)),
        "job" => Some(urls::job(id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_words_and_no_json() {
        let told = |fact: Value| words(&fact);
        assert_eq!(told(json!({ "last": null, "daily": 7, "monthly": 12 })), "daily 7, monthly 12");
        assert_eq!(told(json!({ "last": null })), "no rules");
        assert_eq!(told(json!(["a", "b"])), "a, b");
        assert_eq!(
            (told(json!(true)), told(json!(8104)), told(json!("shop"))),
            ("yes".into(), "8104".into(), "shop".into())
        );
    }

    #[test]
    fn every_choice_is_an_action_or_a_group_of_them() {
        for (choice, _) in CHOICES {
            assert!(action::is_known(choice), "{choice}");
        }
    }
}
