//! An ephemeral SeaweedFS: master, volume server, filer and S3 gateway in one process, on loopback.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY};
use crate::process::{end, free_ports, read_log, watch};

/// Another process may take a port between our looking and the server's binding.
const PORT_ATTEMPTS: usize = 10;
const START_LIMIT: Duration = Duration::from_secs(60);
/// The data goes with the server, so there is nothing to wait for.
const STOP: &str = "-KILL";

/// A running SeaweedFS with an empty bucket. It ends, and its data go, when it is dropped or when
/// this process ends.
#[derive(Debug)]
pub struct Server {
    port: u16,
    folder: PathBuf,
    server: Child,
    /// Holds the write end of the watcher's standard input; `None` once stopped.
    watcher: Option<Child>,
    prefixes: AtomicU64,
}

impl Server {
    /// Starts one.
    ///
    /// # Panics
    /// When `weed` is not installed or does not start.
    pub fn start() -> Self {
        let program = find();
        let folder = tempfile::Builder::new()
            .prefix("dbsnap-weed-")
            .tempdir()
            .expect("because tests need a writable temporary folder");
        let mut failure = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let ports = free_ports();
            match try_start(&program, folder.path(), ports) {
                Ok((server, watcher)) => {
                    return Self {
                        port: ports[0],
                        folder: folder.keep(),
                        server,
                        watcher: Some(watcher),
                        prefixes: AtomicU64::new(0),
                    };
                }
                Err(log) if log.contains("address already in use") => failure = log,
                Err(log) => panic!("SeaweedFS did not start:\n{log}"),
            }
        }
        panic!("SeaweedFS found no free ports in {PORT_ATTEMPTS} attempts:\n{failure}");
    }

    /// The store that the tests of one process share. Each takes a prefix of its own. Statics are
    /// never dropped: the watcher ends it when this process goes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// What `DBSNAP_STORAGE` would say for a place below `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        super::url(self.port, prefix)
    }

    /// As [`url`](Self::url), for a prefix that nobody else got.
    pub fn fresh_url(&self) -> String {
        self.url(&format!("{}-{}", std::process::id(), self.prefixes.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut watcher) = self.watcher.take() else { return };
        // First the watcher: it must never signal a process id that somebody else got since.
        end(&mut watcher);
        end(&mut self.server);
        // What remains after a failure here is a folder below the temporary one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// `weed` in `PATH`, or where `cargo xtask test` installs it.
fn find() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools =
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dbsnap/tools/python/bin"));
    let found = std::env::split_paths(&path).chain(tools).map(|folder| folder.join("weed"));
    found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "SeaweedFS is not installed: `weed` is neither in PATH nor in ~/.cache/dbsnap/tools/python/bin. \
             `cargo xtask test` installs it there"
        )
    })
}

/// Starts the server and waits until its S3 gateway takes requests and has the bucket; else its log.
fn try_start(program: &Path, folder: &Path, ports: [u16; 8]) -> Result<(Child, Child), String> {
    let data = folder.join("data");
    fs::create_dir_all(&data).expect("because the folder is ours");
    let users = folder.join("s3.json");
    let actions = r#"["Admin","Read","Write","List","Tagging"]"#;
    let credentials = format!(r#"{{"accessKey":"{ACCESS_KEY_ID}","secretKey":"{SECRET_ACCESS_KEY}"}}"#);
    let text = format!(
        r#"{{"identities":[{{"name":"dbsnap","credentials":[{credentials}],"actions":{actions}}}]}}"#
    );
    fs::write(&users, text).expect("because the folder is ours");
    let log = File::create(folder.join("log")).expect("because the folder is ours");
    let errors = log.try_clone().expect("because the file is open");
    let mut command = Command::new(program);
    command.args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
    command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", users.display()));
    let names = [
        "s3.port",
        "s3.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "master.port",
        "master.port.grpc",
    ];
    for (name, port) in names.into_iter().zip(ports) {
        command.arg(format!("-{name}={port}"));
    }
    for (name, file) in [("s3.localSocket", "s3.sock"), ("filer.localSocket", "filer.sock")] {
        command.arg(format!("-{name}={}", folder.join(file).display()));
    }
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0"]);
    command.args(["-master.volumeSizeLimitMB=1024", "-volume.max=16"]);
    // A group of its own: Ctrl-C in the terminal ends this process first, the watcher the rest.
    command.current_dir(folder).process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEED_")) {
        command.env_remove(name);
    }
    let mut server = command.spawn().expect("because weed was found");
    let mut watcher = watch(folder, server.id(), STOP);
    let deadline = Instant::now() + START_LIMIT;
    let [s3, _, filer, ..] = ports;
    // A bucket is a folder of the filer's.
    while !(is_answered(s3, "GET /status") && is_answered(filer, &format!("POST /buckets/{BUCKET}/"))) {
        let ended = server.try_wait().expect("because the child is ours");
        if ended.is_some() || Instant::now() > deadline {
            end(&mut watcher);
            end(&mut server);
            return Err(read_log(folder));
        }
        sleep(Duration::from_millis(20));
    }
    Ok((server, watcher))
}

/// Whether a request without content is answered with a success.
fn is_answered(port: u16, request: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let head = "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.write_all(format!("{request} {head}").as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 20"))
}
