//! The network of a rental: its own bridge, and a firewall that leaves it the public internet and nothing else.
//!
//! # Invariants
//! - A rental gets a network only while the firewall's table stands ([`guard::Guard`]); without it, rentals without network are all that runs.
//! - Bridges of rentals are known by their names ([`rules::PREFIX`]), so no rule has to be added for one, and none can be forgotten.
//! - Addresses come from one pool that its owner may choose; a piece that this machine has a route to is left out.

pub mod guard;
pub mod host;
pub mod probe;
pub mod rules;
pub mod subnet;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use shared::id::{Ids, RentalId};

use self::subnet::Subnet;

/// Bits of a rental's network: room for this machine and the rental.
pub const RENTAL_PREFIX: u8 = 29;

/// What a machine's owner decides about rentals' networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where rentals' addresses are taken from.
    pub pool: Subnet,
    /// Name servers that rentals ask.
    pub dns: Vec<Ipv4Addr>,
    /// Networks that are closed to rentals besides those that always are, such as this site's public addresses.
    pub blocked: Vec<Subnet>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool: Subnet::around(Ipv4Addr::new(10, 213, 0, 0), 16),
            dns: vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9)],
            blocked: Vec::new(),
        }
    }
}

impl Settings {
    /// Checks bounds.
    ///
    /// # Errors
    /// Words about the setting that can't be used.
    pub fn check(&self) -> anyhow::Result<()> {
        /// Name servers and closed networks at most.
        const MANY: usize = 256;
        anyhow::ensure!(
            (8..=26).contains(&self.pool.prefix())
                && rules::closed().any(|closed| closed.covers(&self.pool)),
            "network_pool is {}; give a private network of 8 to 26 bits, such as 10.213.0.0/16",
            self.pool
        );
        anyhow::ensure!(
            (1..=3).contains(&self.dns.len()),
            "network_dns names {} servers; give one to three",
            self.dns.len()
        );
        if let Some(server) = self
            .dns
            .iter()
            .find(|server| rules::closed().any(|closed| closed.holds(**server)))
        {
            anyhow::bail!(
                "network_dns names {server}, which rentals can't reach; give a public name server"
            );
        }
        anyhow::ensure!(
            self.blocked.len() <= MANY,
            "network_blocked has more than {MANY} entries"
        );
        Ok(())
    }
}

/// A new network's name, which is also its bridge's: 12 or 13 characters, of the 15 that the kernel takes.
#[must_use]
pub fn new_name(ids: &Ids, internet: bool) -> String {
    let id: RentalId = ids.mint();
    let text = id.to_string();
    // the end of an id is what is random in it
    let start = text.len().saturating_sub(8);
    let prefix = if internet {
        rules::PREFIX
    } else {
        rules::CLOSED_PREFIX
    };
    format!("{prefix}{}", text.get(start..).unwrap_or_default())
}

/// Whether a network of this name is of the kind that a rental gets which is promised the internet, or isn't.
#[must_use]
pub fn serves(name: &str, internet: bool) -> bool {
    let shut = name.starts_with(rules::CLOSED_PREFIX);
    name.starts_with(rules::PREFIX) && shut != internet
}

/// The pool's piece to try at this try, from a start that follows from the network's name, so that nodes and restarts don't all begin alike.
#[must_use]
pub fn piece(pool: Subnet, name: &str, attempt: u32) -> Subnet {
    let digits = name.get(name.len().saturating_sub(8)..).unwrap_or_default();
    let start = u32::from_str_radix(digits, 16).unwrap_or(0);
    pool.piece(RENTAL_PREFIX, start.wrapping_add(attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_say_what_they_are() {
        let ids = Ids::System;
        let (open, shut) = (new_name(&ids, true), new_name(&ids, false));
        assert!(
            open.len() == 12 && open.starts_with("ram-") && !open.starts_with("ram-x"),
            "{open}"
        );
        assert!(shut.len() == 13 && shut.starts_with("ram-x"), "{shut}");
        assert!(open[4..].bytes().all(|b| b.is_ascii_hexdigit()), "{open}");
        assert_ne!(open, new_name(&ids, true));
        assert!(serves(&open, true) && serves(&shut, false));
        assert!(
            !serves(&open, false)
                && !serves(&shut, true)
                && !serves("bridge", true)
                && !serves("host", false)
        );
    }

    #[test]
    fn pieces_differ_by_try_and_stay_in_the_pool() {
        let pool = Settings::default().pool;
        let (first, second) = (
            piece(pool, "ram-00000010", 0),
            piece(pool, "ram-00000010", 1),
        );
        assert_eq!(
            (first.to_string(), second.to_string()),
            ("10.213.0.128/29".into(), "10.213.0.136/29".into())
        );
        assert!(pool.covers(&piece(pool, "ram-xffffffff", 77)));
    }

    #[test]
    fn settings_that_cant_work_are_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check()
        };
        assert!(Settings::default().check().is_ok());
        assert!(
            with(|s| s.pool = Subnet::around(Ipv4Addr::new(8, 8, 0, 0), 16)).is_err(),
            "public"
        );
        assert!(
            with(|s| s.pool = Subnet::around(Ipv4Addr::new(10, 0, 0, 0), 28)).is_err(),
            "small"
        );
        assert!(with(|s| s.dns.clear()).is_err());
        let private = with(|s| s.dns = vec![Ipv4Addr::new(192, 168, 1, 1)]).expect_err("private");
        assert!(private.to_string().contains("192.168.1.1"));
    }
}
