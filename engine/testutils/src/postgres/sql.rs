//! Running SQL in a cluster. Every call connects anew, so it works from any runtime.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::Cluster;

impl Cluster {
    /// A superuser's connection to `database`. It ends when the client is dropped.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.superuser_url(database)).await
    }

    /// Runs statements, separated by `;`.
    ///
    /// # Panics
    /// When one fails.
    pub async fn execute(&self, database: &str, sql: &str) {
        let client = self.connect(database).await;
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{}\nin: {}", detail(&error), excerpt(sql)));
    }

    /// Runs statements and gives every row they return as text; `None` is NULL.
    ///
    /// # Panics
    /// When one fails.
    pub async fn query_text(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let client = self.connect(database).await;
        let messages = client
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{}\nin: {}", detail(&error), excerpt(sql)));
        messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }

    /// Runs a query of one row and one column that is not NULL.
    ///
    /// # Panics
    /// When it returns anything else.
    pub async fn query_one(&self, database: &str, sql: &str) -> String {
        let mut rows = self.query_text(database, sql).await;
        assert!(rows.len() == 1 && rows[0].len() == 1, "one value expected of: {}", excerpt(sql));
        rows.remove(0).remove(0).unwrap_or_else(|| panic!("NULL from: {}", excerpt(sql)))
    }

    /// Creates an empty database.
    ///
    /// # Panics
    /// When there is one of that name.
    pub async fn create_database(&self, name: &str) {
        self.execute("postgres", &format!("CREATE DATABASE {} TEMPLATE template0", quote_identifier(name)))
            .await;
    }

    /// Creates an empty database with a name beginning with `prefix` that nobody else got.
    pub async fn fresh_database(&self, prefix: &str) -> String {
        let name = self.unique_name(prefix);
        self.create_database(&name).await;
        name
    }

    /// Drops a database, ending its connections.
    pub async fn drop_database(&self, name: &str) {
        self.execute("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name)))
            .await;
    }

    /// Creates a role that may read everything in `database` and write nothing, and gives its URL.
    /// Tables made later are readable too.
    pub async fn create_read_only_role(&self, database: &str, name: &str) -> String {
        let (role, password) = (quote_identifier(name), format!("{name}-password"));
        let mut sql = format!(
            "CREATE ROLE {role} LOGIN PASSWORD {};
             REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC;
             REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
            quote_literal(&password),
            quote_identifier(database),
        );
        if self.major() >= 14 {
            sql += &format!("GRANT pg_read_all_data TO {role};");
        } else {
            sql += &format!(
                "GRANT USAGE ON SCHEMA public TO {role};
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
                 GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO {role};"
            );
        }
        self.execute(database, &sql).await;
        self.url(name, &password, database)
    }
}

/// Connects and lets the connection run on the current runtime.
async fn connect(url: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{}", detail(&error)));
    // The error reaches whoever uses the client.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// The server's own words: tokio-postgres prints only "db error".
fn detail(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "{} {}: {} {}",
            error.severity(),
            error.code().code(),
            error.message(),
            error.detail().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}

fn excerpt(sql: &str) -> String {
    sql.chars().take(400).collect()
}

/// `name` as a quoted SQL identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a SQL literal, whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}
