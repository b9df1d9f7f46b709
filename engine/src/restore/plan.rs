//! What a restore would do, and whether it can.

use std::collections::BTreeMap;

use repo_format::limits;
use repo_format::manifest::Manifest;
use repo_format::record::OutOfLine;
use repo_format::value;
use serde::{Deserialize, Serialize};

use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::diff::{CollectionDiff, Counts, Side, Status, Summary};
use crate::error::{Error, Kind, Result};
use crate::repo::{Repository, Session, Snapshot};
use crate::restore::in_place::Standing;
use crate::restore::records::Ids;
use crate::restore::selection::Selection;
use crate::rows;
use crate::source::{DatabaseUrl, definition_name};
use crate::target::{PreflightCheck, Restoring, preflight};

/// What is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// Every collection of the snapshot.
    All,
    /// These, by display name.
    Collections(Vec<String>),
    /// Single records, by display name and opaque id.
    Records(BTreeMap<String, Vec<String>>),
}

impl Scope {
    /// The collections of a snapshot that are in scope, and which of their records, if not all.
    pub(super) async fn select(
        &self,
        repo: &Repository,
        snapshot: &Snapshot,
    ) -> Result<Vec<(Cataloged, Option<Ids>)>> {
        let all = catalog::collections(repo, snapshot).await?;
        let names: Vec<&String> = match self {
            Self::All => return Ok(all.into_iter().map(|found| (found, None)).collect()),
            Self::Collections(names) => names.iter().collect(),
            Self::Records(records) => records.keys().collect(),
        };
        if names.is_empty() {
            return Err(Error::new(Kind::Invalid, "no collection is named").with_help("Name at least one."));
        }
        let is_unknown = |name: &&&String| !all.iter().any(|found| found.display_name() == ***name);
        if let Some(unknown) = names.iter().find(is_unknown) {
            return Err(catalog::not_found(unknown));
        }
        let chosen = all.into_iter().filter(|found| names.contains(&&found.display_name()));
        chosen.map(|found| self.ids(&found.display_name()).map(|ids| (found, ids))).collect()
    }

    /// The records of a collection that are in scope, if not all of them are.
    fn ids(&self, collection: &str) -> Result<Option<Ids>> {
        let Self::Records(records) = self else { return Ok(None) };
        let listed = records.get(collection).map(Vec::as_slice).unwrap_or_default();
        if listed.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("no record of {collection} is named"))
                .with_help("Name at least one, by the id that lists of records give."));
        }
        listed.iter().map(|id| rows::decode_id(id)).collect::<Result<_>>().map(Some)
    }
}

/// The names of collections as targets take them.
pub(super) fn names(collections: &[Cataloged]) -> Vec<(String, String)> {
    collections.iter().map(|found| (found.namespace.clone(), found.name.clone())).collect()
}

/// Fails when two collections would become one.
pub(super) fn check_placement<'c>(
    url: &DatabaseUrl,
    collections: impl IntoIterator<Item = &'c Cataloged>,
) -> Result<()> {
    let mut placed = BTreeMap::new();
    for found in collections {
        if let Some(other) = placed.insert((url.placed(&found.namespace), &found.name), found) {
            let (one, two) = (other.display_name(), found.display_name());
            return Err(Error::new(Kind::Invalid, format!("{one} and {two} would become one collection"))
                .with_help(
                    "Leave the database out of the target URL, so that each keeps its own, or choose the \
                            collections of one database.",
                ));
        }
    }
    Ok(())
}

/// Which database a restore writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetIdentity {
    /// Host and port as in the URL; several with commas between.
    pub address: String,
    /// The database's name; none when every database keeps its own.
    pub database: Option<String>,
}

impl TargetIdentity {
    /// What a URL leads to.
    pub fn of(url: &DatabaseUrl) -> Self {
        Self { address: url.address(), database: url.database().map(str::to_owned) }
    }

    /// What has to be typed before it is written to.
    pub(super) fn confirm_phrase(&self) -> String {
        self.database.clone().unwrap_or_else(|| self.address.clone())
    }
}

impl std::fmt::Display for TargetIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.database.as_deref().unwrap_or_default())
    }
}

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What was looked at; the restore goes on only when all of it is in order.
    pub preflight: Vec<PreflightCheck>,
    /// Exactly what would be written, as a comparison of the target with the snapshot.
    pub preview: Summary,
    /// What has to be typed: the target database's name, or its address when it names none.
    pub confirm_phrase: String,
    /// Where it would be written.
    pub target: TargetIdentity,
    /// What the target's tables held, of a restore in place.
    #[serde(default)]
    pub in_place: Option<Standing>,
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
    let url = DatabaseUrl::parse(target_url)?.within(ctx.addresses);
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let plan = async {
        let selection = Selection::of(scope, repo, snapshot, ctx).await?;
        let (snapshot, collections) = (&selection.snapshot, &selection.collections);
        check_placement(&url, collections)?;
        let restoring = Restoring {
            source: &snapshot.manifest.source,
            archive: &selection.archive,
            collections: &names(collections),
            unfilled_views: &snapshot.manifest.unfilled_views,
        };
        let mut preflight = preflight(&url, &restoring, true).await?;
        preflight.splice(..0, std::iter::once(completeness(&snapshot.manifest)).chain(selection.check()));
        let target = TargetIdentity::of(&url);
        let confirm_phrase = target.confirm_phrase();
        let preview = preview(snapshot, collections);
        Ok(Plan { preflight, preview, confirm_phrase, target, in_place: None })
    }
    .await;
    session.conclude(plan).await
}

/// What the snapshot lacks cannot be restored. That is no reason not to restore the rest, and every
/// reason to say so first.
pub(super) fn completeness(manifest: &Manifest) -> PreflightCheck {
    let detail = if manifest.is_complete() {
        "complete: everything in scope was read".to_owned()
    } else {
        let names: Vec<&str> = manifest.missing.iter().map(|missing| missing.name.as_str()).collect();
        format!(
            "incomplete: these, or their definitions, were not read, and will be missing, empty or without what is \
             theirs alone: {}",
            names.join(", ")
        )
    };
    PreflightCheck { check: "snapshot".to_owned(), ok: true, warns: !manifest.is_complete(), detail }
}

/// Whether the snapshot has a collection's records and nothing to make it with.
pub(super) fn lacks_definition(snapshot: &Snapshot, collection: &str) -> bool {
    let name = definition_name(collection);
    snapshot.manifest.missing.iter().any(|missing| missing.name == name)
}

/// Into an empty database everything is added that can be made.
fn preview(snapshot: &Snapshot, collections: &[Cataloged]) -> Summary {
    let mut collections: Vec<_> = (collections.iter())
        .filter(|found| !lacks_definition(snapshot, &found.display_name()))
        .map(|found| CollectionDiff {
            name: found.display_name(),
            status: Status::Added,
            records: Counts { added: found.descriptor.records, ..Counts::default() },
            schema_changes: Vec::new(),
            rekeyed: None,
        })
        .collect();
    collections.sort_by_key(|collection| std::cmp::Reverse(collection.records.added));
    Summary { collections, not_compared: Vec::new(), other_objects: None, objects_read: 0, bytes_read: 0 }
}

/// The bytes of a snapshot's schema archive.
pub(crate) async fn schema_archive(repo: &Repository, snapshot: impl Into<Side<'_>>) -> Result<Vec<u8>> {
    let Side { snapshot, overlay } = snapshot.into();
    let Some(schema) = snapshot.manifest.schema.clone() else {
        return Err(Error::new(
            Kind::Unsupported,
            "the snapshot has no schema archive, so it cannot be restored",
        )
        .with_help("Install pg_dump of the server's version or newer, and take another snapshot."));
    };
    let place = OutOfLine { len: schema.len, depth: schema.depth, root: schema.root };
    repo.with_reader_over(overlay, move |reader| value::read(&place, limits::RECORD as u64, reader)).await
}
