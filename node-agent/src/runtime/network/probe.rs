//! The look through a rental's eyes: this program, run in a container on a rental's network, tries what must be closed.
//!
//! # Invariants
//! - Whoever answers, with a connection or with a refusal, was reached; only silence and "unreachable" count as closed.
//! - A look that couldn't have reached anything proves nothing: the container must have found its gateway, which the firewall doesn't hide.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::host;

/// The first argument by which this program is asked to look.
const WORD: &str = "isolation-probe";
/// Where the neighbour listens.
pub const NEIGHBOUR_PORT: u16 = 7_001;
/// How long an address may be silent until it counts as closed.
const SILENCE: Duration = Duration::from_millis(1_500);
/// A try does nothing but wait.
const STACK_BYTES: usize = 64 << 10;
/// What is tried at addresses of this machine: remote shell, web, Docker's API. A closed port answers as well, by a refusal.
const HOST_PORTS: [u16; 5] = [22, 80, 443, 2_375, 2_376];
/// What is tried at the way out.
const ROUTER_PORTS: [u16; 3] = [53, 80, 443];
/// Where clouds keep metadata and credentials.
const METADATA: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// Addresses of one machine that are tried.
const ADDRESSES_MAX: usize = 64;

/// Something that a rental must not reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In words.
    pub what: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// What a rental on this machine must not reach; another one listens at `neighbour`.
///
/// # Errors
/// The kernel doesn't say which addresses this machine has.
pub fn targets(proc: &Path, neighbour: SocketAddr) -> anyhow::Result<Vec<Target>> {
    let routes = host::Routes::read(proc)?;
    let mut targets = vec![Target {
        what: "another rental",
        address: neighbour,
    }];
    let mut add = |what, address: Ipv4Addr, ports: &[u16]| {
        targets.extend(ports.iter().map(|port| Target {
            what,
            address: SocketAddrV4::new(address, *port).into(),
        }));
    };
    // bridges of rentals are among them, and so is the probe's own gateway; however many there are, they come last
    let mut own: Vec<Ipv4Addr> = host::own_addresses(proc)?.into_iter().collect();
    own.sort_by_key(|address| routes.is_of_rentals(*address));
    for address in own.into_iter().take(ADDRESSES_MAX) {
        add("this machine", address, &HOST_PORTS);
    }
    for router in routes.routers.into_iter().take(4) {
        add("the local network's router", router, &ROUTER_PORTS);
    }
    for address in METADATA {
        add("a cloud's metadata", address, &[80]);
    }
    Ok(targets)
}

/// The arguments of a container that waits to be called.
#[must_use]
pub fn listening() -> Vec<String> {
    vec![WORD.to_owned(), "listen".to_owned()]
}

/// The arguments of a container that tries all of `targets`.
#[must_use]
pub fn trying(targets: &[Target]) -> Vec<String> {
    let addresses = targets.iter().map(|target| target.address.to_string());
    [WORD.to_owned(), "try".to_owned()]
        .into_iter()
        .chain(addresses)
        .collect()
}

/// What of `targets` was reached, by the words of the container that tried.
///
/// # Errors
/// It didn't come to its end, or couldn't have reached anything.
pub fn verdict(said: &str, targets: &[Target]) -> anyhow::Result<Vec<Target>> {
    let mut reached = Vec::new();
    let (mut ended, mut on_network) = (false, false);
    for line in said.lines().map(str::trim) {
        match line.split_once(' ') {
            Some(("reached", address)) => {
                let address: SocketAddr =
                    address.parse().context("the probe said something else")?;
                let target = targets.iter().find(|target| target.address == address);
                reached.push(target.context("the probe tried something else")?.clone());
            }
            Some(("gateway", found)) => on_network = found == "found",
            None if line == "end" => ended = true,
            _ => {}
        }
    }
    ensure!(ended, "the probe didn't come to its end");
    ensure!(
        on_network,
        "the probe found no gateway on its network, so it proves nothing"
    );
    Ok(reached)
}

/// Does what the arguments of this process ask for, if they ask for a look. For the first line of `main`.
#[must_use]
pub fn asked() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(WORD) {
        return None;
    }
    let done = match words.next().as_deref() {
        Some("listen") => listen(),
        Some("try") => try_all(words.filter_map(|word| word.parse().ok()).collect()),
        _ => return Some(ExitCode::from(2)),
    };
    Some(if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn listen() -> std::io::Result<()> {
    let door = TcpListener::bind(("0.0.0.0", NEIGHBOUR_PORT))?;
    for caller in door.incoming() {
        drop(caller);
    }
    Ok(())
}

fn try_all(addresses: Vec<SocketAddr>) -> std::io::Result<()> {
    let mut tries = Vec::new();
    for address in addresses {
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        tries.push((address, builder.spawn(move || answers(address))?));
    }
    let mut out = std::io::stdout().lock();
    for (address, answered) in tries {
        // a try that broke off is taken for an answer
        if answered.join().unwrap_or(true) {
            writeln!(out, "reached {address}")?;
        }
    }
    let neighbours = std::fs::read_to_string("/proc/net/arp")?;
    writeln!(
        out,
        "gateway {}",
        if knows_someone(&neighbours) {
            "found"
        } else {
            "lost"
        }
    )?;
    writeln!(out, "end")
}

/// Whether anybody answers: a refusal is an answer too.
fn answers(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, SILENCE) {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
        ),
    }
}

/// Whether the kernel knows the hardware address of anybody on its network: flag 2 of `/proc/net/arp`, "complete".
fn knows_someone(arp: &str) -> bool {
    let flags = arp
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().nth(2));
    flags
        .filter_map(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok())
        .any(|flags| flags & 2 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_silence_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        assert!(answers(address));
        drop(listener);
        assert!(answers(address), "refused, so somebody was there");
        // everybody at once: the kernel has no such connection, so nobody answers
        assert!(!answers("255.255.255.255:9".parse().expect("an address")));
    }

    #[test]
    fn every_address_of_this_machine_is_tried_at_every_port() {
        let neighbour = "10.213.0.10:7".parse().expect("an address");
        let own = || host::own_addresses(Path::new("/proc")).expect("read");
        let before = own();
        let targets = targets(Path::new("/proc"), neighbour).expect("this machine has addresses");
        assert_eq!(targets[0].address, neighbour);
        let routes = host::Routes::read(Path::new("/proc")).expect("read");
        // bridges come and go on a machine where other tests run
        for address in before.intersection(&own()) {
            let tried = targets
                .iter()
                .filter(|target| target.address.ip() == *address);
            let whole = tried.count() >= HOST_PORTS.len();
            assert!(whole || routes.is_of_rentals(*address), "{address}");
        }
        assert!(
            targets
                .iter()
                .any(|target| target.address.to_string() == "169.254.169.254:80")
        );
        assert_eq!(trying(&targets).len(), targets.len() + 2);
    }

    #[test]
    fn the_verdict_believes_only_a_look_that_was_made() {
        let target = |what, address: &str| Target {
            what,
            address: address.parse().expect("an address"),
        };
        let targets = [target("a", "10.0.0.1:22"), target("b", "10.0.0.2:80")];
        assert_eq!(verdict("gateway found\nend\n", &targets).expect("made"), []);
        let reached = verdict("reached 10.0.0.2:80\ngateway found\nend\n", &targets).expect("made");
        assert_eq!(reached, [targets[1].clone()]);
        for said in [
            "",
            "gateway found\n",
            "gateway lost\nend\n",
            "end\n",
            "reached 9.9.9.9:9\ngateway found\nend\n",
            "reached x\nend\n",
        ] {
            assert!(verdict(said, &targets).is_err(), "{said:?}");
        }
    }

    #[test]
    fn a_gateway_that_answered_is_told_from_one_that_was_asked_for() {
        let head =
            "IP address       HW type     Flags       HW address            Mask     Device\n";
        let entry = |flags: &str| {
            format!(
                "{head}10.213.0.1       0x1         {flags}         02:42:6e:f5:f7:a0     *        eth0\n"
            )
        };
        assert!(knows_someone(&entry("0x2")) && knows_someone(&entry("0x6")));
        assert!(!knows_someone(&entry("0x0")) && !knows_someone(head) && !knows_someone(""));
    }
}
