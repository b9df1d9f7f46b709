//! Runs the vectors of docs/FORMAT.md.
//!
//! Every block of the document is run by the function of its name, and every function must find
//! its block. `FORMAT_VECTORS=write` replaces the outputs in the document by what the
//! implementation gives; the inputs stay.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod catalog;
mod document;
mod example;
mod files;
mod keys;
mod order;
mod prune;
mod sealed;
mod trees;

use std::path::Path;

use document::{Document, Section};

type Run = fn(&mut Section);

/// The blocks, in the document's order.
const BLOCKS: &[(&str, Run)] = &[
    ("example", example::example),
    ("varint", keys::varint),
    ("refuse-varint", keys::refuse_varint),
    ("key-schedule", keys::key_schedule),
    ("object-id", keys::object_id),
    ("frame", sealed::frame),
    ("refuse-frame", sealed::refuse_frame),
    ("refuse-object", sealed::refuse_object),
    ("slot", sealed::slot),
    ("refuse-slot", sealed::refuse_slot),
    ("slot-kms", sealed::slot_kms),
    ("refuse-slot-kms", sealed::refuse_slot_kms),
    ("epoch", sealed::epoch),
    ("recovery-key", sealed::recovery_key),
    ("refuse-recovery-key", sealed::refuse_recovery_key),
    ("config", sealed::config),
    ("refuse-config", sealed::refuse_config),
    ("record", order::record),
    ("refuse-record", order::refuse_record),
    ("moving-out", order::moving_out),
    ("key-integer", order::key_part),
    ("key-boolean", order::key_part),
    ("key-uuid", order::key_part),
    ("key-date", order::key_part),
    ("key-timestamp", order::key_part),
    ("key-bytes", order::key_part),
    ("key-text", order::key_part),
    ("key-numeric", order::key_part),
    ("key-float", order::key_part),
    ("refuse-key", order::refuse_key),
    ("key-bson", order::key_bson),
    ("refuse-key-bson", order::refuse_key_bson),
    ("key-document", order::key_document),
    ("long-key", order::long_key),
    ("leaf", trees::leaf),
    ("refuse-leaf", trees::refuse_leaf),
    ("node", trees::node),
    ("refuse-node", trees::refuse_node),
    ("piece-list", trees::piece_list),
    ("refuse-piece-list", trees::refuse_piece_list),
    ("leaf-cuts", trees::leaf_cuts),
    ("node-cuts", trees::node_cuts),
    ("piece-cuts", trees::piece_cuts),
    ("tree-root", trees::tree_root),
    ("padme", files::padme),
    ("directory", files::directory),
    ("refuse-index", files::refuse_index),
    ("refuse-pack", files::refuse_pack),
    ("catalog-key", catalog::catalog_key),
    ("refuse-catalog-key", catalog::refuse_catalog_key),
    ("descriptor", catalog::descriptor),
    ("refuse-descriptor", catalog::refuse_descriptor),
    ("manifest", catalog::manifest),
    ("refuse-manifest", catalog::refuse_manifest),
    ("mark", catalog::mark),
    ("refuse-mark", catalog::refuse_mark),
    ("session", prune::session),
    ("refuse-session", prune::refuse_session),
    ("refuse-tombstone", prune::refuse_tombstone),
    ("prune", prune::prune),
    ("refuse-prune", prune::refuse_prune),
    ("refuse-verdict", prune::refuse_verdict),
];

fn run(text: &str, writing: bool) -> (Document, Vec<String>) {
    let mut document = Document::parse(text, writing);
    let mut problems = Vec::new();
    for (name, block) in BLOCKS {
        match document.sections.iter_mut().filter(|section| section.name == *name).collect::<Vec<_>>()[..] {
            [ref mut section] => block(section),
            [] => problems.push(format!("the document has no vectors {name}")),
            _ => problems.push(format!("the document has vectors {name} twice")),
        }
    }
    for section in &document.sections {
        if !BLOCKS.iter().any(|(name, _)| *name == section.name) {
            problems.push(format!("nobody ran the vectors {}", section.name));
        }
    }
    problems.extend(document.problems());
    (document, problems)
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md")
}

#[test]
#[allow(clippy::disallowed_methods, reason = "writing anew is asked for by whoever runs the test")]
fn the_document_and_the_implementation_agree() {
    let text = std::fs::read_to_string(path()).unwrap();
    let writing = std::env::var("FORMAT_VECTORS").is_ok_and(|what| what == "write");
    let (document, problems) = run(&text, writing);
    if writing {
        std::fs::write(path(), document.render()).unwrap();
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_document_that_was_tampered_with_is_noticed() {
    let text = std::fs::read_to_string(path()).unwrap();
    let problems_of = |text: &str| run(text, false).1;
    assert!(problems_of(&text).is_empty());

    let changed = problems_of(&text.replacen("\n300 = ac02", "\n300 = ac03", 1));
    assert!(changed.iter().any(|problem| problem.contains("300 is another")), "{changed:?}");
    let more = problems_of(&text.replacen("\n300 = ac02", "\n300 = ac02\n301 = ad02\n302 = 00", 1));
    assert!(more.iter().any(|problem| problem.contains("302 is another")), "{more:?}");
    let accepted = problems_of(&text.replacen("zero-in-two-bytes = 8000", "zero-in-two-bytes = 00", 1));
    assert!(accepted.iter().any(|problem| problem.contains("was not refused")), "{accepted:?}");
    let missing = problems_of(&text.replacen("```vectors name=padme", "```text", 1));
    assert!(missing.iter().any(|problem| problem.contains("has no vectors padme")), "{missing:?}");
    let unknown = problems_of(&format!("{text}\n```vectors name=new\na = 00\n```\n"));
    assert!(unknown.iter().any(|problem| problem.contains("nobody ran the vectors new")), "{unknown:?}");
    let unused = problems_of(&text.replacen("```vectors name=leaf\n", "```vectors name=leaf\nodd = 00\n", 1));
    assert!(unused.iter().any(|problem| problem.contains("nobody ran odd")), "{unused:?}");
}
