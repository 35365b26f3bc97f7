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
use system_tests::netns::{self, Namespace, ip};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The namespace and the pair; both go when it is dropped.
pub(crate) struct CutLink {
    device: String,
    space: Namespace,
}

impl CutLink {
    /// Joins a new namespace to the coordinator at 127.0.0.1:`port`.
    pub(crate) fn to(port: u16) -> Self {
        let id = std::process::id();
        let link = Self {
            device: format!("rmk{id}"),
            space: Namespace::new("cut"),
        };
        let (name, inner) = (link.space.name(), format!("rmi{id}"));
        let (ours, theirs) = netns::own_pair();
        let pair = ["type", "veth", "peer", "name", &inner, "netns", name];
        ip(&[&["link", "add", &link.device], &pair[..]].concat());
        ip(&["addr", "add", &format!("{ours}/30"), "dev", &link.device]);
        ip(&["link", "set", &link.device, "up"]);
        let space = &link.space;
        space.ip(&["addr", "add", &format!("{theirs}/30"), "dev", &inner]);
        space.ip(&["link", "set", &inner, "up"]);
        let outer = TcpListener::bind((ours, 0)).expect("an address of ours");
        let gate = outer.local_addr().expect("an address");
        let coordinator = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        thread::spawn(move || pass_on(&outer, coordinator));
        let namespace = File::open(link.space.path()).expect("the namespace");
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

    /// The command inside the namespace.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        self.space.inside(command)
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
        // the other end goes with it
        netns::gone(&["link", "del", &self.device]);
    }
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
