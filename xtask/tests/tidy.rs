//! Style that matters is a test: what reviewers would otherwise have to remember.

use std::fs;
use std::path::{Path, PathBuf};

/// A longer file has more than one subject.
const MAX_LINES: usize = 800;

/// Words that say nothing about what a thing is for.
const EMPTY_WORDS: [&str; 8] =
    ["manager", "managers", "helper", "helpers", "util", "utils", "utility", "utilities"];

struct File {
    /// From the workspace's folder on, with `/`.
    path: String,
    text: String,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust sources of every crate, without what is built.
fn sources() -> Vec<File> {
    let root = workspace();
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("because the walk found it") {
            let entry = entry.expect("because the folder is readable");
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let path_text = path
                    .strip_prefix(&root)
                    .expect("because the walk began there")
                    .to_string_lossy()
                    .into_owned();
                files.push(File {
                    path: path_text,
                    text: fs::read_to_string(&path).expect("because it is UTF-8"),
                });
            }
        }
    }
    // A walk that finds nothing would let everything pass.
    assert!(files.iter().any(|file| file.path == "xtask/tests/tidy.rs") && files.len() > 50);
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is code in a line, so that rules about code do not trip over strings and comments.
fn without_comments_and_strings(line: &str) -> String {
    let code = line.split_once("//").map_or(line, |(code, _)| code);
    let mut kept = String::new();
    let mut inside = false;
    for part in code.split('"') {
        if !inside {
            kept.push_str(part);
        }
        inside = !inside;
    }
    kept
}

/// The lower-case words of `snake_case` and `CamelCase`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter == '-' || letter.is_uppercase() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("because it never gets empty").extend(letter.to_lowercase());
        }
    }
    words
}

fn is_empty_name(name: &str) -> bool {
    words(name).iter().any(|word| EMPTY_WORDS.contains(&word.as_str()))
}

/// The name that a line declares as a module or a type.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line
        .strip_prefix("pub ")
        .or_else(|| line.split_once("pub(").and_then(|(_, l)| l.split_once(") ")).map(|(_, l)| l))
        .unwrap_or(line);
    let rest = ["mod ", "struct ", "enum ", "trait ", "type ", "union "]
        .iter()
        .find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn files_are_short() {
    let lengths = sources().into_iter().map(|file| (file.text.lines().count(), file.path));
    none(
        lengths
            .filter(|(lines, _)| *lines > MAX_LINES)
            .map(|(n, path)| format!("{path}: {n} lines"))
            .collect(),
    );
}

#[test]
fn names_say_what_a_thing_is_for() {
    assert!(is_empty_name("SessionManager") && is_empty_name("string_utils") && !is_empty_name("testutils"));
    assert_eq!(declared("pub(crate) struct PackHelper<T> {"), Some("PackHelper"));
    let mut problems = Vec::new();
    for file in sources() {
        if file.path.trim_end_matches(".rs").split('/').any(is_empty_name) {
            problems.push(format!("{}: the file's name", file.path));
        }
        for (at, line) in file.text.lines().enumerate() {
            let code = without_comments_and_strings(line);
            if let Some(name) = declared(&code).filter(|name| is_empty_name(name)) {
                problems.push(format!("{}:{}: {name}", file.path, at + 1));
            }
        }
    }
    none(problems);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let unfinished = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let mut problems = Vec::new();
    for file in sources() {
        for (at, line) in file.text.lines().enumerate() {
            let code = without_comments_and_strings(line);
            if unfinished.iter().any(|word| code.contains(word.as_str())) || code.contains("#[ignore]") {
                problems.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none(problems);
}

/// What a crate must not touch is a clippy ban; this is the ban on switching it off.
#[test]
fn unsafe_code_stays_forbidden() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 5, "{members:?}");
    let inherits =
        |member: &&&str| read(&format!("{member}/Cargo.toml")).contains("[lints]\nworkspace = true");
    none(
        members
            .iter()
            .filter(|member| !inherits(member))
            .map(|m| format!("{m} does not take the lints"))
            .collect(),
    );
}

#[test]
fn every_format_version_is_documented_and_tested() {
    let limits = read("repo-format/src/limits.rs");
    let version = limits.lines().find_map(|line| line.strip_prefix("pub const FORMAT_VERSION: u8 = "));
    let newest: u8 = version.and_then(|rest| rest.trim_end_matches(';').parse().ok()).unwrap();
    // Version 0 is not frozen: its vectors in the document are its test.
    let format = read("docs/FORMAT.md");
    assert!(format.contains("```vectors name="), "docs/FORMAT.md has no vectors");
    assert!(read("repo-format/tests/format_vectors/main.rs").contains("FORMAT.md"));
    assert!(
        format.contains(&format!("version {newest}")),
        "docs/FORMAT.md does not describe version {newest}"
    );
    let golden = |version: &u8| workspace().join(format!("engine/tests/golden/v{version}")).is_dir();
    let frozen = 1..=newest;
    none(
        frozen
            .filter(|v| !golden(v))
            .map(|v| format!("engine/tests/golden has no repository of version {v}"))
            .collect(),
    );
}

#[test]
fn the_readme_names_both_commands_and_links_what_exists() {
    let readme = read("README.md");
    assert!(readme.contains("cargo xtask demo") && readme.contains("cargo xtask test"));
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let missing =
        local.map(|link| link.split('#').next().unwrap()).filter(|link| !workspace().join(link).exists());
    none(missing.map(|link| format!("README.md links {link}, which does not exist")).collect());
}

#[test]
fn ci_may_be_called_by_hand() {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(workspace().join(".ci/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, ".ci/run is not executable");
}
