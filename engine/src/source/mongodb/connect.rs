//! Connecting, and what kind of deployment answers.

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::{ReadPreference, SelectionCriteria};

use super::{MongoUrl, fault};
use crate::error::{Error, Kind, Result};

/// The oldest server that snapshots are taken of.
const OLDEST: (u32, u32) = (5, 0);

/// What answers behind a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server without replication: no snapshots, no change streams.
    Standalone,
    /// Members with one oplog; one member is enough.
    ReplicaSet,
    /// A router in front of shards.
    Sharded,
}

/// A connected deployment.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    pub client: Client,
    pub topology: Topology,
    /// As the server prints it ("8.0.4").
    pub version: String,
    pub replica_set: Option<String>,
    /// Whether the member that answered is a secondary.
    pub secondary: bool,
    /// That member, in words.
    member: String,
    /// Where the URL wants reads to go.
    pub preference: Option<SelectionCriteria>,
}

/// A client for the URL. Connects nowhere yet.
pub(crate) async fn client(url: &MongoUrl) -> Result<Client> {
    let options = url.client_options().await?;
    url.client_with(options).map_err(|error| fault::statement("preparing the connection", &error))
}

/// A member as it describes itself: address, and whether it is hidden or follows behind on purpose.
fn member(hello: &Document) -> String {
    let address = hello.get_str("me").unwrap_or("a member without a name").to_owned();
    let number = |name: &str| match hello.get(name) {
        Some(bson::Bson::Int32(number)) => i64::from(*number),
        Some(bson::Bson::Int64(number)) => *number,
        _ => 0,
    };
    let mut traits = Vec::new();
    if hello.get_bool("hidden").unwrap_or(false) {
        traits.push("hidden".to_owned());
    }
    match number("secondaryDelaySecs") {
        0 => {}
        seconds => traits.push(format!("{seconds} seconds behind")),
    }
    if traits.is_empty() { address } else { format!("{address} ({})", traits.join(", ")) }
}

impl Deployment {
    /// Connects and asks who is there.
    pub async fn connect(url: &MongoUrl) -> Result<Self> {
        Self::inspect(client(url).await?).await
    }

    pub async fn inspect(client: Client) -> Result<Self> {
        let admin = client.database("admin");
        let ask = |command: Document| {
            let asked = admin.run_command(command);
            let asked = match client.selection_criteria() {
                Some(criteria) => asked.selection_criteria(criteria.clone()),
                None => asked.selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary)),
            };
            async move { asked.await.map_err(|error| fault::statement("connecting", &error)) }
        };
        let hello = ask(doc! { "hello": 1 }).await?;
        let build = ask(doc! { "buildInfo": 1 }).await?;
        let version = build.get_str("version").unwrap_or_default().to_owned();
        let replica_set = hello.get_str("setName").ok().map(str::to_owned);
        let topology = match (&replica_set, hello.get_str("msg")) {
            (_, Ok("isdbgrid")) => Topology::Sharded,
            (Some(_), _) => Topology::ReplicaSet,
            (None, _) => Topology::Standalone,
        };
        let secondary = hello.get_bool("secondary").unwrap_or(false);
        let preference = client.selection_criteria().cloned();
        let member = member(&hello);
        Ok(Self { topology, version, replica_set, secondary, member, preference, client })
    }

    /// Who is read from, where that is not simply the primary; to be put after what was done.
    pub fn read_from(&self) -> String {
        match (self.secondary, self.reads_secondaries()) {
            (true, _) => format!("; read from secondaries, of which {} answered first", self.member),
            (false, true) => {
                format!(
                    "; read from whom the URL's read preference allows, of whom {} answered first",
                    self.member
                )
            }
            (false, false) => String::new(),
        }
    }

    /// Major and minor version.
    pub fn release(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Fails for servers that are too old.
    pub fn check_release(&self) -> Result<()> {
        if self.release() >= OLDEST {
            return Ok(());
        }
        let (major, minor) = OLDEST;
        let message = format!("MongoDB {} is older than {major}.{minor}", self.version);
        Err(Error::new(Kind::Unsupported, message).with_help("Upgrade the server."))
    }

    /// Whether reads may go to secondaries.
    pub fn reads_secondaries(&self) -> bool {
        let primary = |criteria: &SelectionCriteria| {
            matches!(criteria, SelectionCriteria::ReadPreference(ReadPreference::Primary))
        };
        self.secondary || self.preference.as_ref().is_some_and(|criteria| !primary(criteria))
    }

    /// Runs a command of our own making on a member that the URL's read preference allows.
    pub async fn try_run(&self, database: &str, command: Document) -> mongodb::error::Result<Document> {
        let database = self.client.database(database);
        match &self.preference {
            Some(criteria) => database.run_command(command).selection_criteria(criteria.clone()).await,
            None => database.run_command(command).await,
        }
    }
}
