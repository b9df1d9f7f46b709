//! What a restore would do, and whether it can.

use repo_format::limits;
use repo_format::manifest::Manifest;
use repo_format::record::OutOfLine;
use repo_format::value;
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::context::Context;
use crate::diff::{CollectionDiff, Counts, Status, Summary};
use crate::error::{Error, Kind, Result};
use crate::repo::{Repository, Session, Snapshot};
use crate::source::postgres::PostgresUrl;
use crate::target::PreflightCheck;
use crate::target::postgres::preflight_plan;

/// What is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// Every collection of the snapshot.
    All,
}

/// Which database a restore writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetIdentity {
    /// The host, as in the URL.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database's name.
    pub database: String,
}

impl TargetIdentity {
    pub(crate) fn of(url: &PostgresUrl) -> Self {
        Self { host: url.host().to_owned(), port: url.port(), database: url.database().to_owned() }
    }
}

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What was looked at; the restore goes on only when all of it is in order.
    pub preflight: Vec<PreflightCheck>,
    /// Exactly what would be written, as a comparison of the target with the snapshot.
    pub preview: Summary,
    /// What has to be typed: the target database's name.
    pub confirm_phrase: String,
    /// Where it would be written.
    pub target: TargetIdentity,
}

impl Plan {
    /// Whether nothing is in the way.
    pub fn is_clear(&self) -> bool {
        self.preflight.iter().all(|check| check.ok)
    }
}

/// Looks at the target and says what a restore would do. Writes nothing.
pub async fn plan(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    target_url: &str,
    ctx: &Context,
) -> Result<Plan> {
    let Scope::All = scope;
    let url = PostgresUrl::parse(target_url)?;
    let session = Session::begin(repo, ctx).await?;
    let plan = async {
        let archive = schema_archive(repo, snapshot).await?;
        let mut preflight = preflight_plan(&url, &snapshot.manifest.source, &archive).await?;
        preflight.insert(0, completeness(&snapshot.manifest));
        let target = TargetIdentity::of(&url);
        let confirm_phrase = target.database.clone();
        Ok(Plan { preflight, preview: preview(repo, snapshot).await?, confirm_phrase, target })
    }
    .await;
    session.close().await;
    plan
}

/// What the snapshot lacks cannot be restored. That is no reason not to restore the rest, and every
/// reason to say so first.
fn completeness(manifest: &Manifest) -> PreflightCheck {
    let detail = if manifest.is_complete() {
        "complete: everything in scope was read".to_owned()
    } else {
        let names: Vec<&str> = manifest.missing.iter().map(|missing| missing.name.as_str()).collect();
        format!("incomplete: these were not read, and will be missing or empty: {}", names.join(", "))
    };
    PreflightCheck { check: "snapshot".to_owned(), ok: true, detail }
}

/// Into an empty database everything is added.
async fn preview(repo: &Repository, snapshot: &Snapshot) -> Result<Summary> {
    let mut collections: Vec<_> = (catalog::collections(repo, snapshot).await?.iter())
        .map(|found| CollectionDiff {
            name: found.display_name(),
            status: Status::Added,
            records: Counts { added: found.descriptor.records, ..Counts::default() },
            schema_changes: Vec::new(),
            rekeyed: None,
        })
        .collect();
    collections.sort_by_key(|collection| std::cmp::Reverse(collection.records.added));
    Ok(Summary { collections, not_compared: Vec::new(), objects_read: 0, bytes_read: 0 })
}

/// The bytes of a snapshot's schema archive.
pub(super) async fn schema_archive(repo: &Repository, snapshot: &Snapshot) -> Result<Vec<u8>> {
    let Some(schema) = snapshot.manifest.schema.clone() else {
        return Err(Error::new(
            Kind::Unsupported,
            "the snapshot has no schema archive, so it cannot be restored",
        )
        .with_help("Install pg_dump of the server's version or newer, and take another snapshot."));
    };
    let place = OutOfLine { len: schema.len, depth: schema.depth, root: schema.root };
    repo.with_reader(move |reader| value::read(&place, limits::RECORD as u64, reader)).await
}
