//! The database systems, and the words that each has for the same things.

/// A database system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// PostgreSQL.
    PostgreSql,
    /// MongoDB.
    MongoDb,
}

impl System {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MongoDb => "MongoDB",
        }
    }

    /// What it calls a collection of records; the plural takes an `s`.
    pub fn collection(self) -> &'static str {
        match self {
            Self::PostgreSql => "table",
            Self::MongoDb => "collection",
        }
    }

    /// The same at the head of a line.
    pub fn collection_heading(self) -> &'static str {
        match self {
            Self::PostgreSql => "Table",
            Self::MongoDb => "Collection",
        }
    }

    /// What it calls several records.
    pub fn records(self) -> &'static str {
        match self {
            Self::PostgreSql => "rows",
            Self::MongoDb => "documents",
        }
    }

    /// An address with its parts named: the hint of a field for one.
    pub fn url_example(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql://user:password@host:5432/database?sslmode=require",
            Self::MongoDb => "mongodb+srv://user:password@cluster.example.mongodb.net/database",
        }
    }
}
