//! What the driver's and the server's errors mean to the caller.
//!
//! The driver's own errors are not passed on as sources: their texts repeat whole replies.

use mongodb::error::{Error as DriverError, ErrorKind};

use super::proxy;
use crate::error::{Error, Kind};

/// Codes of the server that are decided upon here.
pub(super) mod code {
    pub const UNAUTHORIZED: i32 = 13;
    pub const AUTHENTICATION_FAILED: i32 = 18;
    pub const NAMESPACE_NOT_FOUND: i32 = 26;
    pub const NOT_A_REPLICA_SET: i32 = 123;
    pub const SNAPSHOT_TOO_OLD: i32 = 239;
    pub const SNAPSHOT_UNAVAILABLE: i32 = 246;
    pub const CHANGE_STREAM_FATAL: i32 = 280;
    pub const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
    /// The cursor's place in the oplog is gone.
    pub const CAPPED_POSITION_LOST: i32 = 136;
}

/// A read that ended with one of these may go on elsewhere, or a moment later: cursors and nodes
/// that went away, and time limits that a server imposes on one cursor.
const PASSING: [i32; 22] = [
    6, 7, 43, 50, 63, 89, 91, 133, 134, 150, 175, 189, 234, 237, 262, 317, 9001, 10107, 11600, 11602, 13435,
    13436,
];

/// A transaction that ended with one of these may succeed when it is begun anew.
const TRANSACTION_LOST: [i32; 8] = [24, 112, 225, 239, 244, 246, 251, 290];

/// The server's code; none for errors of the connection.
pub(super) fn code_of(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(answer) => Some(answer.code),
        _ => None,
    }
}

/// Whether the connection failed, not the command.
pub(super) fn is_network(error: &DriverError) -> bool {
    matches!(
        error.kind.as_ref(),
        ErrorKind::Io(_)
            | ErrorKind::ProxyConnect { .. }
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::ServerSelection { .. }
    )
}

/// Whether the same read may succeed on a new cursor.
pub(super) fn is_passing(error: &DriverError) -> bool {
    is_network(error) || code_of(error).is_some_and(|code| PASSING.contains(&code))
}

/// Whether the server's history does not reach back to the snapshot's time, or not any more.
pub(super) fn is_history_lost(error: &DriverError) -> bool {
    matches!(code_of(error), Some(code::SNAPSHOT_TOO_OLD | code::SNAPSHOT_UNAVAILABLE))
}

/// Whether the transaction is gone and another one may succeed.
pub(super) fn is_transaction_lost(error: &DriverError) -> bool {
    error.contains_label("TransientTransactionError")
        || is_passing(error)
        || code_of(error).is_some_and(|code| TRANSACTION_LOST.contains(&code))
}

/// Whether the change stream cannot be continued where it ended.
pub(super) fn is_stream_lost(error: &DriverError) -> bool {
    matches!(
        code_of(error),
        Some(code::CHANGE_STREAM_FATAL | code::CHANGE_STREAM_HISTORY_LOST | code::CAPPED_POSITION_LOST)
    )
}

/// What a command that failed while `doing` something is to the caller.
pub(crate) fn statement(doing: &str, error: &DriverError) -> Error {
    if let Some(own) = error.get_custom::<Error>() {
        return Error::new(own.kind(), format!("{doing}: {}", own.message()));
    }
    match error.kind.as_ref() {
        ErrorKind::Command(answer) => answered(doing, answer.code, &answer.code_name, &answer.message),
        ErrorKind::Authentication { message, .. } => {
            Error::new(Kind::Denied, format!("the server refused the credentials: {}", shortened(message)))
                .with_help(CREDENTIALS_HELP)
        }
        ErrorKind::Io(io) => {
            Error::new(Kind::Unreachable, format!("{doing}: the connection was lost ({})", io.kind()))
                .with_help("Try again when the server and the network are well.")
        }
        ErrorKind::ConnectionPoolCleared { .. } => {
            Error::new(Kind::Unreachable, format!("{doing}: the connection was lost"))
                .with_help("Try again when the server and the network are well.")
        }
        ErrorKind::ProxyConnect { message, .. } if is_not_allowed(message) => not_allowed(doing),
        ErrorKind::ProxyConnect { message, .. } => {
            Error::new(Kind::Unreachable, format!("{doing}: no connection: {}", shortened(message)))
                .with_help("Try again when the server and the network are well.")
        }
        ErrorKind::ServerSelection { message, .. } => selection(doing, message),
        ErrorKind::DnsResolve { message, .. } => {
            Error::new(Kind::Unreachable, format!("the host name cannot be resolved: {}", shortened(message)))
                .with_help("Check the host name. A mongodb+srv:// name needs SRV records.")
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            Error::new(Kind::Invalid, format!("the TLS settings are not usable: {}", shortened(message)))
        }
        ErrorKind::IncompatibleServer { message, .. } => {
            Error::new(Kind::Unsupported, format!("{doing}: {}", shortened(message)))
        }
        _ => Error::new(Kind::Internal, format!("{doing}: {}", connection(error))),
    }
}

/// What became of the connection, for errors that no answer of the server is. The driver's own words for
/// them are made for its developers.
pub(crate) fn connection(error: &DriverError) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(answer) => shortened(&answer.message),
        ErrorKind::Io(io) => format!("the connection was lost ({})", io.kind()),
        ErrorKind::ConnectionPoolCleared { .. } => "the connection was lost".to_owned(),
        ErrorKind::ProxyConnect { message, .. } => format!("no connection: {}", cause(message)),
        ErrorKind::ServerSelection { message, .. } => format!("no usable server answers: {}", cause(message)),
        ErrorKind::Authentication { message, .. } => {
            format!("the server refused the credentials: {}", shortened(message))
        }
        ErrorKind::DnsResolve { message, .. } => {
            format!("the host name cannot be resolved: {}", shortened(message))
        }
        // Without the labels and the reply that the error itself would add.
        other => cause(&other.to_string()),
    }
}

const CREDENTIALS_HELP: &str = "Check user, password and authSource, the database the user is defined in \
     (most often authSource=admin). Special characters in a URL are percent-encoded: @ is %40, / is %2F.";

fn answered(doing: &str, answer: i32, name: &str, message: &str) -> Error {
    let told = format!("{doing}: {} ({name}, code {answer})", shortened(message));
    match answer {
        // The message repeats the command, with values of documents in it.
        code::UNAUTHORIZED => Error::new(Kind::Denied, format!("{doing}: the user has no privilege for it"))
            .with_help("Grant the role read on the database, or readAnyDatabase on admin."),
        code::AUTHENTICATION_FAILED => {
            Error::new(Kind::Denied, "the server refused the user's password".to_owned())
                .with_help(CREDENTIALS_HELP)
        }
        code::SNAPSHOT_TOO_OLD | code::SNAPSHOT_UNAVAILABLE => Error::new(Kind::SourceChanged, told)
            .with_help("The server keeps too little history for reading at one time."),
        code::CHANGE_STREAM_FATAL | code::CHANGE_STREAM_HISTORY_LOST | code::CAPPED_POSITION_LOST => {
            history_lost(doing)
        }
        code::NAMESPACE_NOT_FOUND => Error::new(Kind::SourceChanged, told)
            .with_help("A collection was dropped or renamed meanwhile. Take a new snapshot."),
        code::NOT_A_REPLICA_SET => Error::new(Kind::Unsupported, told).with_help(super::STANDALONE_HELP),
        other if PASSING.contains(&other) => Error::new(Kind::SourceChanged, told)
            .with_help("Take a new snapshot. A failover or an administrator may have ended the read."),
        other if TRANSACTION_LOST.contains(&other) => Error::new(Kind::SourceChanged, told)
            .with_help("The server ended the transaction. Take a new snapshot when it is less busy."),
        _ => Error::new(Kind::Internal, told),
    }
}

/// The changes since the snapshot began are not all known.
pub(super) fn history_lost(doing: &str) -> Error {
    Error::new(Kind::SourceChanged, format!("{doing}: the server's oplog no longer reaches back far enough"))
        .with_help("Give the oplog more room (replSetResizeOplog), or take the snapshot when there are fewer writes.")
}

/// What can be wrong with a server's certificate, by words of the TLS library's: why, and what to do.
const CERTIFICATES: [(&[&str], &str, &str); 4] = [
    (
        &["causedasendentity"],
        "its certificate is an authority's own (CA:TRUE)",
        "Give the server a certificate that an authority signed for it (CA:FALSE), and name the authority's file in \
         tlsCAFile. openssl x509 -in server.pem -noout -text shows what a certificate is.",
    ),
    (
        &["notvalidforname", "not valid for name"],
        "its certificate is for another name than the URL's (NotValidForName)",
        "Write the host as the certificate names it: openssl x509 -in server.pem -noout -ext subjectAltName shows the \
         names. A certificate whose only name is in its subject (CN) counts for none.",
    ),
    (
        &["unknownissuer"],
        "its certificate is signed by an authority that is not known here (UnknownIssuer)",
        "Name the file with the authority's certificate in tlsCAFile; it is read where DBSnap runs.",
    ),
    (
        &["certificate: expired", "certificate expired"],
        "its certificate has expired",
        "Renew the server's certificate, and check both clocks.",
    ),
];

fn selection(doing: &str, message: &str) -> Error {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["authentication", "scram", "sasl"]) {
        return Error::new(Kind::Denied, "the server refused the credentials".to_owned())
            .with_help(CREDENTIALS_HELP);
    }
    if let Some((why, help)) =
        CERTIFICATES.iter().find_map(|(words, why, help)| has(words).then_some((why, help)))
    {
        return Error::new(Kind::Unreachable, format!("{doing}: no TLS with the server: {why}"))
            .with_help(*help);
    }
    if has(&["certificate", "tls", "handshake", "corrupt message"]) {
        return Error::new(Kind::Unreachable, format!("{doing}: no TLS with the server: {}", cause(message)))
            .with_help(
                "Say tls=true where the server asks for TLS and tls=false where it has none. A certificate of a \
                 private authority is checked against the file that tlsCAFile names.",
            );
    }
    if has(&["suitable for criteria readpreference(primary)"]) {
        return Error::new(Kind::Unreachable, format!("{doing}: the replica set has no primary at present"))
            .with_help(
                "Try again when it has elected one. rs.status() in mongosh says what its members see.",
            );
    }
    if has(&["suitable for criteria"]) {
        let message =
            format!("{doing}: no member of the replica set is what the URL's readPreference asks for");
        return Error::new(Kind::Unreachable, message)
            .with_help("Leave readPreference out of the URL, or write secondaryPreferred.");
    }
    if is_not_allowed(message) {
        return not_allowed(doing);
    }
    Error::new(Kind::Unreachable, format!("{doing}: no usable server answers: {}", cause(message))).with_help(
        "Check hosts, ports and firewalls (on Atlas, the IP access list). If the members of the replica set are \
         known to each other by names that do not resolve here, add directConnection=true to the URL.",
    )
}

const NOT_CONNECTED_TO: &str = "a server of the deployment is at an address that is not connected to";

/// Whether a server is where nothing may be connected to, by the words above.
pub(super) fn failed_at_address(error: &Error) -> bool {
    error.message().contains(NOT_CONNECTED_TO)
}

fn is_not_allowed(message: &str) -> bool {
    message.to_ascii_lowercase().contains(proxy::NOT_ALLOWED_IN_WORDS)
}

/// A server is where nothing may be connected to. Names are not told: the server made them up.
fn not_allowed(doing: &str) -> Error {
    let message = format!("{doing}: {NOT_CONNECTED_TO}");
    Error::new(Kind::Invalid, message).with_help(
        "Link-local and metadata addresses never are, and private ones only where the operator of this server \
         allows them. A set's members name each other (rs.conf()): those names must lead to the databases.",
    )
}

/// The innermost reason of a server selection that failed.
fn cause(message: &str) -> String {
    if message.contains("No available servers. Topology:") && !message.contains("Error: Kind: ") {
        return "none answered in time".to_owned();
    }
    let reason = message.rsplit_once("Error: Kind: ").map_or(message, |(_, reason)| reason);
    let reason = reason.split(", labels:").next().unwrap_or(reason);
    let reason = reason.strip_prefix("An error occurred when connecting to a proxy host: ").unwrap_or(reason);
    shortened(reason)
}

/// Whether the TLS handshake failed, by the words of the driver.
pub(super) fn failed_at_tls(error: &Error) -> bool {
    error.message().contains("no TLS with") || error.message().contains("TLS settings")
}

fn shortened(message: &str) -> String {
    const SHOWN: usize = 300;
    match message.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_told_without_the_words_of_the_driver() {
        let lost = DriverError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert!(lost.to_string().contains("labels:"), "{lost}");
        let told = connection(&lost);
        assert_eq!(told, "the connection was lost (unexpected end of file)");
        let other = DriverError::custom("why");
        assert!(!connection(&other).contains("labels:"), "{}", connection(&other));
    }

    #[test]
    fn an_authority_s_own_certificate_is_told_apart_from_one_that_is_not_trusted() {
        let told = |cause: &str| {
            let words = format!(
                "Server selection timeout: No available servers. Error: Kind: I/O error: invalid peer certificate: {cause}, labels: {{}}"
            );
            selection("connecting", &words)
        };
        let own = told("Other(OtherError(CaUsedAsEndEntity))");
        assert!(failed_at_tls(&own) && own.message().contains("authority's own"), "{own:?}");
        assert!(own.help().unwrap().contains("CA:FALSE"));
        let unknown = told("UnknownIssuer");
        assert!(failed_at_tls(&unknown) && unknown.message().contains("UnknownIssuer"), "{unknown:?}");
        assert!(unknown.help().unwrap().contains("tlsCAFile"));
        let expired = told(
            "certificate expired: verification time 1795939575 (UNIX), but the certificate is not valid after 1",
        );
        assert!(expired.help().unwrap().contains("Renew"), "{expired:?}");
        let other_name =
            told("certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")");
        assert!(other_name.help().unwrap().contains("subjectAltName"), "{other_name:?}");
    }

    #[test]
    fn a_server_that_is_silent_is_told_without_the_topology() {
        let message = "Server selection timeout: No available servers. Topology: { Type: Single, Servers: [ { Address: a:1 } ] }";
        let error = selection("connecting", message);
        assert_eq!(error.message(), "connecting: no usable server answers: none answered in time");
    }
}
