//! Proving a restore: the target is read anew and must have the snapshot's roots.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::catalog::{CollectionKind, NaturalOrder};
use repo_format::manifest::{Missing, SequenceState};
use repo_format::tree::Diff;
use serde::{Deserialize, Serialize};

use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::diff;
use crate::error::Result;
use crate::ingest::{Output, Tree};
use crate::overlay::{self, Overlay};
use crate::reading::{Read, Target, read_database};
use crate::repo::{ObjectReader, Repository, Session, Snapshot};
use crate::restore::plan::lacks_definition;
use crate::restore::{definitions, large_objects};
use crate::rows;
use crate::source::{
    Consistency, DatabaseUrl, Engine, Incomplete, Options, Source, concerns, is_dependent, missing_object,
};

/// Differing records that are named.
const EXAMPLES: usize = 10;

/// What reading the target anew showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether every collection has the snapshot's root, every sequence stands where it stood, and no
    /// definition differs.
    pub matches: bool,
    /// Records of all collections, sequences and definitions that differ.
    pub differences: u64,
    /// Each collection, by name.
    pub collections: Vec<CollectionProof>,
    /// Sequences that stand elsewhere, in words. They are no part of the roots.
    #[serde(default)]
    pub sequence_differences: Vec<String>,
    /// Where the schema differs, or owners and privileges. They are no part of the roots.
    pub schema_differences: Vec<String>,
    /// What was not compared, or differs and is no content: to whom large objects belong.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// What comparing definitions showed, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Schemas {
    pub differences: Vec<String>,
    /// What could not be compared.
    pub remarks: Vec<String>,
}

impl Proof {
    /// Takes in what was found of the definitions.
    pub(super) fn add(&mut self, schemas: Schemas) {
        self.matches &= schemas.differences.is_empty();
        self.differences += schemas.differences.len() as u64;
        self.schema_differences.extend(schemas.differences);
        self.remarks.extend(schemas.remarks);
    }
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
    let url = DatabaseUrl::parse(url)?.within(ctx.addresses);
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let proof = async {
        let expected = catalog::collections(repo, snapshot).await?;
        let overlay = Overlay::new(repo, overlay::MOST_BYTES, ctx)?;
        let mut proof = prove_collections(repo, snapshot, &expected, &overlay, &url, ctx).await?;
        let schemas = prove_schemas(repo, snapshot, None, &expected, &proof, &url, ctx).await?;
        proof.add(schemas);
        Ok(proof)
    }
    .await;
    session.conclude(proof).await
}

/// Compares the target's definitions with the snapshot's, but for those of collections that `proof` tells
/// are not there. `archive` holds what the target should, if that is not all of the snapshot.
pub(super) async fn prove_schemas(
    repo: &Repository,
    snapshot: &Snapshot,
    archive: Option<&[u8]>,
    expected: &[Cataloged],
    proof: &Proof,
    url: &DatabaseUrl,
    ctx: &Context,
) -> Result<Schemas> {
    let source = Source::begin(url, &options(ctx), ctx).await?;
    let found = (source.collections().iter())
        .map(|found| ((found.namespace.clone(), found.name.clone()), found.schema.clone()))
        .collect();
    let missing = &snapshot.manifest.missing;
    let lost: BTreeSet<&str> = missing.iter().map(|missing| missing_object(&missing.name)).collect();
    let mut differences = schema_differences(expected, &found, url);
    differences.retain(|(name, what)| !lost.contains(name.as_str()) && !is_of_partition(&lost, what));
    let absent = proof.collections.iter().filter(|found| found.found_root.is_empty());
    let sequences = source.sequences().await?;
    let is_absent = |wanted: &&SequenceState| {
        !sequences.iter().any(|found| found.namespace == wanted.namespace && found.name == wanted.name)
    };
    // Told where the sequences' states are compared.
    let without = snapshot.manifest.sequences.iter().filter(is_absent);
    let told: Vec<String> = (differences.iter().map(|(name, _)| name.clone()))
        .chain(absent.map(|found| found.name.clone()))
        .chain(lost.iter().map(|name| (*name).to_owned()))
        .chain(without.map(|wanted| Engine::Postgres.display_name(&wanted.namespace, &wanted.name)))
        .collect();
    let mut schemas = definitions::compare(repo, snapshot, archive, &source, url, &told).await;
    let remark = |missing: &Missing| match is_dependent(&missing.name) {
        true => format!("{} could not be made", missing.name),
        false => format!("{} is not in the snapshot, and was not compared", missing.name),
    };
    schemas.remarks.extend(missing.iter().map(remark));
    let lines = differences.into_iter().map(|(name, what)| format!("{name}: {what}"));
    schemas.differences.splice(..0, lines);
    source.close().await?;
    Ok(schemas)
}

/// Whether a difference is that a partition is not there which the snapshot could not describe.
fn is_of_partition(lost: &BTreeSet<&str>, what: &str) -> bool {
    let name = what.strip_prefix("partition ").and_then(|rest| rest.strip_suffix(" removed"));
    name.is_some_and(|name| lost.contains(name))
}

/// Nobody else writes to a target that is proven, so even a server without snapshots will do.
fn options(ctx: &Context) -> Options {
    Options::new(ctx.workers, Consistency::BestEffort)
}

/// Reads the target and compares it with the snapshot, using the layouts the snapshot was read
/// with: columns, key and encodings. Within the caller's session. What it reads goes to `overlay`, which may
/// hold what is expected, too.
pub(super) async fn prove_collections(
    repo: &Repository,
    snapshot: &Snapshot,
    expected: &[Cataloged],
    overlay: &Overlay,
    url: &DatabaseUrl,
    ctx: &Context,
) -> Result<Proof> {
    let output = Output::Overlay(overlay.clone());
    let choose = |source: &Source| {
        let (present, _) = split(source, expected, url);
        let target = |cataloged: Cataloged| Target {
            namespace: url.placed(&cataloged.namespace).to_owned(),
            name: cataloged.name,
            estimated_bytes: cataloged.descriptor.logical_bytes,
            layout: cataloged.descriptor.layout,
        };
        Ok(present.into_iter().map(target).collect())
    };
    let read = read_database(url, options(ctx), &choose, repo, &output, "proving", ctx);
    let Read { source, trees, .. } = read.await?;
    let (present, absent) = split(&source, expected, url);
    let unreadable = source.incomplete();
    let sequence_differences = sequence_differences(&source, snapshot, &unreadable).await?;
    source.close().await?;

    let (mut collections, remarks) = compare(repo, overlay.clone(), present, trees).await?;
    let absent = absent.into_iter().filter(|found| !lacks_definition(snapshot, &found.display_name()));
    let absent: Vec<Cataloged> = absent.collect();
    collections.extend(absent.iter().map(|cataloged| CollectionProof {
        name: cataloged.display_name(),
        matches: false,
        expected_root: cataloged.descriptor.data_root.to_string(),
        found_root: String::new(),
        differences: cataloged.descriptor.records.max(1),
        examples: vec![why_absent("collection", &cataloged.display_name(), &unreadable)],
    }));
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    let differing: u64 = collections.iter().map(|collection| collection.differences).sum();
    Ok(Proof {
        matches: collections.iter().all(|collection| collection.matches) && sequence_differences.is_empty(),
        differences: differing + sequence_differences.len() as u64,
        collections,
        sequence_differences,
        schema_differences: Vec::new(),
        remarks,
    })
}

/// What cannot be read may be there all the same.
fn why_absent(what: &str, name: &str, unreadable: &[Incomplete]) -> String {
    match unreadable.iter().find(|found| concerns(&found.name, name)) {
        Some(found) => format!("cannot be read: {}", found.reason),
        None => format!("the target has no such {what}"),
    }
}

/// The expected collections that the target has, and those it has not.
fn split(source: &Source, expected: &[Cataloged], url: &DatabaseUrl) -> (Vec<Cataloged>, Vec<Cataloged>) {
    let found: BTreeSet<(&str, &str)> =
        source.collections().iter().map(|found| (found.namespace.as_str(), found.name.as_str())).collect();
    let is_found =
        |cataloged: &Cataloged| found.contains(&(url.placed(&cataloged.namespace), cataloged.name.as_str()));
    expected.iter().cloned().partition(is_found)
}

async fn compare(
    repo: &Repository,
    overlay: Overlay,
    expected: Vec<Cataloged>,
    found: Vec<Tree>,
) -> Result<(Vec<CollectionProof>, Vec<String>)> {
    repo.with_reader(move |reader| {
        reader.lay_over(overlay);
        let (mut proofs, mut remarks) = (Vec::new(), Vec::new());
        for (expected, found) in expected.iter().zip(&found) {
            proofs.push(compare_one(expected, found, &mut remarks, reader)?);
        }
        Ok((proofs, remarks))
    })
    .await
}

/// Compares what was read of a collection with what is expected of it. What differs and is no content
/// goes to `remarks`.
pub(super) fn compare_one(
    expected: &Cataloged,
    found: &Tree,
    remarks: &mut Vec<String>,
    reader: &mut ObjectReader,
) -> Result<CollectionProof> {
    let (wanted, found_order) = (expected.root(), found.natural_order.map(NaturalOrder::from));
    let found = &found.root;
    let mut proof = CollectionProof {
        name: expected.display_name(),
        matches: wanted.id == found.id && expected.descriptor.natural_order == found_order,
        expected_root: wanted.id.to_string(),
        found_root: found.id.to_string(),
        differences: 0,
        examples: Vec::new(),
    };
    if proof.matches {
        return Ok(proof);
    }
    if expected.descriptor.natural_order != found_order {
        proof.differences += 1;
        proof.examples.push("the records are in another order in the target".to_owned());
    }
    let layout = &expected.descriptor.layout;
    let mut diff = Diff::new(&wanted, found, None);
    let is_large_objects = layout.kind == CollectionKind::LargeObjects;
    let mut described_otherwise = 0u64;
    while let Some(change) = diff.next(reader)? {
        if is_large_objects && large_objects::is_about_object(&change, reader)? {
            described_otherwise += 1;
            continue;
        }
        if is_large_objects && large_objects::is_same_content(&wanted, &change, reader)? {
            continue;
        }
        proof.differences += 1;
        if proof.examples.len() < EXAMPLES {
            use repo_format::tree::Change::{Added, Changed, Removed};
            let (record, what) = match &change {
                Added { new, .. } => (new, "is in the target only"),
                Removed { old, .. } => (old, "is missing in the target"),
                Changed { old, .. } => (old, "has other values in the target"),
            };
            let key = rows::shown(layout, change.key(), record, reader)?.key;
            proof.examples.push(format!("{key} {what}"));
        }
    }
    if described_otherwise > 0 {
        remarks.push(format!(
            "{described_otherwise} large objects have another owner, other privileges or another comment"
        ));
    }
    proof.matches |= is_large_objects && proof.differences == 0;
    Ok(proof)
}

/// What differs, by collection.
fn schema_differences(
    expected: &[Cataloged],
    found: &BTreeMap<(String, String), String>,
    url: &DatabaseUrl,
) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let placed =
        |cataloged: &Cataloged| (url.placed(&cataloged.namespace).to_owned(), cataloged.name.clone());
    for cataloged in expected {
        if let Some(schema) = found.get(&placed(cataloged))
            && *schema != cataloged.schema
        {
            let name = cataloged.display_name();
            let changes = diff::schema_text_changes(&cataloged.schema, schema);
            lines.extend(changes.into_iter().map(|change| (name.clone(), change)));
        }
    }
    let known: BTreeSet<_> = expected.iter().map(placed).collect();
    // Of a whole deployment only the databases that were restored are of interest.
    let namespaces: BTreeSet<_> = known.iter().map(|(namespace, _)| namespace).collect();
    let extra = found.keys().filter(|key| !known.contains(*key));
    let extra = extra.filter(|key| url.engine() == Engine::Postgres || namespaces.contains(&key.0));
    lines.extend(extra.map(|(namespace, name)| {
        (url.engine().display_name(namespace, name), "is in the target only".to_owned())
    }));
    lines
}

async fn sequence_differences(
    source: &Source,
    snapshot: &Snapshot,
    unreadable: &[Incomplete],
) -> Result<Vec<String>> {
    let found = source.sequences().await?;
    let lines = snapshot.manifest.sequences.iter().filter_map(|wanted| {
        let name = Engine::Postgres.display_name(&wanted.namespace, &wanted.name);
        match found.iter().find(|found| found.namespace == wanted.namespace && found.name == wanted.name) {
            None => Some(format!("sequence {name}: {}", why_absent("sequence", &name, unreadable))),
            Some(found) if found != wanted => {
                Some(format!("sequence {name}: stands {}, not {}", diff::stands(found), diff::stands(wanted)))
            }
            Some(_) => None,
        }
    });
    Ok(lines.collect())
}
