//! Comparing a snapshot with what a database holds now.
//!
//! The database is read as for a snapshot, through the same source at one moment, and what comes of it
//! is a snapshot in all but this: it is never committed, and its objects are in an overlay, beside the
//! repository. So everything that compares snapshots compares it, too. Collections that the snapshot
//! has are read with the snapshot's layouts, so that equal content has equal roots.

use std::collections::HashMap;
use std::sync::Arc;

use repo_format::catalog::{KeyColumn, Layout};
use repo_format::manifest::Manifest;
use repo_format::record::OutOfLine;

use crate::backup::Request;
use crate::capture::Capture;
use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::diff::{self, Keeper, Side, Summary};
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::monitor::Steps;
use crate::overlay::{self, Overlay};
use crate::repo::{Mark, Repository, Session, Snapshot};
use crate::source::{Collection, DatabaseUrl};

/// How much is kept of a database that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes, compressed, in which the two sides may differ.
    pub most_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { most_bytes: overlay::MOST_BYTES }
    }
}

/// A database as it was read to be compared. What it holds beside the repository is in an unlinked
/// file, sealed, and gone with its last clone.
#[derive(Clone)]
pub struct Reading {
    pub(crate) snapshot: Snapshot,
    pub(crate) overlay: Overlay,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("objects", &self.objects()).finish_non_exhaustive()
    }
}

impl Reading {
    /// What was read: when, of which server, what could not be, and how it is known that all of it is of
    /// one moment. It is nowhere stored.
    pub fn manifest(&self) -> &Manifest {
        &self.snapshot.manifest
    }

    /// Objects kept beside the repository.
    pub fn objects(&self) -> u64 {
        self.overlay.objects()
    }

    /// Bytes that they take on disk.
    pub fn size_bytes(&self) -> u64 {
        self.overlay.size_bytes()
    }
}

/// Reads what the database of `request` holds now and compares a snapshot with it. The reading is for
/// [`diff::changes`]: its pages stay the same for as long as it and the snapshot are there, whatever
/// becomes of the database and of other snapshots.
///
/// # Errors
/// As [`backup::run`](crate::backup::run); [`Invalid`](Kind::Invalid) when the database is of another
/// system than the snapshot, [`NotFound`](Kind::NotFound) when the snapshot is deleted,
/// [`Unsupported`](Kind::Unsupported) when the two differ in more than the options allow.
pub async fn compare(
    repo: &Repository,
    from: &Snapshot,
    request: &Request,
    options: &Options,
    ctx: &Context,
) -> Result<(Reading, Summary)> {
    let url = DatabaseUrl::parse(&request.url)?.within(ctx.addresses);
    if url.engine().as_str() != from.manifest.source.engine {
        return Err(Error::new(Kind::Invalid, "the snapshot is of another database system")
            .with_help("Compare it with a database of its own system."));
    }
    // Until it ends, everything stays that the reading shares with the repository.
    let session = Session::begin_reading(repo, &[from.id], ctx).await?;
    let compared = read_and_compare(repo, from, request, url, options, &session, ctx).await;
    session.conclude(compared).await
}

async fn read_and_compare(
    repo: &Repository,
    from: &Snapshot,
    request: &Request,
    url: DatabaseUrl,
    options: &Options,
    session: &Session,
    ctx: &Context,
) -> Result<(Reading, Summary)> {
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let started_ms = ctx.clock.now_ms();
    let known: HashMap<(String, String), Cataloged> = (catalog::collections(repo, from).await?.into_iter())
        .map(|found| ((found.namespace.clone(), found.name.clone()), found))
        .collect();
    let layout = |found: &Collection| match known.get(&(found.namespace.clone(), found.name.clone())) {
        Some(known) => layout_to_reread(known, found),
        None => found.layout.clone(),
    };
    let overlay = Overlay::new(repo, options.most_bytes, &ctx)?;
    let capture = Capture {
        repo,
        request,
        url,
        started_ms,
        output: Output::Overlay(overlay.clone()),
        parent: Some(from),
        layout: &layout,
        ctx: ctx.clone(),
        steps,
    };
    let manifest = capture.run().await?;
    let snapshot = Snapshot { id: session.id(), manifest, mark: Mark::default() };
    let reading = Reading { snapshot, overlay };
    keep_descriptions(repo, from, &reading, &ctx).await?;
    let summary = diff::compare_all(repo, from, Side::from(&reading), &ctx).await?;
    Ok((reading, summary))
}

/// Keeps the catalog and the schema archive; of the collections' records the comparison does so itself.
async fn keep_descriptions(
    repo: &Repository,
    from: &Snapshot,
    reading: &Reading,
    ctx: &Context,
) -> Result<()> {
    let (old, new) = (catalog::catalog_root(from), catalog::catalog_root(&reading.snapshot));
    let archive = reading
        .manifest()
        .schema
        .clone()
        .filter(|archive| from.manifest.schema.as_ref().is_none_or(|known| known.root != archive.root));
    let (overlay, ctx) = (reading.overlay.clone(), ctx.clone());
    repo.with_reader_over(Some(&reading.overlay), move |reader| {
        let mut keeper = Keeper::new(reader, &overlay, &ctx);
        keeper.tree(Some(&old), &new)?;
        match archive {
            Some(archive) => {
                keeper.value(&OutOfLine { len: archive.len, depth: archive.depth, root: archive.root })
            }
            None => Ok(()),
        }
    })
    .await
}

/// The layout to read a collection with that a snapshot has. Where its definition is the same it is the
/// snapshot's, even if another would be chosen today. Else it is today's with the columns in the
/// snapshot's order and new ones behind them, so that rows that hold the same have the same bytes;
/// and a key that is another one today is told as such, as between snapshots.
fn layout_to_reread(known: &Cataloged, found: &Collection) -> Layout {
    let (before, now) = (&known.descriptor.layout, &found.layout);
    if before.kind == now.kind
        && known.descriptor.schema_version == found.schema_version
        && known.schema == found.schema
    {
        return before.clone();
    }
    let is_in = |layout: &Layout, name: &str| layout.columns.iter().any(|column| column.name == name);
    let kept =
        before.columns.iter().filter_map(|column| now.columns.iter().find(|one| one.name == column.name));
    let new = now.columns.iter().filter(|column| !is_in(before, &column.name));
    let columns: Vec<_> = kept.chain(new).cloned().collect();
    let moved = |part: &KeyColumn| {
        let name = &now.columns.get(part.column as usize)?.name;
        let column = u32::try_from(columns.iter().position(|column| column.name == *name)?).ok()?;
        Some(KeyColumn { column, ..*part })
    };
    let key_columns: Option<Vec<KeyColumn>> = now.key.columns.iter().map(moved).collect();
    match key_columns {
        Some(key_columns) => {
            let mut layout = Layout { columns, ..now.clone() };
            layout.key.columns = key_columns;
            layout
        }
        None => now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repo_format::catalog::{CollectionKind, Column, Descriptor, Key, KeySource};
    use repo_format::id::ObjectId;
    use repo_format::order::KeyEncoding;

    fn layout(columns: &[&str], key: &str) -> Layout {
        let column = |name: &&str| Column { name: (*name).to_owned(), type_name: "text".to_owned() };
        let at = columns.iter().position(|name| *name == key).unwrap();
        let part = KeyColumn { column: u32::try_from(at).unwrap(), encoding: KeyEncoding::Text };
        Layout {
            kind: CollectionKind::Table,
            columns: columns.iter().map(column).collect(),
            key: Key { source: KeySource::Primary, name: Some("pk".to_owned()), columns: vec![part] },
        }
    }

    fn reread(before: Layout, now: Layout, same_schema: bool) -> (Vec<String>, String) {
        let descriptor = Descriptor {
            layout: before,
            data_root: ObjectId([0; 32]),
            level: 0,
            records: 0,
            logical_bytes: 0,
            schema_version: 1,
            natural_order: None,
        };
        let (namespace, name) = ("public".to_owned(), "t".to_owned());
        let known = Cataloged {
            namespace: namespace.clone(),
            name: name.clone(),
            descriptor,
            schema: "{}".to_owned(),
        };
        let schema = if same_schema { "{}" } else { "{\"kind\":\"table\"}" }.to_owned();
        let found = Collection {
            namespace,
            name,
            layout: now,
            schema,
            schema_version: 1,
            estimated_rows: 0,
            estimated_bytes: 0,
        };
        let layout = layout_to_reread(&known, &found);
        let names: Vec<String> = layout.columns.iter().map(|column| column.name.clone()).collect();
        let key = names[layout.key.columns[0].column as usize].clone();
        (names, key)
    }

    #[test]
    fn columns_stay_in_the_snapshots_order_and_the_key_with_its_column() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let cases = [
            // Made anew in another order, and one added.
            (
                ["a", "b", "c"].as_slice(),
                ["n", "c", "b", "a"].as_slice(),
                "b",
                ["a", "b", "c", "n"].as_slice(),
            ),
            // One dropped, and the key moved up.
            (&["a", "b", "c"], &["b", "c"], "c", &["b", "c"]),
            (&["a"], &["n", "a"], "n", &["a", "n"]),
        ];
        for (before, now, key, expected) in cases {
            let found = reread(layout(before, before[0]), layout(now, key), false);
            assert_eq!(found, (names(expected), key.to_owned()));
        }
    }

    #[test]
    fn a_definition_that_is_the_same_is_read_as_before() {
        let found = reread(layout(&["a", "b"], "b"), layout(&["b", "a"], "a"), true);
        assert_eq!(found, (vec!["a".to_owned(), "b".to_owned()], "b".to_owned()));
    }
}
