//! The firewall's rules for rentals, as one document for `nft`.
//!
//! # Invariants
//! - The document replaces the whole table at once: there is no moment without it.
//! - It names no rental: what counts is that a packet comes from, or goes to, a bridge whose name begins with [`PREFIX`].
//! - What isn't forbidden to a rental is the public internet over IPv4; one on a bridge that begins with [`CLOSED_PREFIX`] has not even that.
//! - A verdict to drop is final whatever other tables say, so neither Docker's rules nor those of another firewall can open what is closed here.

use std::fmt::Write as _;

use super::subnet::{Subnet, merged};

/// The table, in nftables' words.
pub const TABLE: &str = "inet ramarket";
/// How names of rentals' bridges begin.
pub const PREFIX: &str = "ram-";
/// How names of bridges begin whose rentals reach nothing at all: no hexadecimal digit, so it can't be the other's by chance.
pub const CLOSED_PREFIX: &str = "ram-x";

/// Never reached from a rental: private, shared, local and reserved addresses, and where clouds keep their metadata and credentials.
const CLOSED: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    // also Alibaba's metadata, 100.100.100.200
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Azure's host
    "168.63.129.16/32",
    // metadata of most others, 169.254.169.254
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// Sending mail is what rented machines are abused for first.
const MAIL_PORTS: &str = "25, 465, 587";

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// Where rentals' addresses are taken from.
    pub pool: Subnet,
    /// Networks that this machine is connected to: its neighbours, whatever addresses they have.
    pub nearby: Vec<Subnet>,
    /// What else its owner closed.
    pub blocked: Vec<Subnet>,
}

/// The networks that are closed to every rental on every machine.
pub fn closed() -> impl Iterator<Item = Subnet> {
    CLOSED.iter().filter_map(|text| text.parse().ok())
}

impl Wall {
    /// The document.
    #[must_use]
    pub fn document(&self) -> String {
        let nearby = self.nearby.iter().chain(&self.blocked).copied();
        let closed: Vec<String> = merged(closed().chain(nearby))
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut text = String::new();
        // `add` so that there is something to delete, whatever was there before
        let _ = write!(
            text,
            "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n"
        );
        text.push_str(SETS);
        text.push_str(HOOKS);
        let _ = write!(
            text,
            "  chain from_rental {{
    meta nfproto != ipv4 drop
    iifname \"{CLOSED_PREFIX}*\" drop
    oifname \"{PREFIX}*\" drop
    ip saddr != {pool} drop
    fib saddr . iif oif missing drop
    fib daddr type {{ local, broadcast, anycast, multicast }} drop
    ip daddr {{ {closed} }} drop
    tcp dport {{ {MAIL_PORTS} }} drop
    ct direction reply drop
    ct state established,related return
    ct state != new drop
    update @flows {{ iifname limit rate over 100/second burst 500 packets }} drop
    add @open {{ iifname ct count over 8192 }} drop
    iifname . ip daddr @seen return
    update @fresh {{ iifname limit rate over 1000/minute burst 300 packets }} drop
    update @seen {{ iifname . ip daddr }}
  }}
  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pool} oifname != \"{PREFIX}*\" masquerade
  }}
}}
",
            pool = self.pool,
            closed = closed.join(", "),
        );
        text
    }
}

/// What is remembered of each rental: how fast it opens connections, how many it holds, and to how many places.
const SETS: &str = "  set flows { type ifname; size 4096; flags dynamic,timeout; timeout 1m; }
  set open { type ifname; size 4096; flags dynamic; }
  set fresh { type ifname; size 4096; flags dynamic,timeout; timeout 2m; }
  set seen { type ifname . ipv4_addr; size 131072; flags dynamic,timeout; timeout 1m; }
";

/// A rental may answer this machine and nothing else of it; nobody but this machine begins a connection to a rental.
const HOOKS: &str = "  chain input {
    type filter hook input priority -10; policy accept;
    iifname \"ram-*\" jump to_host
  }
  chain to_host {
    meta nfproto != ipv4 drop
    ct direction reply ct state established,related accept
    drop
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    iifname \"ram-*\" jump from_rental
    oifname \"ram-*\" jump to_rental
  }
  chain to_rental {
    ct direction reply ct state established,related accept
    drop
  }
";

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().expect("a network")
    }

    fn wall() -> Wall {
        Wall {
            pool: net("10.213.0.0/16"),
            nearby: vec![
                net("192.168.1.0/24"),
                net("203.0.113.0/26"),
                net("172.17.0.0/16"),
            ],
            blocked: vec![net("198.51.100.7/32")],
        }
    }

    const EXPECTED: &str = include_str!("rules.nft");

    #[test]
    fn the_document_is_as_designed() {
        assert_eq!(wall().document(), EXPECTED);
    }

    #[test]
    fn every_kind_of_address_that_must_be_closed_is() {
        let wall = wall();
        let closed = merged(closed().chain(wall.nearby).chain(wall.blocked));
        for address in [
            "0.0.0.1",
            "10.0.0.1",
            "10.213.0.2",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.17.0.1",
            "172.31.255.1",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "203.0.113.9",
            "198.51.100.7",
        ] {
            let address = address.parse().expect("an address");
            assert!(
                closed.iter().any(|net| net.holds(address)),
                "{address} is open"
            );
        }
        for address in [
            "1.1.1.1",
            "9.9.9.9",
            "168.63.129.17",
            "172.32.0.1",
            "203.0.113.64",
        ] {
            let address = address.parse().expect("an address");
            assert!(
                !closed.iter().any(|net| net.holds(address)),
                "{address} is closed"
            );
        }
        assert_eq!(
            super::closed().count(),
            CLOSED.len(),
            "one of them isn't a network"
        );
    }

    #[test]
    fn whatever_names_bridges_have_the_rules_see_them() {
        assert!(CLOSED_PREFIX.starts_with(PREFIX));
        assert!(
            HOOKS.matches(&format!("\"{PREFIX}*\"")).count() == 3,
            "both hooks and both ways"
        );
        assert!(!CLOSED_PREFIX[PREFIX.len()..].starts_with(|c: char| c.is_ascii_hexdigit()));
    }
}
