//! Settings that the text of `pg_dump` depends on, and that it does not set itself.
//!
//! An operator may set them on a database or a role between two backups, and an unchanged schema
//! would read as another one. They are set for `pg_dump` where they are not as they are meant to be:
//! only then, because it takes an option of the startup packet, which poolers refuse or ignore. Where
//! they do, what was in force is kept beside the tool's version, so that a comparison can say it.
//!
//! `pg_dump` sets the dates, intervals and floats itself; its time zone and encoding are set by other
//! means that poolers know.

use super::connect::Connector;
use super::fault;
use super::session::Session;
use crate::error::Result;

/// Names and the values that they are meant to have.
const MEANT: &[(&str, &str)] =
    &[("bytea_output", "hex"), ("quote_all_identifiers", "off"), ("standard_conforming_strings", "on")];

/// Between a tool's version and the settings it ran with, if those were others than are meant.
const WITH: &str = " with ";

/// How `pg_dump` is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DumpSettings {
    /// The options for the startup packet, if they are needed and taken.
    pub(super) options: Option<String>,
    /// The settings that could not be made as they are meant to be ("bytea_output=escape").
    other: Vec<String>,
}

impl DumpSettings {
    /// `worker` has the settings of every session of this user in this database.
    pub(super) async fn choose(worker: &Session, connector: &Connector) -> Result<Self> {
        let failed = |error| fault::statement("reading settings", error);
        // What holds for the session, whatever its transaction has pinned.
        let other = worker.answered(differing(worker, "reset_val")).await?.map_err(failed)?;
        if other.is_empty() {
            return Ok(Self::default());
        }
        let options = options(connector.url().options());
        let with_options = Connector::new(&connector.url().with_options(&options))?;
        // A pooler may refuse options, or take them and do nothing.
        if let Ok(session) = with_options.with_patience(connector.patience()).connect().await
            && let Ok(other) = session.answered(differing(&session, "setting")).await?
            && other.is_empty()
        {
            return Ok(Self { options: Some(options), other: Vec::new() });
        }
        Ok(Self { options: None, other })
    }

    /// The tool's version, and what else its text depends on.
    pub(super) fn describe(&self, tool: &str) -> String {
        if self.other.is_empty() { tool.to_owned() } else { format!("{tool}{WITH}{}", self.other.join(", ")) }
    }
}

/// The settings that [`DumpSettings::describe`] wrote behind a tool's version.
pub(crate) fn described(tool: &str) -> &str {
    tool.split_once(WITH).map_or("", |(_, settings)| settings)
}

/// Options that come last are the ones that hold.
fn options(of_url: Option<&str>) -> String {
    let ours = MEANT.iter().map(|(name, value)| format!("-c {name}={value}"));
    of_url.map(str::to_owned).into_iter().chain(ours).collect::<Vec<_>>().join(" ")
}

/// The settings that are not as they are meant to be.
async fn differing(session: &Session, column: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let names: Vec<String> = MEANT.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql = format!(
        "SELECT name::pg_catalog.text, {column}::pg_catalog.text FROM pg_catalog.pg_settings \
         WHERE name IN ({}) ORDER BY 1",
        names.join(", ")
    );
    let rows = session.rows(&sql).await?;
    let is_other = |(name, value): &(String, String)| !MEANT.contains(&(name.as_str(), value.as_str()));
    let found = rows.iter().map(|row| (row.text(0), row.text(1))).filter(is_other);
    Ok(found.map(|(name, value)| format!("{name}={value}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_url_stay_and_ours_come_last() {
        let ours = "-c bytea_output=hex -c quote_all_identifiers=off -c standard_conforming_strings=on";
        assert_eq!(options(None), ours);
        assert_eq!(options(Some("-c bytea_output=escape")), format!("-c bytea_output=escape {ours}"));
    }

    #[test]
    fn settings_are_read_back_from_behind_the_version() {
        assert_eq!(DumpSettings::default().describe("pg_dump 15.18"), "pg_dump 15.18");
        let other = vec!["a=x".to_owned(), "b=y".to_owned()];
        let told = DumpSettings { options: None, other }.describe("pg_dump 15.18");
        assert_eq!((told.as_str(), described(&told)), ("pg_dump 15.18 with a=x, b=y", "a=x, b=y"));
        assert_eq!(described("pg_dump 15.18"), "");
    }
}
