//! Who is behind a proxy: what it says of the addresses it forwards for.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose word is taken. Anybody may send the header, and only they overwrite or extend it.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl FromStr for TrustedProxies {
    type Err = ();

    /// Addresses and networks, separated by commas.
    fn from_str(text: &str) -> Result<Self, ()> {
        let network = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| text.parse()).map_err(|_| ())
        };
        text.split(',').map(|part| network(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// Where a request comes from: `peer`, or, if that is a trusted proxy, whom it forwards for. Of a
    /// chain, that is the last who is no trusted proxy: those before are what somebody claims.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut chain = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
        while self.is_one(client) {
            match chain.next().and_then(address) {
                Some(next) => client = next,
                None => break,
            }
        }
        client
    }

    fn is_one(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address of the header; some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse();
    let address: Result<IpAddr, _> = alone.or_else(|_| text.parse::<SocketAddr>().map(|both| both.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, headers: &[&str]) -> String {
        let proxies = if trusted.is_empty() { TrustedProxies::default() } else { trusted.parse().unwrap() };
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(FORWARDED_FOR, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_trusted_proxies_say_who_is_behind_them() {
        assert_eq!(client("", "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.0/8", "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.0/8", "10.1.2.3", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.0/8", "::ffff:10.1.2.3", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.0/8", "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn what_a_client_claims_is_not_believed() {
        let trusted = "10.0.0.0/8, 2001:db8::7";
        assert_eq!(client(trusted, "10.1.2.3", &["198.51.100.1, 203.0.113.9, 10.9.9.9"]), "203.0.113.9");
        assert_eq!(client(trusted, "10.1.2.3", &["198.51.100.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(trusted, "2001:db8::7", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client(trusted, "10.1.2.3", &["198.51.100.1, nonsense"]), "10.1.2.3");
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        for wrong in ["", "proxy.example.com", "10.0.0.0/33", "10.0.0.1,"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong:?}");
        }
    }
}
