//! The audit log: chains that only grow. Nothing here changes or removes an entry, and the end of a
//! job goes into its chain in the transaction that ends it.

use redb::WriteTransaction;

use super::rows::{self, AUDIT, AUDIT_HEADS, USERS};
use super::{ConnectedDatabase, Diff, Error, JobRecord, Meta, Page, Restore, Result, User, Work};
use crate::api::rfc3339;
use crate::audit::{Actor, Detail, Entry, Event, Filter, Head, NOBODY, Outcome};
use crate::ids::UserId;

/// Entries that are read in one go when a chain is exported.
const EXPORT_ROWS: usize = 1000;

/// What a check of a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    /// The number of the first entry that is not what was written.
    pub broken_at: Option<u64>,
    /// The hash of the last entry.
    pub head: String,
}

/// An entry's key: its chain, and its number so that keys sort as numbers do.
fn key(chain: &str, seq: u64) -> String {
    rows::below(chain, format_args!("{seq:016x}"))
}

/// Adds an entry to the chain of `user`, or to that of nobody.
pub(super) fn append(
    tx: &WriteTransaction,
    user: Option<UserId>,
    at_ms: i64,
    event: Event,
    result: Outcome,
) -> Result<()> {
    let chain = user.map_or_else(|| NOBODY.to_owned(), |user| user.to_string());
    let account: Option<User> = rows::get(&tx.open_table(USERS)?, &chain)?;
    let head: Option<Head> = rows::get(&tx.open_table(AUDIT_HEADS)?, &chain)?;
    let actor = match event.actor {
        Actor::Account => account.map_or_else(|| chain.clone(), |account| account.email),
        Actor::Schedule => "schedule".to_owned(),
        Actor::Operator => "operator".to_owned(),
        Actor::Unknown => "unknown".to_owned(),
    };
    let entry = Entry {
        seq: 0,
        at: rfc3339(at_ms),
        account: chain.clone(),
        actor,
        action: event.action.to_owned(),
        target: event.target,
        result,
        detail: event.detail,
        previous: String::new(),
        hash: String::new(),
    };
    let (line, head) = head.unwrap_or_else(Head::empty).extend(entry)?;
    tx.open_table(AUDIT)?.insert(key(&chain, head.entries).as_str(), line.as_bytes())?;
    rows::put(tx, AUDIT_HEADS, &chain, &head)
}

/// Records that a job was queued.
pub(super) fn job_begun(tx: &WriteTransaction, job: &JobRecord) -> Result<()> {
    let Some((begun, _)) = job.work.actions() else { return Ok(()) };
    let event = of_job(tx, job, begun, Detail::new())?;
    append(tx, Some(job.user_id), job.created_ms, event, Outcome::Succeeded)
}

/// Records how a job ended.
pub(super) fn job_ended(
    tx: &WriteTransaction,
    job: &JobRecord,
    result: Outcome,
    detail: Detail,
) -> Result<()> {
    let Some((_, ended)) = job.work.actions() else { return Ok(()) };
    let event = of_job(tx, job, ended, detail)?;
    append(tx, Some(job.user_id), job.finished_ms.unwrap_or(job.created_ms), event, result)
}

fn of_job(tx: &WriteTransaction, job: &JobRecord, action: &'static str, detail: Detail) -> Result<Event> {
    let event = match &job.work {
        Work::Backup { database_id, due_ms, .. } => {
            let database: Option<ConnectedDatabase> =
                rows::get(&tx.open_table(rows::DATABASES)?, &database_id.to_string())?;
            let event = Event::new(action, format!("database/{database_id}"));
            let event = event.with("database", database.map(|database| database.name));
            match due_ms {
                Some(due_ms) => event.by(Actor::Schedule).with("due", rfc3339(*due_ms)),
                None => event,
            }
        }
        Work::RestorePlan { restore_id } | Work::RestoreApply { restore_id } => {
            let restore: Option<Restore> =
                rows::get(&tx.open_table(rows::RESTORES)?, &restore_id.to_string())?;
            let event = Event::new(action, format!("restore/{restore_id}"));
            let event =
                event.with("snapshot_id", restore.as_ref().map(|restore| restore.snapshot_id.clone()));
            event.with("into", restore.map(|restore| restore.target))
        }
        Work::Verify { mode } => Event::new(action, format!("project/{}", job.project_id)).with("mode", mode),
        Work::Prune { .. } => Event::new(action, format!("project/{}", job.project_id)),
        Work::LiveDiff { diff_id, database_id } => {
            let database: Option<ConnectedDatabase> =
                rows::get(&tx.open_table(rows::DATABASES)?, &database_id.to_string())?;
            let diff: Option<Diff> = rows::get(&tx.open_table(rows::DIFFS)?, &diff_id.to_string())?;
            let event = Event::new(action, format!("database/{database_id}")).with("diff_id", diff_id);
            event
                .with("database", database.map(|database| database.name))
                .with("snapshot_id", diff.map(|diff| diff.from))
        }
        Work::Diff { diff_id } => Event::new(action, format!("diff/{diff_id}")),
        Work::Cost { snapshot_id } => Event::new(action, format!("snapshot/{snapshot_id}")),
    };
    let event = if job.by_schedule { event.by(Actor::Schedule) } else { event };
    let mut event = event.with("job_id", job.id);
    event.detail.extend(detail);
    Ok(event)
}

impl Meta {
    /// Adds an entry to the chain of `user`, or to that of nobody.
    pub async fn append_audit(
        &self,
        user: Option<UserId>,
        at_ms: i64,
        event: Event,
        result: Outcome,
    ) -> Result<()> {
        self.write(move |tx| append(tx, user, at_ms, event, result)).await
    }

    /// A user's entries, newest first. Cursors are numbers.
    pub async fn audit_entries(
        &self,
        user: UserId,
        filter: Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page<Entry>> {
        self.read(move |tx| {
            let (chain, table) = (user.to_string(), tx.open_table(AUDIT)?);
            let (first, end) = (key(&chain, 0), key(&chain, before.unwrap_or(u64::MAX)));
            let mut items: Vec<Entry> = Vec::new();
            for row in table.range(first.as_str()..end.as_str())?.rev() {
                let row = row?;
                // What cannot be read is for the verification to name; the others are shown.
                let Ok(entry) = serde_json::from_slice::<Entry>(row.1.value()) else { continue };
                if !filter.fits(&entry) {
                    continue;
                }
                if items.len() == limit {
                    let next_cursor = items.last().map(|entry| entry.seq.to_string());
                    return Ok(Page { items, next_cursor });
                }
                items.push(entry);
            }
            Ok(Page { items, next_cursor: None })
        })
        .await
    }

    /// Some lines of a user's chain behind number `after`, oldest first, and the number to go on
    /// behind; none at the end.
    pub async fn audit_lines(
        &self,
        user: UserId,
        filter: Filter,
        after: u64,
    ) -> Result<Option<(Vec<String>, u64)>> {
        self.read(move |tx| {
            let (chain, table) = (user.to_string(), tx.open_table(AUDIT)?);
            let (first, end) = (key(&chain, after.saturating_add(1)), key(&chain, u64::MAX));
            let (mut lines, mut last) = (Vec::new(), None);
            for row in table.range(first.as_str()..end.as_str())?.take(EXPORT_ROWS) {
                let row = row?;
                last = row.0.value().rsplit('/').next().and_then(|seq| u64::from_str_radix(seq, 16).ok());
                let line = String::from_utf8_lossy(row.1.value()).into_owned();
                let entry: Option<Entry> = serde_json::from_str(&line).ok();
                if entry.is_none_or(|entry| filter.fits(&entry)) {
                    lines.push(line);
                }
            }
            Ok(last.map(|last| (lines, last)))
        })
        .await
    }

    /// Follows a user's chain from its first entry to its last.
    pub async fn verify_audit(&self, user: UserId) -> Result<Verified> {
        self.read(move |tx| verify(tx, &user.to_string())).await
    }

    /// Follows every chain: its name and what was found. For the operator.
    pub async fn verify_all_audit(&self) -> Result<Vec<(String, Verified)>> {
        self.read(|tx| {
            let heads = tx.open_table(AUDIT_HEADS)?;
            let chains = heads.range::<&str>(..)?.map(|head| Ok::<_, Error>(head?.0.value().to_owned()));
            let chains: Vec<String> = chains.collect::<Result<_>>()?;
            chains.into_iter().map(|chain| Ok((chain.clone(), verify(tx, &chain)?))).collect()
        })
        .await
    }
}

fn verify(tx: &redb::ReadTransaction, chain: &str) -> Result<Verified> {
    let written: Option<Head> = rows::get(&tx.open_table(AUDIT_HEADS)?, chain)?;
    let written = written.unwrap_or_else(Head::empty);
    let table = tx.open_table(AUDIT)?;
    let (first, end) = (rows::below(chain, ""), format!("{chain}0"));
    let mut head = Head::empty();
    let broken =
        |at: u64| Verified { entries: written.entries, broken_at: Some(at), head: written.hash.clone() };
    for row in table.range(first.as_str()..end.as_str())? {
        let row = row?;
        let next = head.entries + 1;
        let line = std::str::from_utf8(row.1.value()).ok();
        let in_place = row.0.value() == key(chain, next) && next <= written.entries;
        match line.filter(|_| in_place).and_then(|line| head.follow(line)) {
            Some(followed) => head = followed,
            None => return Ok(broken(next)),
        }
    }
    if head != written {
        // The last entries are gone, or the chain was made anew without its head.
        return Ok(broken(head.entries.min(written.entries) + u64::from(head.entries < written.entries)));
    }
    Ok(Verified { entries: head.entries, broken_at: None, head: head.hash })
}
