//! Who may connect, and how often at once: connections are counted by client address, and without TLS of our own only
//! this machine and trusted proxies are served.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{config::HttpConfig, http::ClientIp};

/// Connections by address.
#[derive(Debug)]
pub(super) struct Guests {
    open: Mutex<HashMap<IpAddr, u32>>,
    per_address_max: u32,
    trusted: Vec<IpAddr>,
    is_tls: bool,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    /// Nothing for a trusted proxy: its clients are many.
    counted: Option<IpAddr>,
}

impl Guests {
    pub(super) fn new(config: &HttpConfig) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            per_address_max: config.connections_per_address_max,
            trusted: config.trusted_proxies.clone(),
            is_tls: config.has_own_tls(),
        })
    }

    /// Counts a connection from `peer`; nothing if it isn't served, and why.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Guest, &'static str> {
        let peer = peer.to_canonical();
        let guest = |counted| Guest {
            guests: Arc::clone(self),
            counted,
        };
        if self.trusted.contains(&peer) {
            return Ok(guest(None));
        }
        if !self.is_tls && !peer.is_loopback() {
            return Err("without TLS only this machine and trusted proxies are served");
        }
        let group = ClientIp(peer).group();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(group).or_default();
        if *count >= self.per_address_max {
            return Err("this address has too many connections open");
        }
        *count += 1;
        drop(open);
        Ok(guest(Some(group)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some(group) = self.counted else { return };
        let mut open = self
            .guests
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                open.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(is_tls: bool) -> Arc<Guests> {
        Arc::new(Guests {
            open: Mutex::default(),
            per_address_max: 2,
            trusted: vec!["10.0.0.9".parse().expect("address")],
            is_tls,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_has_its_share_and_proxies_are_not_counted() {
        let guests = guests(true);
        let first = guests.admit(ip("2001:db8::1")).expect("one");
        let _second = guests.admit(ip("2001:db8::2")).expect("two of the /64");
        assert!(guests.admit(ip("2001:db8::3")).is_err());
        let _other = guests.admit(ip("1.1.1.1")).expect("another address");
        drop(first);
        let _again = guests.admit(ip("2001:db8::3")).expect("room again");
        let _proxy: Vec<Guest> = (0..10)
            .map(|_| guests.admit(ip("10.0.0.9")).expect("a proxy"))
            .collect();
    }

    #[test]
    fn without_tls_only_this_machine_and_proxies_are_served() {
        let guests = guests(false);
        assert!(guests.admit(ip("10.0.0.8")).is_err());
        assert!(guests.admit(ip("10.0.0.9")).is_ok() && guests.admit(ip("::1")).is_ok());
        assert!(guests.admit(ip("::ffff:10.0.0.9")).is_ok());
    }
}
