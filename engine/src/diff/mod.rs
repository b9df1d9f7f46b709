//! Comparing two snapshots of one project, or a snapshot with a database that was read to be compared.
//!
//! Collections are matched by name, records by key, cells by column name. What is equal is found
//! equal by its hash and not read. A column that only one side has counts as NULL on the other.
//! So where columns were renamed, dropped or moved, equal bytes mean nothing and all records of the
//! collection are compared cell by cell.

mod align;
pub(crate) mod definitions;
mod json;
mod keep;
mod objects;
mod schema;
mod window;

use repo_format::catalog::{CollectionKind, Layout};
use repo_format::tree::{self, Counts as TreeCounts, Diff};
use serde::{Deserialize, Serialize};

use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::document::{self, Differences};
use crate::error::{Error, Kind, Result};
use crate::live::Reading;
use crate::monitor::Progress;
use crate::overlay::Overlay;
use crate::repo::{ObjectReader, ReadStats, Repository, Session, Snapshot};
use crate::rows::{self, Page, PageRequest};
use crate::source::concerns;
use align::Alignment;
pub(crate) use keep::Keeper;

pub use crate::document::Operation;
pub use crate::rows::{Cell, Content, Row};
pub(crate) use objects::stands;
pub(crate) use schema::text_changes as schema_text_changes;
pub use window::Window;

/// Bytes of a patch that is shown; longer ones are left out and the change is marked.
const LONGEST_PATCH: usize = 1 << 20;

/// A side of a comparison: a snapshot, or a database that was read to be compared. Where both sides have
/// an overlay, it is the same one.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Where objects are that the repository need not have.
    pub(crate) overlay: Option<&'a Overlay>,
}

impl<'a> From<&'a Snapshot> for Side<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, overlay: None }
    }
}

impl<'a> From<&'a Reading> for Side<'a> {
    fn from(reading: &'a Reading) -> Self {
        Self { snapshot: &reading.snapshot, overlay: Some(&reading.overlay) }
    }
}

/// What became of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Only the newer side has it.
    Added,
    /// Only the older side has it.
    Removed,
    /// Its data or its schema differs.
    Changed,
    /// Data and schema are equal.
    Unchanged,
}

/// How many records differ, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Only on the newer side.
    pub added: u64,
    /// Only on the older side.
    pub removed: u64,
    /// In both, with another value.
    pub changed: u64,
    /// In both, equal.
    pub unchanged: u64,
    /// Of the changed ones, documents that differ in nothing but the order of their fields.
    #[serde(default)]
    pub order_only: u64,
}

impl Counts {
    /// Records that differ.
    pub fn differing(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// One collection in a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionDiff {
    /// Its display name.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// How many of its records differ.
    pub records: Counts,
    /// What changed in its schema, in words.
    pub schema_changes: Vec<String>,
    /// Why its records are not compared, with how many there are: its key is another than it was.
    pub rekeyed: Option<String>,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Every collection that both sides could hold, those with the most differences first.
    pub collections: Vec<CollectionDiff>,
    /// Names that could not be read on one of the sides, so that nothing can be said of them.
    pub not_compared: Vec<String>,
    /// What differs beside collections (views, functions, types, privileges, where sequences stand),
    /// in words. `None` when that is not known, as in comparisons made before it was looked at.
    #[serde(default)]
    pub other_objects: Option<Vec<String>>,
    /// Objects read from the repository.
    pub objects_read: u64,
    /// Bytes read from the repository.
    pub bytes_read: u64,
}

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its value is another.
    Changed,
}

/// One record that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The record's opaque id.
    pub id: String,
    /// What happened.
    pub kind: ChangeKind,
    /// Its key in words.
    pub key: String,
    /// The older record; `None` when added.
    pub old: Option<Content>,
    /// The newer record; `None` when removed.
    pub new: Option<Content>,
    /// The columns whose values differ, when changed; of documents, the top-level fields.
    pub columns: Vec<String>,
    /// For a changed document: what makes the newer one of the older one, between their canonical
    /// Extended JSON forms (RFC 6902). `None` for rows, and when it is longer than what is shown.
    pub patch: Option<Vec<Operation>>,
    /// Whether a document differs in nothing but the order of its fields.
    pub order_only: bool,
    /// Of the columns, those of PostgreSQL's type `json` whose values are the same but for white space
    /// between their tokens.
    pub reformatted: Vec<String>,
    /// Of the columns, those with a long value: what stands around the first difference.
    pub windows: Vec<Window>,
    /// Whether a value was cut to what is shown.
    pub truncated: bool,
}

/// Which changes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this kind.
    pub kind: Option<ChangeKind>,
    /// Only changed records whose value in this column, or top-level field, differs.
    pub column: Option<String>,
}

/// Compares two snapshots: which collections differ, and in how many records.
pub async fn summary(repo: &Repository, from: &Snapshot, to: &Snapshot, ctx: &Context) -> Result<Summary> {
    let session = Session::begin_reading(repo, &[from.id, to.id], ctx).await?;
    let summary = compare_all(repo, from, to.into(), ctx).await;
    session.conclude(summary).await
}

/// As [`summary`], within the caller's session. What the pages of changes will ask for is kept in the
/// overlay, where there is one.
pub(crate) async fn compare_all(
    repo: &Repository,
    from: &Snapshot,
    to: Side<'_>,
    ctx: &Context,
) -> Result<Summary> {
    let (old, new) = (catalog::collections(repo, from).await?, catalog::collections(repo, to).await?);
    let mut not_compared: Vec<String> = from
        .manifest
        .missing
        .iter()
        .chain(&to.snapshot.manifest.missing)
        .map(|missing| missing.name.clone())
        .collect();
    not_compared.sort();
    not_compared.dedup();
    let mut pairs = pair_up(old, new);
    pairs.retain(|pair| !not_compared.iter().any(|missing| concerns(missing, &pair.name())));
    let (mut collections, stats) = compare_pairs(repo, pairs, to.overlay, ctx).await?;
    let other_objects = objects::changes(repo, from, to, &mut collections).await?;
    sort(&mut collections);
    let ReadStats { objects, bytes } = stats;
    Ok(Summary { collections, not_compared, other_objects, objects_read: objects, bytes_read: bytes })
}

/// Compares the collections of two catalogs, whose objects may be in one overlay, and nothing else.
pub(crate) async fn compare_collections(
    repo: &Repository,
    old: Vec<Cataloged>,
    new: Vec<Cataloged>,
    overlay: &Overlay,
    ctx: &Context,
) -> Result<Summary> {
    let (collections, stats) = compare_pairs(repo, pair_up(old, new), Some(overlay), ctx).await?;
    let ReadStats { objects, bytes } = stats;
    Ok(Summary {
        collections,
        not_compared: Vec::new(),
        other_objects: None,
        objects_read: objects,
        bytes_read: bytes,
    })
}

/// Compares each pair. What pages of its changes are made of is kept in the overlay, where there is one.
async fn compare_pairs(
    repo: &Repository,
    pairs: Vec<Pair>,
    overlay: Option<&Overlay>,
    ctx: &Context,
) -> Result<(Vec<CollectionDiff>, ReadStats)> {
    let (ctx, kept) = (ctx.clone(), overlay.cloned());
    let (mut collections, stats) = repo
        .with_reader_over(overlay, move |reader| {
            reader.stop_with(&ctx.cancel);
            let mut progress = Progress { collections_total: pairs.len() as u64, ..Progress::default() };
            let mut collections = Vec::with_capacity(pairs.len());
            for pair in pairs {
                ctx.check()?;
                progress.phase = format!("comparing {}", pair.name());
                ctx.monitor.progress(&progress);
                if let Some(overlay) = &kept {
                    Keeper::new(reader, overlay, &ctx).pair(&pair)?;
                }
                collections.push(compare(&pair, reader, &ctx)?);
                progress.collections_done += 1;
                progress.bytes_read = reader.stats().bytes;
                ctx.monitor.progress(&progress);
            }
            Ok((collections, reader.stats()))
        })
        .await?;
    sort(&mut collections);
    Ok((collections, stats))
}

/// A collection without any difference comes last; among equals, by name.
fn sort(collections: &mut [CollectionDiff]) {
    collections.sort_by_cached_key(|collection| {
        let unchanged = collection.status == Status::Unchanged;
        (unchanged, std::cmp::Reverse(collection.records.differing()), collection.name.clone())
    });
}

/// A collection on one side or both.
#[derive(Clone, Debug)]
struct Pair {
    old: Option<Cataloged>,
    new: Option<Cataloged>,
}

impl Pair {
    /// As records see it: where one side became a view, or was one, there is the other side only.
    fn of_records(mut self) -> Self {
        if let (Some(old), Some(new)) = (&self.old, &self.new)
            && is_view(old) != is_view(new)
        {
            let gone = if is_view(old) { &mut self.old } else { &mut self.new };
            *gone = None;
        }
        self
    }

    fn name(&self) -> String {
        self.new.as_ref().or(self.old.as_ref()).map(Cataloged::display_name).unwrap_or_default()
    }
}

/// Matches two catalogs, each sorted by namespace and name.
fn pair_up(old: Vec<Cataloged>, new: Vec<Cataloged>) -> Vec<Pair> {
    let mut by_name = std::collections::BTreeMap::new();
    for found in old {
        by_name.insert((found.namespace.clone(), found.name.clone()), Pair { old: Some(found), new: None });
    }
    for found in new {
        let key = (found.namespace.clone(), found.name.clone());
        by_name.entry(key).or_insert(Pair { old: None, new: None }).new = Some(found);
    }
    by_name.into_values().collect()
}

fn compare(pair: &Pair, reader: &mut ObjectReader, ctx: &Context) -> Result<CollectionDiff> {
    let mut diff = CollectionDiff {
        name: pair.name(),
        status: Status::Unchanged,
        records: Counts::default(),
        schema_changes: Vec::new(),
        rekeyed: None,
    };
    match (&pair.old, &pair.new) {
        (Some(old), Some(new)) if is_view(old) != is_view(new) => {
            diff.schema_changes = schema::changes(old, new);
            diff.records.removed = old.descriptor.records;
            diff.records.added = new.descriptor.records;
            diff.status = Status::Changed;
        }
        (Some(old), Some(new)) => {
            diff.schema_changes = schema::changes(old, new);
            let alignment = Alignment::new(&old.descriptor.layout, &new.descriptor.layout);
            let equal_data = old.descriptor.data_root == new.descriptor.data_root;
            if !equal_data && let Some(why) = alignment.rekeyed() {
                let (before, now) = (old.descriptor.records, new.descriptor.records);
                diff.rekeyed = Some(format!(
                    "{why}: the {before} records of before cannot be matched with the {now} of now"
                ));
            } else {
                diff.records = count(old, new, &alignment, reader, ctx)?;
            }
            if diff.records.added == 0 && diff.records.removed == 0 && diff.rekeyed.is_none() {
                diff.schema_changes.extend(reordered(old, new));
            }
            if diff.rekeyed.is_some() || diff.records.differing() > 0 || !diff.schema_changes.is_empty() {
                diff.status = Status::Changed;
            }
        }
        (Some(old), None) => {
            diff.status = Status::Removed;
            diff.records.removed = old.descriptor.records;
        }
        (None, Some(new)) => {
            diff.status = Status::Added;
            diff.records.added = new.descriptor.records;
        }
        (None, None) => {}
    }
    Ok(diff)
}

/// A view has no records, so that nothing can be matched with one.
fn is_view(found: &Cataloged) -> bool {
    found.descriptor.layout.kind == CollectionKind::View
}

/// What to say of two collections with the same keys whose own order of them is another. An order that is
/// that of the keys is not kept.
fn reordered(old: &Cataloged, new: &Cataloged) -> Option<String> {
    (old.descriptor.natural_order != new.descriptor.natural_order)
        .then(|| "order of its documents: another".to_owned())
}

fn count(
    old: &Cataloged,
    new: &Cataloged,
    alignment: &Alignment,
    reader: &mut ObjectReader,
    ctx: &Context,
) -> Result<Counts> {
    let mut order_only = 0;
    let TreeCounts { added, removed, changed } = if new.descriptor.layout.is_documents() {
        count_documents(Diff::new(&old.root(), &new.root(), None), &mut order_only, reader, ctx)?
    } else if alignment.is_positional() {
        Diff::new(&old.root(), &new.root(), None).count(reader)?
    } else {
        count_aligned(Diff::every_pair(&old.root(), &new.root(), None), alignment, reader, ctx)?
    };
    let unchanged = new.descriptor.records.saturating_sub(added + changed);
    Ok(Counts { added, removed, changed, unchanged, order_only })
}

/// Counts documents, and those of the changed ones whose fields are only in another order.
fn count_documents(
    mut diff: Diff,
    order_only: &mut u64,
    reader: &mut ObjectReader,
    ctx: &Context,
) -> Result<TreeCounts> {
    let mut counts = TreeCounts::default();
    while let Some(change) = diff.next(reader)? {
        ctx.check()?;
        match change {
            tree::Change::Added { .. } => counts.added += 1,
            tree::Change::Removed { .. } => counts.removed += 1,
            tree::Change::Changed { old, new, .. } => {
                counts.changed += 1;
                let (old, new) = (rows::document(&old, reader)?, rows::document(&new, reader)?);
                *order_only += u64::from(document::differ_in_order_only(&old, &new));
            }
        }
    }
    Ok(counts)
}

/// Counts where columns have moved: records whose bytes differ may hold the same cells, and records
/// whose bytes are equal may not.
fn count_aligned(
    mut diff: Diff,
    alignment: &Alignment,
    reader: &mut ObjectReader,
    ctx: &Context,
) -> Result<TreeCounts> {
    let mut counts = TreeCounts::default();
    while let Some(change) = diff.next(reader)? {
        ctx.check()?;
        match change {
            tree::Change::Added { .. } => counts.added += 1,
            tree::Change::Removed { .. } => counts.removed += 1,
            tree::Change::Changed { old, new, .. } => {
                counts.changed += u64::from(!alignment.differing(&old, &new, reader)?.is_empty());
            }
        }
    }
    Ok(counts)
}

/// One page of the records of a collection that differ, in key order.
pub async fn changes(
    repo: &Repository,
    from: impl Into<Side<'_>>,
    to: impl Into<Side<'_>>,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page<Change>> {
    let (from, to) = (from.into(), to.into());
    if let Some(missing) = from
        .snapshot
        .manifest
        .missing
        .iter()
        .chain(&to.snapshot.manifest.missing)
        .find(|found| concerns(&found.name, collection))
    {
        let message =
            format!("{collection} cannot be compared: {} could not be read on one side", missing.name);
        return Err(Error::new(Kind::Unsupported, message).with_help(missing.reason.clone()));
    }
    let pair = Pair {
        old: catalog::find(repo, from, collection).await?,
        new: catalog::find(repo, to, collection).await?,
    }
    .of_records();
    let Some(layout) = pair.new.as_ref().or(pair.old.as_ref()).map(|found| found.descriptor.layout.clone())
    else {
        return Err(catalog::not_found(collection));
    };
    if let Some(column) = &filter.column {
        check_column(&pair, column)?;
    }
    let start = rows::start_key(page, &layout, repo.keys().row())?;
    let (page, filter) = (page.clone(), filter.clone());
    let work =
        move |reader: &mut ObjectReader| page_of_changes(&pair, &layout, start, &filter, &page, reader);
    repo.with_reader_over(to.overlay, work).await
}

fn check_column(pair: &Pair, column: &str) -> Result<()> {
    let layouts = || [&pair.old, &pair.new].into_iter().flatten().map(|found| &found.descriptor.layout);
    // Any document may have any field.
    if layouts().any(Layout::is_documents)
        || layouts().flat_map(|layout| &layout.columns).any(|known| known.name == column)
    {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("{} has no column {column:?}", pair.name()))
        .with_help("Filter by one of its columns."))
}

fn page_of_changes(
    pair: &Pair,
    layout: &Layout,
    start: Option<Vec<u8>>,
    filter: &Filter,
    page: &PageRequest,
    reader: &mut ObjectReader,
) -> Result<Page<Change>> {
    let (old_layout, new_layout) = (
        pair.old.as_ref().map_or(layout, |found| &found.descriptor.layout),
        pair.new.as_ref().map_or(layout, |found| &found.descriptor.layout),
    );
    let alignment = Alignment::new(old_layout, new_layout);
    if alignment.rekeyed().is_some() {
        return Ok(Page { items: Vec::new(), next_cursor: None });
    }
    let mut walk = Walk::new(pair, &alignment, start.as_deref())?;
    let (mut items, mut last): (Vec<Change>, Option<String>) = (Vec::new(), None);
    while let Some(found) = walk.next(reader)? {
        if page.cursor.is_some() && start.as_deref() == Some(found.key()) {
            continue;
        }
        if !filter.may_match(&found) {
            continue;
        }
        let Some(differing) = Differing::of(&found, new_layout, &alignment, reader)? else { continue };
        if filter.column.as_ref().is_some_and(|column| !differing.columns.contains(column)) {
            continue;
        }
        let change = shown(&found, differing, old_layout, new_layout, reader)?;
        if items.len() == page.limit.max(1) {
            return Ok(Page { items, next_cursor: last });
        }
        last = Some(change.id.clone());
        items.push(change);
    }
    Ok(Page { items, next_cursor: None })
}

impl Filter {
    fn may_match(&self, change: &tree::Change) -> bool {
        let kind = match change {
            tree::Change::Added { .. } => ChangeKind::Added,
            tree::Change::Removed { .. } => ChangeKind::Removed,
            tree::Change::Changed { .. } => ChangeKind::Changed,
        };
        self.kind.is_none_or(|wanted| wanted == kind)
            && (self.column.is_none() || kind == ChangeKind::Changed)
    }
}

/// In what two records differ.
#[derive(Default)]
struct Differing {
    columns: Vec<String>,
    patch: Option<Vec<Operation>>,
    order_only: bool,
    reformatted: Vec<String>,
    windows: Vec<Window>,
    truncated: bool,
}

impl Differing {
    /// `None` when the records hold the same although their bytes differ.
    fn of(
        change: &tree::Change,
        layout: &Layout,
        alignment: &Alignment,
        reader: &mut ObjectReader,
    ) -> Result<Option<Self>> {
        let tree::Change::Changed { old, new, .. } = change else { return Ok(Some(Self::default())) };
        if layout.is_documents() {
            let (old, new) = (rows::document(old, reader)?, rows::document(new, reader)?);
            let Differences { order_only, fields, patch } = document::differences(&old, &new);
            let truncated = patch.iter().map(Operation::size).sum::<usize>() > LONGEST_PATCH;
            let patch = (!truncated).then_some(patch);
            return Ok(Some(Self { columns: fields, patch, order_only, truncated, ..Self::default() }));
        }
        let columns = alignment.differing(old, new, reader)?;
        let reformatted = alignment.reformatted(old, new, &columns, reader)?;
        let windows = alignment.windows(old, new, &columns, reader)?;
        Ok((!columns.is_empty()).then(|| Self { columns, reformatted, windows, ..Self::default() }))
    }
}

/// A change as people read it.
fn shown(
    change: &tree::Change,
    differing: Differing,
    old_layout: &Layout,
    new_layout: &Layout,
    reader: &mut ObjectReader,
) -> Result<Change> {
    let (kind, key, old, new) = match change {
        tree::Change::Added { key, new } => (ChangeKind::Added, key, None, Some(new)),
        tree::Change::Removed { key, old } => (ChangeKind::Removed, key, Some(old), None),
        tree::Change::Changed { key, old, new } => (ChangeKind::Changed, key, Some(old), Some(new)),
    };
    let old = old.map(|record| rows::shown(old_layout, key, record, reader)).transpose()?;
    let new = new.map(|record| rows::shown(new_layout, key, record, reader)).transpose()?;
    let readable = [&new, &old].into_iter().flatten().next().map(|shown| shown.key.clone());
    let cut = [&new, &old].into_iter().flatten().any(|shown| shown.truncated);
    let Differing { columns, patch, order_only, reformatted, windows, truncated } = differing;
    Ok(Change {
        id: rows::encode_id(key),
        kind,
        key: readable.unwrap_or_default(),
        truncated: truncated || cut,
        old: old.map(|shown| shown.content),
        new: new.map(|shown| shown.content),
        columns,
        patch,
        order_only,
        reformatted,
        windows,
    })
}

/// The differences of a pair, where either side may be absent.
enum Walk {
    Both(Diff),
    Added(tree::Cursor),
    Removed(tree::Cursor),
}

impl Walk {
    fn new(pair: &Pair, alignment: &Alignment, start: Option<&[u8]>) -> Result<Self> {
        Ok(match (&pair.old, &pair.new) {
            (Some(old), Some(new)) if alignment.is_positional() => {
                Self::Both(Diff::new(&old.root(), &new.root(), start))
            }
            (Some(old), Some(new)) => Self::Both(Diff::every_pair(&old.root(), &new.root(), start)),
            (None, Some(new)) => Self::Added(tree::Cursor::new(&new.root(), start)),
            (Some(old), None) => Self::Removed(tree::Cursor::new(&old.root(), start)),
            (None, None) => return Err(Error::new(Kind::NotFound, "neither side has this collection")),
        })
    }

    fn next(&mut self, reader: &mut ObjectReader) -> Result<Option<tree::Change>> {
        match self {
            Self::Both(diff) => diff.next(reader),
            Self::Added(cursor) => {
                Ok(cursor.next(reader)?.map(|(key, new)| tree::Change::Added { key, new }))
            }
            Self::Removed(cursor) => {
                Ok(cursor.next(reader)?.map(|(key, old)| tree::Change::Removed { key, old }))
            }
        }
    }
}
