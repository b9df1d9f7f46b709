//! `cargo xtask demo`: two databases that change, and dbsnap watching them.
//!
//! Everything goes through the public JSON API, as a user's script would.

mod process;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::api::{Api, text};
use crate::cargo::cargo;
use crate::needs;
use process::{Folder, Program, Storage};

const USUAL_PORT: u16 = 8080;
const EMAIL: &str = "demo@example.com";

/// What the user asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    port: Option<u16>,
    exit_when_ready: bool,
}

impl Options {
    pub fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--exit-when-ready" => options.exit_when_ready = true,
                "--port" => {
                    let port = rest.next().and_then(|port| port.parse().ok());
                    options.port = Some(port.ok_or("--port takes a number from 0 to 65535")?);
                }
                other => return Err(format!("{other:?} is no option of demo: --port N, --exit-when-ready")),
            }
        }
        Ok(options)
    }

    fn listen(&self) -> String {
        let port = self.port.unwrap_or_else(|| {
            let is_free = TcpListener::bind(("127.0.0.1", USUAL_PORT)).is_ok();
            if is_free { USUAL_PORT } else { 0 }
        });
        format!("127.0.0.1:{port}")
    }
}

/// Brings the demo up, and down again when it is interrupted.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    needs::postgresql()?;
    // PostgreSQL comes from a package; a MongoDB server may have to be built, which can fail.
    let mongodb = needs::mongodb().map_err(|why| println!("MongoDB is left out of the demo: {why}")).is_ok();
    build()?;
    // From here on an interrupt must clean up instead of ending this process where it stands.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| format!("signals: {e}"))?;
    let folder = Folder::create()?;
    let mut databases = vec![Database::start(&folder, &SHOP)?];
    if mongodb {
        databases.push(Database::start(&folder, &HUTS)?);
    }
    let storage = match needs::wants_seaweedfs()? {
        true => Some(start_storage(&folder)?),
        false => None,
    };
    let stage = Stage::begin("dbsnap");
    let place = storage.as_ref().map(|(_, place)| place);
    let mut server = Program::server(&folder, &options.listen(), place)?;
    let base = server.expect_line("listening on ")?;
    stage.end();

    let password = random_password()?;
    let mut show = Show { base: &base, interrupted: &mut || signals.pending().next().is_some() };
    let diffs = match show.run(&mut databases, &password) {
        Ok(diffs) => diffs,
        Err(Stop::Interrupted) => return stopped(server, databases, storage, folder),
        Err(Stop::Failed(why)) => return Err(format!("{why}\n{}", server.log())),
    };
    println!("\nready {base}");
    println!("login {EMAIL} {password}");
    for (database, diff) in databases.iter().zip(diffs) {
        println!("\nThe latest comparison of {}: {base}{diff}", database.story.name);
        println!("The database, to change it yourself: {}", database.owner);
    }
    if options.exit_when_ready {
        return stopped(server, databases, storage, folder);
    }
    println!("Ctrl-C ends all of it and removes its files.");
    let mut server_ended = server.watch();
    loop {
        if signals.pending().next().is_some() {
            return stopped(server, databases, storage, folder);
        }
        if server_ended() {
            return Err(format!("dbsnap ended by itself\n{}", server.log()));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// An object store in place of dbsnap's folder.
fn start_storage(folder: &Folder) -> Result<(Program, Storage), String> {
    needs::object_stores()?;
    let stage = Stage::begin("a private SeaweedFS");
    let mut program = Program::database(folder, "seaweedfs")?;
    let (url, key) = (program.expect_line("storage ")?, program.expect_line("key ")?);
    stage.end();
    Ok((program, Storage { url, key }))
}

/// Ends dbsnap before its databases, and all before their folder goes.
fn stopped(
    mut server: Program,
    databases: Vec<Database>,
    storage: Option<(Program, Storage)>,
    folder: Folder,
) -> Result<ExitCode, String> {
    let stage = Stage::begin("cleaning up");
    server.end()?;
    for mut database in databases {
        database.program.end()?;
    }
    if let Some((mut program, _)) = storage {
        program.end()?;
    }
    drop(folder);
    stage.end();
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<(), String> {
    println!("building dbsnap; the first time takes some minutes");
    let started = Instant::now();
    let mut build = cargo(&["build", "--locked", "-p", "server", "-p", "engine-testutils"]);
    build.args(["--bin", "dbsnap", "--bin", "demo-database"]);
    match build.status() {
        Ok(status) if status.success() => {
            println!("built in {:.1} s", started.elapsed().as_secs_f64());
            Ok(())
        }
        other => Err(format!("cargo build: {other:?}")),
    }
}

/// Why the show did not go on.
enum Stop {
    Interrupted,
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What is shown of a database.
struct Story {
    system: &'static str,
    /// What its server is called while it starts.
    server: &'static str,
    project: &'static str,
    name: &'static str,
    /// Notes on the three snapshots.
    notes: [&'static str; 3],
}

const SHOP: Story = Story {
    system: "postgresql",
    server: "a private PostgreSQL with a shop of 200,000 rows",
    project: "Fern & Fjord",
    name: "shop",
    notes: ["Monday: before the sale", "Tuesday: the sale begins", "Wednesday: something went wrong"],
};

const HUTS: Story = Story {
    system: "mongodb",
    server: "a private MongoDB server with 110,000 documents of mountain huts",
    project: "Cairn",
    name: "huts",
    notes: [
        "Monday: before the season",
        "Tuesday: bookings move on",
        "Wednesday: an import and an update without its filter",
    ],
};

/// A database, and the program that runs its server.
struct Database {
    story: &'static Story,
    program: Program,
    reader: String,
    owner: String,
}

impl Database {
    fn start(folder: &Folder, story: &'static Story) -> Result<Self, String> {
        let stage = Stage::begin(story.server);
        let mut program = Program::database(folder, story.system)?;
        let (reader, owner) = (program.expect_line("reader ")?, program.expect_line("owner ")?);
        stage.end();
        Ok(Self { story, program, reader, owner })
    }
}

/// Three days of each database, each with its snapshot.
struct Show<'a> {
    base: &'a str,
    interrupted: &'a mut dyn FnMut() -> bool,
}

impl Show<'_> {
    /// Gives the paths of the pages with the last comparison of each.
    fn run(&mut self, databases: &mut [Database], password: &str) -> Result<Vec<String>, Stop> {
        let address = self.base.strip_prefix("http://").unwrap_or(self.base);
        let api = Api::register(address, EMAIL, password)?;
        databases.iter_mut().map(|database| self.tell(&api, database)).collect()
    }

    fn tell(&mut self, api: &Api, database: &mut Database) -> Result<String, Stop> {
        let Story { project, name, notes, .. } = database.story;
        let project = text(&api.post("/projects", &json!({"name": project}))?, "id")?;
        let body = json!({"name": name, "url": database.reader, "environment": "prod"});
        let id = text(&api.post(&format!("/projects/{project}/databases"), &body)?, "id")?;

        let monday = self.snapshot(api, &id, notes[0])?;
        self.change(database, "tuesday")?;
        let tuesday = self.snapshot(api, &id, notes[1])?;
        self.change(database, "wednesday")?;
        let wednesday = self.snapshot(api, &id, notes[2])?;

        self.diff(api, "Monday and Tuesday", &monday, &tuesday)?;
        let last = self.diff(api, "Tuesday and Wednesday", &tuesday, &wednesday)?;
        Ok(format!("/diffs/{last}"))
    }

    fn snapshot(&mut self, api: &Api, database: &str, note: &str) -> Result<String, Stop> {
        let mut stage = self.stage(&format!("snapshot {note:?}"))?;
        let accepted = api.post(&format!("/databases/{database}/backups"), &json!({"note": note}))?;
        let result = api.wait(&text(&accepted, "job_id")?)?;
        let id = text(&result, "snapshot_id")?;
        let snapshot = api.get(&format!("/snapshots/{id}"))?;
        stage.note = format!("{} records, {} bytes new", snapshot["records"], snapshot["new_bytes"]);
        stage.end();
        Ok(id)
    }

    fn change(&mut self, database: &mut Database, day: &str) -> Result<(), Stop> {
        let stage = self.stage(&format!("what happens on {day}"))?;
        database.program.tell(day)?;
        database.program.expect_line("done")?;
        stage.end();
        Ok(())
    }

    fn diff(&mut self, api: &Api, what: &str, from: &str, to: &str) -> Result<String, Stop> {
        let mut stage = self.stage(&format!("comparing {what}"))?;
        let started = api.post("/diffs", &json!({"from": from, "to": to}))?;
        api.wait(&text(&started, "job_id")?)?;
        let id = text(&started, "id")?;
        stage.note = count(&api.get(&format!("/diffs/{id}"))?);
        stage.end();
        Ok(id)
    }

    fn stage(&mut self, name: &str) -> Result<Stage, Stop> {
        if (self.interrupted)() { Err(Stop::Interrupted) } else { Ok(Stage::begin(name)) }
    }
}

/// "3 added, 4 removed, 251 changed" over all collections.
fn count(diff: &Value) -> String {
    let collections = diff["collections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sum = |kind: &str| -> u64 { collections.iter().filter_map(|c| c["records"][kind].as_u64()).sum() };
    format!("{} added, {} removed, {} changed", sum("added"), sum("removed"), sum("changed"))
}

/// A step that says how long it took.
struct Stage {
    name: String,
    started: Instant,
    note: String,
}

impl Stage {
    fn begin(name: &str) -> Self {
        Self { name: name.to_owned(), started: Instant::now(), note: String::new() }
    }

    fn end(&self) {
        let time = self.started.elapsed().as_secs_f64();
        println!("{time:>7.1} s  {}  {}", self.name, self.note);
    }
}

/// The server listens on this machine only, and other people may use it, too.
fn random_password() -> Result<String, String> {
    random_hex(12)
}

fn random_hex(count: usize) -> Result<String, String> {
    let mut bytes = vec![0; count];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A program built beside this one.
fn built(name: &str) -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|error| format!("finding xtask: {error}"))?;
    Ok(Command::new(own.with_file_name(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_anything_else_is_refused() {
        let options = Options::parse(&["--port", "9000", "--exit-when-ready"]).unwrap();
        assert_eq!(options, Options { port: Some(9000), exit_when_ready: true });
        assert_eq!(options.listen(), "127.0.0.1:9000");
        for wrong in [&["--port"][..], &["--port", "70000"], &["--ports", "1"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_diff_is_counted_over_all_collections() {
        let diff = json!({"collections": [
            {"records": {"added": 1, "removed": 2, "changed": 3, "unchanged": 9}},
            {"records": {"added": 10, "removed": 0, "changed": 0, "unchanged": 9}},
        ]});
        assert_eq!(count(&diff), "11 added, 2 removed, 3 changed");
    }
}
