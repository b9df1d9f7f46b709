//! The demo's programs. All end, and take their files with them, when this process does,
//! however it comes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{built, random_hex};

/// Runs dbsnap until its own standard input ends, which is when xtask does or wants it. Then ends
/// dbsnap and removes its folder; dbsnap's exit code is its own. `$1` is the folder, `$2` dbsnap.
///
/// Being the parent, it can never send its signal to somebody else who got the process id.
const KEEPER: &str = r#"
umask 077
"$2" 2>"$1/log" &
server=$!
exec >/dev/null
read -r _
kill -TERM "$server" 2>/dev/null
wait "$server"
code=$?
rm -rf -- "$1"
exit "$code"
"#;

/// The systems, as the program that runs their servers calls them.
const SYSTEMS: [&str; 3] = ["postgresql", "mongodb", "seaweedfs"];

/// Where dbsnap keeps its repositories, if not in its folder: `DBSNAP_STORAGE` and a key for it.
pub struct Storage {
    pub url: String,
    pub key: String,
}

/// Everything the demo writes is in here. Dropping it removes it.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

impl Folder {
    /// A new one in the temporary folder.
    pub fn create() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("dbsnap-demo-{}", random_hex(6)?));
        let folder = Self(path);
        folder.make("")?;
        // PostgreSQL may run as another account, which has to get through to its own.
        SYSTEMS.iter().try_for_each(|system| folder.make(system))?;
        Ok(folder)
    }

    fn make(&self, name: &str) -> Result<(), String> {
        let path = self.0.join(name);
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o711)));
        made.map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// A running program with its two ends. Dropping it ends it, and waits until it and its files are gone.
pub struct Program {
    name: &'static str,
    child: Child,
    /// Its end is the program's signal to stop.
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
    folder: Option<PathBuf>,
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

impl Program {
    /// A private server of that system, with its seeded database if it is one.
    pub fn database(folder: &Folder, system: &'static str) -> Result<Self, String> {
        let mut command = built("demo-database")?;
        command.arg(system).env("TMPDIR", folder.0.join(system));
        Self::start(system, &mut command, None)
    }

    /// dbsnap with an empty data folder, listening on `listen`.
    pub fn server(folder: &Folder, listen: &str, storage: Option<&Storage>) -> Result<Self, String> {
        folder.make("dbsnap")?;
        let folder = folder.0.join("dbsnap");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "dbsnap-demo"]).arg(&folder).arg(built("dbsnap")?.get_program());
        // Whatever the user has set for another server is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("DBSNAP_")) {
                command.env_remove(name);
            }
        }
        command.env("DBSNAP_DATA_DIR", folder.join("data")).env("DBSNAP_LISTEN", listen);
        if let Some(Storage { url, key }) = storage {
            let (id, secret) = key.split_once(' ').unwrap_or_default();
            command
                .env("DBSNAP_STORAGE", url)
                .env("AWS_ACCESS_KEY_ID", id)
                .env("AWS_SECRET_ACCESS_KEY", secret);
        }
        Self::start("dbsnap", &mut command, Some(folder))
    }

    /// In a group of its own: Ctrl-C is for xtask, which ends the others in order.
    fn start(name: &'static str, command: &mut Command, folder: Option<PathBuf>) -> Result<Self, String> {
        let spawned = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("{name}: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { name, child, input, output, folder })
    }

    /// The rest of its next line, which has to begin with `prefix`.
    pub fn expect_line(&mut self, prefix: &str) -> Result<String, String> {
        let mut line = String::new();
        let output = self.output.as_mut().expect("because only watch() takes it, last");
        let read = output.read_line(&mut line).map_err(|error| format!("{}: {error}", self.name))?;
        if read == 0 {
            return Err(format!("{} ended\n{}", self.name, self.log()));
        }
        match line.trim_end().strip_prefix(prefix) {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(format!("{} said {line:?} where {prefix:?} was expected", self.name)),
        }
    }

    /// Sends it a line.
    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        let input = self.input.as_mut().expect("because only dropping takes it");
        let sent = writeln!(input, "{line}").and_then(|()| input.flush());
        sent.map_err(|error| format!("{}: {error}", self.name))
    }

    /// What it has logged, if it does.
    pub fn log(&self) -> String {
        let log = self.folder.as_deref().map(|folder| folder.join("log"));
        log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// Reads on, so that its pipe never fills; the answer tells whether it has ended.
    pub fn watch(&mut self) -> impl FnMut() -> bool + use<> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let output = self.output.take();
        thread::spawn(move || {
            output.into_iter().flat_map(BufRead::lines).for_each(drop);
            ended.store(true, Ordering::SeqCst);
        });
        move || seen.load(Ordering::SeqCst)
    }

    /// Ends it and waits until it and its files are gone. Once it has, the answer stays the same.
    pub fn end(&mut self) -> Result<(), String> {
        drop(self.input.take());
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("{} ended badly: {other:?}", self.name)),
        }
    }
}
