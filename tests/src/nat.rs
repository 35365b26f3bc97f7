//! A provider's home: a machine behind a router that translates addresses and lets nobody in.
//!
//! ```text
//! this machine (market)        router                        home (agent)
//!   198.18.x.1  ──────────  198.18.x.2 │ 192.168.200.1  ──────  192.168.200.2
//! ```
//!
//! # Invariants
//! - Only what the home began is answered through the router; this machine has no route to the home's address.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use crate::netns::{self, Namespace, ip};

/// The home's address, as nobody outside knows it.
pub const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const HOME_ROUTER: &str = "192.168.200.1";
/// As a router at home does it: translated, tracked, nothing in that wasn't asked for.
const RULES: &str = "
table ip router {
    chain translate { type nat hook postrouting priority srcnat; oifname \"wan\" masquerade; }
    chain pass {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" accept
    }
    chain own { type filter hook input priority filter; policy drop; ct state established,related accept; }
}
";
/// A router that forgot what it tracked.
const FORGETS: &str = "
table ip forgetful {
    chain pass { type filter hook forward priority -10; meta l4proto tcp reject with tcp reset; }
}
";

/// Router and home; both go when it is dropped.
#[derive(Debug)]
pub struct Nat {
    device: String,
    outside: Ipv4Addr,
    router: Namespace,
    home: Namespace,
}

impl Nat {
    /// Lays the cables and starts the router.
    ///
    /// # Panics
    /// If the machine can't: it takes root.
    #[must_use]
    pub fn lay() -> Self {
        let (outside, wan) = netns::own_pair();
        let nat = Self {
            device: format!("rmn{}", std::process::id()),
            outside,
            router: Namespace::new("rtr"),
            home: Namespace::new("home"),
        };
        let (router, home) = (&nat.router, &nat.home);
        let pair = |here: &str, there: &str, space: &Namespace| {
            let words = ["type", "veth", "peer", "name", there, "netns", space.name()];
            [&["link", "add", here], &words[..]]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<String>>()
        };
        ip(&pair(&nat.device, "wan", router));
        ip(&["addr", "add", &format!("{outside}/30"), "dev", &nat.device]);
        ip(&["link", "set", &nat.device, "up"]);
        router.ip(&["addr", "add", &format!("{wan}/30"), "dev", "wan"]);
        router.ip(&["link", "set", "wan", "up"]);
        let cable = pair("lan", "eth0", home);
        router.ip(&cable.iter().map(String::as_str).collect::<Vec<_>>());
        router.ip(&["addr", "add", &format!("{HOME_ROUTER}/24"), "dev", "lan"]);
        router.ip(&["link", "set", "lan", "up"]);
        home.ip(&["addr", "add", &format!("{HOME}/24"), "dev", "eth0"]);
        home.ip(&["link", "set", "eth0", "up"]);
        home.ip(&["route", "add", "default", "via", HOME_ROUTER]);
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        router.run(&["sh", "-c", forward], "");
        router.run(&["nft", "-f", "-"], RULES);
        nat
    }

    /// This machine's address, as the home reaches it.
    #[must_use]
    pub const fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The command at home.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        self.home.inside(command)
    }

    /// Whether this machine would send to the home's address through the router, or the router takes a connection.
    ///
    /// # Panics
    /// If `ip` doesn't run.
    #[must_use]
    pub fn lets_in(&self, port: u16) -> bool {
        let asked = Command::new("ip")
            .args(["route", "get", &HOME.to_string()])
            .output()
            .expect("ip runs");
        let way = String::from_utf8_lossy(&asked.stdout);
        let (_, router) = netns::own_pair();
        let to = SocketAddr::from((router, port));
        way.contains(&self.device) || TcpStream::connect_timeout(&to, CONNECT_TIMEOUT).is_ok()
    }

    /// Nothing gets through from now on; connections may live on.
    pub fn cut(&self) {
        ip(&["link", "set", &self.device, "down"]);
    }

    /// Joins the ends again.
    pub fn heal(&self) {
        ip(&["link", "set", &self.device, "up"]);
    }

    /// Each packet of a connection is answered with its end, as a router does that was restarted, until [`Nat::remember`].
    pub fn forget(&self) {
        self.router.run(&["nft", "-f", "-"], FORGETS);
    }

    /// Passes connections on again.
    pub fn remember(&self) {
        let table = ["nft", "delete", "table", "ip", "forgetful"];
        self.router.run(&table, "");
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        netns::gone(&["link", "del", &self.device]);
    }
}
