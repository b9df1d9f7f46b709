//! Many processes on one store, in every order that chance finds: the code of sessions, writers,
//! commits and prunes is the product's, the store and the clocks are not.
//!
//! A seed decides everything, so that what fails once fails again:
//! `DBSNAP_SIMULATION_SEED=17 cargo test -p engine --lib simulation::tests::seeds`. How many seeds are
//! run is `DBSNAP_SIMULATION_SEEDS`.

mod actors;
pub(crate) mod content;
mod pins;
mod slots;
mod tests;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::prune::Options;
use actors::{Book, Habits, Stage, Tastes};
use world::{Counts, Weather, World};

pub(crate) use world::{Chance, Dice, Disk};

/// More steps than any run that ends.
const MOST_STEPS: u64 = 400_000;

/// What a seed led to.
#[derive(Debug, Default)]
struct Outcome {
    violations: Vec<String>,
    counts: Counts,
    steps: u64,
    snapshots: u64,
    reads: u64,
    refused: u64,
    prunes: u64,
    removed: u64,
}

/// Of so many seeds in a row, these are of a mood made for one kind of meeting.
const MOODS: u64 = 8;
const UNEQUAL_JUDGES: u64 = 5;
const LOST_COMMITS: u64 = 6;
const SLOW_READERS: u64 = 7;

/// How the processes of a world behave.
#[derive(Clone, Copy, Debug)]
struct Mood {
    weather: Weather,
    /// Of a thousand processes, those that die early.
    dying: u64,
    processes: u64,
    habits: Habits,
}

impl Mood {
    fn any(chance: &mut Chance) -> Self {
        let weather = Weather {
            faults: chance.one_of([0, 0, 10, 40]),
            outages: chance.one_of([0, 500]),
            suspensions: chance.one_of([0, 0, 1, 4]),
            delays: chance.one_of([5, 30]),
            garbled: chance.one_of([0, 0, 250]),
            turns: chance.one_of([0, 5, 15, 40]),
            pauses: chance.one_of([0, 100, 300]),
            ..Weather::default()
        };
        let habits = Habits {
            // Backups, reads, deletions; the rest of ten is prunes.
            shares: chance.one_of([[4, 2, 1], [2, 2, 2], [3, 0, 1], [2, 4, 2]]),
            tasks: 2 + chance.below(6),
            flushes: chance.one_of([40, 250]),
            tastes: Tastes::Any,
            grace_ms: 0,
        };
        Self { weather, dying: chance.one_of([0, 200, 500]), processes: 2 + chance.below(4), habits }
    }

    /// What most seeds are: anything. The others each look for a meeting that takes much at once.
    fn of(seed: u64, chance: &mut Chance) -> Self {
        match seed % MOODS {
            UNEQUAL_JUDGES => Self::unequal_judges(chance),
            LOST_COMMITS => Self::lost_commits(chance),
            SLOW_READERS => Self::slow_readers(chance),
            _ => Self::any(chance),
        }
    }

    /// Several decide on one run, differently, and are overtaken before they say or do so.
    fn unequal_judges(chance: &mut Chance) -> Self {
        let weather = Weather {
            delays: 5,
            turns: chance.one_of([3, 8]),
            pauses: chance.one_of([200, 400]),
            ..Weather::default()
        };
        let habits = Habits {
            shares: [4, 0, 3],
            tasks: 6 + chance.below(6),
            flushes: 40,
            tastes: Tastes::Unequal,
            grace_ms: 0,
        };
        Self { weather, dying: 0, processes: 3 + chance.below(2), habits }
    }

    /// Snapshots are committed when their writers have long given up.
    fn lost_commits(chance: &mut Chance) -> Self {
        let weather =
            Weather { delays: 5, turns: chance.one_of([0, 15]), lost_commits: 700, ..Weather::default() };
        let habits = Habits {
            shares: [5, 0, 1],
            tasks: 4 + chance.below(4),
            flushes: 40,
            tastes: Tastes::Any,
            grace_ms: 0,
        };
        Self { weather, dying: 0, processes: 2 + chance.below(3), habits }
    }

    /// Who reads a snapshot falls asleep; somebody deletes it while a prune waits, and the prune goes on.
    fn slow_readers(chance: &mut Chance) -> Self {
        let weather = Weather {
            delays: 5,
            turns: 15,
            pauses: chance.one_of([50, 200]),
            naps: chance.one_of([30, 100]),
            ..Weather::default()
        };
        let habits = Habits {
            shares: [1, 5, 2],
            tasks: 8 + chance.below(6),
            flushes: 40,
            tastes: Tastes::Any,
            grace_ms: chance.one_of([30_000, 60_000]),
        };
        Self { weather, dying: 0, processes: 4 + chance.below(2), habits }
    }
}

/// A repository with some history.
struct Founded {
    files: BTreeMap<String, Bytes>,
    book: Book,
}

thread_local! {
    /// All worlds of a thread begin with the same repository.
    static FOUNDED: Founded = {
        let runtime = runtime();
        let stage = stage(BTreeMap::new(), Book::default(), 0, Weather::default());
        let process = stage.world.add_process(None);
        let founding = stage.clone();
        let task = runtime.spawn(async move { actors::found(&founding, process).await });
        let founded = drive(&runtime, &stage.world, vec![task]);
        assert!(matches!(founded.1.as_slice(), [Some(Ok(()))]), "a repository is founded: {founded:?}");
        Founded { files: stage.world.files(), book: stage.book().clone() }
    };
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("because a runtime without drivers needs nothing")
}

fn stage(files: BTreeMap<String, Bytes>, book: Book, seed: u64, weather: Weather) -> Stage {
    Stage { world: World::new(files, seed, weather), book: Arc::new(Mutex::new(book)), key: actors::key() }
}

/// Runs tasks until each has ended or nothing can happen any more.
fn drive<T>(runtime: &Runtime, world: &World, mut tasks: Vec<JoinHandle<T>>) -> (u64, Vec<Option<T>>) {
    runtime.block_on(async {
        let (mut steps, mut idle) = (0, 0);
        let mut results: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
        loop {
            // Everybody runs until everybody waits for the store or for time.
            for _ in 0..if idle > 0 { 100 } else { 6 } {
                tokio::task::yield_now().await;
            }
            let is_over = tasks.iter().all(JoinHandle::is_finished);
            steps += 1;
            idle = if world.step() { 0 } else { idle + 1 };
            if is_over || steps > MOST_STEPS || idle > 1 {
                break;
            }
        }
        for (task, result) in tasks.iter_mut().zip(&mut results) {
            if task.is_finished() {
                *result = task.await.ok();
            }
        }
        (steps, results)
    })
}

/// Runs one world.
fn run(seed: u64) -> Outcome {
    let mut chance = Chance::new(seed);
    let mood = Mood::of(seed, &mut chance);
    let (files, book) = FOUNDED.with(|founded| (founded.files.clone(), founded.book.clone()));
    let stage = stage(files, book, chance.any(), mood.weather);
    let runtime = runtime();
    let mut tasks = Vec::new();
    for _ in 0..mood.processes {
        let dies_at = chance.in_thousand(mood.dying).then(|| 1 + chance.below(300));
        let process = stage.world.add_process(dies_at);
        tasks.push(runtime.spawn(actors::live(stage.clone(), process, chance.any(), mood.habits)));
    }
    let (steps, ends) = drive(&runtime, &stage.world, tasks);
    if steps > MOST_STEPS {
        stage.book().violations.push("it never ends".to_owned());
    }
    for (process, end) in ends.iter().enumerate() {
        if end.is_none() && !stage.world.fate(process).is_dead {
            stage.book().violations.push(format!("process {process} hangs or panicked"));
        }
    }
    let counts = stage.world.counts();
    stage.world.calm_down();
    let snapshots = examine(&runtime, &stage);
    let mut book = stage.book();
    Outcome {
        violations: std::mem::take(&mut book.violations),
        counts,
        steps,
        snapshots,
        reads: book.reads,
        refused: book.refused,
        prunes: book.prunes,
        removed: book.removed,
    }
}

/// Looks at what is left: everything committed is whole, before and after a last prune, and after
/// that nothing is left that nobody needs.
fn examine(runtime: &Runtime, stage: &Stage) -> u64 {
    let process = stage.world.add_process(None);
    let looking = stage.clone();
    let task = runtime.spawn(async move {
        let ctx = looking.context(process, 2);
        let repo = looking.open(process, &ctx).await?;
        check_all(&looking, &repo, "at the end").await?;
        let mut chance = Chance::new(3);
        for _ in 0..3 {
            actors::prune(&looking, &repo, &ctx, &mut chance, Tastes::Any, 0).await?;
        }
        let repo = looking.open(process, &ctx).await?;
        let options = Options { dry_run: true, ..Options::default() };
        let rest = crate::prune::run(&repo, &options, &ctx).await?;
        if rest.snapshots_removed > 0 {
            looking.book().violations.push(format!("prunes leave deleted snapshots: {rest:?}"));
        }
        check_all(&looking, &repo, "after a last prune").await
    });
    let (_, results) = drive(runtime, &stage.world, vec![task]);
    match results.into_iter().next().flatten() {
        Some(Ok(snapshots)) => snapshots,
        Some(Err(error)) => {
            stage.book().violations.push(format!("the last look failed: {error}"));
            0
        }
        None => {
            stage.book().violations.push("the last look never ends".to_owned());
            0
        }
    }
}

async fn check_all(stage: &Stage, repo: &crate::repo::Repository, when: &str) -> Result<u64> {
    let snapshots = repo.snapshots().await?;
    for snapshot in &snapshots {
        let read = content::read(repo, snapshot).await;
        let mut book = stage.book();
        let planned = book.planned.get(&snapshot.id).map(content::content);
        match read {
            Ok(found) if Some(&found) == planned.as_ref() => {}
            Ok(_) => book.violations.push(format!("{when}, snapshot {} has other content", snapshot.id)),
            Err(error) => {
                book.violations.push(format!("{when}, snapshot {} cannot be read: {error}", snapshot.id));
            }
        }
    }
    let mut book = stage.book();
    let there: Vec<_> = snapshots.iter().map(|snapshot| snapshot.id).collect();
    let lost: Vec<_> = book.committed.difference(&book.deleted).filter(|id| !there.contains(id)).collect();
    let lost =
        lost.iter().map(|id| format!("{when}, the committed snapshot {id} is gone")).collect::<Vec<_>>();
    book.violations.extend(lost);
    Ok(snapshots.len() as u64)
}

/// Catches what a planted defect makes panic, which is as good as a violation.
fn run_guarded(seed: u64) -> Outcome {
    let guarded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
    guarded.unwrap_or_else(|_| Outcome { violations: vec!["it panicked".to_owned()], ..Outcome::default() })
}

/// The first of so many seeds that shows a violation.
fn first_violation(seeds: impl Iterator<Item = u64>) -> Option<(u64, Outcome)> {
    seeds.map(|seed| (seed, run_guarded(seed))).find(|(_, outcome)| !outcome.violations.is_empty())
}
