//! Which addresses may be called on behalf of somebody: the public ones, and the ranges that the operator lists.
//!
//! # Invariants
//! - Default deny: of IPv6 only global unicast is public, of IPv4 what no registry sets aside.
//! - An address that wraps an IPv4 address (mapped, 6to4, NAT64) is judged by the address inside.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// IPv4 that isn't the public internet: network, length of its prefix.
const V4_REFUSED: [(Ipv4Addr, u8); 17] = [
    // this network
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // carrier-grade NAT; a cloud's metadata service among them
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // a public address in name only: the host of a large cloud answers its guests there
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // link-local, the metadata service of most clouds among them
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // relays of 6to4
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // benchmarks
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // multicast
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

/// IPv6 within global unicast (`2000::/3`) that isn't the public internet.
const V6_REFUSED: [(Ipv6Addr, u8); 3] = [
    // protocol assignments: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // documentation
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
const V6_GLOBAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether `address` is one of the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !V4_REFUSED
            .iter()
            .any(|(network, length)| covers(bits_v4(*network), bits_v4(address), 32, *length)),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |(network, length): (Ipv6Addr, u8)| {
        covers(u128::from(network), u128::from(address), 128, length)
    };
    let octets = address.octets();
    if within(NAT64) {
        let [.., a, b, c, d] = octets;
        return is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    }
    if octets.starts_with(&[0x20, 0x02]) {
        let [_, _, a, b, c, d, ..] = octets;
        return is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    }
    within(V6_GLOBAL) && !V6_REFUSED.into_iter().any(within)
}

fn bits_v4(address: Ipv4Addr) -> u128 {
    u128::from(u32::from(address))
}

/// Whether the first `length` of `width` bits are the same.
const fn covers(network: u128, address: u128, width: u8, length: u8) -> bool {
    let rest = width - length;
    // a shift by all 128 bits isn't one
    rest >= 128 || (network >> rest) == (address >> rest)
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    network: IpAddr,
    length: u8,
}

impl IpRange {
    /// Whether `address` (of a mapped one, the IPv4 inside) lies in this range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                covers(bits_v4(network), bits_v4(address), 32, self.length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                covers(u128::from(network), u128::from(address), 128, self.length)
            }
            _ => false,
        }
    }
}

/// Why a text isn't a range of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0}: write a network and the length of its prefix, such as 10.0.0.0/8, with no bits set after the prefix"
)]
pub struct IpRangeError(String);

impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let refused = || IpRangeError(text.to_owned());
        let (network, length) = match text.split_once('/') {
            Some((network, length)) => (network, Some(length)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| refused())?;
        let (width, bits) = match network {
            IpAddr::V4(network) => (32, bits_v4(network)),
            IpAddr::V6(network) => (128, u128::from(network)),
        };
        let length: u8 = match length {
            Some(length) => length.parse().map_err(|_| refused())?,
            None => width,
        };
        let rest = width.checked_sub(length).ok_or_else(refused)?;
        let low_bits = match rest {
            128 => u128::MAX,
            rest => (1_u128 << rest) - 1,
        };
        (bits & low_bits == 0)
            .then_some(Self { network, length })
            .ok_or_else(refused)
    }
}

impl TryFrom<String> for IpRange {
    type Error = IpRangeError;

    fn try_from(text: String) -> Result<Self, IpRangeError> {
        text.parse()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    /// IPv4 set aside.
    const REFUSED_V4: &str = "\
        0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 \
        127.0.0.1 127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 \
        172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 \
        198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255";
    /// IPv6 of its own.
    const REFUSED_V6: &str = "\
        :: ::1 fe80::1 febf::1 fc00::1 fd00:ec2::254 fec0::1 ff02::1 100::1 2001::1 2001:2::1 \
        2001:10::1 2001:20::1 2001:1ff:ffff::1 2001:db8::1 3fff::1 3fff:fff::1 5f00::1 4000::1 \
        1fff::1 64:ff9b:1::1 64:ff9b:1::808:808";
    /// IPv4 in a coat: mapped, compatible, translated, NAT64, 6to4, Teredo.
    const REFUSED_COATS: &str = "\
        ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::8.8.8.8 \
        ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 \
        2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe:: 2001:0:4136:e378:8000:63bf:3fff:fdd2";
    /// The neighbours of all these.
    const PUBLIC: &str = "\
        1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 \
        168.63.129.17 169.253.255.255 172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 \
        198.17.255.255 198.20.0.1 223.255.255.255 2606:4700:4700::1111 2001:200::1 \
        2001:4860:4860::8888 2a00::1 3ffe::1 2003::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 \
        2002:808:808::1";

    #[test]
    fn nothing_but_the_public_internet_is_public() {
        let refused = [REFUSED_V4, REFUSED_V6, REFUSED_COATS];
        let refused = refused.iter().flat_map(|list| list.split_whitespace());
        assert_eq!(refused.clone().count(), 62);
        for refused in refused {
            assert!(!is_public(address(refused)), "{refused} isn't public");
        }
        assert_eq!(PUBLIC.split_whitespace().count(), 26);
        for public in PUBLIC.split_whitespace() {
            assert!(is_public(address(public)), "{public} is public");
        }
    }

    #[test]
    fn a_range_holds_what_its_prefix_says() {
        let cases = [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2a00::1", false),
            ("::/0", "2a00::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
        ];
        for (range, inside, holds) in cases {
            let parsed: IpRange = range.parse().expect(range);
            assert_eq!(
                parsed.contains(address(inside)),
                holds,
                "{inside} in {range}"
            );
        }
    }

    #[test]
    fn a_range_is_written_exactly() {
        for odd in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "fd00::1/8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "0.0.0.1/0",
        ] {
            assert!(odd.parse::<IpRange>().is_err(), "{odd}");
        }
        let range: IpRange = "10.0.0.0/8".parse().expect("a range");
        assert_eq!(String::from(range), "10.0.0.0/8");
    }
}
