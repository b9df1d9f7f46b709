//! An ephemeral AWS KMS: moto's server, which keeps keys in memory.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::{end, free_port, read_log, watch};

/// Another process may take the port between our looking and the server's binding.
const PORT_ATTEMPTS: usize = 10;
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP: &str = "-KILL";
const REGION: &str = "eu-central-1";

/// A running KMS. It ends when it is dropped or when this process ends.
#[derive(Debug)]
pub struct Server {
    port: u16,
    folder: PathBuf,
    server: Child,
    /// Holds the write end of the watcher's standard input; `None` once stopped.
    watcher: Option<Child>,
}

impl Server {
    /// Starts one.
    ///
    /// # Panics
    /// When moto is not installed or does not start.
    pub fn start() -> Self {
        let program = find();
        let folder = tempfile::Builder::new().prefix("dbsnap-kms-").tempdir();
        let folder = folder.expect("because tests need a writable temporary folder").keep();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let log = File::create(folder.join("log")).expect("because the folder is ours");
            let errors = log.try_clone().expect("because the file is open");
            let mut command = Command::new(program.with_file_name("python3"));
            // The folder is for the watcher, which knows the server by it.
            command.args(["-c", "import sys; from moto.server import main; main(sys.argv[1:-1])"]);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).arg(&folder);
            command.current_dir(&folder).process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
            let mut server = command.spawn().expect("because moto_server was found");
            let mut watcher = watch(&folder, server.id(), STOP);
            let deadline = Instant::now() + START_LIMIT;
            loop {
                if ask(port, "GET /moto-api/data.json", "", "").is_some() {
                    return Self { port, folder, server, watcher: Some(watcher) };
                }
                let ended = server.try_wait().expect("because the child is ours");
                if ended.is_some() || Instant::now() > deadline {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
            let log = read_log(&folder);
            end(&mut server);
            if !log.contains("Address already in use") {
                end(&mut watcher);
                panic!("moto did not start:\n{log}");
            }
            // Not by the watcher: it would take the folder along.
            end(&mut watcher);
        }
        panic!("moto found no free port in {PORT_ATTEMPTS} attempts");
    }

    /// The KMS that the tests of one process share. Statics are never dropped: the watcher ends it
    /// when this process goes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a key and gives its ARN.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn create_key(&self) -> String {
        let answer = self.call("CreateKey", "{}");
        let arn = answer.split("\"Arn\": \"").nth(1).and_then(|rest| rest.split('"').next());
        arn.unwrap_or_else(|| panic!("no ARN in {answer}")).to_owned()
    }

    fn call(&self, operation: &str, body: &str) -> String {
        let credential = format!("x/20260101/{REGION}/kms/aws4_request");
        let headers = format!(
            "X-Amz-Target: TrentService.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=x\r\n"
        );
        ask(self.port, "POST /", &headers, body).unwrap_or_else(|| panic!("{operation} was not answered"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut watcher) = self.watcher.take() else { return };
        // First the watcher: it must never signal a process id that somebody else got since.
        end(&mut watcher);
        end(&mut self.server);
        // What remains after a failure here is a folder below the temporary one.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `moto_server` in `PATH`, or where `cargo xtask test` installs it.
fn find() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools =
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dbsnap/tools/python/bin"));
    let found = std::env::split_paths(&path).chain(tools).map(|folder| folder.join("moto_server"));
    found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "moto is not installed: `moto_server` is neither in PATH nor in \
             ~/.cache/dbsnap/tools/python/bin. `cargo xtask test` installs it there"
        )
    })
}

/// The answer to a request, if it was a success.
fn ask(port: u16, request: &str, headers: &str, body: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let len = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: kms\r\nContent-Length: {len}\r\nConnection: close\r\n");
    connection.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}
