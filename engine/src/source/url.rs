//! A connection URL of any engine.

use super::{AddressPolicy, pasted};
use crate::error::{Error, Kind, Result};
use crate::source::mongodb::MongoUrl;
use crate::source::postgres::PostgresUrl;

/// Which database system a URL leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MongoDB.
    MongoDb,
}

impl Engine {
    /// "postgresql" or "mongodb", as manifests and the API have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::MongoDb => "mongodb",
        }
    }

    /// The engine of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Postgres, Self::MongoDb].into_iter().find(|engine| engine.as_str() == name)
    }
}

/// A connection URL, checked as far as it can be without connecting. `Debug` hides the password.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// `postgres://` or `postgresql://`.
    Postgres(PostgresUrl),
    /// `mongodb://` or `mongodb+srv://`.
    MongoDb(MongoUrl),
}

impl DatabaseUrl {
    /// Reads a URL as it is pasted. The scheme says which engine it is for.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with what is wrong and an example; passwords are never repeated.
    pub fn parse(text: &str) -> Result<Self> {
        let text = pasted::url_of(text)?;
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("postgres" | "postgresql") => PostgresUrl::parse(text).map(Self::Postgres),
            Some("mongodb" | "mongodb+srv") => MongoUrl::parse(text).map(Self::MongoDb),
            None if PostgresUrl::is_conninfo(text) => PostgresUrl::parse_conninfo(text).map(Self::Postgres),
            None if text.starts_with('-') => {
                Err(Error::new(Kind::Invalid, "these are options of a program and no URL")
                    .with_help("Paste one URL, as in postgres://user:password@host:5432/database."))
            }
            _ => Err(Error::new(Kind::Invalid, "the URL is neither of PostgreSQL nor of MongoDB").with_help(
                "Begin it with postgres://, mongodb:// or mongodb+srv://, as in \
                 postgres://user:password@host:5432/database.",
            )),
        }
    }

    /// The same URL, with which nothing is connected to but what the policy allows.
    #[must_use]
    pub fn within(self, policy: AddressPolicy) -> Self {
        match self {
            Self::Postgres(url) => Self::Postgres(url.within(policy)),
            Self::MongoDb(url) => Self::MongoDb(url.within(policy)),
        }
    }

    /// Which engine it leads to.
    pub fn engine(&self) -> Engine {
        match self {
            Self::Postgres(_) => Engine::Postgres,
            Self::MongoDb(_) => Engine::MongoDb,
        }
    }

    /// The hosts it names, with their ports. For `mongodb+srv://` the name whose records list the
    /// hosts, with port 0.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        match self {
            Self::Postgres(url) => vec![(url.host().to_owned(), url.port())],
            Self::MongoDb(url) => url.hosts(),
        }
    }

    /// Where it leads, in words: "host:port", several with commas between.
    pub fn address(&self) -> String {
        let hosts = self.hosts();
        let shown = hosts.iter().map(|(host, port)| match (host.contains(':'), port) {
            (_, 0) => host.clone(),
            (true, port) => format!("[{host}]:{port}"),
            (false, port) => format!("{host}:{port}"),
        });
        shown.collect::<Vec<_>>().join(",")
    }

    /// The database it names; none for a MongoDB URL that means all of them.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Postgres(url) => Some(url.database()),
            Self::MongoDb(url) => url.database(),
        }
    }

    /// Where a collection of a snapshot goes when it is restored to this URL: a MongoDB URL that
    /// names a database takes every collection into that one.
    pub fn placed<'a>(&'a self, namespace: &'a str) -> &'a str {
        match self {
            Self::Postgres(_) => namespace,
            Self::MongoDb(url) => url.database().unwrap_or(namespace),
        }
    }

    /// The user it names; empty when it names none.
    pub fn user(&self) -> &str {
        match self {
            Self::Postgres(url) => url.user(),
            Self::MongoDb(url) => url.user(),
        }
    }

    /// The URL with `***` in the password's place.
    pub fn redacted(&self) -> String {
        match self {
            Self::Postgres(url) => url.redacted(),
            Self::MongoDb(url) => url.redacted(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_which_engine() {
        let engine = |text: &str| DatabaseUrl::parse(text).map(|url| url.engine().as_str());
        assert_eq!(engine(" postgresql://u:p@h/d ").unwrap(), "postgresql");
        assert_eq!(engine("MongoDB://u:p@h/d").unwrap(), "mongodb");
        assert_eq!(engine("\"postgres://u:p@h/d\"").unwrap(), "postgresql");
        assert_eq!(engine("mongosh 'mongodb://u:p@h/d'").unwrap(), "mongodb");
        assert_eq!(engine("mysql://u:p@h/d").unwrap_err().kind(), Kind::Invalid);
        assert_eq!(engine("jdbc:postgresql://h:5432/d?user=u&password=p").unwrap(), "postgresql");
        assert_eq!(engine("psql 'host=h dbname=d user=u'").unwrap(), "postgresql");
        assert!(engine("psql -h h -U u d").unwrap_err().message().contains("options of a program"));
        assert!(engine("p@ss").unwrap_err().help().unwrap().contains("mongodb://"));
    }

    #[test]
    fn addresses_name_every_host() {
        let address = |text: &str| DatabaseUrl::parse(text).unwrap().address();
        assert_eq!(address("postgres://u@[::1]/d"), "[::1]:5432");
        assert_eq!(address("mongodb://u:p@a,b:27018/d"), "a:27017,b:27018");
    }
}
