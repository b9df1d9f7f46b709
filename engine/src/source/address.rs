//! Which addresses are connected to on a user's behalf.
//!
//! Some never are: link-local ones and those of clouds' metadata services, which hand out credentials
//! to whoever asks from the right machine. An IPv6 address that stands for an IPv4 one is judged as
//! that one: a gateway would lead there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{Error, Kind, Result};

/// Metadata services and the like that are no link-local addresses: Alibaba's, Azure's, Oracle's.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Google's by IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Which addresses a database may be at. It is asked of the very addresses that are connected to, so
/// a name that means another address a moment later changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Those of this machine and of private networks, too: most databases are there.
    #[default]
    PrivateToo,
    /// Public ones only.
    PublicOnly,
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is link-local or belongs to a cloud's metadata service.
    NeverADatabase,
    /// It is not public, and only public ones are allowed.
    Private,
}

impl AddressPolicy {
    /// Why this address is not connected to, if it is not.
    pub fn refusal(self, address: IpAddr) -> Option<Refusal> {
        if is_never_a_database(address) {
            Some(Refusal::NeverADatabase)
        } else if self == Self::PublicOnly && is_private(address) {
            Some(Refusal::Private)
        } else {
            None
        }
    }

    /// Refuses a host as soon as one of its addresses is not allowed: one that has others, too, is on
    /// the way to change its meaning.
    pub(crate) fn check(self, host: &str, addresses: &[SocketAddr]) -> Result<()> {
        match addresses.iter().find_map(|address| self.refusal(address.ip())) {
            Some(refusal) => Err(refusal.error(host)),
            None => Ok(()),
        }
    }
}

impl Refusal {
    fn error(self, host: &str) -> Error {
        let (what, help) = match self {
            Self::NeverADatabase => (
                "leads to a link-local or metadata address, where no database is",
                "Use the database's own address.",
            ),
            Self::Private => (
                "leads to a private address, and only public ones are connected to",
                "Ask the operator of this server.",
            ),
        };
        Error::new(Kind::Invalid, format!("{host} {what}")).with_help(help)
    }
}

fn is_never_a_database(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            address.is_unicast_link_local()
                || address == METADATA_V6
                // Amazon's services inside a machine: metadata, credentials of containers, time, names.
                || segments[..2] == [0xfd00, 0xec2]
                // NAT64 of a network's own. Where in it the IPv4 address is only that network knows.
                || segments[..3] == [0x64, 0xff9b, 1]
                || meant(address).into_iter().any(|address| is_never_a_database(address.into()))
        }
    }
}

/// Whether `address` belongs to this machine, to a private network, or to nobody.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_for_benchmarks = a == 198 && b & 0xfe == 18;
            let is_for_protocols = (a, b, c) == (192, 0, 0);
            address.is_private()
                || address.is_loopback()
                || is_shared
                || is_for_benchmarks
                || is_for_protocols
                || a == 0
                || address.is_multicast()
                || a >= 240
        }
        IpAddr::V6(address) => {
            let is_site_local = address.segments()[0] & 0xffc0 == 0xfec0;
            address.is_unique_local()
                || address.is_loopback()
                || address.is_unspecified()
                || is_site_local
                || address.is_multicast()
                || meant(address).into_iter().any(|address| is_private(address.into()))
        }
    }
}

/// The IPv4 addresses that an IPv6 address may stand for.
fn meant(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = address.segments();
    let at =
        |index: usize| Ipv4Addr::from_bits(u32::from(segments[index]) << 16 | u32::from(segments[index + 1]));
    match segments {
        // IPv4-compatible, IPv4-mapped, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![at(6)],
        // 6to4.
        [0x2002, ..] => vec![at(1)],
        // Teredo: the server's, and the client's with all bits turned round.
        [0x2001, 0, ..] => vec![at(2), Ipv4Addr::from_bits(!at(6).to_bits())],
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![at(6)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &[&str] = &[
        "169.254.169.254",
        "169.254.0.1",
        "168.63.129.16",
        "192.0.0.192",
        "100.100.100.200",
        "fe80::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "::169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:100.100.100.200",
        "::ffff:0:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::168.63.129.16",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:808:808:0:0:5601:5601",
        "2001:db8::5efe:a9fe:a9fe",
        "2001:db8::200:5efe:a9fe:a9fe",
    ];

    const PRIVATE: &[&str] = &[
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "0.0.0.1",
        "10.0.0.5",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fd00::5",
        "fec0::1",
        "ff02::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:5::1",
        "2001:db8::5efe:10.0.0.5",
    ];

    const PUBLIC: &[&str] = &[
        "8.8.8.8",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];

    #[test]
    fn every_form_of_an_address_is_judged_as_what_it_leads_to() {
        let judged = |text: &str, policy: AddressPolicy| policy.refusal(text.parse().unwrap());
        for (table, private_too, public_only) in [
            (NEVER, Some(Refusal::NeverADatabase), Some(Refusal::NeverADatabase)),
            (PRIVATE, None, Some(Refusal::Private)),
            (PUBLIC, None, None),
        ] {
            for text in table {
                assert_eq!(judged(text, AddressPolicy::PrivateToo), private_too, "{text}");
                assert_eq!(judged(text, AddressPolicy::PublicOnly), public_only, "{text}");
            }
        }
    }

    #[test]
    fn one_address_that_is_not_allowed_is_one_too_many() {
        let addresses: Vec<SocketAddr> =
            ["8.8.8.8:1", "169.254.169.254:1"].map(|text| text.parse().unwrap()).into();
        let error = AddressPolicy::PrivateToo.check("db.example", &addresses).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().starts_with("db.example leads to a link-local"), "{error}");
        AddressPolicy::PrivateToo.check("db.example", &addresses[..1]).unwrap();
    }
}
