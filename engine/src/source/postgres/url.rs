//! Connection URLs, as users paste them.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode as DriverSslMode};
use zeroize::Zeroizing;

use super::parameters;
use crate::error::{Error, Kind, Result};
use crate::source::AddressPolicy;
use crate::source::pasted::decode;

/// What is percent-encoded when a URL is written; the unreserved characters stay readable.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names that a connection string in libpq's other form may begin with.
const CONNINFO_NAMES: [&str; 7] = ["host", "hostaddr", "port", "dbname", "user", "password", "sslmode"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page waits for a connection test, so no URL may ask for more.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How much of TLS is asked for, as in libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it; no certificate is checked.
    Prefer,
    /// TLS or nothing; no certificate is checked.
    Require,
    /// The certificate must chain to a known authority.
    VerifyCa,
    /// The certificate must chain to a known authority and name the host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "disable" => Ok(Self::Disable),
            // What "allow" adds, trying without TLS first, has no use here.
            "prefer" | "allow" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            other => Err(invalid(format!("the sslmode \"{other}\" is not known"))
                .with_help("Use disable, prefer, require, verify-ca or verify-full.")),
        }
    }

    /// The word for it in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// A parsed `postgres://` or `postgresql://` URL. The password is zeroized when it is dropped and
/// is in neither [`Debug`](fmt::Debug) nor [`redacted`](Self::redacted).
#[derive(Clone)]
pub struct PostgresUrl {
    host: String,
    port: u16,
    user: String,
    password: Option<Zeroizing<String>>,
    database: String,
    ssl_mode: SslMode,
    application_name: String,
    options: Option<String>,
    channel_binding: ChannelBinding,
    connect_timeout: Duration,
    ignored: Vec<String>,
    unknown: Vec<String>,
    /// The user's name was taken for the database's, as libpq does.
    names_no_database: bool,
    address_policy: AddressPolicy,
}

impl PostgresUrl {
    /// Reads a URL as libpq does, for one host over TCP. Parameters that would read files of this
    /// machine are refused, and so are unknown ones; those that are known and have no effect here,
    /// which other drivers add, are kept in [`ignored_parameters`](Self::ignored_parameters). No error
    /// repeats a credential.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let rest = strip_scheme(text).ok_or_else(|| {
            invalid("the URL does not begin with postgres:// or postgresql://")
                .with_help("It has the form postgres://user:password@host:5432/database.")
        })?;
        let (authority, path, query) = split_parts(rest);
        if path.contains('@') {
            // The rest of a password, mostly, which is not to be looked up or told as a database's name.
            return Err(invalid("the URL has an @ behind its host").with_help(ENCODE));
        }
        let mut url = Self::empty();
        url.read_authority(authority)?;
        url.database = decode(path, "database name")?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "parameter")?;
            let value = Zeroizing::new(decode(value, "parameter")?);
            url.set_parameter(&name, &value)?;
        }
        // A password that was not encoded may have been cut into these pieces.
        url.refuse_unknown(!query.contains('@') && !query.contains("password="))?;
        url.complete()
    }

    /// Whether a text is in libpq's other form, `host=... dbname=...`.
    pub(crate) fn is_conninfo(text: &str) -> bool {
        let name = text.split_once('=').map(|(name, _)| name.trim());
        name.is_some_and(|name| CONNINFO_NAMES.contains(&name))
    }

    /// Reads libpq's other form: `host=db.example.com user=reader password='it\\'s' dbname=shop`. Values
    /// with spaces are in quotes, and a backslash keeps what follows it.
    pub(crate) fn parse_conninfo(text: &str) -> Result<Self> {
        let mut url = Self::empty();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, after) = rest
                .split_once('=')
                .ok_or_else(|| invalid("a name in the connection string has no = and value after it"))?;
            let (value, after) = conninfo_value(after.trim_start())?;
            url.set_parameter(name.trim(), &value)?;
            rest = after.trim_start();
        }
        url.refuse_unknown(url.password.is_none())?;
        url.complete()
    }

    fn empty() -> Self {
        Self {
            host: String::new(),
            port: 5432,
            user: String::new(),
            password: None,
            database: String::new(),
            ssl_mode: SslMode::Prefer,
            application_name: "dbsnap".to_owned(),
            options: None,
            channel_binding: ChannelBinding::Prefer,
            connect_timeout: CONNECT_TIMEOUT,
            ignored: Vec::new(),
            unknown: Vec::new(),
            names_no_database: false,
            address_policy: AddressPolicy::default(),
        }
    }

    fn read_authority(&mut self, authority: &str) -> Result<()> {
        let place = match authority.rsplit_once('@') {
            None => authority,
            Some((credentials, place)) => {
                let (user, password) = match credentials.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (credentials, None),
                };
                self.user = decode(user, "user name")?;
                self.password =
                    password.map(|text| decode(text, "password").map(Zeroizing::new)).transpose()?;
                place
            }
        };
        if place.contains(',') {
            return Err(several_hosts());
        }
        let (host, port) = split_port(place)?;
        self.host = decode(host, "host name")?;
        if let Some(port) = port {
            self.port = parse_port(port)?;
        }
        Ok(())
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "host" => self.host = value.to_owned(),
            "port" => self.port = parse_port(value)?,
            "user" => self.user = value.to_owned(),
            "password" => self.password = Some(Zeroizing::new(value.to_owned())),
            "dbname" => self.database = value.to_owned(),
            "sslmode" => self.ssl_mode = SslMode::parse(value)?,
            // Older drivers' spelling.
            "ssl" if matches!(value, "true" | "1") => self.ssl_mode = SslMode::Require,
            "ssl" if matches!(value, "false" | "0") => self.ssl_mode = SslMode::Disable,
            "application_name" => self.application_name = value.to_owned(),
            "options" => self.options = Some(value.to_owned()),
            "connect_timeout" => self.connect_timeout = parse_timeout(value)?,
            "channel_binding" => self.channel_binding = parse_channel_binding(value)?,
            "sslrootcert" if value == "system" => {}
            "sslrootcert" | "sslcert" | "sslkey" | "sslpassword" | "sslcrl" | "sslcrldir" | "passfile"
            | "service" | "servicefile" => {
                return Err(invalid(format!(
                    "the parameter {name} is not accepted: it would read files of the server"
                ))
                .with_help(
                    "Remove it. Certificates are checked against the authorities known to the machine \
                         DBSnap runs on.",
                ));
            }
            "hostaddr" => {
                let message =
                    "the parameter hostaddr is not accepted: the host's address is looked up and checked";
                return Err(
                    invalid(message).with_help("Remove it, or write the address in the host's place.")
                );
            }
            "requirepeer" => {
                return Err(invalid(
                    "the parameter requirepeer is not accepted: it is for sockets of this machine",
                )
                .with_help("Remove it."));
            }
            name if parameters::has_no_effect(name, value)? => self.ignored.push(name.to_owned()),
            // Ignoring a misspelt sslmode would silently weaken what was asked for.
            name if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ssl")) => {
                return Err(invalid(format!("the parameter \"{name}\" with this value is not known"))
                    .with_help("To ask for encryption write sslmode=require or sslmode=verify-full."));
            }
            _ => self.unknown.push(name.to_owned()),
        }
        Ok(())
    }

    fn refuse_unknown(&self, may_be_named: bool) -> Result<()> {
        match self.unknown.first() {
            Some(name) => Err(parameters::unknown(may_be_named.then_some(name))),
            None => Ok(()),
        }
    }

    fn complete(mut self) -> Result<Self> {
        if self.host.is_empty() || self.host.starts_with('/') || self.host.starts_with('@') {
            return Err(invalid("the URL names no host")
                .with_help("Sockets of this machine are not used: give a host."));
        }
        if self.host.contains(',') {
            return Err(several_hosts());
        }
        if self.user.is_empty() {
            return Err(invalid("the URL names no user")
                .with_help("It has the form postgres://user:password@host:5432/database."));
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
            self.names_no_database = true;
        }
        let parts = [&self.host, &self.user, &self.database, &self.application_name];
        let password_has_nul = self.password.as_ref().is_some_and(|password| password.contains('\0'));
        if password_has_nul || parts.iter().any(|part| part.contains('\0')) {
            return Err(invalid("the URL holds a NUL character"));
        }
        Ok(self)
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 5432 where none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database; the user's name where none was given.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether the URL left the database out.
    pub(super) fn names_no_database(&self) -> bool {
        self.names_no_database
    }

    /// How much of TLS is asked for.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// How long one attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Names of parameters that are known and have no effect.
    pub fn ignored_parameters(&self) -> &[String] {
        &self.ignored
    }

    /// What the host may lead to.
    pub(super) fn address_policy(&self) -> AddressPolicy {
        self.address_policy
    }

    /// The same URL, for addresses that the policy allows.
    #[must_use]
    pub fn within(self, address_policy: AddressPolicy) -> Self {
        Self { address_policy, ..self }
    }

    /// The same server and credentials, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), names_no_database: false, ..self.clone() }
    }

    /// The same, with other options in the startup packet.
    #[must_use]
    pub(super) fn with_options(&self, options: &str) -> Self {
        Self { options: Some(options.to_owned()), ..self.clone() }
    }

    /// The URL with the password replaced by `***`, for people.
    pub fn redacted(&self) -> String {
        self.text(self.password.as_ref().map(|_| "***")).to_string()
    }

    /// The whole URL, password included.
    pub fn expose(&self) -> Zeroizing<String> {
        let password = self.password.as_ref().map(|password| {
            let mut encoded = Zeroizing::new(String::with_capacity(3 * password.len()));
            utf8_percent_encode(password, RESERVED).for_each(|part| encoded.push_str(part));
            encoded
        });
        self.text(password.as_ref().map(|text| text.as_str()))
    }

    fn text(&self, password: Option<&str>) -> Zeroizing<String> {
        let encode = |part| utf8_percent_encode(part, RESERVED);
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { encode(&self.host).to_string() };
        let (user, database) = (encode(&self.user), encode(&self.database));
        let options =
            self.options.as_deref().map(|text| format!("&options={}", encode(text))).unwrap_or_default();
        let (port, mode) = (self.port, self.ssl_mode.as_str());
        let before = format!("postgres://{user}");
        let after = format!("@{host}:{port}/{database}?sslmode={mode}{options}");
        // With room for all of it: a text that grows leaves copies of the password behind.
        let len = before.len() + password.map_or(0, |password| password.len() + 1) + after.len();
        let mut text = Zeroizing::new(String::with_capacity(len));
        text.push_str(&before);
        if let Some(password) = password {
            text.push(':');
            text.push_str(password);
        }
        text.push_str(&after);
        text
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.as_str())
    }

    pub(crate) fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// What the driver is given. It keeps a copy of the password that it does not zeroize, so the
    /// value is to be dropped once connected.
    pub(super) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name(&self.application_name)
            .channel_binding(self.channel_binding)
            .ssl_mode(match self.ssl_mode {
                SslMode::Disable => DriverSslMode::Disable,
                SslMode::Prefer => DriverSslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
            });
        if let Some(password) = &self.password {
            config.password(password.as_bytes());
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.redacted())
    }
}

fn several_hosts() -> Error {
    invalid("the URL names several hosts").with_help(
        "Give the one to read from, as in postgres://user:password@host:5432/database. A standby will do.",
    )
}

/// A value and what follows it.
fn conninfo_value(text: &str) -> Result<(Zeroizing<String>, &str)> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = Zeroizing::new(String::new());
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, kept)| kept)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            c if quoted.is_none() && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted.is_some() {
        return Err(invalid("a quote in the connection string is not closed"));
    }
    Ok((value, ""))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("postgres") || scheme.eq_ignore_ascii_case("postgresql");
    known.then_some(rest)
}

const ENCODE: &str =
    "A /, ? or @ in the user's name, the password or the database's name is written %2F, %3F or %40.";

/// Authority, path and query. As in libpq a `?` before the `@` belongs to the credentials.
fn split_parts(rest: &str) -> (&str, &str, &str) {
    let slash = rest.find('/').unwrap_or(rest.len());
    let credentials = rest[..slash].find('@').map_or(0, |at| at + 1);
    let end = rest[credentials..].find(['/', '?']).map_or(rest.len(), |at| credentials + at);
    let (authority, tail) = rest.split_at(end);
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    (authority, path.strip_prefix('/').unwrap_or(path), query)
}

fn split_port(place: &str) -> Result<(&str, Option<&str>)> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) =
            bracketed.split_once(']').ok_or_else(|| invalid("the host's bracket is not closed"))?;
        let port = rest.strip_prefix(':').filter(|port| !port.is_empty());
        return if rest.is_empty() || rest.starts_with(':') {
            Ok((host, port))
        } else {
            Err(invalid("the host is malformed"))
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(invalid("the host is malformed")
            .with_help("Write an IPv6 address in brackets. A / in the password is written %2F.")),
        Some((host, port)) => Ok((host, (!port.is_empty()).then_some(port))),
        None => Ok((place, None)),
    }
}

fn parse_port(text: &str) -> Result<u16> {
    match text.parse() {
        Ok(0) | Err(_) => Err(invalid("the port is not a number from 1 to 65535").with_help(ENCODE)),
        Ok(port) => Ok(port),
    }
}

fn parse_timeout(text: &str) -> Result<Duration> {
    let seconds: u64 = text.parse().map_err(|_| invalid("connect_timeout is not a number of seconds"))?;
    // libpq reads 0 as "for ever"; a page cannot wait that long.
    let timeout = if seconds == 0 { CONNECT_TIMEOUT_MAX } else { Duration::from_secs(seconds) };
    Ok(timeout.min(CONNECT_TIMEOUT_MAX))
}

fn parse_channel_binding(text: &str) -> Result<ChannelBinding> {
    match text {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => Err(invalid("channel_binding is none of disable, prefer and require")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        let url = PostgresUrl::parse(
            "postgresql://ro%40x:p%40ss%2Fw%3F@db.example.com:6432/my%20db?sslmode=verify-full",
        )
        .unwrap();
        assert_eq!(
            (url.host(), url.port(), url.user(), url.database()),
            ("db.example.com", 6432, "ro@x", "my db")
        );
        assert_eq!(url.password(), Some("p@ss/w?"));
        assert_eq!(url.ssl_mode(), SslMode::VerifyFull);

        let url =
            PostgresUrl::parse("POSTGRES://me@[::1]?connect_timeout=3&pgbouncer=true&application_name=a@b")
                .unwrap();
        assert_eq!((url.host(), url.port(), url.database()), ("::1", 5432, "me"));
        assert_eq!(url.connect_timeout(), Duration::from_secs(3));
        assert_eq!(url.ignored_parameters(), ["pgbouncer"]);
        assert_eq!(
            url.with_database("other/one").redacted(),
            "postgres://me@[::1]:5432/other%2Fone?sslmode=prefer"
        );

        let url = PostgresUrl::parse("postgres://me:a?b:c@host/db").unwrap();
        assert_eq!((url.password(), url.host()), (Some("a?b:c"), "host"));
    }

    #[test]
    fn the_other_form_of_libpq_is_read() {
        let text =
            "host=db.example.com port = 6432 user=ro password='it\\'s a \\\\' dbname=shop sslmode=require";
        assert!(PostgresUrl::is_conninfo(text) && !PostgresUrl::is_conninfo("hunter2=x"));
        let url = PostgresUrl::parse_conninfo(text).unwrap();
        assert_eq!(
            (url.host(), url.port(), url.user(), url.database()),
            ("db.example.com", 6432, "ro", "shop")
        );
        assert_eq!((url.password(), url.ssl_mode()), (Some("it's a \\"), SslMode::Require));
        for wrong in ["host=h user=u password='open", "host=h user=u nothing"] {
            assert_eq!(PostgresUrl::parse_conninfo(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
    }

    #[test]
    fn a_written_url_reads_back() {
        let text = "postgres://us%2Fer:p%3Aw%40%25@host:1/d%3Fb?sslmode=require&options=-c%20x%3D1";
        let url = PostgresUrl::parse(text).unwrap();
        assert_eq!(url.expose().as_str(), text);
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = PostgresUrl::parse("postgres://me:hunter2@host/db").unwrap();
        for shown in [format!("{url:?}"), url.redacted()] {
            assert!(!shown.contains("hunter2") && shown.contains("me:***@host"), "{shown}");
        }
        for wrong in [
            "postgres://me:hunter2@host:99999/db",
            "postgres://me:hunter2%zz@host/db",
            "mysql://me:hunter2@h/d",
            "postgres://me:hunter2/x@host/db",
            "postgres://me:a@b/hunter2@host:1/db",
            "postgres://me@b.example/hunter2@host:1/db",
            "postgres://me:hunter2@/db",
        ] {
            let error = PostgresUrl::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn an_unknown_parameter_about_encryption_is_refused_and_named() {
        for parameter in
            ["ssl_mode=require", "sslMode=verify-full", "SSLMODE=require", "sslmod=require", "ssl=yes"]
        {
            let error = PostgresUrl::parse(&format!("postgres://me@host/db?{parameter}")).unwrap_err();
            let name = parameter.split('=').next().unwrap();
            assert!(error.message().contains(&format!("\"{name}\"")), "{error:?}");
            assert!(error.help().unwrap().contains("sslmode="), "{error:?}");
        }
        for (value, mode) in [("true", SslMode::Require), ("0", SslMode::Disable)] {
            let url = PostgresUrl::parse(&format!("postgres://me@host/db?ssl={value}")).unwrap();
            assert_eq!(url.ssl_mode(), mode);
        }
    }

    #[test]
    fn a_parameter_nobody_knows_is_refused_and_those_of_drivers_are_not() {
        let error = PostgresUrl::parse("postgres://me:hunter2@host/db?sslmode=require&foo=1").unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Invalid, "the parameter \"foo\" is not known"));
        assert!(error.help().unwrap().contains("sslmode"), "{error:?}");
        assert!(
            PostgresUrl::parse_conninfo("host=h user=u foo=1").unwrap_err().message().contains("\"foo\"")
        );

        let url = "postgres://me@host/db?schema=public&pgbouncer=true&connection_limit=5&currentSchema=a\
                   &target_session_attrs=read-only&keepalives-idle=9&ssl_min_protocol_version=TLSv1.2&gssencmode=disable";
        assert_eq!(PostgresUrl::parse(url).unwrap().ignored_parameters().len(), 8);
        for strict in ["require_auth=scram-sha-256", "gssencmode=require", "ssl_min_protocol_version=TLSv1.3"]
        {
            let error = PostgresUrl::parse(&format!("postgres://me@host/db?{strict}")).unwrap_err();
            assert!(error.message().contains("cannot be met"), "{error:?}");
        }
        // What may be a piece of a password is not repeated.
        for cut in ["postgres://me:a@b/c?hunter2&d=e@host/db", "postgres://me@host/db?password=a&hunter2"] {
            let error = PostgresUrl::parse(cut).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn what_reads_local_files_or_sockets_is_refused() {
        for parameter in
            ["sslrootcert=/etc/passwd", "sslkey=k", "host=/var/run/postgresql", "service=x", "sslmode=maybe"]
        {
            assert!(
                PostgresUrl::parse(&format!("postgres://me@host/db?{parameter}")).is_err(),
                "{parameter}"
            );
        }
        for (parameter, said) in [("hostaddr=10.0.0.5", "looked up"), ("requirepeer=postgres", "sockets")] {
            let error = PostgresUrl::parse(&format!("postgres://me@host/db?{parameter}")).unwrap_err();
            assert!(error.message().contains(said) && !error.message().contains("files"), "{error:?}");
        }
        for several in
            ["postgres://me@host1,host2/db", "postgres://me@a:5432,b:5433/db", "postgres://me@/db?host=a,b"]
        {
            let error = PostgresUrl::parse(several).unwrap_err();
            assert!(error.message().contains("several hosts"), "{several}: {error:?}");
        }
        assert!(PostgresUrl::parse("postgres://host/db").is_err());
        assert!(PostgresUrl::parse("postgres://me@host/db?sslrootcert=system").is_ok());
    }
}
