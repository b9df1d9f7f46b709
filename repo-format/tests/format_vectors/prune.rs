//! Sessions and prunes.

use std::collections::BTreeSet;

use repo_format::id::{PackId, SnapshotId};
use repo_format::prune::{Run, Verdict, moment, parse_moment};
use repo_format::session::{Beginning, Purpose, parse_tombstone, tombstone};

use crate::document::Section;

pub fn session(section: &mut Section) {
    let began_ms = section.number("began") as i64;
    for (name, purpose) in [("commit", Purpose::Commit), ("read", Purpose::Read)] {
        let beginning = Beginning { began_ms, purpose };
        section.check(name, &beginning.to_bytes());
        assert_eq!(Beginning::parse(&beginning.to_bytes()).unwrap(), beginning);
    }
    section.check("tombstone", &tombstone(began_ms));
    assert_eq!(parse_tombstone(&tombstone(began_ms)).unwrap(), Some(began_ms));
    section.check("moment", &moment(began_ms));
    assert_eq!(parse_moment(&moment(began_ms)).unwrap(), began_ms);
}

pub fn refuse_session(section: &mut Section) {
    section.refuse_all(Beginning::parse);
}

pub fn refuse_tombstone(section: &mut Section) {
    section.refuse_all(parse_tombstone);
}

pub fn prune(section: &mut Section) {
    let snapshots = BTreeSet::from([SnapshotId(section.array("snapshot"))]);
    let packs = [PackId(section.array("pack.0")), PackId(section.array("pack.1"))];
    let began_ms = section.number("began") as i64;
    let run = Run { began_ms, snapshots: snapshots.clone(), condemned: packs.into() };
    section.check("run", &run.to_bytes());
    assert_eq!(Run::parse(&run.to_bytes()).unwrap(), run);
    let verdict = Verdict {
        snapshots,
        deleted: BTreeSet::from([packs[0]]),
        kept: BTreeSet::from([packs[1]]),
        indexes: BTreeSet::from([PackId(section.array("index"))]),
    };
    section.check("verdict", &verdict.to_bytes());
    assert_eq!(Verdict::parse(&verdict.to_bytes()).unwrap(), verdict);
}

pub fn refuse_prune(section: &mut Section) {
    section.refuse_all(Run::parse);
}

pub fn refuse_verdict(section: &mut Section) {
    section.refuse_all(Verdict::parse);
}
