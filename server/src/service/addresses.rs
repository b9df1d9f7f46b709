//! Which addresses this server connects to on a user's behalf. Private ones are allowed, that is
//! where databases live; those of cloud metadata services never are: they hand out credentials.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::http::StatusCode;
use engine::source::DatabaseUrl;

use crate::error::{Problem, Result};

/// Resolving is part of the connection test, which says more when it takes too long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Amazon's metadata service by IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Reads a database URL and refuses one of whose hosts leads to a metadata service. Of a
/// `mongodb+srv://` URL the name itself is checked: the hosts behind it are the engine's to find.
pub async fn check_url(url: &str) -> Result<DatabaseUrl> {
    let url = DatabaseUrl::parse(url).map_err(|error| Problem::from(error).with("field", "url"))?;
    let hosts = url.hosts();
    futures::future::try_join_all(hosts.iter().map(|(host, port)| check_host(host, *port))).await?;
    Ok(url)
}

async fn check_host(host: &str, port: u16) -> Result<()> {
    // The system's resolver also reads the odd spellings of numbers that a parser would let pass.
    let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    // A host that does not resolve is for the connection test to explain.
    let Ok(Ok(mut addresses)) = lookup else { return Ok(()) };
    if addresses.any(|address| is_forbidden(address.ip())) {
        let detail =
            "The host is a link-local address, where no database is. Use the database's own address.";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "forbidden-address", "The address is not allowed", detail)
            .with("field", "url"));
    }
    Ok(())
}

fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.is_link_local(),
            None => address.is_unicast_link_local() || address == METADATA_V6,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metadata_services_are_refused_however_they_are_spelled() {
        for host in
            ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "2852039166"]
        {
            for url in [format!("postgres://u:p@{host}/d"), format!("mongodb://u:p@10.0.0.5:27017,{host}/d")]
            {
                let refused = check_url(&url).await.unwrap_err();
                assert_eq!(refused.slug, "forbidden-address", "{url}");
            }
        }
    }

    #[tokio::test]
    async fn private_addresses_and_unknown_hosts_pass() {
        for host in ["127.0.0.1", "10.0.0.5", "192.168.1.1", "[::1]", "[fd00::5]", "no-such-host.invalid"] {
            check_url(&format!("postgres://u:p@{host}/d")).await.unwrap();
            check_url(&format!("mongodb://u:p@{host},127.0.0.1:27018/d")).await.unwrap();
        }
        check_url("mongodb+srv://u:p@no-such-host.invalid/d").await.unwrap();
    }
}
