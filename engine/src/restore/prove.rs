//! Proving a restore: the target is read anew and must have the snapshot's roots.

use std::collections::BTreeMap;

use repo_format::tree::{Diff, Root};
use serde::{Deserialize, Serialize};

use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::diff;
use crate::error::Result;
use crate::ingest::Output;
use crate::overlay::Overlay;
use crate::reading::{Target, read_all};
use crate::repo::{ObjectReader, Repository, Session, Snapshot};
use crate::rows;
use crate::source::display_name;
use crate::source::postgres::{Options, PostgresUrl, Snapshot as Source};

/// Differing records that are named.
const EXAMPLES: usize = 10;

/// What reading the target anew showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether every collection has the snapshot's root.
    pub matches: bool,
    /// Records that differ, in all collections.
    pub differences: u64,
    /// Each collection, by name.
    pub collections: Vec<CollectionProof>,
    /// Where schema or sequences differ. They are no part of the roots.
    pub schema_differences: Vec<String>,
}

/// What reading one collection anew showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionProof {
    /// Its display name.
    pub name: String,
    /// Whether its root is the snapshot's.
    pub matches: bool,
    /// The snapshot's root, in hexadecimal.
    pub expected_root: String,
    /// The target's root; empty when the target has no such collection.
    pub found_root: String,
    /// Records that differ.
    pub differences: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

/// Reads the database of `url` and compares it with a snapshot. Reads only, so credentials that
/// may only read are enough.
pub async fn prove(repo: &Repository, snapshot: &Snapshot, url: &str, ctx: &Context) -> Result<Proof> {
    let url = PostgresUrl::parse(url)?;
    let session = Session::begin(repo, ctx).await?;
    let proof = async {
        let expected = catalog::collections(repo, snapshot).await?;
        prove_collections(repo, snapshot, &expected, &url, ctx).await
    }
    .await;
    session.close().await;
    proof
}

/// Reads the target and compares it with the snapshot, using the layouts the snapshot was read
/// with: columns, key and encodings. Within the caller's session.
pub(super) async fn prove_collections(
    repo: &Repository,
    snapshot: &Snapshot,
    expected: &[Cataloged],
    url: &PostgresUrl,
    ctx: &Context,
) -> Result<Proof> {
    let options = Options { workers: ctx.workers.max(1), ..Options::default() };
    let source = Source::begin(url, &options, &ctx.cancel).await?;
    let found: BTreeMap<(String, String), String> = (source.collections().iter())
        .map(|found| ((found.namespace.clone(), found.name.clone()), found.schema.clone()))
        .collect();
    let schema_of = |cataloged: &Cataloged| found.get(&(cataloged.namespace.clone(), cataloged.name.clone()));
    let (present, absent): (Vec<_>, Vec<_>) =
        expected.iter().cloned().partition(|cataloged| schema_of(cataloged).is_some());
    let targets = (present.iter())
        .map(|cataloged| Target {
            namespace: cataloged.namespace.clone(),
            name: cataloged.name.clone(),
            layout: cataloged.descriptor.layout.clone(),
            estimated_bytes: cataloged.descriptor.logical_bytes,
        })
        .collect();
    let overlay = Overlay::new(repo, ctx)?;
    let output = Output::Overlay(overlay.clone());
    let roots = read_all(&source, targets, repo.keys(), &output, "proving", ctx).await?;
    let mut schema_differences = schema_differences(expected, &found);
    schema_differences.extend(sequence_differences(&source, snapshot).await?);
    source.close().await?;

    let mut collections = compare(repo, overlay, present, roots).await?;
    collections.extend(absent.iter().map(|cataloged| CollectionProof {
        name: cataloged.display_name(),
        matches: false,
        expected_root: cataloged.descriptor.data_root.to_string(),
        found_root: String::new(),
        differences: cataloged.descriptor.records.max(1),
        examples: vec!["the target has no such collection".to_owned()],
    }));
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Proof {
        matches: collections.iter().all(|collection| collection.matches),
        differences: collections.iter().map(|collection| collection.differences).sum(),
        collections,
        schema_differences,
    })
}

async fn compare(
    repo: &Repository,
    overlay: Overlay,
    expected: Vec<Cataloged>,
    found: Vec<Root>,
) -> Result<Vec<CollectionProof>> {
    repo.with_reader(move |reader| {
        reader.lay_over(overlay);
        expected.iter().zip(&found).map(|(expected, found)| compare_one(expected, found, reader)).collect()
    })
    .await
}

fn compare_one(expected: &Cataloged, found: &Root, reader: &mut ObjectReader) -> Result<CollectionProof> {
    let wanted = expected.root();
    let mut proof = CollectionProof {
        name: expected.display_name(),
        matches: wanted.id == found.id,
        expected_root: wanted.id.to_string(),
        found_root: found.id.to_string(),
        differences: 0,
        examples: Vec::new(),
    };
    if proof.matches {
        return Ok(proof);
    }
    let layout = &expected.descriptor.layout;
    let mut diff = Diff::new(&wanted, found, None);
    while let Some(change) = diff.next(reader)? {
        proof.differences += 1;
        if proof.examples.len() < EXAMPLES {
            use repo_format::tree::Change::{Added, Changed, Removed};
            let (record, what) = match &change {
                Added { new, .. } => (new, "is in the target only"),
                Removed { old, .. } => (old, "is missing in the target"),
                Changed { old, .. } => (old, "has other values in the target"),
            };
            let (row, _) = rows::row(layout, record, reader)?;
            let key = rows::readable_key(layout, change.key(), &row);
            proof.examples.push(format!("{key} {what}"));
        }
    }
    Ok(proof)
}

fn schema_differences(expected: &[Cataloged], found: &BTreeMap<(String, String), String>) -> Vec<String> {
    let mut lines = Vec::new();
    for cataloged in expected {
        if let Some(schema) = found.get(&(cataloged.namespace.clone(), cataloged.name.clone()))
            && *schema != cataloged.schema
        {
            let name = cataloged.display_name();
            let changes = diff::schema_text_changes(&cataloged.schema, schema);
            lines.extend(changes.into_iter().map(|change| format!("{name}: {change}")));
        }
    }
    let known = |key: &&(String, String)| {
        expected.iter().any(|cataloged| (&cataloged.namespace, &cataloged.name) == (&key.0, &key.1))
    };
    let extra = found.keys().filter(|key| !known(key));
    lines.extend(
        extra.map(|(namespace, name)| format!("{}: is in the target only", display_name(namespace, name))),
    );
    lines
}

async fn sequence_differences(source: &Source, snapshot: &Snapshot) -> Result<Vec<String>> {
    let found = source.sequences().await?;
    let lines = snapshot.manifest.sequences.iter().filter_map(|wanted| {
        let name = display_name(&wanted.namespace, &wanted.name);
        match found.iter().find(|found| found.namespace == wanted.namespace && found.name == wanted.name) {
            None => Some(format!("sequence {name}: is missing in the target")),
            Some(found) if (found.last_value, found.is_called) != (wanted.last_value, wanted.is_called) => {
                Some(format!("sequence {name}: stands at {}, not {}", found.last_value, wanted.last_value))
            }
            Some(_) => None,
        }
    });
    Ok(lines.collect())
}
