//! The tables, and the few ways rows are read and written. Values are JSON; links order the
//! children of an owner by their ids.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Page, PageRequest, Result};

pub type Rows = TableDefinition<'static, &'static str, &'static [u8]>;
/// Key: owner, slash, child. Or a unique name, whose value is the id it stands for.
pub type Links = TableDefinition<'static, &'static str, &'static str>;

pub const SETTINGS: Rows = Rows::new("settings");
pub const USERS: Rows = Rows::new("users");
pub const USERS_BY_EMAIL: Links = Links::new("users_by_email");
/// Key: provider, slash, the provider's id of the person.
pub const IDENTITIES: Rows = Rows::new("identities");
/// Key: user, slash, provider.
pub const IDENTITIES_BY_USER: Links = Links::new("identities_by_user");
pub const SESSIONS: Rows = Rows::new("sessions");
pub const SESSIONS_BY_USER: Links = Links::new("sessions_by_user");
pub const REFRESH_TOKENS: Rows = Rows::new("refresh_tokens");
pub const TOKENS_BY_SESSION: Links = Links::new("tokens_by_session");
pub const PROJECTS: Rows = Rows::new("projects");
pub const PROJECTS_BY_USER: Links = Links::new("projects_by_user");
pub const DATABASES: Rows = Rows::new("databases");
pub const DATABASES_BY_PROJECT: Links = Links::new("databases_by_project");
pub const JOBS: Rows = Rows::new("jobs");
pub const JOBS_BY_PROJECT: Links = Links::new("jobs_by_project");
/// Key: what they are about (see `jobs::Subject`), slash, job.
pub const JOBS_BY_SUBJECT: Links = Links::new("jobs_by_subject");
pub const JOBS_QUEUED: Links = Links::new("jobs_queued");
pub const JOBS_RUNNING: Links = Links::new("jobs_running");
pub const DIFFS: Rows = Rows::new("diffs");
pub const DIFFS_BY_PROJECT: Links = Links::new("diffs_by_project");
pub const DIFFS_BY_PAIR: Links = Links::new("diffs_by_pair");
pub const RESTORES: Rows = Rows::new("restores");
pub const RESTORES_BY_USER: Links = Links::new("restores_by_user");
pub const RESTORES_BY_PROJECT: Links = Links::new("restores_by_project");
/// Key: the database.
pub const SCHEDULES: Rows = Rows::new("schedules");
/// Key: the project.
pub const DAMAGE: Rows = Rows::new("damage");
/// Key: chain, slash, number. The values are the log's own lines.
pub const AUDIT: Rows = Rows::new("audit");
pub const AUDIT_HEADS: Rows = Rows::new("audit_heads");

const ALL_ROWS: [Rows; 14] = [
    SETTINGS,
    USERS,
    IDENTITIES,
    SESSIONS,
    REFRESH_TOKENS,
    PROJECTS,
    DATABASES,
    JOBS,
    DIFFS,
    RESTORES,
    SCHEDULES,
    DAMAGE,
    AUDIT,
    AUDIT_HEADS,
];
const ALL_LINKS: [Links; 14] = [
    USERS_BY_EMAIL,
    IDENTITIES_BY_USER,
    SESSIONS_BY_USER,
    TOKENS_BY_SESSION,
    PROJECTS_BY_USER,
    DATABASES_BY_PROJECT,
    JOBS_BY_PROJECT,
    JOBS_BY_SUBJECT,
    JOBS_QUEUED,
    JOBS_RUNNING,
    DIFFS_BY_PROJECT,
    DIFFS_BY_PAIR,
    RESTORES_BY_USER,
    RESTORES_BY_PROJECT,
];

/// Makes every table, so that readers never meet one that does not exist yet.
pub fn create_tables(tx: &WriteTransaction) -> Result<()> {
    for rows in ALL_ROWS {
        tx.open_table(rows)?;
    }
    for links in ALL_LINKS {
        tx.open_table(links)?;
    }
    Ok(())
}

/// The row under `key`.
pub fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>> {
    Ok(table.get(key)?.map(|row| serde_json::from_slice(row.value())).transpose()?)
}

/// What a link stands for.
pub fn follow(table: &impl ReadableTable<&'static str, &'static str>, key: &str) -> Result<Option<String>> {
    Ok(table.get(key)?.map(|id| id.value().to_owned()))
}

/// Writes a row, new or not.
pub fn put(tx: &WriteTransaction, rows: Rows, key: &str, row: &impl Serialize) -> Result<()> {
    let row = serde_json::to_vec(row)?;
    tx.open_table(rows)?.insert(key, row.as_slice())?;
    Ok(())
}

/// Removes a row, if it is there.
pub fn remove(tx: &WriteTransaction, rows: Rows, key: &str) -> Result<()> {
    tx.open_table(rows)?.remove(key)?;
    Ok(())
}

/// Sets a link.
pub fn link(tx: &WriteTransaction, links: Links, key: &str, to: &str) -> Result<()> {
    tx.open_table(links)?.insert(key, to)?;
    Ok(())
}

/// Removes a link, if it is there.
pub fn unlink(tx: &WriteTransaction, links: Links, key: &str) -> Result<()> {
    tx.open_table(links)?.remove(key)?;
    Ok(())
}

/// The key of a child below its owner.
pub fn below(owner: impl std::fmt::Display, child: impl std::fmt::Display) -> String {
    format!("{owner}/{child}")
}

/// Which end of a list comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// A page of an owner's children, by id.
pub fn children(
    links: &impl ReadableTable<&'static str, &'static str>,
    owner: impl std::fmt::Display,
    order: Order,
    page: &PageRequest,
) -> Result<Page<String>> {
    let first = below(&owner, "");
    // '0' follows '/', so this is the first key past the owner's.
    let end = format!("{owner}0");
    let after = page.after.as_ref().map(|id| below(&owner, id));
    let (start, end) = match (order, after) {
        (_, None) => (first, end),
        // The smallest key behind the cursor's.
        (Order::OldestFirst, Some(after)) => (format!("{after}\0"), end),
        (Order::NewestFirst, Some(after)) => (first, after),
    };
    if start > end {
        return Ok(Page { items: Vec::new(), next_cursor: None });
    }
    let range = links.range(start.as_str()..end.as_str())?;
    let id = |entry: std::result::Result<(redb::AccessGuard<'_, &'static str>, _), redb::StorageError>| -> Result<String> {
        let (key, _): (_, redb::AccessGuard<'_, &'static str>) = entry?;
        Ok(key.value().rsplit('/').next().unwrap_or_default().to_owned())
    };
    let wanted = page.limit.saturating_add(1);
    let mut items: Vec<String> = match order {
        Order::OldestFirst => range.take(wanted).map(id).collect::<Result<_>>()?,
        Order::NewestFirst => range.rev().take(wanted).map(id).collect::<Result<_>>()?,
    };
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let next_cursor = if more { items.last().cloned() } else { None };
    Ok(Page { items, next_cursor })
}

/// A page of an owner's rows.
pub fn child_rows<T: DeserializeOwned>(
    links: &impl ReadableTable<&'static str, &'static str>,
    rows: &impl ReadableTable<&'static str, &'static [u8]>,
    owner: impl std::fmt::Display,
    order: Order,
    page: &PageRequest,
) -> Result<Page<T>> {
    let ids = children(links, owner, order, page)?;
    let items = ids.items.iter().filter_map(|id| get(rows, id).transpose()).collect::<Result<_>>()?;
    Ok(Page { items, next_cursor: ids.next_cursor })
}
