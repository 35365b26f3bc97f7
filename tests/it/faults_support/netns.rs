//! A link that can be cut for real: a network namespace for the agent, joined to the machine by a pair of virtual devices.
//!
//! An agent speaks plain HTTP to loopback only. So on the namespace's own loopback, at the coordinator's port, something listens
//! that passes connections on over the pair, and at its other end something passes them on to the coordinator.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::Command,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The namespace and the pair; both go when it is dropped.
pub(crate) struct CutLink {
    name: String,
    device: String,
}

impl CutLink {
    /// Joins a new namespace to the coordinator at 127.0.0.1:`port`.
    pub(crate) fn to(port: u16) -> Self {
        let id = std::process::id();
        let link = Self {
            name: format!("ramarket-{id}"),
            device: format!("rmk{id}"),
        };
        let (name, inner) = (link.name.as_str(), format!("rmi{id}"));
        // one of 16,384 small networks of the range for tests of networks
        let part = u8::try_from(id / 64 % 256).expect("a byte");
        let last = u8::try_from(id % 64 * 4).expect("a byte");
        let (ours, theirs) = (
            Ipv4Addr::new(198, 18, part, last + 1),
            Ipv4Addr::new(198, 18, part, last + 2),
        );
        ip(&["netns", "add", name]);
        ip(&[
            "link",
            "add",
            &link.device,
            "type",
            "veth",
            "peer",
            "name",
            &inner,
            "netns",
            name,
        ]);
        ip(&["addr", "add", &format!("{ours}/30"), "dev", &link.device]);
        ip(&["link", "set", &link.device, "up"]);
        ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{theirs}/30"),
            "dev",
            &inner,
        ]);
        ip(&["-n", name, "link", "set", &inner, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        let outer = TcpListener::bind((ours, 0)).expect("an address of ours");
        let gate = outer.local_addr().expect("an address");
        let coordinator = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        thread::spawn(move || pass_on(&outer, coordinator));
        let namespace = File::open(link.path()).expect("the namespace");
        let entered = thread::spawn(move || -> io::Result<()> {
            // only this thread and those that it starts are in there; sockets stay where they were made
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind)?;
            let inner = TcpListener::bind(coordinator)?;
            thread::spawn(move || pass_on(&inner, gate));
            Ok(())
        });
        entered
            .join()
            .expect("a thread")
            .expect("the namespace can be entered");
        link
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// The command inside the namespace. (`ip netns exec` would hide the cgroups.)
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--net={}", self.path()))
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }

    /// Nothing gets through from now on.
    pub(crate) fn cut(&self) {
        ip(&["link", "set", &self.device, "down"]);
    }

    /// Joins the ends again.
    pub(crate) fn heal(&self) {
        ip(&["link", "set", &self.device, "up"]);
    }
}

impl Drop for CutLink {
    fn drop(&mut self) {
        // the pair goes with one of its ends
        for arguments in [["link", "del", &self.device], ["netns", "del", &self.name]] {
            let gone = Command::new("ip").args(arguments).status();
            if !gone.is_ok_and(|status| status.success()) {
                eprintln!("left behind: {arguments:?}");
            }
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments:?}: {said}");
}

fn pass_on(listener: &TcpListener, to: SocketAddr) {
    for from in listener.incoming().flatten() {
        thread::spawn(move || {
            // a connection that can't be passed on is closed: the agent sees that nobody answers
            if let Ok(onward) = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT) {
                join(&from, &onward);
            }
        });
    }
}

fn join(one: &TcpStream, other: &TcpStream) {
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        // an error ends the connection as its end does
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(one, other));
        copy(other, one);
    });
}
