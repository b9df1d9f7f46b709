//! Every kind of file that a repository consists of, damaged in every way: always noticed or
//! harmless, and never read as something else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use repo_format::files::{self, PruneFile};
use repo_format::id::{PackId, SnapshotId};
use repo_format::prune::{Run, moment};
use repo_format::session::{Beginning, Purpose, tombstone};

use super::{Files, Planned, Process};
use crate::error::Kind;
use crate::simulation::content::{self, Versions};
use crate::verify::{self, Damage, Mode, Report};

const FIRST: Versions = [0; 5];
const SECOND: Versions = [1, 1, 0, 2, 0];
const THIRD: Versions = [2, 1, 1, 0, 3];
const NEWEST: Versions = [3, 2, 2, 0, 1];

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Delete,
    Truncate,
    Empty,
    Flip,
    Swap,
    Duplicate,
    /// A file that was removed for good comes back.
    Revive,
    /// It is given the content of a removed one of its kind.
    Replay,
}

const ACTIONS: [Action; 8] = [
    Action::Delete,
    Action::Truncate,
    Action::Empty,
    Action::Flip,
    Action::Swap,
    Action::Duplicate,
    Action::Revive,
    Action::Replay,
];

/// How the damage showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// Nothing reads differently, and there is nothing to report.
    Harmless,
    /// Verify names it.
    Reported,
    /// The repository does not open, and says why.
    Refused,
}

/// A repository with every kind of file, what its snapshots hold, and the files it once had.
#[derive(Clone)]
struct History {
    files: Files,
    removed: Files,
    planned: Planned,
    deleted: Planned,
}

const FINE: &str = "because nothing is damaged yet";

async fn history() -> History {
    let process = Process::create().await;
    let repo = &process.repo;
    let recovery = repo.add_slot(crate::repo::SlotKind::Recovery, &Default::default()).await.expect(FINE);
    let (mut planned, mut deleted) = (Planned::new(), Planned::new());
    for versions in [FIRST, SECOND, THIRD] {
        planned.insert(process.back_up(&versions).await.expect(FINE).id, versions);
    }
    let second = *planned.iter().find(|(_, versions)| **versions == SECOND).expect(FINE).0;
    // A prune removes a snapshot, packs and index files; a slot is rotated.
    process.delete(second).await.expect(FINE);
    deleted.extend(planned.remove_entry(&second));
    let before = process.disk.files();
    process.prune().await.expect(FINE);
    repo.rotate_slot(recovery.id, &Default::default()).await.expect(FINE);
    repo.begin_epoch(&process.ctx).await.expect(FINE);
    planned.insert(process.back_up(&NEWEST).await.expect(FINE).id, NEWEST);
    let first = *planned.iter().find(|(_, versions)| **versions == FIRST).expect(FINE).0;
    for note in ["one", "two"] {
        let change = |mark: &mut crate::repo::Mark| mark.note = Some(note.to_owned());
        repo.mark(first, process.ctx.clock.as_ref(), &change).await.expect(FINE);
    }
    // A snapshot that is marked as deleted and still there, a suspect pack, a session that died.
    let marked = process.back_up(&SECOND).await.expect(FINE).id;
    process.delete(marked).await.expect(FINE);
    deleted.insert(marked, SECOND);
    let names: Vec<String> = process.disk.files().into_keys().collect();
    let pack = names.iter().find_map(|name| PackId::parse(name.strip_prefix(files::PACKS)?)).expect(FINE);
    let id = |n: u8| SnapshotId([n; 16]);
    let beginning = Beginning { began_ms: 1, purpose: Purpose::Commit }.to_bytes();
    let run = Run { began_ms: 2, condemned: BTreeSet::from([pack]), ..Run::default() };
    for (name, plain) in [
        (files::suspect(pack), moment(3)),
        (files::suspect(PackId([9; 16])), moment(4)),
        (files::session(id(1)), beginning.clone()),
        (files::session(id(2)), beginning),
        (files::beat(id(1), 7), moment(5)),
        (files::snapshot(id(3)), tombstone(6)),
        (files::prune(2, PruneFile::Run), run.to_bytes()),
        (files::deletion(id(4)), moment(7)),
    ] {
        repo.create_file(&name, &plain).await.expect(FINE);
    }
    let files = process.disk.files();
    let removed = before.into_iter().filter(|(name, _)| !files.contains_key(name)).collect();
    History { files, removed, planned, deleted }
}

/// What a file is, by its name.
fn kind_of(name: &str, files: &Files) -> &'static str {
    match (name.split_once('/').map_or(name, |(folder, _)| folder), files::parse_prune(name)) {
        (_, Some((_, PruneFile::Run))) => "run",
        (_, Some((_, PruneFile::Verdict))) => "verdict",
        (_, Some((_, PruneFile::Done))) => "done",
        ("packs", _) => "pack",
        ("sessions", _) => "session",
        ("slots", _) => "slot",
        ("epochs", _) => "epoch",
        ("marks", _) => "mark",
        ("suspects", _) => "suspect",
        ("index", _) => "index",
        ("snapshots", _) if files.get(name).is_some_and(|bytes| bytes.len() < 120) => "tombstone",
        ("snapshots", _) => "manifest",
        _ => "config",
    }
}

/// A name of the same kind that is free.
fn other_name(name: &str) -> Option<String> {
    let fresh = "5e".repeat(16);
    if let Some((n, file)) = files::parse_prune(name) {
        return Some(files::prune(n + 1, file));
    }
    match name.split_once('/')? {
        ("epochs", _) => Some(files::epoch(9)),
        (folder, rest) => Some(match rest.split_once('.') {
            Some((_, suffix)) => format!("{folder}/{fresh}.{suffix}"),
            None => format!("{folder}/{fresh}"),
        }),
    }
}

fn flipped(bytes: &Bytes, position: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    let position = position.min(bytes.len() - 1);
    bytes[position] ^= 0x10;
    bytes.into()
}

/// All that an action can do to a file.
fn damaged(history: &History, name: &str, action: Action) -> Vec<(String, Files)> {
    let (files, content) = (&history.files, &history.files[name]);
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        files
    };
    let kind = kind_of(name, files);
    let same_kind = |other: &&String| other.as_str() != name && kind_of(other, files) == kind;
    let replaced = |bytes: Bytes| with(&|files| drop(files.insert(name.to_owned(), bytes.clone())));
    let len = content.len();
    match action {
        Action::Delete => vec![(String::new(), with(&|files| drop(files.remove(name))))],
        Action::Truncate => vec![
            ("half".to_owned(), replaced(content.slice(..len / 2))),
            ("last byte".to_owned(), replaced(content.slice(..len - 1))),
        ],
        Action::Empty => vec![(String::new(), replaced(Bytes::new()))],
        Action::Flip => [0, len / 7, len / 3, len / 2, len * 4 / 5, len - 1]
            .into_iter()
            .map(|position| (format!("byte {position}"), replaced(flipped(content, position))))
            .collect(),
        Action::Swap => (files.keys().filter(same_kind).take(2))
            .map(|other| {
                let swapped = with(&|files| {
                    let theirs = files.insert(other.clone(), content.clone());
                    files.extend(theirs.map(|theirs| (name.to_owned(), theirs)));
                });
                (format!("with {other}"), swapped)
            })
            .collect(),
        Action::Duplicate => (other_name(name).into_iter())
            .map(|other| {
                let copied = with(&|files| _ = files.entry(other.clone()).or_insert(content.clone()));
                (format!("as {other}"), copied)
            })
            .collect(),
        Action::Revive => Vec::new(),
        Action::Replay => (history.removed.iter())
            .filter(|(other, _)| kind_of(other, &history.removed) == kind)
            .take(2)
            .map(|(other, bytes)| (format!("of {other}"), replaced(bytes.clone())))
            .collect(),
    }
}

/// Reads everything there is, and holds it against what was written.
struct Examined<'a> {
    case: &'a str,
    history: &'a History,
    report: Report,
}

impl Examined<'_> {
    async fn examine(&self, process: &Process) -> Shown {
        let snapshots =
            process.repo.snapshots().await.unwrap_or_else(|error| panic!("{}: {error}", self.case));
        for snapshot in &snapshots {
            let versions = self.history.planned.get(&snapshot.id).or(self.history.deleted.get(&snapshot.id));
            let versions = versions.unwrap_or_else(|| panic!("{}: nobody took {}", self.case, snapshot.id));
            let planned = content::content(versions);
            match content::read_each(&process.repo, snapshot).await {
                Ok(collections) => {
                    assert_eq!(collections.len(), planned.len(), "{}", self.case);
                    for (name, read) in collections {
                        match read {
                            Ok(records) => {
                                assert_eq!(records, planned[&name], "{}: other content", self.case)
                            }
                            Err(error) => self.named(snapshot.id, &name, error.kind()),
                        }
                    }
                }
                Err(error) => self.named(snapshot.id, "", error.kind()),
            }
        }
        let is_there = |id: &SnapshotId| snapshots.iter().any(|snapshot| snapshot.id == *id);
        let hidden: Vec<SnapshotId> =
            self.history.planned.keys().filter(|id| !is_there(id)).copied().collect();
        for id in &hidden {
            let is_named = |damage: &Damage| damage.snapshots.contains(&id.to_string());
            let is_reported = self.report.damaged.iter().any(is_named);
            assert!(is_reported, "{}: snapshot {id} is gone, and nobody says so", self.case);
        }
        if self.report.damaged.is_empty() { Shown::Harmless } else { Shown::Reported }
    }

    /// What cannot be read must be named by verify.
    fn named(&self, id: SnapshotId, collection: &str, kind: Kind) {
        assert_eq!(kind, Kind::Damaged, "{}", self.case);
        let names = |damage: &Damage| {
            damage.snapshots.contains(&id.to_string()) && damage.collection.ends_with(collection)
        };
        // A snapshot that somebody deleted is read here because its mark is gone; verify walks it, too.
        let is_named = self.report.damaged.iter().any(names);
        assert!(is_named, "{}: {collection} of {id} cannot be read: {:?}", self.case, self.report.damaged);
        let ranges =
            self.report.damaged.iter().filter(|damage| names(damage) && !damage.collection.is_empty());
        ranges.for_each(|damage| assert!(!damage.key_range.is_empty(), "{}: {damage:?}", self.case));
    }
}

/// What a damaged repository shows. Backups mend packs and index files, and a prune the rest.
async fn show(case: &str, history: &History, files: Files, is_mended: bool) -> Shown {
    let process = match Process::open(files).await {
        Ok(process) => process,
        Err(error) => {
            let is_plain = matches!(error.kind(), Kind::Damaged | Kind::NotFound | Kind::Locked);
            assert!(is_plain, "{case}: {error}");
            return Shown::Refused;
        }
    };
    let report = verify::run(&process.repo, Mode::Full, &process.ctx).await;
    let report = report.unwrap_or_else(|error| panic!("{case}: verify failed: {error}"));
    let shown = Examined { case, history, report }.examine(&process).await;
    if is_mended {
        mend(case, history, &process).await;
    }
    shown
}

/// The next backups of the same content make everything whole, and the next prunes leave no trace.
async fn mend(case: &str, history: &History, process: &Process) {
    let mut mended = history.clone();
    for versions in history.planned.values().chain(history.deleted.values()) {
        let backup = process.back_up(versions).await;
        let backup = backup.unwrap_or_else(|error| panic!("{case}: the next backup failed: {error}"));
        mended.planned.insert(backup.id, *versions);
    }
    let report = verify::run(&process.repo, Mode::Full, &process.ctx).await.expect(FINE);
    let hurt: Vec<&Damage> = report.damaged.iter().filter(|damage| !damage.snapshots.is_empty()).collect();
    assert!(hurt.is_empty(), "{case}: after the next backup: {hurt:?}");
    for _ in 0..2 {
        let pruned = process.prune().await;
        pruned.unwrap_or_else(|error| panic!("{case}: the next prune failed: {error}"));
    }
    let report = verify::run(&process.repo, Mode::Full, &process.ctx).await.expect(FINE);
    assert_eq!(report.damaged, [], "{case}: after the next prune");
    let after = Examined { case, history: &mended, report };
    assert_eq!(after.examine(process).await, Shown::Harmless, "{case}: after the next prune");
}

/// Kinds of files, actions, and what may come of them. The first line that fits counts.
type Rule = (&'static [&'static str], &'static [Action], &'static [Shown]);

const CHANGES: &[Action] = &[Action::Truncate, Action::Empty, Action::Flip, Action::Swap, Action::Replay];
const ANY: &[&str] = &[];

const RULES: [Rule; 8] = [
    // The config and its copy are the same.
    (&["config"], &[Action::Swap], &[Shown::Harmless]),
    // Another slot may open the repository as well; without one it is closed. A slot of a repository that
    // never was is nobody's.
    (&["slot"], CHANGES, &[Shown::Reported, Shown::Refused]),
    (&["slot"], &[Action::Delete], &[Shown::Harmless, Shown::Refused]),
    // One manifest is of a snapshot that is deleted.
    (&["manifest"], CHANGES, &[Shown::Harmless, Shown::Reported]),
    // A flipped bit may be in the padding.
    (&["pack"], &[Action::Flip], &[Shown::Harmless, Shown::Reported]),
    (&["verdict", "done"], &[Action::Delete], &[Shown::Reported]),
    (ANY, CHANGES, &[Shown::Reported]),
    (ANY, &[Action::Delete, Action::Duplicate, Action::Revive], &[Shown::Harmless, Shown::Reported]),
];

fn allowed(kind: &str, action: Action) -> &'static [Shown] {
    let fits = |(kinds, actions, _): &&Rule| {
        (kinds.is_empty() || kinds.contains(&kind)) && actions.contains(&action)
    };
    RULES.iter().find(fits).map_or(&[], |(_, _, shown)| shown)
}

async fn matrix() -> BTreeMap<(&'static str, Action), BTreeMap<Shown, u64>> {
    let history = history().await;
    let mut cells: BTreeMap<(&'static str, Action), BTreeMap<Shown, u64>> = BTreeMap::new();
    for name in history.files.keys() {
        let kind = kind_of(name, &history.files);
        for action in ACTIONS {
            for (how, files) in damaged(&history, name, action) {
                let case = format!("{action:?} {name} {how}");
                let shown = show(&case, &history, files, matches!(kind, "pack" | "index")).await;
                *cells.entry((kind, action)).or_default().entry(shown).or_default() += 1;
            }
        }
    }
    for (name, content) in &history.removed {
        let mut files = history.files.clone();
        files.insert(name.clone(), content.clone());
        let shown = show(&format!("Revive {name}"), &history, files, false).await;
        let kind = kind_of(name, &history.removed);
        *cells.entry((kind, Action::Revive)).or_default().entry(shown).or_default() += 1;
    }
    cells
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_noticed_or_harmless_and_never_read_as_something_else() {
    let cells = matrix().await;
    for ((kind, action), shown) in &cells {
        println!("{kind:<10} {action:<10?} {shown:?}");
        let allowed = allowed(kind, *action);
        assert!(shown.keys().all(|shown| allowed.contains(shown)), "{kind}, {action:?}: {shown:?}");
    }
    let kinds: BTreeSet<&str> = cells.keys().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 13, "every kind of file is there: {kinds:?}");
    let flips = &cells[&("pack", Action::Flip)];
    assert!(flips[&Shown::Reported] > 4 * flips[&Shown::Harmless], "{flips:?}");
}
