//! IPv4 networks: parsed, compared, cut into pieces.
//!
//! # Invariants
//! - The bits below the prefix are zero: `10.1.2.3/8` is refused, since it is a mistake or an address.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An IPv4 network such as `10.213.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    first: u32,
    prefix: u8,
}

impl Subnet {
    /// The network of `prefix` bits that holds `address`; prefixes above 32 count as 32.
    #[must_use]
    pub const fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Self {
            first: address.to_bits() & mask(prefix),
            prefix,
        }
    }

    /// Its address at this place; `None` beyond its end.
    #[must_use]
    pub fn address(&self, place: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from_bits(self.first.checked_add(place)?);
        self.holds(address).then_some(address)
    }

    /// Its piece of `prefix` bits at this place, counted round and round; `self` when the pieces would be larger than itself.
    #[must_use]
    pub fn piece(&self, prefix: u8, place: u32) -> Self {
        let bits = u32::from(prefix.min(32).saturating_sub(self.prefix));
        let count = 1_u64 << bits;
        let place = u64::from(place) % count;
        let offset = place << u32::from(32 - prefix.min(32));
        let first = u64::from(self.first).saturating_add(offset);
        Self {
            first: u32::try_from(first).unwrap_or(self.first),
            prefix: prefix.clamp(self.prefix, 32),
        }
    }

    /// How many bits are the network's.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is one of its own.
    #[must_use]
    pub const fn holds(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first
    }

    /// Whether all of `other` is part of it.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && other.first & mask(self.prefix) == self.first
    }

    /// Whether they share an address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

const fn mask(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        prefix => u32::MAX << (32 - prefix),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no IPv4 network; write it as 10.213.0.0/16");
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= 32)
            .ok_or_else(wrong)?;
        let subnet = Self::around(address, prefix);
        if subnet.first == address.to_bits() {
            Ok(subnet)
        } else {
            Err(format!(
                "{text:?} has bits below its prefix; did you mean {subnet}?"
            ))
        }
    }
}

/// The networks without those that lie in another one, sorted: lists for the firewall may not overlap.
#[must_use]
pub fn merged(subnets: impl IntoIterator<Item = Subnet>) -> Vec<Subnet> {
    let mut all: Vec<Subnet> = subnets.into_iter().collect();
    // the larger ones of the same start come first
    all.sort_unstable();
    let mut kept: Vec<Subnet> = Vec::new();
    for subnet in all {
        if kept.last().is_none_or(|last| !last.covers(&subnet)) {
            kept.push(subnet);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().expect("a network")
    }

    #[test]
    fn networks_are_parsed_strictly() {
        for good in ["10.213.0.0/16", "0.0.0.0/0", "1.2.3.4/32"] {
            assert_eq!(net(good).to_string(), good);
        }
        assert_eq!(net("1.2.3.4"), net("1.2.3.4/32"));
        for bad in [
            "",
            "10.213.0.0/33",
            "10.213.0.1/16",
            "10.213/16",
            "::/0",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pieces_lie_within_and_come_round() {
        let pool = net("10.213.0.0/16");
        assert_eq!(pool.piece(29, 0), net("10.213.0.0/29"));
        assert_eq!(pool.piece(29, 8_191), net("10.213.255.248/29"));
        assert_eq!(pool.piece(29, 8_192), net("10.213.0.0/29"));
        assert_eq!(
            pool.piece(29, 3).address(1),
            Some(Ipv4Addr::new(10, 213, 0, 25))
        );
        assert_eq!(pool.piece(29, 3).address(8), None);
        assert_eq!(net("10.0.0.0/30").piece(29, 7), net("10.0.0.0/30"));
    }

    #[test]
    fn lists_lose_what_another_entry_covers() {
        let list = [
            "192.168.1.0/24",
            "10.0.0.0/8",
            "192.168.0.0/16",
            "10.1.0.0/16",
            "8.8.8.8/32",
            "10.0.0.0/8",
        ];
        let merged = merged(list.map(net));
        assert_eq!(
            merged,
            [net("8.8.8.8/32"), net("10.0.0.0/8"), net("192.168.0.0/16")]
        );
        assert!(
            net("10.1.0.0/16").overlaps(&net("10.0.0.0/8"))
                && !net("11.0.0.0/8").overlaps(&net("10.0.0.0/8"))
        );
    }
}
