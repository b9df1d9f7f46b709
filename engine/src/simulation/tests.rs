#![cfg(test)]

use crate::defect::{Defect, plant};
use crate::simulation::{
    LOST_COMMITS, MOODS, Outcome, SLOW_READERS, UNEQUAL_JUDGES, first_violation, run_guarded,
};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// All seeds hold. 500 of them unless told otherwise.
#[test]
fn seeds() {
    plant(None);
    if let Some(seed) = variable("DBSNAP_SIMULATION_SEED") {
        let outcome = run_guarded(seed);
        println!("{outcome:#?}");
        assert!(outcome.violations.is_empty());
        return;
    }
    let seeds = variable("DBSNAP_SIMULATION_SEEDS").unwrap_or(500);
    let first = variable("DBSNAP_SIMULATION_FIRST").unwrap_or(0);
    let (mut sum, mut violations) = (Outcome::default(), Vec::new());
    for seed in first..first + seeds {
        let outcome = run_guarded(seed);
        if !outcome.violations.is_empty() {
            println!("seed {seed}: {:?}", outcome.violations);
            violations.push(seed);
        }
        sum.counts.calls += outcome.counts.calls;
        sum.counts.faults += outcome.counts.faults;
        sum.counts.late += outcome.counts.late;
        sum.counts.garbled += outcome.counts.garbled;
        sum.counts.deaths += outcome.counts.deaths;
        sum.counts.suspensions += outcome.counts.suspensions;
        sum.steps += outcome.steps;
        sum.snapshots += outcome.snapshots;
        sum.reads += outcome.reads;
        sum.refused += outcome.refused;
        sum.prunes += outcome.prunes;
        sum.removed += outcome.removed;
        if seed % 1000 == 999 {
            println!("{} seeds, {} with violations", seed + 1 - first, violations.len());
        }
    }
    println!("{seeds} seeds: {sum:?}");
    assert!(violations.is_empty(), "{} of {seeds} seeds: {violations:?}", violations.len());
    assert!(sum.snapshots > 0 && sum.reads > 0 && sum.prunes > 0 && sum.removed > 0, "something happens");
}

/// Defects that the first seeds show. Where one mood is made for a defect, only its seeds are tried:
/// those with this remainder by the number of moods.
const CAUGHT: [(Defect, Option<u64>); 15] = [
    (Defect::SkipWaiting, None),
    (Defect::SkipRecheck, None),
    (Defect::DeleteBeforeVerdict, None),
    (Defect::ReusePackName, None),
    (Defect::IgnoreVerdict, Some(UNEQUAL_JUDGES)),
    (Defect::SkipTombstone, None),
    (Defect::RelyOnCondemned, None),
    (Defect::ListBeforeSession, Some(UNEQUAL_JUDGES)),
    (Defect::CloseUnsettled, Some(LOST_COMMITS)),
    (Defect::CondemnLateOrphans, None),
    (Defect::ForgetVerdicts, Some(LOST_COMMITS)),
    (Defect::DropLateDeletions, Some(SLOW_READERS)),
    (Defect::CountDoomedPlaces, None),
    (Defect::ReplaceIndexesLate, None),
    (Defect::CommitBeforeIndex, None),
];

/// These rules are needed: without one, some seed loses something.
#[test]
fn planted_defects_are_caught() {
    let seeds = variable("DBSNAP_SIMULATION_DEFECT_SEEDS").unwrap_or(3000);
    let mut missed = Vec::new();
    for (defect, mood) in CAUGHT {
        plant(Some(defect));
        let tried = (0..seeds).filter(|seed| mood.is_none_or(|mood| seed % MOODS == mood));
        match first_violation(tried) {
            Some((seed, outcome)) => println!("{defect:?}: seed {seed}: {}", outcome.violations[0]),
            None => missed.push(defect),
        }
        plant(None);
    }
    assert!(missed.is_empty(), "nothing in {seeds} seeds shows that these matter: {missed:?}");
}
