//! MongoDB connection URLs.

use std::path::Path;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, ConnectionString, HostInfo, ServerAddress, Tls};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::certificate::{self, ClientCertificate};
use super::{fault, proxy};
use crate::error::{Error, Kind, Result};
use crate::source::AddressPolicy;
use crate::source::pasted::{self, decode};

const APP_NAME: &str = "dbsnap";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SELECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// A page waits for a connection test, so no URL may ask for more.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Connections a job may hold: its workers, the change stream and the sessions' refresher.
const POOL: u32 = 64;
/// A file of certificates is never larger.
const CA_FILE_MAX: u64 = 4 << 20;

/// Options that the driver is given.
const PASSED: [&str; 22] = [
    "appname",
    "authmechanism",
    "authmechanismproperties",
    "authsource",
    "connecttimeoutms",
    "directconnection",
    "heartbeatfrequencyms",
    "loadbalanced",
    "localthresholdms",
    "maxidletimems",
    "maxstalenessseconds",
    "readpreference",
    "readpreferencetags",
    "replicaset",
    "retryreads",
    "servermonitoringmode",
    "serverselectiontimeoutms",
    "ssl",
    "tls",
    "tlsallowinvalidcertificates",
    "tlscafile",
    "tlsinsecure",
];
/// As [`PASSED`], for `mongodb+srv://` only.
const PASSED_SRV: [&str; 2] = ["srvmaxhosts", "srvservicename"];
/// Options that are known and say nothing to who only reads, or are chosen here.
const IRRELEVANT: [&str; 15] = [
    "compressors",
    "journal",
    "maxconnecting",
    "maxpoolsize",
    "minpoolsize",
    "readconcernlevel",
    "retrywrites",
    "safe",
    "sockettimeoutms",
    "uuidrepresentation",
    "w",
    "waitqueuemultiple",
    "waitqueuetimeoutms",
    "wtimeoutms",
    "zlibcompressionlevel",
];

/// The option that holds a client's certificate and key, in lower case. It is our own: the driver's
/// names a file.
const CERTIFICATE: &str = "tlscertificatekey";

/// A `mongodb://` or `mongodb+srv://` URL. `Debug` hides the password.
#[derive(Clone)]
pub struct MongoUrl {
    /// As it was pasted, without what was around it.
    text: Zeroizing<String>,
    /// What the driver reads.
    cleaned: Zeroizing<String>,
    hosts: Vec<(String, u16)>,
    database: Option<String>,
    user: String,
    certificate: Option<ClientCertificate>,
    ignored: Vec<String>,
    address_policy: AddressPolicy,
}

impl std::fmt::Debug for MongoUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl MongoUrl {
    /// Reads a URL as it is pasted. Nothing is looked up: `mongodb+srv://` names are resolved when
    /// connecting. Unknown options are kept in [`ignored_parameters`](Self::ignored_parameters);
    /// unknown ones about encryption are refused, and so are those that would use private keys of
    /// this machine. The certificate of X.509 stands in `tlsCertificateKey`, in base64.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with what is wrong; passwords are never repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let text = Zeroizing::new(pasted::url_of(text)?.to_owned());
        let parts = Parts::split(&text)?;
        parts.check_place()?;
        let mut ignored = Vec::new();
        let mut passed = Vec::new();
        let mut client_certificate = None;
        for pair in parts.query.split('&').filter(|pair| !pair.is_empty()) {
            match classify(pair, parts.srv)? {
                Use::Passed => passed.push(pair),
                Use::Irrelevant => {}
                Use::Certificate(value) => client_certificate = Some(ClientCertificate::parse(value)?),
                Use::Ignored(name) => ignored.push(name),
            }
        }
        let database = parts.database()?;
        let cleaned = Zeroizing::new(format!(
            "{}://{}{}/{}?{}",
            if parts.srv { "mongodb+srv" } else { "mongodb" },
            parts.user_info.map(|info| format!("{info}@")).unwrap_or_default(),
            parts.hosts,
            parts.path,
            passed.join("&")
        ));
        let parsed = ConnectionString::parse(cleaned.as_str()).map_err(|error| refused(&error))?;
        let hosts = match &parsed.host_info {
            HostInfo::DnsRecord(name) => vec![(name.clone(), 0)],
            HostInfo::HostIdentifiers(hosts) => hosts.iter().map(host_and_port).collect::<Result<_>>()?,
            _ => return Err(invalid("the hosts cannot be read")),
        };
        check_mechanism(&parsed, client_certificate.is_some())?;
        let user = parsed.credential.as_ref().and_then(|credential| credential.username.clone());
        let (user, certificate) = (user.unwrap_or_default(), client_certificate);
        let address_policy = AddressPolicy::default();
        Ok(Self { hosts, database, user, certificate, ignored, address_policy, cleaned, text })
    }

    /// The hosts it names; for `mongodb+srv://` the name whose records list them, with port 0.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        self.hosts.clone()
    }

    /// The database in its path; none means every database but admin, local and config. `/admin`
    /// means that too: it is how URLs say where users are defined.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The user; empty when there is none.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What the hosts may lead to, those that servers name included.
    pub(super) fn address_policy(&self) -> AddressPolicy {
        self.address_policy
    }

    /// The same URL, for addresses that the policy allows.
    #[must_use]
    pub fn within(self, address_policy: AddressPolicy) -> Self {
        Self { address_policy, ..self }
    }

    /// Names of options that are not understood and have no effect.
    pub fn ignored_parameters(&self) -> &[String] {
        &self.ignored
    }

    /// The URL with `***` in the password's place, and without the client's certificate.
    pub fn redacted(&self) -> String {
        let Ok(parts) = Parts::split(&self.text) else { return "mongodb://***".to_owned() };
        let user_info = match parts.user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
            None => String::new(),
            Some((user, "")) => format!("{user}@"),
            Some((user, _)) => format!("{user}:***@"),
        };
        let scheme = if parts.srv { "mongodb+srv" } else { "mongodb" };
        let path = if parts.path.is_empty() { String::new() } else { format!("/{}", parts.path) };
        // Properties of mechanisms may hold tokens.
        let is_secret = |pair: &str| {
            let lower = pair.to_ascii_lowercase();
            ["authmechanismproperties", CERTIFICATE].iter().any(|name| lower.starts_with(name))
        };
        let shown = parts.query.split('&').filter(|pair| !pair.is_empty() && !is_secret(pair));
        let query = shown.collect::<Vec<_>>().join("&");
        let query = match (query.is_empty(), path.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("/?{query}"),
            (false, false) => format!("?{query}"),
        };
        format!("{scheme}://{user_info}{}{path}{query}", parts.hosts)
    }

    /// The URL itself, password included.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What the driver is given. It keeps a copy of the password that it does not zeroize.
    pub(crate) async fn client_options(&self) -> Result<ClientOptions> {
        let parsed = ConnectionString::parse(self.cleaned.as_str()).map_err(|error| refused(&error))?;
        let mut options = ClientOptions::parse(parsed)
            .await
            .map_err(|error| fault::statement("looking up the servers of the URL", &error))?;
        let bounded = |asked: Option<Duration>, usual| match asked {
            // Zero means for ever.
            Some(Duration::ZERO) => TIMEOUT_MAX,
            asked => asked.unwrap_or(usual).min(TIMEOUT_MAX),
        };
        options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
        options.connect_timeout = Some(bounded(options.connect_timeout, CONNECT_TIMEOUT));
        options.server_selection_timeout = Some(bounded(options.server_selection_timeout, SELECTION_TIMEOUT));
        options.max_pool_size = Some(POOL);
        if let Some(Tls::Enabled(tls)) = &options.tls
            && let Some(path) = &tls.ca_file_path
        {
            // One answer for all that it may be: whoever writes a URL learns nothing of the files here.
            if !names_authorities(path).await {
                return Err(invalid("tlsCAFile names no file of certificates that DBSnap can read")
                    .with_help("It is a path on the machine DBSnap runs on, of a file in PEM."));
            }
        }
        Ok(options)
    }
}

/// Whether the file holds a certificate.
async fn names_authorities(path: &Path) -> bool {
    // Before it is opened: opening a pipe would wait for its writer.
    let found = tokio::fs::metadata(path).await;
    if !found.is_ok_and(|found| found.is_file() && found.len() <= CA_FILE_MAX) {
        return false;
    }
    let Ok(pem) = tokio::fs::read(path).await else { return false };
    let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(certificates);
    usable > 0
}

impl MongoUrl {
    /// A client with these options, which were the URL's. Connects nowhere yet, and never to an
    /// address that is not allowed.
    pub(crate) fn client_with(&self, mut options: ClientOptions) -> mongodb::error::Result<Client> {
        proxy::guard(&mut options, self.address_policy)?;
        match &self.certificate {
            Some(certificate) => certificate.client(options),
            None => Client::with_options(options),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// The driver's refusal of an option. Credentials and hosts were checked before, with words of our
/// own, so that its message cannot repeat them.
fn refused(error: &mongodb::error::Error) -> Error {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => invalid(message.clone()),
        _ => invalid("the URL cannot be read"),
    }
}

pub(super) fn host_and_port(address: &ServerAddress) -> Result<(String, u16)> {
    match address {
        ServerAddress::Tcp { host, port } => {
            Ok((host.trim_matches(['[', ']']).to_owned(), port.unwrap_or(27017)))
        }
        _ => Err(invalid("the URL names a socket of this machine").with_help("Give a host.")),
    }
}

fn check_mechanism(parsed: &ConnectionString, has_certificate: bool) -> Result<()> {
    use mongodb::options::AuthMechanism::{MongoDbX509, Plain, ScramSha1, ScramSha256};
    let mechanism = parsed.credential.as_ref().and_then(|credential| credential.mechanism.as_ref());
    let is_encrypted = match &parsed.host_info {
        // Names with records are asked for over TLS unless they say otherwise.
        HostInfo::DnsRecord(_) => !matches!(parsed.tls, Some(Tls::Disabled)),
        _ => matches!(parsed.tls, Some(Tls::Enabled(_))),
    };
    if has_certificate && !is_encrypted {
        return Err(invalid("tlsCertificateKey has no effect without TLS").with_help("Write tls=true."));
    }
    match mechanism {
        None | Some(ScramSha1 | ScramSha256 | Plain) => Ok(()),
        Some(MongoDbX509) if has_certificate => Ok(()),
        Some(MongoDbX509) => {
            Err(invalid("MONGODB-X509 needs the client's certificate").with_help(certificate::HELP))
        }
        Some(_) => Err(invalid("this authMechanism is not accepted").with_help(
            "Use SCRAM-SHA-256, SCRAM-SHA-1, PLAIN over TLS, or MONGODB-X509. Cloud identities of the machine DBSnap \
             runs on are not used.",
        )),
    }
}

enum Use<'a> {
    Passed,
    Irrelevant,
    Certificate(&'a str),
    Ignored(String),
}

fn classify(pair: &str, srv: bool) -> Result<Use<'_>> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        known if PASSED.contains(&known) || (srv && PASSED_SRV.contains(&known)) => Ok(Use::Passed),
        known if IRRELEVANT.contains(&known) => Ok(Use::Irrelevant),
        CERTIFICATE => Ok(Use::Certificate(value)),
        "tlscertificatekeyfile" | "tlscertificatekeyfilepassword" | "sslclientcertificatekeyfile" => Err(
            invalid(format!("the option {name} is not accepted: it would use a private key of the server"))
                .with_help(certificate::HELP),
        ),
        // Ignoring a misspelt one would silently weaken what was asked for.
        other if other.starts_with("tls") || other.starts_with("ssl") => {
            Err(invalid(format!("the option {name} is not known"))
                .with_help("To ask for encryption write tls=true."))
        }
        _ => Ok(Use::Ignored(name.to_owned())),
    }
}

/// A URL in pieces, as they were written.
struct Parts<'a> {
    srv: bool,
    user_info: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self> {
        let bad_scheme = || {
            invalid("the URL does not begin with mongodb:// or mongodb+srv://")
                .with_help("It has the form mongodb://user:password@host:27017/database.")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad_scheme)?;
        let srv = match scheme.to_ascii_lowercase().as_str() {
            "mongodb" => false,
            "mongodb+srv" => true,
            _ => return Err(bad_scheme()),
        };
        // A ? or / in a password that is not encoded ends up in front of the @.
        let credentials_end = rest.rfind('@').map_or(0, |at| at + 1);
        let (credentials, place) = rest.split_at(credentials_end);
        let user_info = credentials.strip_suffix('@');
        let (front, query) = place.split_once('?').unwrap_or((place, ""));
        let (hosts, path) = front.split_once('/').unwrap_or((front, ""));
        Ok(Self { srv, user_info, hosts, path, query })
    }

    /// Says in our own words what the driver would say with the URL in it.
    fn check_place(&self) -> Result<()> {
        let unencoded = |what: &str| {
            invalid(format!("the {what} holds a character that must be percent-encoded"))
                .with_help("In user and password write % as %25, @ as %40, / as %2F, : as %3A, ? as %3F.")
        };
        if let Some(info) = self.user_info {
            let (user, password) = info.split_once(':').unwrap_or((info, ""));
            for (part, what) in [(user, "user"), (password, "password")] {
                if part.contains([':', '/', '?', '#', '[', ']', '@']) {
                    return Err(unencoded(what));
                }
                decode(part, what)?;
            }
            if user.is_empty() {
                return Err(invalid("the URL has an @ and no user before it"));
            }
            for (part, what) in [(user, "user"), (password, "password")] {
                if part.len() > 2 && part.starts_with('<') && part.ends_with('>') {
                    return Err(invalid(format!("the {what} in the URL is still a placeholder"))
                        .with_help("Put your own in its place, without < and >."));
                }
            }
        }
        if self.hosts.is_empty() {
            return Err(invalid("the URL names no host"));
        }
        for host in self.hosts.split(',') {
            check_host(host)?;
        }
        if self.srv && self.hosts.contains([',', ':']) {
            return Err(invalid("mongodb+srv:// takes one name without a port")
                .with_help("Its DNS records list the hosts and ports."));
        }
        Ok(())
    }

    fn database(&self) -> Result<Option<String>> {
        let name = decode(self.path, "database name")?;
        if name.contains(['/', '\\', ' ', '"', '$', '.', '\0']) {
            return Err(invalid("the database name in the URL holds a character that no database name may"));
        }
        match name.as_str() {
            "" | "admin" => Ok(None),
            "local" | "config" => Err(invalid(format!("the database {name} belongs to the server itself"))
                .with_help("Name a database of your own, or none for all of them.")),
            _ => Ok(Some(name)),
        }
    }
}

fn check_host(host: &str) -> Result<()> {
    let malformed = || {
        invalid("a host of the URL is malformed")
            .with_help("Hosts are written host:port, IPv6 addresses [::1]:port, several with commas between.")
    };
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']').ok_or_else(malformed)?;
            (name, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("27017")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("27017")),
        },
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(malformed());
    }
    match port.and_then(|port| port.parse::<u16>().ok()) {
        None | Some(0) => Err(invalid("a port is not a number from 1 to 65535")
            .with_help("A /, ? or @ in the password is written %2F, %3F or %40.")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> MongoUrl {
        MongoUrl::parse(text).unwrap()
    }

    #[test]
    fn a_pasted_url_is_read() {
        let url = parse(
            " MongoDB://an%40na:p%2Fw@a.example:27018,b.example,[::1]:3/shop?replicaSet=rs0&retryWrites=true&w=majority ",
        );
        assert_eq!(
            url.hosts(),
            [("a.example".into(), 27018), ("b.example".into(), 27017), ("::1".into(), 3)]
        );
        assert_eq!((url.database(), url.user()), (Some("shop"), "an@na"));
        assert!(url.ignored_parameters().is_empty());
        assert!(url.redacted().starts_with("mongodb://an%40na:***@a.example:27018,b.example,[::1]:3/shop?"));
        assert!(url.expose().contains("p%2Fw"));
        assert!(!format!("{url:?}").contains("p%2Fw"));
    }

    #[test]
    fn srv_names_are_kept_for_later() {
        let url = parse("mongodb+srv://u:p@cluster0.ab1cd.mongodb.net/?appName=x&srvMaxHosts=2");
        assert_eq!(url.hosts(), [("cluster0.ab1cd.mongodb.net".into(), 0)]);
        assert_eq!(url.database(), None);
        assert_eq!(url.redacted(), "mongodb+srv://u:***@cluster0.ab1cd.mongodb.net/?appName=x&srvMaxHosts=2");
    }

    #[test]
    fn admin_in_the_path_means_all_databases() {
        assert_eq!(parse("mongodb://u:p@h/admin").database(), None);
        assert_eq!(parse("mongodb://h").database(), None);
        assert_eq!(MongoUrl::parse("mongodb://h/local").unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn unknown_options_are_named_and_unknown_encryption_is_refused() {
        let url = parse("mongodb://u:p@h/d?foo=1&ssl=true&compressors=zstd");
        assert_eq!(url.ignored_parameters(), ["foo"]);
        for bad in ["tlsAllowInvalidHostname=true", "tlsCertificateKeyFile=/etc/key.pem", "sslmode=require"] {
            let error = MongoUrl::parse(&format!("mongodb://u:p@h/d?{bad}")).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{bad}");
        }
        let error = MongoUrl::parse("mongodb://u@h/d?authMechanism=MONGODB-X509&tls=true").unwrap_err();
        assert!(error.help().unwrap().contains("tlsCertificateKey="));
    }

    #[test]
    fn certificates_of_clients_stand_in_the_url_and_are_not_shown() {
        const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tLS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t";
        let x509 = "authMechanism=MONGODB-X509&authSource=%24external";
        let url = parse(&format!("mongodb+srv://c.example.net/?{x509}&tlsCertificateKey={PEM}"));
        assert_eq!(url.redacted(), format!("mongodb+srv://c.example.net/?{x509}"));
        assert!(!format!("{url:?}").contains(PEM) && url.user().is_empty());
        assert!(url.ignored_parameters().is_empty());
        for (bad, said) in [
            (format!("mongodb://h/?{x509}&tlsCertificateKey={PEM}"), "without TLS"),
            (format!("mongodb+srv://h.a.b/?{x509}&tls=false&tlsCertificateKey={PEM}"), "without TLS"),
            (format!("mongodb://h/?{x509}&tls=true"), "needs the client's certificate"),
        ] {
            let error = MongoUrl::parse(&bad).unwrap_err();
            assert!(error.message().contains(said), "{error}");
            assert!(!format!("{error:?}").contains(PEM));
        }
    }

    #[test]
    fn what_surrounds_a_url_is_taken_off_and_placeholders_are_told() {
        let url = parse("mongosh \"mongodb://u:p@h/d\"");
        assert_eq!((url.expose(), url.user()), ("mongodb://u:p@h/d", "u"));
        let error = MongoUrl::parse("mongodb+srv://ada:<db_password>@c.example.net/").unwrap_err();
        assert!(
            error.message().contains("the password") && error.message().contains("placeholder"),
            "{error}"
        );
        let error = MongoUrl::parse("mongodb://<user>:x@h/").unwrap_err();
        assert!(error.message().contains("the user"), "{error}");
    }

    #[tokio::test]
    async fn files_of_this_machine_are_all_the_same_to_who_asks() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("text"), "root:x:0:0").unwrap();
        std::fs::write(place("empty"), "").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(place("broken"), broken).unwrap();
        std::fs::write(place("large"), vec![b'a'; (CA_FILE_MAX + 1) as usize]).unwrap();
        let mut told = std::collections::BTreeSet::new();
        for name in ["text", "empty", "broken", "large", "missing", "text/below", "."] {
            let path = place(name);
            let text = format!("mongodb://u:p@127.0.0.1/d?tls=true&tlsCAFile={}", path.display());
            let error = parse(&text).client_options().await.unwrap_err();
            told.insert(format!("{:?} {error} {:?}", error.kind(), error.help()));
        }
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn no_error_repeats_the_password() {
        let secret = "hunter2";
        for text in [
            "mongodb://u:hunter2/x@h/d",
            "mongodb://u:hunter2?x@h/d",
            "mongodb://u:hunter2:x@h/d",
            "mongodb://u:hunter2%@h/d",
            "mongodb://u:hunter2@h:hunter2/d",
            "mongodb://u:x@hunter2@h/d",
            "mongodb://u:hunter2@/d",
            "mongodb://:hunter2@h/d",
            "mongodb://u:hunter2@h/a b",
            "mongodb://u:hunter2@h/d?tls=maybe",
            "mongodb+srv://u:hunter2@a,b/d",
            "hunter2",
        ] {
            let error = MongoUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{text}");
            let told = format!("{error} {error:?} {:?}", error.help());
            assert!(!told.contains(secret), "{told}");
        }
    }
}
