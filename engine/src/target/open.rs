//! A database that is being restored into, whatever its engine.

use repo_format::catalog::Layout;
use repo_format::manifest::{Missing, SequenceState, Source, ViewName};
use tokio::sync::mpsc::Receiver;

use crate::error::{Error, Kind, Result};
use crate::source::{DatabaseUrl, RecordBatch};
use crate::target::{Note, PreflightCheck, mongodb, postgres};

/// What is restored.
#[derive(Clone, Copy, Debug)]
pub struct Restoring<'a> {
    /// The database the snapshot was taken of.
    pub source: &'a Source,
    /// The snapshot's schema archive.
    pub archive: &'a [u8],
    /// The collections in scope, as (namespace, name) in the source.
    pub collections: &'a [(String, String)],
    /// Materialized views that hold no data in the snapshot.
    pub unfilled_views: &'a [ViewName],
}

/// A collection as the snapshot describes it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// The schema or database it is in.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its normalised schema text.
    pub schema: &'a str,
}

/// Says in words what the target holds, if anything would be in the way of these collections.
/// Reads only.
pub async fn occupied(url: &DatabaseUrl, collections: &[(String, String)]) -> Result<Option<String>> {
    match url {
        DatabaseUrl::Postgres(url) => Ok(match postgres::inspect(url).await?.contents {
            postgres::Contents::Occupied { objects, total } => {
                let (database, objects) = (url.database(), objects.join(", "));
                Some(match total {
                    1 => format!("The database {database} is not empty: it holds {objects}."),
                    _ => format!("The database {database} holds {total} objects, such as {objects}."),
                })
            }
            postgres::Contents::Absent | postgres::Contents::Empty => None,
        }),
        DatabaseUrl::MongoDb(url) => mongodb::occupied(url, collections).await,
    }
}

/// Looks at everything that can be known to be in the way before anything is written.
/// `others_write`: these credentials may be read-only, since those that write are given later.
pub(crate) async fn preflight(
    url: &DatabaseUrl,
    restoring: &Restoring<'_>,
    others_write: bool,
) -> Result<Vec<PreflightCheck>> {
    check_engine(url, restoring.source)?;
    match url {
        DatabaseUrl::Postgres(url) if others_write => {
            postgres::preflight_plan(url, restoring.source, restoring.archive).await
        }
        DatabaseUrl::Postgres(url) => postgres::preflight(url, restoring.source, restoring.archive).await,
        DatabaseUrl::MongoDb(url) => mongodb::preflight(url, restoring, others_write).await,
    }
}

/// A snapshot goes back into the kind of database it came from.
fn check_engine(url: &DatabaseUrl, source: &Source) -> Result<()> {
    let engine = url.engine().as_str();
    if engine == source.engine {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("the snapshot is of {}, the target is {engine}", source.engine))
        .with_help("Restore into a database of the same system."))
}

/// A database that is being restored into. Nothing here says that a restore succeeded: only the
/// proof does.
pub(crate) enum Target {
    Postgres(Box<postgres::Target>),
    MongoDb(Box<mongodb::Target>),
}

impl Target {
    /// Makes the database, or takes an empty one. [`Kind::Conflict`] when it holds anything.
    pub async fn create(url: &DatabaseUrl, restoring: &Restoring<'_>) -> Result<Self> {
        check_engine(url, restoring.source)?;
        Ok(match url {
            DatabaseUrl::Postgres(url) => {
                Self::Postgres(Box::new(postgres::Target::create(url, restoring.source).await?))
            }
            DatabaseUrl::MongoDb(url) => {
                Self::MongoDb(Box::new(mongodb::Target::create(url, restoring).await?))
            }
        })
    }

    /// What has to be there before records: types and tables, or collections.
    pub async fn pre_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        match self {
            Self::Postgres(target) => target.pre_data(restoring.archive).await,
            Self::MongoDb(target) => target.pre_data(restoring).await,
        }
    }

    /// Makes what the schema archive lacks and rows of the snapshot need, as far as it is known.
    pub async fn make_partitions(
        &self,
        collections: &[Described<'_>],
        missing: &[Missing],
    ) -> Result<Vec<Note>> {
        match self {
            Self::Postgres(target) => target.make_partitions(collections, missing).await,
            Self::MongoDb(_) => Ok(Vec::new()),
        }
    }

    /// Which of these relations could not be made, by (namespace, name).
    pub async fn absent(&self, names: &[(String, String)]) -> Result<Vec<(String, String)>> {
        match self {
            Self::Postgres(target) => target.absent(names).await,
            Self::MongoDb(_) => Ok(Vec::new()),
        }
    }

    /// Loads the records of one collection, values inline, and returns how many there were.
    pub async fn load(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        match self {
            Self::Postgres(target) => target.load(layout, namespace, name, expected, rows).await,
            Self::MongoDb(target) => target.load(layout, namespace, name, expected, rows).await,
        }
    }

    /// Takes a rule away that may have kept records from being loaded. Whether there is one, so that a
    /// load that was refused is worth another try.
    pub async fn relax(&self, refusal: &Error) -> Result<bool> {
        match self {
            Self::Postgres(target) => target.lift_domain_checks(refusal).await,
            Self::MongoDb(_) => Ok(false),
        }
    }

    /// What can only be there after the records: indexes, constraints, validators, views.
    pub async fn post_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        match self {
            Self::Postgres(target) => target.post_data(restoring.archive, restoring.unfilled_views).await,
            Self::MongoDb(target) => target.post_data(restoring).await,
        }
    }

    /// Sets sequences to where they stood.
    pub async fn set_sequences(&self, states: &[SequenceState]) -> Result<()> {
        match self {
            Self::Postgres(target) => target.set_sequences(states).await,
            Self::MongoDb(_) => Ok(()),
        }
    }

    /// Ends a proven restore with what may only be there once it is proven, because it removes
    /// records or hides them: TTL indexes, and row security that is forced on owners.
    pub async fn finish(self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        match self {
            Self::Postgres(target) => target.finish().await,
            Self::MongoDb(target) => target.finish(restoring).await,
        }
    }

    /// Gives up: takes away what this restore made, and says what is left behind.
    pub async fn abandon(self) -> Result<String> {
        match self {
            Self::Postgres(target) => target.abandon().await,
            Self::MongoDb(target) => target.abandon().await,
        }
    }
}
