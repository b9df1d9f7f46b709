//! The audit log: chains that only grow. Nothing here changes or removes an entry, and the end of a
//! job goes into its chain in the transaction that ends it.

use std::collections::BTreeSet;

use engine::clock::Entropy;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::rows::{self, AUDIT, AUDIT_HEADS, USERS};
use super::{ConnectedDatabase, Diff, JobRecord, Meta, Page, Restore, Result, User, Work, Writing, settings};
use crate::api::rfc3339;
use crate::audit::{
    Actor, Break, Detail, Entry, Event, Filter, Follower, Head, NOBODY, Outcome, Seal, action,
};
use crate::ids::UserId;
use crate::server_key::{Purpose, SealBroken, Sealed, Sealer, ServerKey};

/// Entries that are read in one go when a chain is exported.
const EXPORT_ROWS: usize = 1000;

/// Whose key it is that seals entries.
pub(super) const SEAL_OWNER: &str = "audit";

/// What a check of a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    /// The first place that is not as it was written.
    pub broken: Option<Break>,
    /// The hash of the last entry.
    pub head: String,
}

/// The number that a key ends with.
fn number(key: &str) -> Option<u64> {
    u64::from_str_radix(key.rsplit('/').next()?, 16).ok()
}

/// An entry's key: its chain, and its number so that keys sort as numbers do.
fn key(chain: &str, seq: u64) -> String {
    rows::below(chain, format_args!("{seq:016x}"))
}

/// Adds an entry to the chain of `user`, or to that of nobody.
pub(super) fn append(
    tx: &Writing,
    user: Option<UserId>,
    at_ms: i64,
    event: Event,
    result: Outcome,
) -> Result<()> {
    let chain = user.map_or_else(|| NOBODY.to_owned(), |user| user.to_string());
    append_to(tx, chain, tx.seal(), at_ms, event, result)
}

fn append_to(
    tx: &WriteTransaction,
    chain: String,
    seal: Option<&Seal>,
    at_ms: i64,
    event: Event,
    result: Outcome,
) -> Result<()> {
    let account: Option<User> = rows::get(&tx.open_table(USERS)?, &chain)?;
    let written = written_head(&tx.open_table(AUDIT_HEADS)?, &chain)?;
    let last = last_entry(&tx.open_table(AUDIT)?, &chain)?;
    let head = Head::found(&chain, written, last.as_ref(), account.is_some(), seal);
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
        seal: String::new(),
        hash: String::new(),
    };
    let (line, head) = head.extend(entry, seal)?;
    tx.open_table(AUDIT)?.insert(key(&chain, head.entries).as_str(), line.as_bytes())?;
    rows::put(tx, AUDIT_HEADS, &chain, &head)
}

/// Begins the chain of an account in the step that makes the account: from then on it has one.
pub(super) fn begin(tx: &Writing, user: UserId) -> Result<()> {
    let chain = user.to_string();
    rows::put(tx, AUDIT_HEADS, &chain, &Head::begun(&chain, tx.seal()))
}

/// What is kept of a chain's end; none, too, where that cannot be read.
fn written_head(
    heads: &impl ReadableTable<&'static str, &'static [u8]>,
    chain: &str,
) -> Result<Option<Head>> {
    Ok(heads.get(chain)?.and_then(|row| serde_json::from_slice(row.value()).ok()))
}

/// The last entry of a chain that there is: its number and its line.
fn last_entry(
    entries: &impl ReadableTable<&'static str, &'static [u8]>,
    chain: &str,
) -> Result<Option<(u64, String)>> {
    let (first, end) = bounds(chain);
    let last = entries.range(first.as_str()..end.as_str())?.next_back().transpose()?;
    Ok(last.and_then(|(key, line)| {
        Some((number(key.value())?, String::from_utf8_lossy(line.value()).into_owned()))
    }))
}

/// Between which keys a chain's entries are.
fn bounds(chain: &str) -> (String, String) {
    // The character behind the slash.
    (rows::below(chain, ""), format!("{chain}0"))
}

/// Records that a job was queued.
pub(super) fn job_begun(tx: &Writing, job: &JobRecord) -> Result<()> {
    let Some((begun, _)) = job.work.actions() else { return Ok(()) };
    let event = of_job(tx, job, begun, Detail::new())?;
    append(tx, Some(job.user_id), job.created_ms, event, Outcome::Succeeded)
}

/// Records how a job ended.
pub(super) fn job_ended(tx: &Writing, job: &JobRecord, result: Outcome, detail: Detail) -> Result<()> {
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
        Work::RestorePlan { restore_id }
        | Work::RestoreApply { restore_id, .. }
        | Work::RestoreUndo { restore_id, .. } => {
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
    /// From here on entries are sealed, by a key that the server key opens and that is drawn once. What
    /// stands in the log when it is drawn is sealed as it was found only where a version that made no seals
    /// wrote it, and then an entry in every chain tells of that. Anything else is left as it is, and found to
    /// be not sealed by the key: its own was taken away.
    pub async fn unlock_audit(
        &self,
        server_key: &ServerKey,
        entropy: &dyn Entropy,
        at_ms: i64,
    ) -> Result<()> {
        let sealer = server_key.sealer(Purpose::Audit);
        let known = self.read(|tx| Ok((settings::audit_key(tx)?, settings::is_audit_unsealed(tx)?)));
        let seal = match known.await? {
            (Some(sealed), is_unsealed) => {
                // The layout's number went back, and there is nothing to seal: nor is there later.
                if is_unsealed {
                    self.write(|tx| settings::take_audit_unsealed(tx)).await?;
                }
                opened(&sealer, &sealed)?
            }
            (None, _) => {
                let mut key = zeroize::Zeroizing::new([0; 32]);
                entropy.fill(key.as_mut());
                let drawn = sealer.seal(SEAL_OWNER, key.as_slice(), entropy);
                let seal = Seal::new(*key);
                self.begin_seals(drawn, seal.clone(), at_ms).await?;
                seal
            }
        };
        self.seal.get_or_init(|| seal);
        Ok(())
    }

    /// For whoever only checks the log: what is not there is not made.
    pub async fn unlock_audit_to_read(&self, server_key: &ServerKey) -> Result<()> {
        if let Some(sealed) = self.read(settings::audit_key).await? {
            let seal = opened(&server_key.sealer(Purpose::Audit), &sealed)?;
            self.seal.get_or_init(|| seal);
        }
        Ok(())
    }

    async fn begin_seals(&self, drawn: Sealed, seal: Seal, at_ms: i64) -> Result<()> {
        let is_robbed = self.write(move |tx| {
            settings::put_audit_key(tx, &drawn)?;
            if settings::take_audit_unsealed(tx)? {
                return seal_as_found(tx, &seal, at_ms).map(|()| false);
            }
            let is_used = |rows| -> Result<bool> { Ok(!tx.open_table(rows)?.is_empty()?) };
            Ok(is_used(AUDIT)? || is_used(AUDIT_HEADS)? || is_used(USERS)?)
        });
        if is_robbed.await? {
            tracing::error!(
                "the key that sealed the audit log is gone: nothing in it so far is proven any more"
            );
        }
        Ok(())
    }

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
                // Whether it is one of those that are wanted cannot be told, so it is shown.
                let entry = match serde_json::from_slice::<Entry>(row.1.value()) {
                    Ok(entry) if filter.fits(&entry) => entry,
                    Ok(_) => continue,
                    Err(_) => Entry::unreadable(&chain, number(row.0.value()).unwrap_or_default()),
                };
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
                last = number(row.0.value());
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
        let seal = self.seal.get().cloned();
        self.read(move |tx| verify(tx, &user.to_string(), seal.as_ref())).await
    }

    /// Follows every chain, also those of which only the entries or only the account are left: its name and
    /// what was found. For the operator.
    pub async fn verify_all_audit(&self) -> Result<Vec<(String, Verified)>> {
        let seal = self.seal.get().cloned();
        self.read(move |tx| {
            let mut chains = BTreeSet::new();
            for rows in [AUDIT_HEADS, USERS] {
                for row in tx.open_table(rows)?.range::<&str>(..)? {
                    chains.insert(row?.0.value().to_owned());
                }
            }
            let (entries, mut from) = (tx.open_table(AUDIT)?, String::new());
            while let Some(row) = entries.range(from.as_str()..)?.next() {
                let key = row?.0.value().to_owned();
                let chain = key.split('/').next().unwrap_or_default().to_owned();
                (_, from) = bounds(&chain);
                chains.insert(chain);
            }
            chains.into_iter().map(|chain| Ok((chain.clone(), verify(tx, &chain, seal.as_ref())?))).collect()
        })
        .await
    }
}

/// The key that seals entries.
fn opened(sealer: &Sealer, sealed: &Sealed) -> Result<Seal> {
    let key = sealer.open(SEAL_OWNER, sealed)?;
    Ok(Seal::new(key.as_slice().try_into().map_err(|_| SealBroken)?))
}

/// Says of every chain that was begun without seals where it ends, and that what follows has some: an entry
/// that tells how much was sealed unseen comes first. Whoever takes a file back to the layout without seals
/// has that entry made once more. So it goes into chains without entries, too, and into that of nobody.
fn seal_as_found(tx: &WriteTransaction, seal: &Seal, at_ms: i64) -> Result<()> {
    let mut chains = BTreeSet::from([NOBODY.to_owned()]);
    for rows in [AUDIT_HEADS, USERS] {
        for row in tx.open_table(rows)?.range::<&str>(..)? {
            chains.insert(row?.0.value().to_owned());
        }
    }
    for chain in chains {
        let (head, is_broken) = {
            let (heads, entries) = (tx.open_table(AUDIT_HEADS)?, tx.open_table(AUDIT)?);
            let (written, last) = (written_head(&heads, &chain)?, last_entry(&entries, &chain)?);
            let is_broken = written.is_none() && (last.is_some() || heads.get(chain.as_str())?.is_some());
            (written.unwrap_or_else(Head::empty), is_broken)
        };
        let found = head.entries;
        // Entries without an end are not made whole: what follows tells that it is lost.
        if !is_broken {
            rows::put(tx, AUDIT_HEADS, &chain, &head.sealed(&chain, seal))?;
        }
        let target = if chain == NOBODY { "server".to_owned() } else { format!("account/{chain}") };
        let event = Event::new(action::AUDIT_SEAL, target).by(Actor::Operator).with("entries", found);
        append_to(tx, chain, Some(seal), at_ms, event, Outcome::Succeeded)?;
    }
    Ok(())
}

fn verify(tx: &ReadTransaction, chain: &str, seal: Option<&Seal>) -> Result<Verified> {
    let written = written_head(&tx.open_table(AUDIT_HEADS)?, chain)?;
    let written = match written {
        Some(written) => written,
        None => {
            let last = last_entry(&tx.open_table(AUDIT)?, chain)?;
            let is_account = tx.open_table(USERS)?.get(chain)?.is_some();
            if last.is_none() && !is_account {
                return Ok(Verified { entries: 0, broken: None, head: Head::empty().hash });
            }
            Head::found(chain, None, last.as_ref(), is_account, seal)
        }
    };
    if seal.is_none() {
        let broken = Some(Break::Keyless(1));
        return Ok(Verified { entries: written.entries, broken, head: written.hash });
    }
    let mut follower = Follower::new(chain, &written, seal);
    let (first, end) = bounds(chain);
    let mut broken = None;
    for row in tx.open_table(AUDIT)?.range(first.as_str()..end.as_str())? {
        let row = row?;
        let line = std::str::from_utf8(row.1.value()).ok();
        if let Err(found) = follower.follow(number(row.0.value()), line) {
            broken = Some(found);
            break;
        }
    }
    let broken = broken.or_else(|| follower.end().err());
    Ok(Verified { entries: written.entries, broken, head: written.hash })
}
