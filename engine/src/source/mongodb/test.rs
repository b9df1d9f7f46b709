//! A connection test that says at which step it failed and what to do there.

use std::net::SocketAddr;
use std::time::Duration;

use bson::doc;
use futures::future::join_all;
use mongodb::options::{ClientOptions, Tls};
use tokio::net::lookup_host;

use super::catalog::{self, Kind as CollectionKind, Listed, Listing};
use super::connect::{Deployment, Topology};
use super::diagnose::diagnose;
use super::follow::{Outlook, outlook};
use super::readonly::Findings;
use super::url::host_and_port;
use super::user::{self, User};
use super::{MongoUrl, fault, readonly};
use crate::error::{Error, Kind, Result};
use crate::source::dial::dial;
use crate::source::test::{QUESTION_TIMEOUT, bounded};
use crate::source::{ConnectionReport, Stage, StageReport};

/// So many collections are read from for real.
const TRIED: usize = 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever waits for a test waits no longer for a member of the set.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries a URL step by step: names, ports, TLS, login, listing, reading, and that nothing can be
/// written. Reads at most a document of a few collections. Collections whose definition cannot be read fail
/// the step but not the test, unless nothing can be read: a backup names them and goes on.
pub async fn test(url: &MongoUrl) -> ConnectionReport {
    let mut report = ConnectionReport::new("mongodb");
    let ignored = url.ignored_parameters();
    if !ignored.is_empty() {
        report.notes.push(format!("options of the URL without effect here: {}", ignored.join(", ")));
    }
    if let Some(deployment) = reach(url, &mut report).await {
        report.ok = examine(url, &deployment, &mut report).await;
        deployment.client.shutdown().await;
    }
    report
}

/// Fails when the user can write, as [`test()`] does: roles may have been granted since.
///
/// # Errors
/// [`NotReadOnly`](Kind::NotReadOnly) with the privileges found.
pub async fn refuse_writers(url: &MongoUrl) -> Result<()> {
    let deployment = bounded(Deployment::connect(url)).await?;
    let findings = bounded(readonly::check(&deployment, url.database())).await;
    deployment.client.shutdown().await;
    let Findings { privileges, roles } = findings?;
    if privileges.is_empty() {
        return Ok(());
    }
    let message =
        format!("the user can write by now: {}. Its roles are {}", privileges.join("; "), roles.join(", "));
    let help = "No snapshot is taken with it. Revoke these roles, or give the URL of a user that can only read in \
                the database's settings.";
    Err(Error::new(Kind::NotReadOnly, message).with_help(help))
}

fn counted(collections: u64) -> String {
    format!("{collections} {}", if collections == 1 { "collection" } else { "collections" })
}

/// The steps up to a deployment that answers.
async fn reach(url: &MongoUrl, report: &mut ConnectionReport) -> Option<Deployment> {
    let (mut options, places) = report.reached(Stage::Resolve, resolve(url).await)?;
    report.pass(Stage::Resolve, addresses_in_words(&places));
    let answered = report.reached(Stage::Connect, connect(&places).await)?;
    report.pass(Stage::Connect, answered);
    let selection = options.server_selection_timeout.unwrap_or(SELECTION_TIMEOUT).min(SELECTION_TIMEOUT);
    options.server_selection_timeout = Some(selection);
    let tls = tls_in_words(&options).to_owned();
    let inspected = match url.client_with(options.clone()) {
        Ok(client) => bounded(Deployment::inspect(client)).await,
        Err(error) => Err(fault::statement("connecting", &error)),
    };
    match inspected {
        Ok(deployment) => {
            report.pass(Stage::Tls, tls);
            let who = match url.user() {
                "" => "no user: nobody is logged in".to_owned(),
                user => format!("logged in as {user}"),
            };
            report.pass(Stage::Authenticate, who);
            Some(deployment)
        }
        Err(error) => {
            let (stage, error) = place_of(url, &options, error).await;
            match stage {
                // Ports that answer are not yet servers that can be used.
                Stage::Connect => report.stages.retain(|found| found.stage != Stage::Connect),
                Stage::Authenticate => report.pass(Stage::Tls, tls),
                _ => {}
            }
            report.fail(stage, &error);
            None
        }
    }
}

/// The stage that failed when no deployment could be asked who it is.
async fn place_of(url: &MongoUrl, options: &ClientOptions, error: Error) -> (Stage, Error) {
    if fault::failed_at_address(&error) {
        return (Stage::Connect, error);
    }
    if error.kind() != Kind::Unreachable {
        let is_tls = fault::failed_at_tls(&error);
        return (if is_tls { Stage::Tls } else { Stage::Authenticate }, error);
    }
    match diagnose(url, options).await {
        Some(told) => told,
        None if fault::failed_at_tls(&error) => (Stage::Tls, error),
        None => (Stage::Connect, error),
    }
}

/// A host of the URL, and where it is.
struct Place {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
}

async fn resolve(url: &MongoUrl) -> Result<(ClientOptions, Vec<Place>)> {
    let options = bounded(url.client_options()).await?;
    let places = join_all(options.hosts.iter().map(async |address| {
        // Sockets of this machine were refused with the URL.
        let (host, port) = host_and_port(address).unwrap_or_default();
        let found = tokio::time::timeout(CONNECT_TIMEOUT, lookup_host((host.as_str(), port))).await;
        let addresses = found.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default();
        Place { host, port, addresses }
    }))
    .await;
    for place in &places {
        url.address_policy().check(&place.host, &place.addresses)?;
    }
    if places.iter().all(|place| place.addresses.is_empty()) {
        let hosts: Vec<&str> = places.iter().map(|place| place.host.as_str()).collect();
        let message = format!("no address is known for {}", hosts.join(", "));
        return Err(Error::new(Kind::Unreachable, message).with_help(
            "Check the host names in the URL. A name of a private network has no address outside it.",
        ));
    }
    Ok((options, places))
}

fn addresses_in_words(places: &[Place]) -> String {
    let known = places.iter().filter(|place| !place.addresses.is_empty());
    let lines: Vec<String> = known
        .map(|Place { host, addresses, .. }| {
            let addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            format!("{host} is {}", addresses.join(", "))
        })
        .collect();
    lines.join("; ")
}

/// One host that answers is enough: it names the others.
async fn connect(places: &[Place]) -> Result<String> {
    let tried = join_all(places.iter().map(async |Place { host, port, addresses }| {
        if addresses.is_empty() {
            return Err(format!("{host}:{port}: no address is known for it"));
        }
        let told = match tokio::time::timeout(CONNECT_TIMEOUT, dial(addresses)).await {
            Ok(Ok(_)) => return Ok(format!("{host}:{port} answers")),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        Err(format!("{host}:{port}: {told}"))
    }))
    .await;
    let told: Vec<String> = tried.iter().map(|tried| tried.clone().unwrap_or_else(|error| error)).collect();
    if tried.iter().any(Result::is_ok) {
        return Ok(told.join("; "));
    }
    Err(Error::new(Kind::Unreachable, told.join("; ")).with_help(
        "Check host, port and firewalls (on Atlas, the IP access list), and that the server listens on more than \
         localhost (net.bindIp).",
    ))
}

fn tls_in_words(options: &ClientOptions) -> &'static str {
    match &options.tls {
        Some(Tls::Enabled(tls)) if tls.allow_invalid_certificates == Some(true) => {
            "encrypted; the certificate is not checked"
        }
        Some(Tls::Enabled(_)) => "encrypted, with a certificate that was checked",
        _ => "not encrypted; tls=true asks for it",
    }
}

/// The steps once somebody answers. Whether a backup with it can be.
async fn examine(url: &MongoUrl, deployment: &Deployment, report: &mut ConnectionReport) -> bool {
    report.server_version.clone_from(&deployment.version);
    let listed = bounded(async {
        deployment.check_release()?;
        catalog::list(deployment, url.database()).await
    });
    let listing = match listed.await {
        Ok(listing) => listing,
        Err(error) => {
            if let Some(nearer) = told_by_user(url, deployment, &error).await {
                report.not_let_in(&nearer);
                return false;
            }
            let mut found = StageReport::failed(Stage::List, &error);
            if let (Kind::Denied, Some(_)) = (error.kind(), url.database())
                && let Ok(seen) = bounded(catalog::databases(deployment)).await
                && let Some(names) = named_in_words(&seen)
            {
                found.fix = Some(format!(
                    "{} Of this server the user can see {names}.",
                    found.fix.unwrap_or_default()
                ));
            }
            report.stages.push(found);
            // Who may not list may write all the same; what it may is named. No proof is asked of it: the
            // URL fails anyway.
            if error.kind() == Kind::Denied {
                judge(url, deployment, report).await;
                if report.privileges.is_empty() {
                    report.stages.pop();
                }
            }
            return false;
        }
    };
    report.collections = (listing.collections.len() + listing.incomplete.len()) as u64;
    if report.collections == 0
        && let Ok(Some(user)) = bounded(User::of(deployment)).await
        && let Some(error) = user.without_roles(url.database())
    {
        report.not_let_in(&error);
        return false;
    }
    if report.collections == 0
        && let Some(found) = nothing_there(deployment, url.database()).await
    {
        report.stages.push(found);
        return false;
    }
    report.size_bytes = size(deployment, &listing).await;
    let shown = listing.note_on_shown().map(|note| format!("; {note}")).unwrap_or_default();
    report.pass(Stage::List, format!("{}{shown}", counted(report.collections)));
    report.notes.extend(listing.notes.iter().cloned());
    let mut can_follow = true;
    let mut obstacle = None;
    if deployment.topology == Topology::Standalone {
        report.lacks_point_in_time = true;
        report.notes.push(format!("{}. {}", super::STANDALONE, super::STANDALONE_HELP));
    } else {
        match outlook(deployment, url.database(), &listing).await {
            Outlook::Good => {}
            Outlook::Short(error) => {
                report.notes.push(format!("snapshots that take long may fail: {}", error.message()));
            }
            Outlook::None(error) => (can_follow, obstacle) = (false, Some(error)),
        }
    }
    let some_readable = read(deployment, &listing, obstacle, report).await;
    let read_only = judge(url, deployment, report).await;
    some_readable && can_follow && read_only
}

/// Why nothing is listed, where it is for want of a user or of any role.
async fn told_by_user(url: &MongoUrl, deployment: &Deployment, error: &Error) -> Option<Error> {
    if error.kind() != Kind::Denied {
        return None;
    }
    match bounded(User::of(deployment)).await.ok()? {
        Some(user) => user.without_roles(url.database()),
        None => user::login_wanted(deployment).await,
    }
}

/// The stage that fails where a database is named in which nothing is. MongoDB makes databases with
/// their first collection, so it is not there, and most likely mistyped.
async fn nothing_there(deployment: &Deployment, named: Option<&str>) -> Option<StageReport> {
    let named = named?;
    let seen = bounded(catalog::databases(deployment)).await.ok()?;
    if seen.iter().any(|name| name == named) {
        return None;
    }
    let there = named_in_words(&seen).map(|names| format!(" The user can see {names}.")).unwrap_or_default();
    Some(StageReport {
        stage: Stage::List,
        ok: false,
        detail: format!("there is no database {named} with anything in it"),
        fix: Some(format!(
            "Check its name in the URL.{there} A new database is there once it holds a collection."
        )),
    })
}

/// Some names in words; none where there are none.
fn named_in_words(names: &[String]) -> Option<String> {
    const NAMED: usize = 20;
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => (!shown.is_empty()).then_some(shown),
        more => Some(format!("{shown} and {more} more")),
    }
}

/// Bytes on disk of the databases in scope, where the user may ask.
async fn size(deployment: &Deployment, listing: &Listing) -> u64 {
    let mut databases: Vec<&str> =
        listing.collections.iter().map(|listed| listed.database.as_str()).collect();
    databases.dedup();
    let mut total = 0;
    for database in databases {
        let Ok(stats) = deployment.try_run(database, doc! { "dbStats": 1 }).await else { continue };
        for part in ["storageSize", "indexSize"] {
            total += match stats.get(part) {
                Some(bson::Bson::Double(bytes)) => *bytes as u64,
                Some(bson::Bson::Int64(bytes)) => u64::try_from(*bytes).unwrap_or(0),
                Some(bson::Bson::Int32(bytes)) => u64::try_from(*bytes).unwrap_or(0),
                _ => 0,
            };
        }
    }
    total
}

/// Tries to read, and says what a backup would be kept from by that or by `obstacle`. Whether something
/// can be read, and nothing keeps every backup from its end.
async fn read(
    deployment: &Deployment,
    listing: &Listing,
    obstacle: Option<Error>,
    report: &mut ConnectionReport,
) -> bool {
    let mut told: Vec<String> =
        listing.incomplete.iter().map(|found| format!("{}: {}", found.name, found.reason)).collect();
    let with_documents = || listing.collections.iter().filter(|listed| listed.kind != CollectionKind::View);
    let (mut tried, mut denied) = (0, false);
    for listed in with_documents().take(TRIED) {
        match try_collection(deployment, listed).await {
            Ok(()) => tried += 1,
            Err(error) => {
                // A backup leaves out what is not listed, and fails at what it may not read.
                denied |= error.kind() == Kind::Denied;
                told.push(error.message().to_owned());
            }
        }
    }
    let only_views = with_documents().count() == 0 && !listing.collections.is_empty();
    let some_readable = tried > 0 || only_views && listing.incomplete.is_empty();
    let mut fixes = Vec::new();
    if !told.is_empty() {
        let goes_on = some_readable && !denied && obstacle.is_none();
        let without = if goes_on { ", or back up without them: the snapshot will say so" } else { "" };
        fixes.push(format!("Grant the user the role read on these databases{without}."));
    }
    if let Some(obstacle) = obstacle {
        told.push(obstacle.message().to_owned());
        fixes.extend(obstacle.help().map(str::to_owned));
    }
    if told.is_empty() {
        report.pass(Stage::Read, format!("{} can be read", counted(report.collections)));
        return true;
    }
    let (detail, fix) = (told.join("\n"), Some(fixes.join("\n")));
    report.stages.push(StageReport { stage: Stage::Read, ok: false, detail, fix });
    some_readable && !denied
}

async fn try_collection(deployment: &Deployment, listed: &Listed) -> Result<()> {
    let limit = i64::try_from(QUESTION_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    // Only whether it may be read: contents that cannot be decoded are no matter here.
    let command = doc! {
        "find": &listed.name, "limit": 1, "batchSize": 1, "maxTimeMS": limit, "projection": { "_id": 1 },
    };
    let tried = deployment.try_run(&listed.database, command).await;
    tried.map(drop).map_err(|error| fault::statement(&listed.display(), &error))
}

async fn judge(url: &MongoUrl, deployment: &Deployment, report: &mut ConnectionReport) -> bool {
    let fix = format!(
        "Create a user that can only read, and connect with it.\n{}{}",
        readonly::read_only_setup(url.database()),
        readonly::atlas_path(url.database())
    );
    let findings = match bounded(readonly::check(deployment, url.database())).await {
        Ok(findings) => findings,
        Err(error) => {
            let mut failure = StageReport::failed(Stage::ReadOnly, &error);
            // Who lacks a login or a role needs no other user.
            if error.kind() != Kind::Denied {
                let help = error.help().map(|help| format!("{help}\n")).unwrap_or_default();
                failure.fix = Some(format!("{help}{fix}"));
            }
            report.stages.push(failure);
            return false;
        }
    };
    report.privileges = findings.privileges;
    let roles = findings.roles.join(", ");
    if report.privileges.is_empty() {
        report.pass(Stage::ReadOnly, format!("no privilege to write was found; roles: {roles}"));
        return true;
    }
    report.stages.push(StageReport {
        stage: Stage::ReadOnly,
        ok: false,
        detail: format!("the user can write: {}. Its roles are {roles}", report.privileges.join("; ")),
        fix: Some(fix),
    });
    false
}
