//! Where this machine is: its routes and its own addresses, from the kernel.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use anyhow::Context as _;

use super::{rules::PREFIX, subnet::Subnet};

/// This machine's routes over IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Networks that it is connected to itself, rentals' bridges left out.
    pub nearby: Vec<Subnet>,
    /// Every network that has a route, rentals' included, the default left out.
    pub taken: Vec<Subnet>,
    /// Where everything else goes.
    pub routers: Vec<Ipv4Addr>,
}

impl Routes {
    /// Reads them.
    ///
    /// # Errors
    /// `/proc/net/route` can't be read.
    pub fn read(proc: &Path) -> anyhow::Result<Self> {
        let path = proc.join("net/route");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("this machine's routes can't be read ({})", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// Whether an address is in a network that this machine is connected to for rentals only.
    #[must_use]
    pub fn is_of_rentals(&self, address: Ipv4Addr) -> bool {
        let holds = |subnets: &[Subnet]| subnets.iter().any(|subnet| subnet.holds(address));
        holds(&self.taken) && !holds(&self.nearby)
    }

    fn parse(text: &str) -> Self {
        let mut routes = Self::default();
        for line in text.lines().skip(1) {
            let mut columns = line.split_ascii_whitespace();
            let Some(interface) = columns.next() else {
                continue;
            };
            let mut number = |skip: usize| {
                columns
                    .nth(skip)
                    .and_then(|text| u32::from_str_radix(text, 16).ok())
            };
            // destination, gateway, flags …, mask: bytes in the order of the network, shown as a number of this machine
            let (Some(destination), Some(gateway), Some(mask)) = (number(0), number(0), number(4))
            else {
                continue;
            };
            let address = |raw: u32| Ipv4Addr::from(raw.to_ne_bytes());
            let prefix = u8::try_from(mask.count_ones()).unwrap_or(32);
            let subnet = Subnet::around(address(destination), prefix);
            if prefix == 0 {
                routes
                    .routers
                    .extend((gateway != 0).then(|| address(gateway)));
                continue;
            }
            routes.taken.push(subnet);
            if gateway == 0 && !interface.starts_with(PREFIX) {
                routes.nearby.push(subnet);
            }
        }
        routes.nearby.sort_unstable();
        routes.nearby.dedup();
        routes
    }
}

/// This machine's own addresses over IPv4, the loopback's left out.
///
/// # Errors
/// `/proc/net/fib_trie` can't be read.
pub fn own_addresses(proc: &Path) -> anyhow::Result<BTreeSet<Ipv4Addr>> {
    let path = proc.join("net/fib_trie");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "this machine's addresses can't be read ({})",
            path.display()
        )
    })?;
    Ok(parse_addresses(&text))
}

fn parse_addresses(text: &str) -> BTreeSet<Ipv4Addr> {
    let mut last = None;
    let mut own = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            own.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        ram-0000aaaa\t0000D50A\t00000000\t0001\t0\t0\t0\tF8FFFFFF\t0\t0\t0\n\
        veth1\t0764A8C0\t0200C80A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn neighbours_are_told_from_what_lies_behind_a_router() {
        let net = |text: &str| text.parse::<Subnet>().expect("a network");
        let routes = Routes::parse(ROUTES);
        assert_eq!(routes.nearby, [net("192.0.2.0/24")]);
        assert_eq!(routes.routers, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(
            routes.taken,
            [
                net("10.213.0.0/29"),
                net("192.168.100.7/32"),
                net("192.0.2.0/24")
            ]
        );
        for (address, of_rentals) in [
            (Ipv4Addr::new(10, 213, 0, 1), true),
            (Ipv4Addr::new(192, 0, 2, 2), false),
            (Ipv4Addr::new(203, 0, 113, 9), false),
        ] {
            assert_eq!(routes.is_of_rentals(address), of_rentals, "{address}");
        }
        assert_eq!(Routes::parse(""), Routes::default());
        assert_eq!(Routes::parse("head\neth0 zz zz\n"), Routes::default());
    }

    #[test]
    fn own_addresses_are_those_that_the_kernel_calls_local() {
        let text = "Local:\n  +-- 0.0.0.0/0 2 0 2\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8\n           |-- 127.0.0.1\n              /32 host LOCAL\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(
            parse_addresses(text).into_iter().collect::<Vec<_>>(),
            [Ipv4Addr::new(192, 0, 2, 2)]
        );
    }
}
