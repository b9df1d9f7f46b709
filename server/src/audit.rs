//! The audit log's words and its chain. Pure: [`crate::meta`] keeps the lines that are made here.
//!
//! Every account has a chain of its own, so that what its owner exports is whole and can be checked
//! without this program. An entry is one line of JSON. Its hash, the last field, is BLAKE3 of the
//! line without it, and `previous` is the hash of the line before: an entry that is changed, left
//! out, put in or moved breaks the chain at its number. Its seal, before that, is a keyed hash of what
//! stands before it, for this program: whoever changes an entry can make its hash anew, and not that.

mod chain;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use chain::{Break, Follower, Head, Seal};

/// What is said of an action beside its target: names, ids and counts, never a secret.
pub type Detail = Map<String, Value>;

/// The chain of what concerns no account, such as a sign-in with an address that nobody has.
pub const NOBODY: &str = "nobody";

/// The actions. Those that jobs begin and end with are named after their kind.
pub mod action {
    macro_rules! actions {
        ($($name:ident = $word:literal,)*) => {
            $(pub const $name: &str = $word;)*

            /// All there are.
            pub const ALL: &[&str] = &[$($word),*];
        };
    }

    actions! {
        REGISTER = "account.register",
        SIGN_IN = "account.sign-in",
        SIGN_OUT = "account.sign-out",
        SIGN_OUT_EVERYWHERE = "account.sign-out-everywhere",
        TOKEN_REUSED = "account.token-reused",
        PASSWORD_CHANGE = "account.password-change",
        PASSWORD_RESET = "account.password-reset",
        IDENTITY_LINK = "account.identity-link",
        IDENTITY_UNLINK = "account.identity-unlink",
        ACCOUNT_DELETE = "account.delete",
        PROJECT_CREATE = "project.create",
        PROJECT_DELETE = "project.delete",
        STORAGE_OPEN = "storage.open",
        CONNECTION_TEST = "connection.test",
        DATABASE_CONNECT = "database.connect",
        DATABASE_CHANGE = "database.change",
        DATABASE_REMOVE = "database.remove",
        SNAPSHOT_CHANGE = "snapshot.change",
        SNAPSHOT_DELETE = "snapshot.delete",
        SCHEDULE_SET = "schedule.set",
        SCHEDULE_REMOVE = "schedule.remove",
        SCHEDULE_MISSED = "schedule.missed",
        KEY_ADD = "key.add",
        KEY_REPLACE = "key.replace",
        KEY_REMOVE = "key.remove",
        KEY_EPOCH = "key.epoch",
        RECOVERY_KEY_EXPORT = "key.recovery-export",
        SERVER_KEY_REPLACE = "server-key.replace",
        AUDIT_EXPORT = "audit.export",
        AUDIT_SEAL = "audit.seal",
        RECORDS_READ = "records.read",
        JOB_CANCEL = "job.cancel",
        BACKUP_START = "backup.start",
        BACKUP_END = "backup.end",
        LIVE_DIFF_START = "live-diff.start",
        LIVE_DIFF_END = "live-diff.end",
        RESTORE_PLAN_START = "restore-plan.start",
        RESTORE_PLAN_END = "restore-plan.end",
        RESTORE_START = "restore.start",
        RESTORE_END = "restore.end",
        RESTORE_UNDO_START = "restore-undo.start",
        RESTORE_UNDO_END = "restore-undo.end",
        VERIFY_START = "verify.start",
        VERIFY_END = "verify.end",
        PRUNE_START = "prune.start",
        PRUNE_END = "prune.end",
    }

    /// Whether a word is an action, or the part of one before the dot.
    pub fn is_known(word: &str) -> bool {
        ALL.iter().any(|action| *action == word || action.split('.').next() == Some(word))
    }
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The account whose chain it is.
    Account,
    /// A schedule that the account set.
    Schedule,
    /// Whoever runs the server, by its commands.
    Operator,
    /// Somebody who did not prove to be anybody.
    Unknown,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Succeeded,
    /// Done, with something left out or different.
    Incomplete,
    Failed,
    Cancelled,
    Interrupted,
}

impl Outcome {
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Incomplete, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word of the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// An action, before it is an entry of a chain.
#[derive(Clone, Debug)]
pub struct Event {
    pub actor: Actor,
    pub action: &'static str,
    /// What it was done to: a kind and an id.
    pub target: String,
    pub detail: Detail,
}

impl Event {
    /// Of the account whose chain it goes into.
    pub fn new(action: &'static str, target: impl Into<String>) -> Self {
        Self { actor: Actor::Account, action, target: target.into(), detail: Detail::new() }
    }

    #[must_use]
    pub fn by(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// Adds a fact; one that is not there is not added.
    #[must_use]
    pub fn with(mut self, name: &str, fact: impl Serialize) -> Self {
        match serde_json::to_value(fact) {
            Ok(Value::Null) | Err(_) => {}
            Ok(fact) => {
                self.detail.insert(name.to_owned(), fact);
            }
        }
        self
    }
}

/// What an entry says, in the order of its line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    /// From 1 on, without gaps.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The account whose chain it is in.
    pub account: String,
    /// The account's address, or `schedule`, `operator` or `unknown`.
    pub actor: String,
    pub action: String,
    /// What it was done to: a kind and an id.
    pub target: String,
    pub result: Outcome,
    /// Names, ids and counts; of a backup that ended the snapshot and its root.
    #[schema(value_type = Object)]
    pub detail: Detail,
    /// The hash of the entry before.
    pub previous: String,
    /// A keyed hash of what stands before it; entries of older versions have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub seal: String,
    /// Empty while it is being made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// The action of an entry that cannot be read.
pub const UNREADABLE: &str = "unreadable";

impl Entry {
    /// Stands for an entry of which nothing is known but its number, so that it is not left out of a list.
    pub fn unreadable(chain: &str, seq: u64) -> Self {
        Self {
            seq,
            at: String::new(),
            account: chain.to_owned(),
            actor: String::new(),
            action: UNREADABLE.to_owned(),
            target: String::new(),
            result: Outcome::Failed,
            detail: Detail::new(),
            previous: String::new(),
            seal: String::new(),
            hash: String::new(),
        }
    }
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// An action, or the part of it before the dot.
    pub action: Option<String>,
    /// Who, as entries name them, in whatever case.
    pub actor: Option<String>,
    /// A kind of target, the id of one, or both as entries name them.
    pub target: Option<String>,
    pub result: Option<Outcome>,
    /// Not before this moment, as entries write moments.
    pub from: Option<String>,
    /// Before this moment.
    pub to: Option<String>,
}

impl Filter {
    pub fn fits(&self, entry: &Entry) -> bool {
        let group = || entry.action.split('.').next().unwrap_or_default();
        let is_meant = |target: &String| {
            let (kind, id) = entry.target.split_once('/').unwrap_or((&entry.target, ""));
            *target == entry.target || target == kind || target == id
        };
        // Moments are written with one width, so that texts compare as times do.
        self.action.as_ref().is_none_or(|action| *action == entry.action || action == group())
            && self.actor.as_ref().is_none_or(|actor| actor.to_lowercase() == entry.actor.to_lowercase())
            && self.target.as_ref().is_none_or(is_meant)
            && self.result.is_none_or(|result| result == entry.result)
            && self.from.as_ref().is_none_or(|from| *from <= entry.at)
            && self.to.as_ref().is_none_or(|to| entry.at < *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: &str) -> Entry {
        Entry {
            seq: 0,
            at: "2026-02-03T04:05:06.000Z".to_owned(),
            account: "a".to_owned(),
            actor: "ada@example.com".to_owned(),
            action: action.to_owned(),
            target: "project/1".to_owned(),
            result: Outcome::Succeeded,
            detail: Detail::new(),
            previous: String::new(),
            seal: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn filters_take_an_action_its_group_an_actor_a_target_a_result_and_a_time() {
        let entry = Entry { action: "key.add".to_owned(), ..entry("x") };
        let action = |action: &str| Filter { action: Some(action.to_owned()), ..Filter::default() };
        assert!(action("key").fits(&entry) && action("key.add").fits(&entry));
        assert!(!action("key.remove").fits(&entry) && !action("k").fits(&entry));
        assert!(!Filter { result: Some(Outcome::Failed), ..Filter::default() }.fits(&entry));
        let actor = |actor: &str| Filter { actor: Some(actor.to_owned()), ..Filter::default() };
        assert!(actor("ada@example.com").fits(&entry) && actor("Ada@Example.com").fits(&entry));
        assert!(!actor("ada").fits(&entry) && !actor("schedule").fits(&entry));
        let target = |target: &str| Filter { target: Some(target.to_owned()), ..Filter::default() };
        assert!(
            target("project/1").fits(&entry) && target("project").fits(&entry) && target("1").fits(&entry)
        );
        assert!(
            !target("project/").fits(&entry)
                && !target("project/11").fits(&entry)
                && !target("").fits(&entry)
        );
        let from = |text: &str| Filter { from: Some(text.to_owned()), ..Filter::default() };
        let to = |text: &str| Filter { to: Some(text.to_owned()), ..Filter::default() };
        assert!(
            from("2026-02-03T04:05:06.000Z").fits(&entry) && !from("2026-02-03T04:05:06.001Z").fits(&entry)
        );
        assert!(to("2026-02-03T04:05:06.001Z").fits(&entry) && !to("2026-02-03T04:05:06.000Z").fits(&entry));
    }
}
