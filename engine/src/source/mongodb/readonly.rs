//! Whether a user can write, and how to make one that cannot.

use std::collections::{BTreeMap, BTreeSet};

use bson::Document;

use super::connect::Deployment;
use super::user::{self, User};
use crate::error::{Error, Kind, Result};
use crate::source::dotted_name;

/// Actions that change nothing: reading, and what the role clusterMonitor adds to watch a deployment
/// (<https://www.mongodb.com/docs/manual/reference/privilege-actions/>). Whatever is not in here counts
/// as writing: servers gain actions with every version.
const READING: [&str; 47] = [
    "allCollectionStats",
    "changeStream",
    "checkFreeMonitoringStatus",
    "checkMetadataConsistency",
    "collStats",
    "connPoolStats",
    "dbHash",
    "dbStats",
    "find",
    "getChangeStreamState",
    "getClusterParameter",
    "getCmdLineOpts",
    "getDatabaseVersion",
    "getDefaultRWConcern",
    "getLog",
    "getParameter",
    "getShardMap",
    "getShardVersion",
    "hostInfo",
    "indexStats",
    "inprog",
    "killCursors",
    "listCachedAndActiveUsers",
    "listClusterCatalog",
    "listCollections",
    "listDatabases",
    "listIndexes",
    "listSampledQueries",
    "listSearchIndexes",
    "listSessions",
    "listShards",
    "netstat",
    "operationMetrics",
    "performRawDataOperations",
    "planCacheRead",
    "queryStatsRead",
    "queryStatsReadTransformed",
    "replSetGetConfig",
    "replSetGetStatus",
    "serverStatus",
    "shardedDataDistribution",
    "shardingState",
    "storageDetails",
    "top",
    "useUUID",
    "viewRole",
    "viewUser",
];

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Each privilege to write: "database shop: insert, update".
    pub privileges: Vec<String>,
    /// The user's roles: "readWrite on shop".
    pub roles: Vec<String>,
}

/// Asks the server what the connection's user may do. A server that does not say is no proof of
/// anything, and is an error.
pub(super) async fn check(deployment: &Deployment, only: Option<&str>) -> Result<Findings> {
    let Some(user) = User::of(deployment).await? else {
        if let Some(error) = user::login_wanted(deployment).await {
            return Err(error);
        }
        return Err(Error::new(
            Kind::NotReadOnly,
            "nobody is logged in, so nothing keeps this connection from writing",
        )
        .with_help("Turn authorization on, make a user that can only read, and put it into the URL."));
    };
    if let Some(error) = user.without_roles(only) {
        return Err(error);
    }
    if user.privileges.is_empty() {
        return Err(Error::new(Kind::NotReadOnly, "the server does not say what the user may do")
            .with_help("Grant the user nothing but the role read or readAnyDatabase, and check it with connectionStatus."));
    }
    Ok(Findings { privileges: writing(&user.privileges), roles: user.roles })
}

/// Privileges that change something, by resource.
fn writing(privileges: &[Document]) -> Vec<String> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for privilege in privileges {
        let actions = privilege.get_array("actions").into_iter().flatten();
        let writes =
            actions.map(|action| action.as_str().unwrap_or("?")).filter(|action| !READING.contains(action));
        let writes: Vec<String> = writes.map(str::to_owned).collect();
        if !writes.is_empty() {
            let resource = privilege.get_document("resource").cloned().unwrap_or_default();
            found.entry(resource_in_words(&resource)).or_default().extend(writes);
        }
    }
    let line = |(resource, actions): (String, BTreeSet<String>)| {
        format!("{resource}: {}", actions.into_iter().collect::<Vec<_>>().join(", "))
    };
    found.into_iter().map(line).collect()
}

fn resource_in_words(resource: &Document) -> String {
    if resource.get_bool("anyResource").unwrap_or(false) {
        return "everything".to_owned();
    }
    if resource.get_bool("cluster").unwrap_or(false) {
        return "the cluster".to_owned();
    }
    // Time series keep their measurements in buckets, which are collections of their own.
    if let Ok(series) = resource.get_str("system_buckets") {
        return match (resource.get_str("db").unwrap_or_default(), series) {
            ("", "") => "the buckets of every time series".to_owned(),
            ("", series) => format!("the buckets of time series {series} of every database"),
            (database, "") => format!("the buckets of every time series of database {database}"),
            (database, series) => format!("the buckets of time series {}", dotted_name(database, series)),
        };
    }
    match (resource.get_str("db"), resource.get_str("collection")) {
        (Ok(""), Ok("")) => "every database".to_owned(),
        (Ok(""), Ok(collection)) => format!("collection {collection} of every database"),
        (Ok(database), Ok("")) => format!("database {database}"),
        (Ok(database), Ok(collection)) => {
            format!("collection {}", dotted_name(database, collection))
        }
        _ => format!("a resource of another kind, {resource}"),
    }
}

/// A script for mongosh that makes a user who can only read: one database, or all. Anybody who may
/// create users on admin can run it.
pub fn read_only_setup(database: Option<&str>) -> String {
    let role = user::role_to_read(database);
    format!(
        "// Run in mongosh as a user who may create users. It asks for a password for the new user.\n\
         db.getSiblingDB(\"admin\").createUser({{\n  user: \"dbsnap\",\n  pwd: passwordPrompt(),\n  roles: [{role}]\n}})\n"
    )
}

/// Where the same is done in Atlas, whose users are not made by commands.
pub(super) fn atlas_path(database: Option<&str>) -> String {
    let privilege = match database {
        Some(database) => format!("Specific Privileges → read @ {database}"),
        None => "Built-in Role → Only read any database".to_owned(),
    };
    format!("On Atlas: Security → Database Access → Add New Database User → Password; {privilege}.")
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn privilege(resource: Document, actions: &[&str]) -> Document {
        doc! { "resource": resource, "actions": actions }
    }

    #[test]
    fn reading_is_what_the_list_says_and_nothing_else() {
        let read = [
            "changeStream",
            "collStats",
            "dbHash",
            "dbStats",
            "find",
            "killCursors",
            "listCollections",
            "listIndexes",
            "listSearchIndexes",
            "planCacheRead",
        ];
        let shop = doc! { "db": "shop", "collection": "" };
        assert_eq!(writing(&[privilege(shop.clone(), &read)]), [""; 0]);
        let found = writing(&[
            privilege(shop.clone(), &["find", "update", "insert"]),
            privilege(shop, &["somethingOfTheFuture"]),
            privilege(doc! { "cluster": true }, &["appendOplogNote", "listDatabases"]),
            privilege(doc! { "anyResource": true }, &["anyAction"]),
            privilege(doc! { "db": "config", "collection": "settings" }, &["insert", "update", "find"]),
            privilege(doc! { "db": "", "collection": "system.js" }, &["insert"]),
            privilege(doc! { "db": "", "collection": "" }, &["remove"]),
            privilege(doc! { "system_buckets": "" }, &["find", "insert"]),
            privilege(doc! { "db": "shop", "system_buckets": "" }, &["insert"]),
            privilege(doc! { "db": "shop", "system_buckets": "weather" }, &["update"]),
            privilege(doc! { "db": "", "system_buckets": "weather" }, &["update"]),
            privilege(doc! { "tenant": "t" }, &["update"]),
        ]);
        assert_eq!(
            found,
            [
                "a resource of another kind, { \"tenant\": \"t\" }: update",
                "collection config.settings: insert, update",
                "collection system.js of every database: insert",
                "database shop: insert, somethingOfTheFuture, update",
                "every database: remove",
                "everything: anyAction",
                "the buckets of every time series: insert",
                "the buckets of every time series of database shop: insert",
                "the buckets of time series shop.weather: update",
                "the buckets of time series weather of every database: update",
                "the cluster: appendOplogNote",
            ]
        );
    }

    #[test]
    fn names_in_the_setup_are_quoted() {
        let script = read_only_setup(Some("a\"b"));
        assert!(script.contains(r#"{ role: "read", db: "a\"b" }"#), "{script}");
        assert!(script.contains(r#"db.getSiblingDB("admin").createUser({"#));
        assert!(read_only_setup(None).contains("readAnyDatabase"));
    }
}
