//! Whether the user of a connection can follow changes, where snapshots depend on it.

use bson::doc;

use super::catalog::Listing;
use super::connect::Deployment;
use super::fault;
use super::moment;
use super::sessions::Sessions;
use super::user::User;
use crate::error::{Error, Kind, Result};
use crate::source::test::bounded;

/// What becomes of snapshots by this user.
pub(super) enum Outlook {
    /// Changes can be followed.
    Good,
    /// They cannot, and need be only where reading takes longer than the server's history reaches.
    Short(Error),
    /// They cannot, and the server reads at no time asked for: every snapshot fails.
    None(Error),
}

/// Opens the change streams that a snapshot would, and lets go of them; where that fails, asks whether the
/// server reads at one time.
pub(super) async fn outlook(deployment: &Deployment, only: Option<&str>, listing: &Listing) -> Outlook {
    let (refused, error) = match bounded(refusals(deployment, only, listing)).await {
        Ok(None) => return Outlook::Good,
        Ok(Some(refused)) => refused,
        Err(error) => (Vec::new(), error),
    };
    let why = match bounded(lacks_time(deployment, listing)).await {
        Ok(None) => return Outlook::Short(error),
        Ok(Some(why)) => why,
        // Whoever may not read is told so where reading is tried.
        Err(_) => return Outlook::Short(error),
    };
    if error.kind() != Kind::Denied {
        let message = format!("a backup has to follow changes ({why}), and cannot: {}", error.message());
        let help = error.help().unwrap_or("Check the server's log.").to_owned();
        return Outlook::None(Error::new(error.kind(), message).with_help(help));
    }
    let message = format!(
        "a backup has to follow changes ({why}), and the user lacks the privilege changeStream on {}",
        refused.join(", ")
    );
    let help = "Grant the role read on it, which has the privilege".to_owned();
    Outlook::None(Error::new(Kind::Denied, message).with_help(match User::of(deployment).await {
        Ok(Some(user)) => format!("{help}. In mongosh:\n{}", user.grant(&refused)),
        _ => format!("{help}."),
    }))
}

/// The databases whose changes the user may not follow, and with what they are refused.
async fn refusals(
    deployment: &Deployment,
    only: Option<&str>,
    listing: &Listing,
) -> Result<Option<(Vec<String>, Error)>> {
    let mut databases: Vec<String> = match only {
        Some(only) => vec![only.to_owned()],
        None => match open(deployment, None).await {
            Ok(()) => return Ok(None),
            // Then each database is followed by itself.
            Err(error) if error.kind() == Kind::Denied => {
                listing.collections.iter().map(|listed| listed.database.clone()).collect()
            }
            Err(error) => return Err(error),
        },
    };
    databases.dedup();
    let mut refused = Vec::new();
    let mut first = None;
    for database in databases {
        match open(deployment, Some(&database)).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Denied => {
                refused.push(database);
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(first.map(|error| (refused, error)))
}

async fn open(deployment: &Deployment, database: Option<&str>) -> Result<()> {
    let stage = match database {
        Some(_) => doc! { "$changeStream": {} },
        None => doc! { "$changeStream": { "allChangesForCluster": true } },
    };
    let command = doc! { "aggregate": 1, "pipeline": [stage], "cursor": { "batchSize": 0 } };
    let opened = deployment.client.database(database.unwrap_or("admin")).run_cursor_command(command).await;
    opened.map(drop).map_err(|error| fault::statement("following changes", &error))
}

/// Why the server cannot read everything at one time; none where it can.
async fn lacks_time(deployment: &Deployment, listing: &Listing) -> Result<Option<String>> {
    // Of nothing there is nothing to read at a time.
    let Some(subject) = moment::subject(listing) else { return Ok(None) };
    let sessions = Sessions::new(&deployment.client);
    let probe = moment::probe(deployment, subject, &sessions).await?;
    Ok(moment::time_for_all(&probe, deployment, listing).err())
}
