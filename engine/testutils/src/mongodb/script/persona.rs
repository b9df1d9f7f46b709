//! Who a scripted server says it is.

use bson::oid::ObjectId;
use bson::{DateTime, Document, RawDocumentBuf, Timestamp, doc};

/// The name of every scripted replica set.
pub const SET_NAME: &str = "scripted";

/// A release of MongoDB. The wire versions are those of
/// <https://github.com/mongodb/specifications/blob/master/source/wireversion-featurelist/wireversion-featurelist.md>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `maxWireVersion`, from which clients tell what a server can do.
    pub wire: i32,
    /// `version` of `buildInfo`, three numbers.
    pub build: [i32; 3],
}

impl Version {
    /// The oldest that the driver connects to; it has no snapshot reads.
    pub const V4_4: Self = Self { wire: 9, build: [4, 4, 29] };
    /// MongoDB 5.0.
    pub const V5_0: Self = Self { wire: 13, build: [5, 0, 31] };
    /// MongoDB 6.0.
    pub const V6_0: Self = Self { wire: 17, build: [6, 0, 20] };
    /// MongoDB 7.0.
    pub const V7_0: Self = Self { wire: 21, build: [7, 0, 16] };
    /// MongoDB 8.0.
    pub const V8_0: Self = Self { wire: 25, build: [8, 0, 4] };
}

/// A server's place in its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A `mongod` on its own.
    Standalone,
    /// A router of a sharded cluster.
    Mongos,
    /// The member that takes writes.
    Primary,
    /// A member that follows the primary.
    Secondary,
}

/// What a scripted server answers when it is asked who it is.
#[derive(Clone, Debug)]
pub struct Persona {
    /// Its release.
    pub version: Version,
    /// Its place.
    pub role: Role,
    /// The addresses (`host:port`) of a set's members; empty for a set of this server alone.
    pub hosts: Vec<String>,
    /// The address of the primary as a secondary knows it.
    pub primary: Option<String>,
    /// The number of the election that made the primary. Clients believe the highest.
    pub term: u32,
    /// After how many minutes the server forgets an unused session; `None`: it has no sessions.
    pub session_timeout_minutes: Option<i32>,
    /// Further fields of the reply to `hello`; they replace those of the same name.
    pub extra: Document,
}

impl Persona {
    /// A `mongod` without a replica set. It has sessions (but no transactions), and no cluster time:
    /// <https://www.mongodb.com/docs/manual/reference/command/hello/#all-instances>.
    pub fn standalone(version: Version) -> Self {
        Self {
            version,
            role: Role::Standalone,
            hosts: Vec::new(),
            primary: None,
            term: 1,
            session_timeout_minutes: Some(30),
            extra: Document::new(),
        }
    }

    /// A router. It says `isdbgrid` and names no set:
    /// <https://www.mongodb.com/docs/manual/reference/command/hello/#sharded-instances>.
    pub fn mongos(version: Version) -> Self {
        Self { role: Role::Mongos, ..Self::standalone(version) }
    }

    /// The primary of a set:
    /// <https://www.mongodb.com/docs/manual/reference/command/hello/#replica-sets>, and for
    /// `electionId` and `setVersion`
    /// <https://github.com/mongodb/specifications/blob/master/source/server-discovery-and-monitoring/server-discovery-and-monitoring.md>.
    pub fn primary(version: Version) -> Self {
        Self { role: Role::Primary, ..Self::standalone(version) }
    }

    /// A member that follows (the same pages as for [`Persona::primary`]).
    pub fn secondary(version: Version) -> Self {
        Self { role: Role::Secondary, ..Self::standalone(version) }
    }

    /// With the members of its set.
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.hosts = hosts.into_iter().collect();
        self
    }

    /// Whether replies carry `operationTime` and `$clusterTime`: those of sets and routers do.
    /// <https://www.mongodb.com/docs/manual/reference/method/db.runCommand/#response>
    pub(super) fn has_cluster_time(&self) -> bool {
        self.role != Role::Standalone
    }

    fn is_in_set(&self) -> bool {
        matches!(self.role, Role::Primary | Role::Secondary)
    }

    /// The reply to `hello`, or to `isMaster`, which has another name for one field. No
    /// `topologyVersion`: with it clients expect replies that are held back until something changes.
    pub(super) fn hello(
        &self,
        asked: &RawDocumentBuf,
        own: &str,
        now: Timestamp,
        connection: u64,
    ) -> Document {
        let asked_as_hello = matches!(asked.iter().next(), Some(Ok((name, _))) if name.as_str() == "hello");
        let mut reply = Document::new();
        if asked.get_bool("helloOk").unwrap_or(false) {
            reply.insert("helloOk", true);
        }
        if self.is_in_set() {
            reply.extend(self.set_fields(own, now));
        }
        let is_writable = self.role != Role::Secondary;
        reply.insert(if asked_as_hello { "isWritablePrimary" } else { "ismaster" }, is_writable);
        if self.role == Role::Mongos {
            reply.insert("msg", "isdbgrid");
        }
        reply.extend(doc! {
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": DateTime::now(),
            "connectionId": i32::try_from(connection).unwrap_or(i32::MAX),
            "minWireVersion": 0,
            "maxWireVersion": self.version.wire,
            "readOnly": false,
        });
        if let Some(minutes) = self.session_timeout_minutes {
            reply.insert("logicalSessionTimeoutMinutes", minutes);
        }
        reply.extend(self.extra.clone());
        reply
    }

    fn set_fields(&self, own: &str, now: Timestamp) -> Document {
        let hosts = if self.hosts.is_empty() { vec![own.to_owned()] } else { self.hosts.clone() };
        let is_primary = self.role == Role::Primary;
        let op_time = doc! { "ts": now, "t": i64::from(self.term) };
        let date = DateTime::from_millis(i64::from(now.time) * 1000);
        let mut fields = doc! {
            "hosts": hosts,
            "setName": SET_NAME,
            "setVersion": 1,
            "secondary": !is_primary,
            "me": own,
            "lastWrite": {
                "opTime": op_time.clone(),
                "lastWriteDate": date,
                "majorityOpTime": op_time,
                "majorityWriteDate": date,
            },
        };
        if is_primary {
            fields.insert("electionId", election_id(self.term));
        }
        if let Some(primary) = if is_primary { Some(own) } else { self.primary.as_deref() } {
            fields.insert("primary", primary);
        }
        fields
    }

    /// The reply to `buildInfo`:
    /// <https://www.mongodb.com/docs/manual/reference/command/buildInfo/>.
    pub(super) fn build_info(&self) -> Document {
        let [major, minor, patch] = self.version.build;
        doc! {
            "version": format!("{major}.{minor}.{patch}"),
            "gitVersion": "0000000000000000000000000000000000000000",
            "modules": [],
            "allocator": "tcmalloc",
            "javascriptEngine": "mozjs",
            "versionArray": [major, minor, patch, 0],
            "bits": 64,
            "debug": false,
            "maxBsonObjectSize": 16 << 20,
            "storageEngines": ["devnull", "wiredTiger"],
        }
    }
}

/// Grows with the term, as the election ids of servers do.
fn election_id(term: u32) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    bytes[8..].copy_from_slice(&term.to_be_bytes());
    ObjectId::from_bytes(bytes)
}
