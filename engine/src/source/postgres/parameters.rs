//! Parameters of connection URLs that have no effect here: libpq's, and those that drivers and ORMs
//! write for themselves.

use crate::error::{Error, Kind, Result};

/// Those that have an effect.
const USED: &str = "host, port, user, password, dbname, sslmode, ssl, sslrootcert=system, channel_binding, \
                    connect_timeout, application_name, options";

/// Known and without effect, in small letters; `-` and `_` count for nothing, as drivers differ in them.
const WITHOUT_EFFECT: &[&str] = &[
    // libpq
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "replication",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    // The server's settings, which pgx and others take from the URL.
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "timezone",
    // Prisma
    "connection_limit",
    "pgbouncer",
    "pool_timeout",
    "schema",
    "socket_timeout",
    "statement_cache_size",
    // node-postgres, Sequelize, Knex, TypeORM
    "connection_timeout_millis",
    "encoding",
    "idle_timeout_millis",
    "keep_alive",
    "logging",
    "max",
    "min",
    "query_timeout",
    "uselibpqcompat",
    // JDBC
    "adaptive_fetch",
    "assume_min_server_version",
    "autosave",
    "binary_transfer",
    "cancel_signal_timeout",
    "connect_timeout",
    "current_schema",
    "default_row_fetch_size",
    "disable_column_sanitiser",
    "hide_unprivileged_objects",
    "host_recheck_seconds",
    "log_server_error_detail",
    "log_unclosed_connections",
    "login_timeout",
    "prefer_query_mode",
    "prepare_threshold",
    "prepared_statement_cache_queries",
    "prepared_statement_cache_size_mib",
    "protocol_version",
    "read_only",
    "read_only_mode",
    "receive_buffer_size",
    "rewrite_batched_inserts",
    "send_buffer_size",
    "string_type",
    "target_server_type",
    "tcp_keep_alive",
    "tcp_no_delay",
    "unknown_length",
    // Rails, Django, Doctrine, Ecto
    "adapter",
    "advisory_locks",
    "charset",
    "checkout_timeout",
    "conn_health_checks",
    "conn_max_age",
    "min_messages",
    "pool",
    "pool_size",
    "prepared_statements",
    "reaping_frequency",
    "reconnect",
    "schema_search_path",
    "server_version",
    "statement_limit",
    "timeout",
    // pgx, lib/pq, sqlx, tokio-postgres
    "binary_parameters",
    "default_query_exec_mode",
    "description_cache_capacity",
    "disable_prepared_binary_result",
    "keepalives_retries",
    "pool_health_check_period",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conns",
    "pool_min_conns",
    "pool_min_idle_conns",
    "statement_cache_capacity",
    "statement_cache_mode",
    // asyncpg, SQLAlchemy
    "async_fallback",
    "command_timeout",
    "max_cached_statement_lifetime",
    "max_overflow",
    "pool_pre_ping",
    "pool_recycle",
    "prepared_statement_cache_size",
    // Hosts of databases
    "cluster",
    "endpoint",
    "supa",
    "workaround",
];

/// Whether a parameter may be left out of account: nothing that it asks for is less strict here.
///
/// # Errors
/// [`Kind::Invalid`] for one that asks for what is not done here.
pub(super) fn has_no_effect(name: &str, value: &str) -> Result<bool> {
    let demand = match name {
        "require_auth" if !value.is_empty() => "channel_binding=require asks for SCRAM over TLS",
        "gssencmode" if value == "require" => "Encryption is TLS here: sslmode=require asks for it",
        "sslcertmode" if value == "require" => "Certificates of clients are not used",
        "sslnegotiation" if value == "direct" => {
            "TLS is agreed on with the server first, as all versions know it"
        }
        "ssl_min_protocol_version" if !matches!(value, "" | "TLSv1" | "TLSv1.1" | "TLSv1.2") => {
            "TLS 1.2 is the oldest that is used, and the newest that both sides know is taken"
        }
        "require_auth"
        | "gssencmode"
        | "sslcertmode"
        | "sslnegotiation"
        | "ssl_min_protocol_version"
        | "ssl_max_protocol_version" => return Ok(true),
        _ => {
            let name = folded(name);
            return Ok(WITHOUT_EFFECT.iter().any(|known| folded(known) == name));
        }
    };
    let message = format!("the parameter {name} with this value is not accepted: it cannot be met");
    Err(Error::new(Kind::Invalid, message).with_help(format!("Remove it. {demand}.")))
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// That a parameter is not known. `name` only where it can be no piece of a password.
pub(super) fn unknown(name: Option<&str>) -> Error {
    let (which, why) = match name {
        Some(name) => (format!("the parameter \"{name}\""), ""),
        None => {
            ("a parameter of the URL".to_owned(), "A ?, & or @ in the password is written %3F, %26 or %40. ")
        }
    };
    Error::new(Kind::Invalid, format!("{which} is not known")).with_help(format!(
        "{why}These have an effect: {USED}. What else libpq and common drivers know may stay, and has none."
    ))
}
