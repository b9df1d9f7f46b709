//! The list of connector cases in `engine/tests/README.md` says what is so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = "engine/tests/README.md";

/// Where tests of cases are.
const TREES: [&str; 3] = ["engine", "repo-format", "server"];

/// The four ways, as the table and the counts name them.
const WAYS: [&str; 4] = ["real server", "scripted", "unit", "not yet"];

struct Case {
    number: String,
    way: String,
    tests: Vec<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn list() -> String {
    fs::read_to_string(workspace().join(LIST)).unwrap()
}

/// The rows of the table.
fn cases(list: &str) -> Vec<Case> {
    let rows = list.lines().filter(|line| line.starts_with("| MG-") || line.starts_with("| JD-"));
    let case = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, what, way, tests] = cells[..] else { panic!("not four cells: {row}") };
        assert!(!what.is_empty(), "{number} asks nothing");
        let tests = tests.split(',').map(|name| name.trim().trim_matches('`').to_owned());
        let tests = tests.filter(|name| !name.is_empty()).collect();
        Case { number: number.to_owned(), way: way.to_owned(), tests }
    };
    rows.map(case).collect()
}

/// The names of the functions under `#[test]` and its kin.
fn tests_of_the_tree() -> BTreeSet<String> {
    let mut folders: Vec<PathBuf> = TREES.iter().map(|tree| workspace().join(tree)).collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // Not where cargo builds.
            if path.is_dir() && !path.join("CACHEDIR.TAG").exists() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(tests_of(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    names
}

fn tests_of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") || line.starts_with("//") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_counts_are_those_of_the_table() {
    let list = list();
    let cases = cases(&list);
    let count = |way: &str| cases.iter().filter(|case| case.way == way).count();
    let [real, scripted, unit, not_yet] = WAYS.map(count);
    assert_eq!(real + scripted + unit + not_yet, cases.len(), "a way that is none of {WAYS:?}");
    let line = format!(
        "Cases: {}. Real server: {real}. Scripted: {scripted}. Unit: {unit}. Not yet: {not_yet}.",
        cases.len()
    );
    assert!(list.lines().any(|found| found == line), "{LIST} should say:\n{line}");
}

#[test]
fn every_case_that_is_not_yet_says_why() {
    let list = list();
    let (_, reasons) = list.split_once("Why some are not yet:").unwrap_or((&list, ""));
    let not_yet = cases(&list).into_iter().filter(|case| case.way == "not yet");
    let told = |number: &str| reasons.contains(number);
    none(
        not_yet
            .filter(|case| !told(&case.number))
            .map(|case| format!("{}: no reason is given", case.number))
            .collect(),
    );
    let stale = cases(&list).into_iter().filter(|case| case.way != "not yet" && told(&case.number));
    none(stale.map(|case| format!("{}: a reason, and it is tested", case.number)).collect());
}

#[test]
fn no_case_is_missing_or_there_twice() {
    let numbers: Vec<String> = cases(&list()).into_iter().map(|case| case.number).collect();
    let groups =
        [("MG-C", 20), ("MG-P", 7), ("MG-K", 13), ("MG-D", 11), ("MG-M", 17), ("MG-R", 12), ("JD-", 8)];
    let expected: Vec<String> = groups
        .iter()
        .flat_map(|(group, last)| (1..=*last).map(move |at| format!("{group}{at:02}")))
        .collect();
    assert_eq!(numbers, expected);
}

#[test]
fn every_named_test_exists_and_every_tested_case_names_one() {
    let found =
        tests_of("#[tokio::test]\nasync fn one() {}\nfn two() {}\n#[test]\n#[ignore = \"x\"]\nfn three() {}");
    assert_eq!(found, ["one", "three"]);
    let tests = tests_of_the_tree();
    assert!(tests.len() > 100, "the walk found too few tests");
    let mut problems = Vec::new();
    for case in cases(&list()) {
        if (case.way == "not yet") != case.tests.is_empty() {
            problems.push(format!("{}: {:?} with {} tests named", case.number, case.way, case.tests.len()));
        }
        let missing = case.tests.iter().filter(|name| !tests.contains(*name));
        problems.extend(missing.map(|name| format!("{}: there is no test {name}", case.number)));
    }
    none(problems);
}
