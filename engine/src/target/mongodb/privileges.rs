//! What the user of a target may do there, as far as the server tells.

use bson::{Document, doc};
use mongodb::Client;

use super::fault;
use crate::error::Result;

/// What a restore does to a collection, beside reading it for the proof.
pub(super) const NEEDED: [&str; 5] =
    ["createCollection", "insert", "createIndex", "collMod", "dropCollection"];

/// The rights of the user.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Privileges {
    /// Nobody is logged in, and still the server answers: it lets anybody do anything.
    Unrestricted,
    /// The server tells no privileges. That says nothing about what is allowed.
    Unknown {
        user: String,
    },
    Known {
        user: String,
        privileges: Vec<Document>,
    },
}

impl Privileges {
    pub async fn read(client: &Client) -> Result<Self> {
        let admin = client.database("admin");
        let status = admin.run_command(doc! { "connectionStatus": 1, "showPrivileges": true }).await;
        let status = status.map_err(|error| fault::command("asking for the user's privileges", error))?;
        let auth = status.get_document("authInfo").cloned().unwrap_or_default();
        let users = auth.get_array("authenticatedUsers").ok();
        let Some(user) = users.and_then(|users| users.first()?.as_document()) else {
            return Ok(Self::Unrestricted);
        };
        let name = user.get_str("user").unwrap_or_default().to_owned();
        let mut privileges = documents(&auth, "authenticatedUserPrivileges");
        if privileges.is_empty() {
            // Everybody may ask about himself.
            let command = doc! { "usersInfo": user, "showPrivileges": true };
            let answer = client.database(user.get_str("db").unwrap_or("admin")).run_command(command).await;
            let users = answer.map(|answer| documents(&answer, "users")).unwrap_or_default();
            privileges = users.iter().flat_map(|user| documents(user, "inheritedPrivileges")).collect();
        }
        Ok(if privileges.is_empty() {
            Self::Unknown { user: name }
        } else {
            Self::Known { user: name, privileges }
        })
    }

    /// Those of the `needed` actions that the user lacks on a collection.
    pub fn missing<'n>(&self, database: &str, collection: &str, needed: &[&'n str]) -> Vec<&'n str> {
        let Self::Known { privileges, .. } = self else { return Vec::new() };
        let allowed: Vec<&str> = (privileges.iter())
            .filter(|privilege| {
                privilege.get_document("resource").is_ok_and(|at| covers(at, database, collection))
            })
            .filter_map(|privilege| privilege.get_array("actions").ok())
            .flatten()
            .filter_map(|action| action.as_str())
            .collect();
        let lacks = |needed: &&&str| !allowed.contains(*needed) && !allowed.contains(&"anyAction");
        needed.iter().filter(lacks).copied().collect()
    }
}

fn documents(parent: &Document, name: &str) -> Vec<Document> {
    let array = parent.get_array(name).ok().into_iter().flatten();
    array.filter_map(|item| item.as_document().cloned()).collect()
}

/// Whether a privilege's resource includes the collection. Empty names mean any; those of the
/// server's own collections are not among any.
fn covers(resource: &Document, database: &str, collection: &str) -> bool {
    if resource.get_bool("anyResource").unwrap_or(false) {
        return true;
    }
    let (Ok(db), Ok(name)) = (resource.get_str("db"), resource.get_str("collection")) else { return false };
    let in_database = db == database || db.is_empty();
    let is_system = collection.starts_with("system.");
    in_database && (name == collection || (name.is_empty() && !is_system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(privileges: Vec<Document>) -> Privileges {
        Privileges::Known { user: "u".to_owned(), privileges }
    }

    fn on(database: &str, collection: &str, actions: &[&str]) -> Document {
        doc! { "resource": { "db": database, "collection": collection }, "actions": actions.to_vec() }
    }

    #[test]
    fn privileges_on_database_and_collection_add_up() {
        let granted = known(vec![
            on("shop", "", &["insert", "createCollection", "createIndex"]),
            on("", "orders", &["collMod"]),
            on("other", "", &["dropCollection"]),
        ]);
        assert_eq!(granted.missing("shop", "orders", &NEEDED), ["dropCollection"]);
        assert_eq!(granted.missing("shop", "items", &NEEDED), ["collMod", "dropCollection"]);
        assert_eq!(granted.missing("shop", "system.js", &NEEDED).len(), NEEDED.len());
    }

    #[test]
    fn roles_above_all_lack_nothing() {
        let all = known(vec![doc! { "resource": { "anyResource": true }, "actions": ["anyAction"] }]);
        assert!(all.missing("shop", "system.js", &NEEDED).is_empty());
        assert!(Privileges::Unrestricted.missing("shop", "orders", &NEEDED).is_empty());
        // A server that tells nothing has not said no.
        assert!(Privileges::Unknown { user: "u".to_owned() }.missing("shop", "orders", &NEEDED).is_empty());
        assert_eq!(
            known(vec![doc! { "resource": { "cluster": true }, "actions": ["insert"] }])
                .missing("a", "b", &NEEDED)
                .len(),
            5
        );
    }
}
