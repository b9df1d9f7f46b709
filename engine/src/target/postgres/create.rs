//! The database itself: made, finished or given up.

use std::sync::OnceLock;
use std::time::Duration;

use repo_format::manifest::Source;
use tokio::sync::Mutex;

use super::inspect::{Contents, inspect, maintenance};
use super::{Target, fault};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::connect::Connector;
use crate::source::postgres::session::{Session, ident, literal};
use crate::source::postgres::settings::Server;
use crate::target::Note;

/// What a database of ours says of itself until the restore is proven.
const UNFINISHED: &str = "unfinished DBSnap restore";
/// `DROP DATABASE ... WITH (FORCE)` begins with PostgreSQL 13.
const FORCE_SINCE: u32 = 130_000;
/// The last connections of a failed restore may take a moment to end.
const DROP_ATTEMPTS: u32 = 20;
const DROP_PAUSE: Duration = Duration::from_millis(250);

impl Target {
    /// Makes the database of `url` like `source`'s, or takes it as it is when it is empty.
    /// [`Kind::Conflict`] when it holds anything.
    pub async fn create(url: &PostgresUrl, source: &Source) -> Result<Self> {
        let state = inspect(url).await?;
        let (created, notes) = match &state.contents {
            Contents::Empty => (false, Vec::new()),
            Contents::Absent => {
                (true, create_database(&maintenance(url).await?, url.database(), source).await?)
            }
            Contents::Occupied { objects, total } => {
                let message = format!(
                    "database \"{}\" is not empty: it holds {}",
                    url.database(),
                    listed(objects, *total)
                );
                return Err(Error::new(Kind::Conflict, message)
                    .with_help("Restore into a database that does not exist yet, or empty this one first."));
            }
        };
        match Self::open(url, created, notes).await {
            Err(error) if created => {
                // Made a moment ago and of no use: nothing of it may stay behind.
                let drop = format!("DROP DATABASE {}", ident(url.database()));
                let name = url.database();
                Err(match maintenance(url).await {
                    Ok(session) if session.run(&drop).await.is_ok() => error,
                    _ => error
                        .with_help(format!("The new database \"{name}\" is empty and could not be dropped.")),
                })
            }
            opened => opened,
        }
    }

    async fn open(url: &PostgresUrl, created: bool, notes: Vec<Note>) -> Result<Self> {
        let connector = Connector::new(url)?;
        let session = connector.connect().await?;
        let server = Server::read(&session).await?;
        let target = Self {
            url: url.clone(),
            connector,
            server,
            created,
            notes,
            idle: Mutex::new(Vec::new()),
            standing: OnceLock::new(),
            checks: Mutex::new(Vec::new()),
            partitions: Mutex::new(Vec::new()),
            kept_checks: Mutex::default(),
            unforced: Mutex::new(Vec::new()),
            load_notes: Mutex::new(Vec::new()),
        };
        if created {
            target.comment(&session, Some(UNFINISHED)).await?;
        }
        Ok(target)
    }

    /// Ends a proven restore: row security holds for its owner too, and the database no longer says
    /// that it is unfinished.
    pub async fn finish(self) -> Result<Vec<Note>> {
        let notes = self.force_row_security().await?;
        if self.created {
            let session = self.connect().await?;
            self.comment(&session, None).await?;
        }
        Ok(notes)
    }

    /// Gives up: drops the database if this restore made it, and says what is left behind.
    pub async fn abandon(self) -> Result<String> {
        let name = self.url.database().to_owned();
        if !self.created {
            self.force_row_security().await?;
            return Ok(format!(
                "Database \"{name}\" was there before and is kept, with what was restored so far. Drop it, or empty \
                 it, before you try again."
            ));
        }
        self.idle.lock().await.clear();
        let session = maintenance(&self.url).await?;
        let force = if self.server.version_number >= FORCE_SINCE { " WITH (FORCE)" } else { "" };
        let sql = format!("DROP DATABASE IF EXISTS {}{force}", ident(&name));
        let mut attempt = 1;
        while let Err(error) = session.run(&sql).await {
            if error.code() != Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE)
                || attempt == DROP_ATTEMPTS
            {
                return Err(fault::statement(&format!("dropping the unfinished database \"{name}\""), error));
            }
            attempt += 1;
            tokio::time::sleep(DROP_PAUSE).await;
        }
        Ok(format!("Database \"{name}\" had been made for this restore and was dropped."))
    }

    async fn comment(&self, session: &Session, text: Option<&str>) -> Result<()> {
        let text = text.map_or("NULL".to_owned(), literal);
        let sql = format!("COMMENT ON DATABASE {} IS {text}", ident(self.url.database()));
        session.run(&sql).await.map_err(|error| fault::statement("marking the new database", error))
    }
}

/// "table public.a, table public.b and 7 more".
pub(super) fn listed(objects: &[String], total: u64) -> String {
    let more = total.saturating_sub(objects.len() as u64);
    let shown = objects.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// From `template0`, which nobody has changed, with the source's encoding. Its collation is a name
/// of the operating system's and may be unknown on this one; C is known everywhere.
async fn create_database(session: &Session, name: &str, source: &Source) -> Result<Vec<Note>> {
    let base =
        format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {}", ident(name), literal(&source.encoding));
    let with_locale = |locale: &str| format!("{base} LC_COLLATE {0} LC_CTYPE {0}", literal(locale));
    let doing = format!("creating database \"{name}\"");
    let failure = match session.run(&with_locale(&source.collation)).await {
        Ok(()) => return Ok(Vec::new()),
        Err(error) => error,
    };
    if !is_about_locale(&failure) {
        return Err(fault::statement(&doing, failure));
    }
    session.run(&with_locale("C")).await.map_err(|error| fault::statement(&doing, error))?;
    let why = failure.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
    Ok(vec![Note::remark(format!(
        "The database's collation is C, not {}: {why}. Text sorts in another order; no value differs.",
        source.collation
    ))])
}

fn is_about_locale(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::SqlState;
    let codes = [
        &SqlState::WRONG_OBJECT_TYPE,
        &SqlState::INVALID_PARAMETER_VALUE,
        &SqlState::INVALID_OBJECT_DEFINITION,
        &SqlState::FEATURE_NOT_SUPPORTED,
    ];
    error.code().is_some_and(|code| codes.contains(&code))
}
