//! Which addresses this server connects to on a user's behalf. Private ones are allowed, that is
//! where databases live, unless the operator says otherwise; those of cloud metadata services never
//! are: they hand out credentials. The engine asks again of every address that it connects to; asking
//! here gives the answer at once and names the field.

use std::time::Duration;

use axum::http::StatusCode;
use engine::source::{AddressPolicy, DatabaseUrl, Refusal};

use crate::app::App;
use crate::error::{Problem, Result};

/// Resolving is part of the connection test, which says more when it takes too long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the operator allows.
pub fn policy(app: &App) -> AddressPolicy {
    if app.config.private_addresses { AddressPolicy::PrivateToo } else { AddressPolicy::PublicOnly }
}

/// Reads a database URL and refuses one of whose hosts leads where the operator does not allow. Of a
/// `mongodb+srv://` URL the name itself is checked: the hosts behind it are the engine's to find.
pub async fn check_url(app: &App, url: &str) -> Result<DatabaseUrl> {
    check(url, policy(app)).await
}

async fn check(url: &str, policy: AddressPolicy) -> Result<DatabaseUrl> {
    let url = DatabaseUrl::parse(url).map_err(|error| Problem::from(error).with("field", "url"))?;
    let hosts = url.hosts();
    futures::future::try_join_all(hosts.iter().map(|(host, port)| check_host(host, *port, policy))).await?;
    Ok(url.within(policy))
}

async fn check_host(host: &str, port: u16, policy: AddressPolicy) -> Result<()> {
    // The system's resolver also reads the odd spellings of numbers that a parser would let pass.
    let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    // A host that does not resolve is for the connection test to explain.
    let Ok(Ok(addresses)) = lookup else { return Ok(()) };
    let refused = |detail: &str| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Err(Problem::new(status, "forbidden-address", "The address is not allowed", detail)
            .with("field", "url"))
    };
    match addresses.into_iter().find_map(|address| policy.refusal(address.ip())) {
        Some(Refusal::NeverADatabase) => refused(
            "The host is a link-local or metadata address, where no database is. Use the database's own address.",
        ),
        Some(Refusal::Private) => refused("This server connects to public addresses only. Ask its operator."),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metadata_services_are_refused_however_they_are_spelled() {
        for host in ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "2852039166"]
        {
            for url in [format!("postgres://u:p@{host}/d"), format!("mongodb://u:p@10.0.0.5:27017,{host}/d")]
            {
                let refused = check(&url, AddressPolicy::PrivateToo).await.unwrap_err();
                assert_eq!(refused.slug, "forbidden-address", "{url}");
            }
        }
    }

    #[tokio::test]
    async fn private_addresses_and_unknown_hosts_pass() {
        for host in ["127.0.0.1", "10.0.0.5", "192.168.1.1", "[::1]", "[fd00::5]", "no-such-host.invalid"] {
            check(&format!("postgres://u:p@{host}/d"), AddressPolicy::PrivateToo).await.unwrap();
            check(&format!("mongodb://u:p@{host},127.0.0.1:27018/d"), AddressPolicy::PrivateToo)
                .await
                .unwrap();
        }
        check("mongodb+srv://u:p@no-such-host.invalid/d", AddressPolicy::PrivateToo).await.unwrap();
    }

    #[tokio::test]
    async fn private_addresses_are_refused_where_the_operator_says_so() {
        for host in ["127.0.0.1", "10.0.0.5", "[::1]", "localhost"] {
            let refused =
                check(&format!("postgres://u:p@{host}/d"), AddressPolicy::PublicOnly).await.unwrap_err();
            assert_eq!(refused.slug, "forbidden-address", "{host}");
        }
        check("postgres://u:p@192.0.2.1/d", AddressPolicy::PublicOnly).await.unwrap();
    }
}
