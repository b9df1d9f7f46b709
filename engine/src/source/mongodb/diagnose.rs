//! Why no usable server was found behind a URL, where the driver only knows that there was none.

use std::time::Duration;

use bson::{Document, doc};
use futures::future::join_all;
use mongodb::options::{ClientOptions, ServerAddress, Tls, TlsOptions};

use super::MongoUrl;
use crate::error::{Error, Kind};
use crate::source::Stage;

/// How long a server may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the servers themselves, without user and replica set, with the URL's choice of TLS and with
/// the other one. The stage that fails and why, where their answers tell.
pub(super) async fn diagnose(url: &MongoUrl, options: &ClientOptions) -> Option<(Stage, Error)> {
    let is_encrypted = matches!(options.tls, Some(Tls::Enabled(_)));
    let other = if is_encrypted {
        Tls::Disabled
    } else {
        Tls::Enabled(TlsOptions::builder().allow_invalid_certificates(true).build())
    };
    let (as_asked, otherwise) =
        tokio::join!(hello(url, options, options.tls.clone()), hello(url, options, Some(other)));
    match (as_asked, otherwise) {
        (Some(hello), _) => {
            let wanted = options.repl_set_name.as_deref()?;
            let found = hello.get_str("setName").ok();
            (found != Some(wanted)).then(|| (Stage::Connect, other_set(wanted, found)))
        }
        (None, Some(_)) if is_encrypted => Some((Stage::Tls, without_tls())),
        (None, Some(_)) => Some((Stage::Tls, only_tls())),
        (None, None) => None,
    }
}

/// How the first server that answers describes itself.
async fn hello(url: &MongoUrl, options: &ClientOptions, tls: Option<Tls>) -> Option<Document> {
    let answers = join_all(options.hosts.iter().map(|host| hello_of(url, options, host, tls.clone()))).await;
    answers.into_iter().flatten().next()
}

async fn hello_of(
    url: &MongoUrl,
    options: &ClientOptions,
    host: &ServerAddress,
    tls: Option<Tls>,
) -> Option<Document> {
    let mut options = options.clone();
    options.hosts = vec![host.clone()];
    options.direct_connection = Some(true);
    options.load_balanced = None;
    options.repl_set_name = None;
    options.credential = None;
    options.tls = tls;
    options.connect_timeout = Some(PATIENCE);
    options.server_selection_timeout = Some(PATIENCE);
    let client = url.client_with(options).ok()?;
    let admin = client.database("admin");
    tokio::time::timeout(PATIENCE, admin.run_command(doc! { "hello": 1 })).await.ok()?.ok()
}

fn other_set(wanted: &str, found: Option<&str>) -> Error {
    let (message, help) = match found {
        Some(found) => (
            format!("the server belongs to the replica set {found:?}, and the URL asks for {wanted:?}"),
            format!("Write replicaSet={found} in the URL, or leave the option out."),
        ),
        None => (
            format!("the server belongs to no replica set, and the URL asks for {wanted:?}"),
            "Leave replicaSet out of the URL. A router (mongos) and a standalone server are in none."
                .to_owned(),
        ),
    };
    Error::new(Kind::Invalid, message).with_help(help)
}

fn without_tls() -> Error {
    Error::new(Kind::Invalid, "the server speaks without TLS, and the URL asks for it").with_help(
        "Write tls=false in the URL where the network can be trusted, or turn TLS on at the server \
         (net.tls.mode).",
    )
}

fn only_tls() -> Error {
    Error::new(Kind::Invalid, "the server speaks with TLS only, and the URL does not ask for it").with_help(
        "Add tls=true to the URL. A certificate of a private authority is checked against the file that tlsCAFile \
         names.",
    )
}
