//! Connecting, and the users to connect as.

use std::future::Future;
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;

use super::install::REPLICA_SET;
use super::{ADMIN, Flavour, Server};

/// A loopback server answers at once or not at all.
const SELECTION_LIMIT: Duration = Duration::from_secs(10);
const ELECTION_LIMIT: Duration = Duration::from_secs(60);

/// What a user may read.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// One database: the role `read`.
    Database(&'a str),
    /// All: the role `readAnyDatabase`.
    All,
}

impl Server {
    /// A client with every right. It belongs to the runtime that calls, so every call connects anew.
    pub async fn client(&self) -> Client {
        connect(&self.admin_url()).await
    }

    /// Runs a command as [`ADMIN`] and gives the reply.
    ///
    /// # Panics
    /// When it fails.
    pub async fn command(&self, database: &str, command: Document) -> Document {
        run(&self.client().await, database, command).await
    }

    /// Creates a user that reads and does nothing else, and gives its URL, which names the
    /// scope's database (`admin` for all).
    pub async fn create_read_only_user(&self, scope: Scope<'_>, name: &str) -> String {
        let (role, database) = match scope {
            Scope::Database(database) => (doc! { "role": "read", "db": database }, database),
            Scope::All => (doc! { "role": "readAnyDatabase", "db": "admin" }, "admin"),
        };
        self.create_user(name, vec![role.into()], database).await
    }

    /// Creates a user with `roles`, as `createUser` takes them, and gives its URL for `database`.
    /// Where authentication is off the user can authenticate, and need not.
    ///
    /// # Panics
    /// When there is a user of that name.
    pub async fn create_user(&self, name: &str, roles: Vec<Bson>, database: &str) -> String {
        let password = format!("{name}-password");
        self.command("admin", doc! { "createUser": name, "pwd": &password, "roles": roles }).await;
        self.url(name, &password, database)
    }

    /// Makes a started server what the options say. It has no users yet, so that everybody on this
    /// machine may set it up.
    pub(super) fn prepare(&self) {
        if self.flavour() == Flavour::Mongod && !self.options.standalone {
            let member = format!("127.0.0.1:{}", self.port());
            let set = doc! { "_id": REPLICA_SET, "members": [{ "_id": 0, "host": member }] };
            self.set_up(async |client| drop(run(&client, "admin", doc! { "replSetInitiate": set }).await));
        }
        self.await_primary();
        if self.options.auth {
            let admin = doc! { "createUser": ADMIN, "pwd": &self.password, "roles": ["root"] };
            self.set_up(async |client| drop(run(&client, "admin", admin).await));
        }
    }

    /// Waits until the server takes writes.
    pub(super) fn await_primary(&self) {
        self.set_up(async |client| {
            let deadline = Instant::now() + ELECTION_LIMIT;
            while !run(&client, "admin", doc! { "hello": 1 })
                .await
                .get_bool("isWritablePrimary")
                .unwrap_or(false)
            {
                assert!(Instant::now() < deadline, "no primary:\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }

    /// Runs `work` with a client that has not logged in, on a thread of its own: the caller's may
    /// have a runtime, and then cannot wait in another.
    fn set_up<F: Future<Output = ()>>(&self, work: impl FnOnce(Client) -> F + Send) {
        let url = self.anonymous_url("admin");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("because threads can be had").block_on(async {
                    let mut options = options(&url).await;
                    // A member that has not joined its set yet is found only this way.
                    options.direct_connection = Some(true);
                    work(Client::with_options(options).expect("because the options were parsed")).await;
                });
            });
        });
    }
}

async fn options(url: &str) -> ClientOptions {
    let mut options = ClientOptions::parse(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    options.server_selection_timeout = Some(SELECTION_LIMIT);
    options
}

async fn connect(url: &str) -> Client {
    Client::with_options(options(url).await).expect("because the options were parsed")
}

async fn run(client: &Client, database: &str, command: Document) -> Document {
    let name = command.keys().next().cloned().unwrap_or_default();
    client
        .database(database)
        .run_command(command)
        .await
        .unwrap_or_else(|error| panic!("{name} in {database}: {error}"))
}
