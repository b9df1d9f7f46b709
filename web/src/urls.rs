//! Every address the pages link to. The server's router serves these and nothing links past them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand unescaped in a path segment or a query value.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn escape(text: &str) -> String {
    // A segment that is all dots would be resolved away by the browser.
    if !text.is_empty() && text.bytes().all(|b| b == b'.') {
        return "%2E".repeat(text.len());
    }
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A name as the value of a form's field. In a plain one, browsers send every line break as another.
pub fn form_value(name: &str) -> String {
    escape(name)
}

/// The dashboard: all projects and their databases. Also creates projects (POST).
pub const PROJECTS: &str = "/projects";
/// Makes the example and leads to its differences.
pub const EXAMPLE: &str = "/example";
/// The sign-in form.
pub const LOGIN: &str = "/login";
/// Ends the session (POST).
pub const LOGOUT: &str = "/logout";
/// The form for a new account.
pub const REGISTER: &str = "/register";
/// Opens what is in the storage and of no project here (GET and POST).
pub const STORAGE: &str = "/storage";
/// The account's settings.
pub const ACCOUNT: &str = "/account";
/// Changes the account's password (POST).
pub const ACCOUNT_PASSWORD: &str = "/account/password";
/// Ends every session of the account (POST).
pub const ACCOUNT_SIGN_OUT: &str = "/account/sign-out-everywhere";
/// Takes a provider's identity away from the account (POST).
pub const ACCOUNT_UNLINK: &str = "/account/unlink";
/// Deletes the account (POST).
pub const ACCOUNT_DELETE: &str = "/account/delete";
/// The audit log.
pub const AUDIT: &str = "/audit";
/// The audit log as lines of JSON.
pub const AUDIT_EXPORT: &str = "/api/v1/audit/export";
/// All restores.
pub const RESTORES: &str = "/restores";
/// Starts a comparison (POST).
pub const DIFFS: &str = "/diffs";

/// Leads to a provider that signs in, and from there to `next`.
pub fn sign_in_with(provider: &str, next: Option<&str>) -> String {
    let start = format!("/api/v1/auth/{}/start", escape(provider));
    next.map_or_else(|| start.clone(), |next| format!("{start}?next={}", escape(next)))
}

/// A project and its databases.
pub fn project(id: &str) -> String {
    format!("/projects/{}", escape(id))
}

/// The form that connects a database (GET), and its submission (POST).
pub fn connect(project: &str) -> String {
    format!("/projects/{}/connect", escape(project))
}

/// Keys of a project's repository.
pub fn settings(project: &str) -> String {
    format!("/projects/{}/settings", escape(project))
}

/// What a project has stored.
pub fn usage(project: &str) -> String {
    format!("/projects/{}/usage", escape(project))
}

/// Adds a key to a project (POST).
pub fn keys(project: &str) -> String {
    format!("/projects/{}/keys", escape(project))
}

/// Begins a new data key (POST).
pub fn key_epoch(project: &str) -> String {
    format!("/projects/{}/keys/epoch", escape(project))
}

/// Replaces a key by a new one of its kind (POST).
pub fn key_rotate(project: &str, slot: &str) -> String {
    format!("/projects/{}/keys/{}/rotate", escape(project), escape(slot))
}

/// Removes a key (POST).
pub fn key_remove(project: &str, slot: &str) -> String {
    format!("/projects/{}/keys/{}/remove", escape(project), escape(slot))
}

/// Deletes a project with all its snapshots (POST).
pub fn project_delete(id: &str) -> String {
    format!("/projects/{}/delete", escape(id))
}

/// Removes what no snapshot of a project needs, or says what that would be (POST).
pub fn prune(project: &str) -> String {
    format!("/projects/{}/prune", escape(project))
}

/// Starts a verification of what a project has stored (POST).
pub fn verify(project: &str) -> String {
    format!("/projects/{}/verify", escape(project))
}

/// Makes and shows a recovery key (POST).
pub fn recovery_key(project: &str) -> String {
    format!("/projects/{}/recovery-key", escape(project))
}

/// A database's history.
pub fn database(id: &str) -> String {
    format!("/databases/{}", escape(id))
}

/// Further snapshots of a database's history.
pub fn database_page(id: &str, cursor: &str) -> String {
    format!("/databases/{}?cursor={}", escape(id), escape(cursor))
}

/// A database's settings (GET), and changing them (POST).
pub fn database_settings(id: &str) -> String {
    format!("/databases/{}/settings", escape(id))
}

/// A database's schedule (GET), and setting it (POST).
pub fn schedule(database: &str) -> String {
    format!("/databases/{}/schedule", escape(database))
}

/// Removes a database's schedule (POST).
pub fn schedule_remove(database: &str) -> String {
    format!("/databases/{}/schedule/remove", escape(database))
}

/// Removes a database and keeps its snapshots (POST).
pub fn database_remove(id: &str) -> String {
    format!("/databases/{}/remove", escape(id))
}

/// Starts a backup (POST).
pub fn backups(database: &str) -> String {
    format!("/databases/{}/backups", escape(database))
}

/// A job and its progress.
pub fn job(id: &str) -> String {
    format!("/jobs/{}", escape(id))
}

/// The server-sent events with the job's fragment.
pub fn job_live(id: &str) -> String {
    format!("/jobs/{}/live", escape(id))
}

/// Asks a job to stop (POST).
pub fn job_cancel(id: &str) -> String {
    format!("/jobs/{}/cancel", escape(id))
}

/// A snapshot and its collections.
pub fn snapshot(id: &str) -> String {
    format!("/snapshots/{}", escape(id))
}

/// Gives a snapshot another note, pins or unpins it (POST).
pub fn snapshot_change(id: &str) -> String {
    format!("/snapshots/{}/change", escape(id))
}

/// Counts what a snapshot costs (POST).
pub fn snapshot_cost(id: &str) -> String {
    format!("/snapshots/{}/cost", escape(id))
}

/// Deletes a snapshot (POST).
pub fn snapshot_delete(id: &str) -> String {
    format!("/snapshots/{}/delete", escape(id))
}

/// The first records of a collection as a snapshot holds it.
pub fn records(snapshot: &str, collection: &str) -> String {
    format!("/snapshots/{}/collections/{}", escape(snapshot), escape(collection))
}

/// The records from a cursor on.
pub fn records_page(snapshot: &str, collection: &str, cursor: &str) -> String {
    format!("{}?cursor={}", records(snapshot, collection), escape(cursor))
}

/// The form that starts a restore (GET) and plans it (POST).
pub fn restore_new(snapshot: &str) -> String {
    format!("/snapshots/{}/restore", escape(snapshot))
}

/// Further restores.
pub fn restores_page(cursor: &str) -> String {
    format!("{RESTORES}?cursor={}", escape(cursor))
}

/// A restore: its plan, its progress or its result.
pub fn restore(id: &str) -> String {
    format!("/restores/{}", escape(id))
}

/// Carries a planned restore out (POST).
pub fn restore_apply(id: &str) -> String {
    format!("/restores/{}/apply", escape(id))
}

/// Takes a restore in place back (POST).
pub fn restore_undo(id: &str) -> String {
    format!("/restores/{}/undo", escape(id))
}

/// What a planned restore in place would change in one table.
pub fn restore_changes(id: &str, collection: &str) -> String {
    format!("/restores/{}/collections/{}", escape(id), escape(collection))
}

/// The form that restores a single record, as a list of records names it.
pub fn restore_record(snapshot: &str, collection: &str, record: &str) -> String {
    format!("{}?of={}&record={}", restore_new(snapshot), escape(collection), escape(record))
}

/// A comparison's summary.
pub fn diff(id: &str) -> String {
    format!("/diffs/{}", escape(id))
}

/// The changes of one collection.
pub fn changes(diff: &str, collection: &str) -> String {
    format!("/diffs/{}/collections/{}", escape(diff), escape(collection))
}

/// What of a collection's changes is shown; an absent choice is not in the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesQuery<'a> {
    /// Only one kind of change: `added`, `removed` or `changed`.
    pub kind: Option<&'a str>,
    /// Only changes of this column.
    pub column: Option<&'a str>,
    /// All columns instead of the key and the changed ones.
    pub all_columns: bool,
    /// Where the page starts.
    pub cursor: Option<&'a str>,
}

/// The changes of one collection, filtered.
pub fn changes_query(diff: &str, collection: &str, query: &ChangesQuery<'_>) -> String {
    changes_at(changes(diff, collection), query)
}

/// The address of a page of changes, filtered.
pub fn changes_at(mut url: String, query: &ChangesQuery<'_>) -> String {
    let parts = [
        ("kind", query.kind),
        ("column", query.column),
        ("show", query.all_columns.then_some("all")),
        ("cursor", query.cursor),
    ];
    let mut separator = '?';
    for (name, value) in parts {
        if let Some(value) = value {
            url.push(separator);
            url.push_str(name);
            url.push('=');
            url.push_str(&escape(value));
            separator = '&';
        }
    }
    url
}

/// What of the audit log is shown; what is empty is not filtered by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// An action, or the group of it.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// What it was done to: a target, its kind, or its id.
    pub target: String,
    /// A result.
    pub result: String,
    /// The first day.
    pub from: String,
    /// The day after the last.
    pub to: String,
}

/// A page of the audit log, filtered.
pub fn audit_page(query: &AuditQuery, cursor: Option<&str>) -> String {
    filtered(AUDIT, query, cursor)
}

/// The entries of the audit log as lines of JSON, filtered.
pub fn audit_export(query: &AuditQuery) -> String {
    filtered(AUDIT_EXPORT, query, None)
}

fn filtered(path: &str, query: &AuditQuery, cursor: Option<&str>) -> String {
    let mut url = path.to_owned();
    let parts = [
        ("action", query.action.as_str()),
        ("actor", &query.actor),
        ("target", &query.target),
        ("result", &query.result),
        ("from", &query.from),
        ("to", &query.to),
    ];
    let cursor = cursor.map(|cursor| ("cursor", cursor));
    let mut separator = '?';
    for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()).chain(cursor) {
        url.push_str(&format!("{separator}{name}={}", escape(value)));
        separator = '&';
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(records("s1", r#"public."a/b?c""#), "/snapshots/s1/collections/public.%22a%2Fb%3Fc%22");
        assert_eq!(changes("d1", ".."), "/diffs/d1/collections/%2E%2E");
    }

    #[test]
    fn only_chosen_filters_are_in_the_address() {
        assert_eq!(changes_query("d", "t", &ChangesQuery::default()), "/diffs/d/collections/t");
        let query = ChangesQuery {
            kind: Some("changed"),
            column: Some("a&b"),
            all_columns: true,
            cursor: Some("c="),
        };
        assert_eq!(
            changes_query("d", "t", &query),
            "/diffs/d/collections/t?kind=changed&column=a%26b&show=all&cursor=c%3D"
        );
    }
}
