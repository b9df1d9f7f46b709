//! Configuration: environment variables only, each documented in `infra/env.example`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::meta::Provider;
use crate::private;
use crate::proxies::TrustedProxies;

/// Every variable this program reads.
pub const VARIABLES: &[&str] = &[
    "DBSNAP_LISTEN",
    "DBSNAP_DATA_DIR",
    "DBSNAP_STORAGE",
    "DBSNAP_SERVER_KEY_FILE",
    "DBSNAP_KMS_KEY_ID",
    "DBSNAP_KMS_ENDPOINT",
    "DBSNAP_SIGNUP",
    "DBSNAP_PRIVATE_ADDRESSES",
    "DBSNAP_PUBLIC_URL",
    "DBSNAP_TRUSTED_PROXIES",
    "DBSNAP_OAUTH_GITHUB_CLIENT_ID",
    "DBSNAP_OAUTH_GITHUB_CLIENT_SECRET",
    "DBSNAP_OAUTH_GITHUB_AUTH_URL",
    "DBSNAP_OAUTH_GITHUB_TOKEN_URL",
    "DBSNAP_OAUTH_GITHUB_USERINFO_URL",
    "DBSNAP_OAUTH_GOOGLE_CLIENT_ID",
    "DBSNAP_OAUTH_GOOGLE_CLIENT_SECRET",
    "DBSNAP_OAUTH_GOOGLE_AUTH_URL",
    "DBSNAP_OAUTH_GOOGLE_TOKEN_URL",
    "DBSNAP_OAUTH_GOOGLE_USERINFO_URL",
    "DBSNAP_WORKERS",
    "DBSNAP_PRUNE_GRACE",
    "DBSNAP_LOG",
    "DBSNAP_LOG_FORMAT",
];

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signup {
    /// Only the first account.
    First,
    /// Everyone who reaches the server.
    Open,
    /// Nobody.
    Closed,
}

/// A provider that people may sign in with.
#[derive(Clone)]
pub struct SignInProvider {
    pub provider: Provider,
    pub client_id: String,
    pub client_secret: Zeroizing<String>,
    /// Where browsers are sent.
    pub auth_url: Url,
    pub token_url: Url,
    pub userinfo_url: Url,
}

impl std::fmt::Debug for SignInProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInProvider").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Absolute; exists.
    pub data_dir: PathBuf,
    pub storage: String,
    pub server_key_file: PathBuf,
    /// The key in AWS KMS that wraps keys instead of the key file, and where KMS is if not at AWS.
    pub kms: Option<KmsConfig>,
    pub signup: Signup,
    /// Whether databases at private addresses may be connected.
    pub private_addresses: bool,
    /// As browsers reach the server; without it, as the server listens.
    pub public_url: Option<Url>,
    /// Who may say for whom it forwards.
    pub trusted_proxies: TrustedProxies,
    /// Those that are set up, in the order that pages offer them.
    pub providers: Vec<SignInProvider>,
    /// Jobs at a time.
    pub workers: usize,
    /// Waited before condemned packs go, beside waiting for sessions.
    pub prune_grace: Duration,
    pub log: String,
    pub log_json: bool,
}

/// A key in AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsConfig {
    pub key_id: String,
    pub endpoint: Option<String>,
}

/// A variable with a value that cannot be used; `Display` says which and why.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?} cannot be used: {reason}")]
pub struct ConfigError {
    variable: &'static str,
    value: String,
    reason: String,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Reads variables from `lookup`, so that tests need not touch the process's environment.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let text = |variable: &'static str| match lookup(variable).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) if value.is_empty() => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(value)) => Err(bad(variable, &value.to_string_lossy(), "it is not UTF-8")),
        };
        let data_dir = data_dir(&text("DBSNAP_DATA_DIR")?.unwrap_or_else(|| "./dbsnap-data".to_owned()))?;
        let key_file = text("DBSNAP_SERVER_KEY_FILE")?.map(PathBuf::from);
        let storage = text("DBSNAP_STORAGE")?;
        Ok(Self {
            listen: parse("DBSNAP_LISTEN", text("DBSNAP_LISTEN")?, "127.0.0.1:8080", "use address:port")?,
            storage: storage.unwrap_or_else(|| format!("fs://{}", data_dir.join("repositories").display())),
            server_key_file: key_file.unwrap_or_else(|| data_dir.join("server.key")),
            kms: kms(text("DBSNAP_KMS_KEY_ID")?, text("DBSNAP_KMS_ENDPOINT")?)?,
            data_dir,
            signup: signup(text("DBSNAP_SIGNUP")?)?,
            private_addresses: match text("DBSNAP_PRIVATE_ADDRESSES")?.as_deref() {
                None | Some("allow") => true,
                Some("refuse") => false,
                Some(other) => return Err(bad("DBSNAP_PRIVATE_ADDRESSES", other, "use allow or refuse")),
            },
            public_url: text("DBSNAP_PUBLIC_URL")?.map(public_url).transpose()?,
            trusted_proxies: trusted_proxies(text("DBSNAP_TRUSTED_PROXIES")?)?,
            providers: providers(text)?,
            workers: workers(text("DBSNAP_WORKERS")?)?,
            prune_grace: prune_grace(text("DBSNAP_PRUNE_GRACE")?)?,
            log: text("DBSNAP_LOG")?.unwrap_or_else(|| "info".to_owned()),
            log_json: match text("DBSNAP_LOG_FORMAT")?.as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => return Err(bad("DBSNAP_LOG_FORMAT", other, "use text or json")),
            },
        })
    }

    /// Whether browsers reach the server by https, so that cookies may be held to it.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }
}

/// Variables that are set, begin with our prefix and mean nothing to this version.
pub fn unknown_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with("DBSNAP_") && !VARIABLES.contains(&name.as_str())).collect()
}

fn bad(variable: &'static str, value: &str, reason: impl Into<String>) -> ConfigError {
    // What comes before the host of a URL may be a password.
    let value = value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, after)| format!("***@{after}"));
    ConfigError { variable, value, reason: reason.into() }
}

fn trusted_proxies(value: Option<String>) -> Result<TrustedProxies, ConfigError> {
    let Some(value) = value else { return Ok(TrustedProxies::default()) };
    value.parse().map_err(|()| {
        bad(
            "DBSNAP_TRUSTED_PROXIES",
            &value,
            "use addresses or networks such as 10.0.0.0/8, with commas between",
        )
    })
}

fn parse<T: std::str::FromStr>(
    variable: &'static str,
    value: Option<String>,
    default: &str,
    reason: &str,
) -> Result<T, ConfigError> {
    let value = value.as_deref().unwrap_or(default);
    value.parse().map_err(|_| bad(variable, value, reason))
}

fn data_dir(value: &str) -> Result<PathBuf, ConfigError> {
    let made = private::create_folder(Path::new(value)).and_then(|()| Path::new(value).canonicalize());
    made.map_err(|error| bad("DBSNAP_DATA_DIR", value, error.to_string()))
}

fn signup(value: Option<String>) -> Result<Signup, ConfigError> {
    match value.as_deref() {
        None | Some("first") => Ok(Signup::First),
        Some("open") => Ok(Signup::Open),
        Some("closed") => Ok(Signup::Closed),
        Some(other) => Err(bad("DBSNAP_SIGNUP", other, "use first, open or closed")),
    }
}

fn workers(value: Option<String>) -> Result<usize, ConfigError> {
    let variable = "DBSNAP_WORKERS";
    match parse(variable, value, "2", "use a number from 1 to 64")? {
        workers @ 1..=64 => Ok(workers),
        other => Err(bad(variable, &other.to_string(), "use a number from 1 to 64")),
    }
}

fn kms(key_id: Option<String>, endpoint: Option<String>) -> Result<Option<KmsConfig>, ConfigError> {
    let variable = "DBSNAP_KMS_ENDPOINT";
    if let Some(value) = &endpoint
        && !Url::parse(value).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    {
        return Err(bad(variable, value, "use a URL such as https://kms.eu-central-1.amazonaws.com"));
    }
    match (key_id, endpoint) {
        (Some(key_id), endpoint) => Ok(Some(KmsConfig { key_id, endpoint })),
        (None, None) => Ok(None),
        (None, Some(value)) => Err(bad(variable, &value, "it means nothing without DBSNAP_KMS_KEY_ID")),
    }
}

/// A number with its unit: `0s`, `90m`, `72h`, `30d`.
fn prune_grace(value: Option<String>) -> Result<Duration, ConfigError> {
    let value = value.as_deref().unwrap_or("0s");
    let parsed = || {
        let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        let unit_seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * unit_seconds))
    };
    parsed().ok_or_else(|| bad("DBSNAP_PRUNE_GRACE", value, "use a number and s, m, h or d, such as 72h"))
}

fn public_url(value: String) -> Result<Url, ConfigError> {
    let reason = "use the scheme, host and port that browsers use, such as https://dbsnap.example.com";
    let url = Url::parse(&value).map_err(|_| bad("DBSNAP_PUBLIC_URL", &value, reason))?;
    let is_bare = url.username().is_empty() && url.password().is_none();
    let plain = is_bare && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        Ok(url)
    } else {
        Err(bad("DBSNAP_PUBLIC_URL", &value, reason))
    }
}

/// The names of a provider's variables, in the order of [`SignInProvider`]'s fields.
type ProviderVariables = [&'static str; 5];

const GITHUB: ProviderVariables = [
    "DBSNAP_OAUTH_GITHUB_CLIENT_ID",
    "DBSNAP_OAUTH_GITHUB_CLIENT_SECRET",
    "DBSNAP_OAUTH_GITHUB_AUTH_URL",
    "DBSNAP_OAUTH_GITHUB_TOKEN_URL",
    "DBSNAP_OAUTH_GITHUB_USERINFO_URL",
];
const GITHUB_URLS: [&str; 3] = [
    "https://github.com/login/oauth/authorize",
    "https://github.com/login/oauth/access_token",
    "https://api.github.com/user",
];
const GOOGLE: ProviderVariables = [
    "DBSNAP_OAUTH_GOOGLE_CLIENT_ID",
    "DBSNAP_OAUTH_GOOGLE_CLIENT_SECRET",
    "DBSNAP_OAUTH_GOOGLE_AUTH_URL",
    "DBSNAP_OAUTH_GOOGLE_TOKEN_URL",
    "DBSNAP_OAUTH_GOOGLE_USERINFO_URL",
];
const GOOGLE_URLS: [&str; 3] = [
    "https://accounts.google.com/o/oauth2/v2/auth",
    "https://oauth2.googleapis.com/token",
    "https://openidconnect.googleapis.com/v1/userinfo",
];

fn providers(
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<Vec<SignInProvider>, ConfigError> {
    let mut found = Vec::new();
    for (provider, variables, defaults) in
        [(Provider::GitHub, GITHUB, GITHUB_URLS), (Provider::Google, GOOGLE, GOOGLE_URLS)]
    {
        let [id, secret, ..] = variables;
        let url = |at: usize| -> Result<Url, ConfigError> {
            let variable = variables[at + 2];
            let value = text(variable)?.unwrap_or_else(|| defaults[at].to_owned());
            let parsed = Url::parse(&value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            parsed.ok_or_else(|| bad(variable, &value, "use an http or https URL"))
        };
        match (text(id)?, text(secret)?) {
            (Some(client_id), Some(client_secret)) => found.push(SignInProvider {
                provider,
                client_id,
                client_secret: Zeroizing::new(client_secret),
                auth_url: url(0)?,
                token_url: url(1)?,
                userinfo_url: url(2)?,
            }),
            (Some(client_id), None) => {
                return Err(bad(id, &client_id, format!("it needs {secret} beside it")));
            }
            (None, Some(_)) => return Err(bad(secret, "", format!("it needs {id} beside it"))),
            (None, None) => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        Config::read(|name| match variables.iter().find(|(variable, _)| *variable == name) {
            Some((_, value)) => Some((*value).into()),
            None if name == "DBSNAP_DATA_DIR" => Some(folder.path().into()),
            None => None,
        })
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = read(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.storage, format!("fs://{}/repositories", config.data_dir.display()));
        assert_eq!(config.server_key_file, config.data_dir.join("server.key"));
        assert_eq!((config.signup, config.workers), (Signup::First, 2));
        assert!(config.data_dir.is_absolute() && !config.is_https() && !config.log_json);
    }

    #[test]
    fn a_bad_value_is_refused_and_named() {
        let cases = [
            ("DBSNAP_LISTEN", "8080"),
            ("DBSNAP_SIGNUP", "everyone"),
            ("DBSNAP_WORKERS", "0"),
            ("DBSNAP_WORKERS", "many"),
            ("DBSNAP_PRUNE_GRACE", "72"),
            ("DBSNAP_PRUNE_GRACE", "-1h"),
            ("DBSNAP_PUBLIC_URL", "dbsnap.example.com"),
            ("DBSNAP_PUBLIC_URL", "https://example.com/dbsnap"),
            ("DBSNAP_TRUSTED_PROXIES", "proxy.example.com"),
            ("DBSNAP_OAUTH_GITHUB_CLIENT_ID", "alone"),
            ("DBSNAP_PRIVATE_ADDRESSES", "no"),
            ("DBSNAP_LOG_FORMAT", "xml"),
            ("DBSNAP_KMS_ENDPOINT", "http://127.0.0.1:4566"),
        ];
        for (variable, value) in cases {
            let message = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{variable}={value:?}")), "{message}");
        }
        let message =
            read(&[("DBSNAP_PUBLIC_URL", "https://me:hunter2@example.com")]).unwrap_err().to_string();
        assert!(message.starts_with("DBSNAP_PUBLIC_URL=\"***@example.com\""), "{message}");
    }

    /// The list is what [`unknown_variables`] and the operator's documentation rely on, so it must
    /// name what the code reads, and the example file must name the same.
    #[test]
    fn every_variable_read_is_listed_and_documented() {
        let mut read = std::collections::BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                let code = source.split("#[cfg(test)]").next().unwrap().to_owned();
                for (at, _) in code.match_indices("\"DBSNAP_") {
                    let name = code[at + 1..].split('"').next().unwrap();
                    if name != "DBSNAP_" && name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_') {
                        read.insert(name.to_owned());
                    }
                }
            }
        }
        assert_eq!(read, VARIABLES.iter().map(|name| (*name).to_owned()).collect());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/env.example");
        let example = std::fs::read_to_string(example).unwrap();
        let documented =
            example.lines().filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='));
        let documented: std::collections::BTreeSet<_> =
            documented.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("DBSNAP_")).collect();
        assert_eq!(documented, read);
    }

    /// What the compose file does not set itself it passes through, and its replica set's member goes by the
    /// name by which the server reaches it.
    #[test]
    fn the_compose_file_passes_every_variable_through() {
        let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/docker-compose.yml");
        let compose = std::fs::read_to_string(compose).unwrap();
        // The image sets these, and its volume is where they say.
        let in_the_image = ["DBSNAP_LISTEN", "DBSNAP_DATA_DIR", "DBSNAP_SERVER_KEY_FILE"];
        for variable in VARIABLES.iter().filter(|variable| !in_the_image.contains(variable)) {
            let is_named =
                |line: &str| line.trim().strip_prefix(variable).is_some_and(|rest| rest.starts_with(':'));
            assert!(compose.lines().any(is_named), "{variable} is not passed through");
        }
        assert!(compose.contains("\n  mongodb:\n") && compose.contains("host: \"mongodb:27017\""));
    }
}
