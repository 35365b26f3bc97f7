//! The agent's own look through a rental's eyes: a network namespace on a rental's bridge, from which it tries what must be closed.
//!
//! # Invariants
//! - Whoever answers, with a connection or with a refusal, was reached; only silence and "unreachable" count as closed.
//! - A look that couldn't have reached anything proves nothing: this machine must be able to call into the namespace first.
//! - The namespace belongs to a child process that ends with its standard input, so nothing is left when the agent dies.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{host, subnet::Subnet};

/// How long an address may be silent until it counts as closed.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How long a tool may take.
const WITHIN: Duration = Duration::from_secs(10);
/// What is tried at addresses of this machine: remote shell, web, Docker's API.
const HOST_PORTS: [u16; 5] = [22, 80, 443, 2_375, 2_376];
/// What is tried at the way out.
const ROUTER_PORTS: [u16; 3] = [53, 80, 443];
/// Where clouds keep metadata and credentials.
const METADATA: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Something that a rental must not reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In words.
    pub what: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// A stand-in for a rental: a namespace of its own with an address on a bridge.
#[derive(Debug)]
pub struct StandIn {
    pid: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// The namespace ends with the child, and the child with this.
    _stdin: ChildStdin,
    _child: Child,
}

impl StandIn {
    /// On the bridge of this name whose network is `subnet`; `link` names this machine's end of its cable.
    ///
    /// # Errors
    /// A tool is missing, or isn't permitted.
    pub async fn on(bridge: &str, subnet: Subnet, link: &str) -> anyhow::Result<Self> {
        let (gateway, address) = subnet
            .address(1)
            .zip(subnet.address(2))
            .context("the network is too small")?;
        let mut child = Command::new(tool("unshare")?)
            .args([
                "--net",
                "--",
                "/bin/sh",
                "-c",
                "echo there; exec cat >/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("unshare can't be started")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        let ready = stdout.read_line(&mut line);
        tokio::time::timeout(WITHIN, ready)
            .await
            .context("unshare didn't answer")??;
        ensure!(
            line.trim() == "there",
            "a network namespace can't be made (CAP_SYS_ADMIN is needed)"
        );
        let pid = child.id().context("the child has ended")?;
        let ip = tool("ip")?;
        run(
            &ip,
            &[
                "link",
                "add",
                link,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &pid.to_string(),
            ],
        )
        .await?;
        run(&ip, &["link", "set", link, "master", bridge, "up"]).await?;
        let inside = format!("--net=/proc/{pid}/ns/net");
        let enter = tool("nsenter")?;
        let ip = ip.to_str().context("a path")?;
        let host_part = format!("{address}/{}", subnet.prefix());
        for words in [
            ["link", "set", "lo", "up", "", ""],
            ["address", "add", &host_part, "dev", "eth0", ""],
            ["link", "set", "eth0", "up", "", ""],
            ["route", "add", "default", "via", &gateway.to_string(), ""],
        ] {
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            run(
                &enter,
                &[&[inside.as_str(), "--", ip], words.as_slice()].concat(),
            )
            .await?;
        }
        Ok(Self {
            pid,
            address,
            _stdin: stdin,
            _child: child,
        })
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// A listener inside it.
    ///
    /// # Errors
    /// The namespace can't be entered.
    pub async fn listen(&self) -> anyhow::Result<TcpListener> {
        let address = SocketAddrV4::new(self.address, 0);
        self.inside(move || Ok(TcpListener::bind(address)?)).await
    }

    /// Those of `targets` that can be reached from inside.
    ///
    /// # Errors
    /// The namespace can't be entered.
    pub async fn reaches(&self, targets: Vec<Target>) -> anyhow::Result<Vec<Target>> {
        self.inside(move || {
            let tries: Vec<_> = targets
                .into_iter()
                .map(|target| {
                    let address = target.address;
                    // a thread begins in the namespace of the one that starts it
                    (target, std::thread::spawn(move || answers(address)))
                })
                .collect();
            Ok(tries
                .into_iter()
                // a try that broke off is taken for an answer
                .filter_map(|(target, answered)| answered.join().unwrap_or(true).then_some(target))
                .collect())
        })
        .await
    }

    /// Does `work` on a thread of its own within the namespace, which ends afterwards: threads of the agent's stay where they are.
    async fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let namespace = self.namespace();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(move || {
                let done = enter(&namespace).and_then(|()| work());
                // nobody waits any more when the probe was dropped
                drop(sender.send(done));
            })?;
        receiver
            .await
            .context("the thread in the namespace broke off")?
    }
}

fn enter(namespace: &Path) -> anyhow::Result<()> {
    let file = File::open(namespace).context("the namespace is gone")?;
    use std::os::fd::AsFd as _;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .context("the namespace can't be entered (CAP_SYS_ADMIN is needed)")
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

/// Whether this machine can call a listener in the namespace and gets its answer: what a rental must be able to do.
///
/// # Errors
/// It can't: the look would prove nothing.
pub async fn control(listener: TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let work = move || -> anyhow::Result<()> {
        let caller = std::thread::spawn(move || {
            let mut stream = TcpStream::connect_timeout(&address, SILENCE)?;
            stream.set_read_timeout(Some(SILENCE))?;
            let mut said = [0_u8; 2];
            stream.read_exact(&mut said).map(|()| said)
        });
        listener.set_nonblocking(true)?;
        let deadline = SILENCE;
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(10);
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    std::io::Write::write_all(&mut stream, b"ok")?;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && waited < deadline => {
                    std::thread::sleep(step);
                    waited += step;
                }
                Err(error) => {
                    return Err(error).context("this machine can't call its own stand-in");
                }
            }
        }
        let said = caller.join().ok().context("the call broke off")?;
        ensure!(
            said.context("the stand-in's answer didn't come")? == *b"ok",
            "the stand-in said something else"
        );
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}

/// What a rental on this machine must not reach. `door` is a port at which this machine listens everywhere for the time of the look, and
/// `neighbour` where another stand-in listens.
///
/// # Errors
/// The kernel doesn't say which addresses this machine has.
pub fn targets(proc: &Path, door: u16, neighbour: SocketAddr) -> anyhow::Result<Vec<Target>> {
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
    let ports: Vec<u16> = HOST_PORTS.into_iter().chain([door]).collect();
    for address in host::own_addresses(proc)?.into_iter().take(64) {
        add("this machine", address, &ports);
    }
    for router in routes.routers.into_iter().take(4) {
        add("the local network's router", router, &ROUTER_PORTS);
    }
    for address in METADATA {
        add("a cloud's metadata", address, &[80]);
    }
    Ok(targets)
}

async fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(WITHIN, command.output())
        .await
        .context("a tool didn't end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        output.status.success(),
        "{name} {}: {}",
        arguments.join(" "),
        said.lines().next().unwrap_or_default()
    );
    Ok(())
}

/// Where distributions put a tool; a service's search path may lack them.
fn tool(name: &str) -> anyhow::Result<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .with_context(|| {
            format!("the program {name} isn't installed (packages iproute2 and util-linux)")
        })
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
        let targets =
            targets(Path::new("/proc"), 4_711, neighbour).expect("this machine has addresses");
        assert_eq!(targets[0].address, neighbour);
        for address in host::own_addresses(Path::new("/proc")).expect("read") {
            let tried = targets
                .iter()
                .filter(|target| target.address.ip() == address);
            assert!(tried.count() > HOST_PORTS.len(), "{address}");
        }
        assert!(
            targets
                .iter()
                .any(|target| target.address.to_string() == "169.254.169.254:80")
        );
    }
}
