//! What a server is, and the settings that make every session print the same bytes.

use std::time::Duration;

use super::fault;
use super::session::Session;
use crate::error::{Error, Kind, Result};

/// Older servers print floats another way and lack parts of the catalog that are read here.
const OLDEST: u32 = 120_000;

/// Pinned in every transaction: what a value's text depends on, what could end a snapshot early,
/// and what a hostile default could turn against its reader. `LOCAL`, so that a pooler that gives
/// each transaction another server session makes no difference.
const PINNED: &[(&str, &str)] = &[
    ("search_path", "''"),
    ("datestyle", "'ISO, MDY'"),
    ("intervalstyle", "'postgres'"),
    ("timezone", "'UTC'"),
    ("extra_float_digits", "3"),
    ("bytea_output", "'hex'"),
    ("lc_monetary", "'C'"),
    ("lc_numeric", "'C'"),
    ("lc_time", "'C'"),
    ("xmlbinary", "'base64'"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("row_security", "off"),
    ("synchronize_seqscans", "off"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Pinned where the server knows them.
const PINNED_IF_KNOWN: &[(&str, &str)] = &[
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("restrict_nonsystem_relation_kind", "'view, foreign-table'"),
];

/// What a server says of itself before anything is read from it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) version: String,
    pub(crate) version_number: u32,
    pub(crate) encoding: String,
    pub(crate) is_standby: bool,
    known: Vec<String>,
}

impl Server {
    pub(crate) async fn read(session: &Session) -> Result<Self> {
        let names: Vec<_> = PINNED_IF_KNOWN.iter().map(|(name, _)| format!("'{name}'")).collect();
        let sql = format!(
            "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num'), \
             pg_catalog.current_setting('server_encoding'), pg_catalog.pg_is_in_recovery()::pg_catalog.text, \
             (SELECT pg_catalog.string_agg(name, ' ') FROM pg_catalog.pg_settings WHERE name IN ({}))",
            names.join(", ")
        );
        let rows = session
            .rows(&sql)
            .await
            .map_err(|error| fault::statement("asking for the server's version", error))?;
        let row =
            rows.first().ok_or_else(|| Error::new(Kind::Internal, "the server does not say its version"))?;
        let server = Self {
            // Packagers add their own version: "15.18 (Debian 15.18-0+deb12u1)".
            version: row.text(0).split_whitespace().next().unwrap_or_default().to_owned(),
            version_number: row.number(1),
            encoding: row.text(2),
            is_standby: row.flag(3),
            known: row.text(4).split(' ').map(str::to_owned).collect(),
        };
        if server.version_number < OLDEST {
            let message = format!("PostgreSQL {} is not supported", server.version);
            return Err(Error::new(Kind::Unsupported, message).with_help("Version 12 is the oldest that is."));
        }
        Ok(server)
    }

    /// Whether text arrives as the database holds it, not converted to UTF-8.
    pub(super) fn is_sql_ascii(&self) -> bool {
        self.encoding == "SQL_ASCII"
    }

    /// The statements that pin a transaction's settings. They take no snapshot.
    pub(crate) fn pins(&self, lock_timeout: Duration) -> String {
        let encoding = if self.is_sql_ascii() { "SQL_ASCII" } else { "UTF8" };
        let mut sql = format!(
            "SET LOCAL client_encoding = '{encoding}'; SET LOCAL lock_timeout = {};",
            lock_timeout.as_millis()
        );
        let known = PINNED_IF_KNOWN.iter().filter(|(name, _)| self.known.iter().any(|known| known == name));
        for (name, value) in PINNED.iter().chain(known) {
            sql.push_str(&format!("SET LOCAL {name} = {value};"));
        }
        sql
    }
}
