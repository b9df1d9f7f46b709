//! Who a connection is logged in as, and what the server says of that user.

use bson::{Bson, Document, doc};

use super::connect::Deployment;
use super::fault::{self, code};
use crate::error::{Error, Kind, Result};

/// The user of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    /// The one it is defined in.
    pub database: String,
    /// "readWrite on shop".
    pub roles: Vec<String>,
    /// As the server gives them; none where it gives none.
    pub privileges: Vec<Document>,
}

impl User {
    /// Asks the server. `None` where nobody is logged in.
    pub async fn of(deployment: &Deployment) -> Result<Option<Self>> {
        let command = doc! { "connectionStatus": 1, "showPrivileges": true };
        let status = match deployment.try_run("admin", command).await {
            Ok(status) => status,
            // It takes no privilege: some servers answer nobody without a login.
            Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) => return Ok(None),
            Err(error) => return Err(fault::statement("asking for the user's privileges", &error)),
        };
        let info = status.get_document("authInfo").cloned().unwrap_or_default();
        let users = documents(&info, "authenticatedUsers");
        let Some(user) = users.first() else { return Ok(None) };
        let text = |name: &str| user.get_str(name).unwrap_or_default().to_owned();
        let mut found = Self {
            name: text("user"),
            database: text("db"),
            roles: documents(&info, "authenticatedUserRoles").iter().map(role_in_words).collect(),
            privileges: documents(&info, "authenticatedUserPrivileges"),
        };
        if found.privileges.is_empty() {
            found.privileges = found.own_privileges(deployment).await;
        }
        Ok(Some(found))
    }

    /// The privileges as the user's own entry has them, for servers that list none for a connection.
    async fn own_privileges(&self, deployment: &Deployment) -> Vec<Document> {
        let command =
            doc! { "usersInfo": { "user": &self.name, "db": &self.database }, "showPrivileges": true };
        let Ok(reply) = deployment.try_run(&self.database, command).await else { return Vec::new() };
        let users = documents(&reply, "users");
        users.first().map(|user| documents(user, "inheritedPrivileges")).unwrap_or_default()
    }

    /// Whether every database is listed to it, and not only those that it may read.
    pub fn may_list_databases(&self) -> bool {
        let is_of_cluster = |resource: &Document| {
            ["cluster", "anyResource"].iter().any(|name| resource.get_bool(name).unwrap_or(false))
        };
        self.privileges.iter().any(|privilege| {
            let mut actions = privilege.get_array("actions").into_iter().flatten();
            privilege.get_document("resource").is_ok_and(is_of_cluster)
                && actions.any(|action| matches!(action.as_str(), Some("listDatabases" | "anyAction")))
        })
    }

    /// What makes it read these databases, to be run in mongosh; all where none is named.
    pub fn grant(&self, databases: &[String]) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let roles: Vec<String> = match databases {
            [] => vec![role_to_read(None)],
            some => some.iter().map(|database| role_to_read(Some(database))).collect(),
        };
        format!(
            "db.getSiblingDB({}).grantRolesToUser({}, [{}])",
            quoted(&self.database),
            quoted(&self.name),
            roles.join(", ")
        )
    }

    /// The error of a user with nothing to its name, as one is left that all roles were taken from.
    pub fn without_roles(&self, only: Option<&str>) -> Option<Error> {
        if !(self.roles.is_empty() && self.privileges.is_empty()) {
            return None;
        }
        let message = format!("the user {} has no roles any more, or was given none", self.name);
        let named: Vec<String> = only.map(str::to_owned).into_iter().collect();
        let help = format!("Give it the role to read, in mongosh:\n{}", self.grant(&named));
        Some(Error::new(Kind::Denied, message).with_help(help))
    }
}

/// The role that reads one database, or all, as mongosh takes it.
pub(super) fn role_to_read(database: Option<&str>) -> String {
    match database {
        Some(database) => format!("{{ role: \"read\", db: {} }}", serde_json::Value::from(database)),
        None => "{ role: \"readAnyDatabase\", db: \"admin\" }".to_owned(),
    }
}

/// Why nothing can be asked without a user; none where the server lets everybody ask.
pub(super) async fn login_wanted(deployment: &Deployment) -> Option<Error> {
    let asked = deployment.try_run("admin", doc! { "listDatabases": 1, "nameOnly": true }).await;
    let refused = asked.err().is_some_and(|error| fault::code_of(&error) == Some(code::UNAUTHORIZED));
    refused.then(|| {
        Error::new(Kind::Denied, "no user is logged in, and the server answers none without a login").with_help(
            "Put user and password into the URL: mongodb://USER:PASSWORD@HOST/DATABASE?authSource=admin. Special \
             characters in them are percent-encoded: @ is %40, / is %2F.",
        )
    })
}

fn documents(parent: &Document, name: &str) -> Vec<Document> {
    let items = parent.get_array(name).into_iter().flatten();
    items.filter_map(Bson::as_document).cloned().collect()
}

fn role_in_words(role: &Document) -> String {
    let (name, database) = (role.get_str("role").unwrap_or("?"), role.get_str("db").unwrap_or("?"));
    format!("{name} on {database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_listed_to_whoever_may_on_the_cluster() {
        let may = |resource: Document, action: &str| {
            let privileges = vec![doc! { "resource": resource, "actions": ["find", action] }];
            User { privileges, ..User::default() }.may_list_databases()
        };
        assert!(may(doc! { "cluster": true }, "listDatabases"));
        assert!(may(doc! { "anyResource": true }, "anyAction"));
        assert!(!may(doc! { "cluster": true }, "serverStatus"));
        assert!(!may(doc! { "db": "", "collection": "" }, "listDatabases"));
        assert!(!User::default().may_list_databases());
    }

    #[test]
    fn what_is_to_be_granted_is_quoted() {
        let user = User { name: "a\"b".to_owned(), database: "admin".to_owned(), ..User::default() };
        assert_eq!(
            user.grant(&["shop".to_owned()]),
            r#"db.getSiblingDB("admin").grantRolesToUser("a\"b", [{ role: "read", db: "shop" }])"#
        );
        assert!(user.grant(&[]).ends_with(r#"[{ role: "readAnyDatabase", db: "admin" }])"#));
    }
}
