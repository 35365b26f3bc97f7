//! Which addresses a rental's streams may be dialled to: the rental itself and the public internet.
//!
//! # Invariants
//! - What isn't known to be public is refused; an IPv4 address inside an IPv6 one is judged as the IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a rental may be asked to connect to `address`: its own loopback, or a public host.
#[must_use]
pub fn may_be_dialled(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || is_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public_v4(v4),
            None => v6.is_loopback() || is_public_v6(v6),
        },
    }
}

/// Not private, link-local (where clouds keep their metadata), carrier-grade NAT, reserved, documentation, benchmark or multicast.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 127
        || a >= 224
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

/// Global unicast is 2000::/3, less what is for documentation, tunnels and tests.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if !address.is_loopback() => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_public_hosts_may_be_dialled() {
        for allowed in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "198.17.0.1",
            "2606:4700:4700::1111",
            "2a01:4f8::1",
        ] {
            let address = allowed.parse().expect("an address");
            assert!(may_be_dialled(address), "{allowed}");
        }
        for refused in [
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:0a00:0001::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            let address = refused.parse().expect("an address");
            assert!(!may_be_dialled(address), "{refused}");
        }
    }
}
