//! A server that says what a test tells it to, in MongoDB's protocol: for what no server here can
//! be made to do, such as honoured snapshots, sharding, failover, lost history, old releases, and
//! refusals at the wrong moment.
//!
//! ```no_run
//! use bson::rawdoc;
//! use engine_testutils::mongodb::script::{Persona, Refusal, Scripted, Version, first_batch};
//!
//! let server = Scripted::start(Persona::primary(Version::V7_0), |command| match command.name.as_str() {
//!     "find" => first_batch("shop.orders", 5, &[rawdoc! { "_id": 1 }]).into(),
//!     "getMore" => Refusal::snapshot_too_old().into(),
//!     name => Refusal::command_not_found(name).into(),
//! });
//! let url = server.url();
//! ```
//!
//! A script answers one command at a time, in the order of their arrival. Nobody logs in: URLs have
//! no user. A script that panics fails the test when the server is dropped.

mod connection;
mod persona;
mod reply;
mod tls;
mod wire;

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use bson::{RawDocumentBuf, Timestamp};

pub use persona::{Persona, Role, SET_NAME, Version};
pub use reply::{Batch, Refusal, Reply, first_batch, next_batch};
pub use tls::Certificates;

/// The cluster time of a server that was not told another.
const FIRST_TIME: Timestamp = Timestamp { time: 1_700_000_000, increment: 1 };

/// A command that arrived.
#[derive(Clone, Debug)]
pub struct Command {
    /// As the client wrote it ("find").
    pub name: String,
    /// `$db`.
    pub database: String,
    /// All of it. Documents that came beside the command stand in it as an array.
    pub document: RawDocumentBuf,
    /// The number of its connection, from 1 on.
    pub connection: u64,
}

impl Command {
    /// The time that a snapshot read asks for; `None` also for its first, which gets one.
    pub fn at_cluster_time(&self) -> Option<Timestamp> {
        self.document.get_document("readConcern").ok()?.get_timestamp("atClusterTime").ok()
    }
}

type Script = dyn FnMut(&Command) -> Reply + Send;

/// A scripted server on a loopback port. Dropping it closes everything.
#[derive(Debug)]
pub struct Scripted {
    state: Arc<State>,
}

/// What the threads of a server share.
struct State {
    address: SocketAddr,
    /// Nobody gets in without TLS.
    tls: Option<Arc<rustls::ServerConfig>>,
    board: Mutex<Board>,
    script: Mutex<Box<Script>>,
    listening: Mutex<Option<JoinHandle<()>>>,
    is_closed: AtomicBool,
    connections: Mutex<HashMap<u64, TcpStream>>,
    connections_made: AtomicU64,
}

/// What tests change and look at.
#[derive(Debug)]
struct Board {
    persona: Persona,
    cluster_time: Timestamp,
    seen: Vec<Command>,
    /// What a script said when it panicked.
    panic: Option<String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Scripted {
    /// Starts a server. `hello`, `isMaster`, `ping`, `buildInfo`, `endSessions` and `killCursors`
    /// are answered as `persona` would; every other command goes to `script`.
    pub fn start(persona: Persona, script: impl FnMut(&Command) -> Reply + Send + 'static) -> Self {
        Self::listening(persona, None, Box::new(script))
    }

    /// As [`Scripted::start`], with TLS, and only for clients with a certificate.
    pub fn start_tls(
        persona: Persona,
        certificates: &Certificates,
        script: impl FnMut(&Command) -> Reply + Send + 'static,
    ) -> Self {
        Self::listening(persona, Some(certificates.server()), Box::new(script))
    }

    fn listening(persona: Persona, tls: Option<Arc<rustls::ServerConfig>>, script: Box<Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("because loopback has free ports");
        let state = Arc::new(State {
            address: listener.local_addr().expect("because it is bound"),
            tls,
            board: Mutex::new(Board { persona, cluster_time: FIRST_TIME, seen: Vec::new(), panic: None }),
            script: Mutex::new(script),
            listening: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            connections: Mutex::new(HashMap::new()),
            connections_made: AtomicU64::new(0),
        });
        *lock(&state.listening) = Some(connection::listen(&state, listener));
        Self { state }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.state.address.to_string()
    }

    /// A URL with this server alone to begin with; a client finds the other members of its set.
    pub fn url(&self) -> String {
        format!("mongodb://{}/", self.address())
    }

    /// From now on it is somebody else, which clients learn when they ask next. Open connections
    /// stay: [`Scripted::drop_connections`].
    pub fn set_persona(&self, persona: Persona) {
        self.state.board().persona = persona;
    }

    /// Who it is now.
    pub fn persona(&self) -> Persona {
        self.state.board().persona.clone()
    }

    /// The `operationTime` and `$clusterTime` of replies from now on.
    pub fn set_cluster_time(&self, time: Timestamp) {
        self.state.board().cluster_time = time;
    }

    /// What a script sets this server's cluster time with, after the server has got its script.
    pub fn clock(&self) -> Clock {
        Clock(Arc::downgrade(&self.state))
    }

    /// Every command so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Command> {
        self.state.board().seen.clone()
    }

    /// The commands of one name so far.
    pub fn seen_named(&self, name: &str) -> Vec<Command> {
        self.state.board().seen.iter().filter(|command| command.name == name).cloned().collect()
    }

    /// Closes every open connection; new ones are taken.
    pub fn drop_connections(&self) {
        self.state.drop_connections();
    }

    /// Goes down: no connections, and none are taken. Returns when that is so.
    pub fn shut_down(&self) {
        self.state.close();
    }

    /// Listens on its port again.
    ///
    /// # Panics
    /// When it was not down, or somebody has taken the port.
    pub fn reopen(&self) {
        // Whoever closes it holds this until it is closed.
        let mut listening = lock(&self.state.listening);
        assert!(self.state.is_closed.swap(false, Ordering::SeqCst), "the server is not down");
        let listener = TcpListener::bind(self.state.address).expect("because the port was free");
        *listening = Some(connection::listen(&self.state, listener));
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.state.close();
        let panic = self.state.board().panic.take();
        if let Some(panic) = panic.filter(|_| !std::thread::panicking()) {
            panic!("the script panicked: {panic}");
        }
    }
}

/// Sets a server's cluster time from within its script.
#[derive(Clone, Debug)]
pub struct Clock(Weak<State>);

impl Clock {
    /// As [`Scripted::set_cluster_time`]; nothing once the server is gone.
    pub fn set(&self, time: Timestamp) {
        if let Some(state) = self.0.upgrade() {
            state.board().cluster_time = time;
        }
    }
}

/// Makes `members` one replica set, whose primary since election number `term` is
/// `members[primary]`. Clients believe the highest term that they have seen.
pub fn elect(version: Version, members: &[&Scripted], primary: usize, term: u32) {
    let hosts: Vec<String> = members.iter().map(|member| member.address()).collect();
    // First those that follow: never are there two primaries.
    let order = (0..members.len()).filter(|at| *at != primary).chain([primary]);
    for at in order {
        let persona = if at == primary { Persona::primary(version) } else { Persona::secondary(version) };
        let persona = persona.with_hosts(hosts.clone());
        members[at].set_persona(Persona { primary: Some(hosts[primary].clone()), term, ..persona });
    }
}

impl State {
    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    fn drop_connections(&self) {
        for (_, stream) in lock(&self.connections).drain() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn close(&self) {
        let mut listening = lock(&self.listening);
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        // The listening thread wakes up for a connection only.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = listening.take() {
            thread.join().expect("because listening does not panic");
        }
        self.drop_connections();
    }
}

/// A thread that panicked has left nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
