//! Addresses where no database is: link-local ones and those of clouds' metadata services, which
//! hand out credentials to whoever asks from the right machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Amazon's metadata service by IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Alibaba's, which is no link-local address.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// Whether this library refuses to connect to `address`, whatever name led there. It is asked of
/// the very address that is connected to, so a name that means another address a moment later
/// changes nothing.
pub fn is_never_a_database(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address == METADATA_V4,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_never_a_database(address.into()),
            None => address.is_unicast_link_local() || address == METADATA_V6,
        },
    }
}

/// Whether `address` belongs to this machine or to a private network.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let shared = (address.octets()[0], address.octets()[1] & 0xc0) == (100, 64);
            address.is_private() || address.is_loopback() || address.is_unspecified() || shared
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_private(address.into()),
            None => address.is_unique_local() || address.is_loopback() || address.is_unspecified(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_known_and_private_networks_are_told_apart() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "100.100.100.200",
        ] {
            assert!(is_never_a_database(parse(text)), "{text}");
        }
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.5",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd00::5",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(parse(text)) && !is_never_a_database(parse(text)), "{text}");
        }
        for text in ["8.8.8.8", "2001:4860:4860::8888", "100.128.0.1"] {
            assert!(!is_private(parse(text)) && !is_never_a_database(parse(text)), "{text}");
        }
    }
}
