//! nginx with TLS in front of a coordinator, by the recipe of the operators' manual as it stands there.

use std::{
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
};

const MANUAL: &str = include_str!("../../docs/OPERATIONS.md");

/// Where it is reached, and under which names.
#[derive(Debug, Clone)]
pub struct Face {
    /// The address that it listens on.
    pub address: IpAddr,
    /// The port with TLS.
    pub tls: u16,
    /// The port without.
    pub plain: u16,
    /// In nginx's words.
    pub names: String,
}

impl Face {
    /// Two free ports of an address.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn at(address: impl Into<IpAddr>, names: &str) -> Self {
        let address = address.into();
        let free_port = || {
            let socket = TcpListener::bind((address, 0)).expect("a port");
            socket.local_addr().expect("an address").port()
        };
        Self {
            address,
            tls: free_port(),
            plain: free_port(),
            names: names.to_owned(),
        }
    }
}

/// A running nginx; ended when dropped.
#[derive(Debug)]
pub struct Proxy(Child);

/// Debian's nginx, if it is installed.
#[must_use]
pub fn program() -> Option<PathBuf> {
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

impl Proxy {
    /// Starts it in front of the coordinator at 127.0.0.1:`market`, with `leaf.pem` and `leaf.key` of the folder.
    ///
    /// # Panics
    /// If it isn't installed or doesn't start.
    #[must_use]
    pub fn start(folder: &Path, face: &Face, market: u16) -> Self {
        let config = folder.join("nginx.conf");
        std::fs::write(&config, configuration(folder, face, market)).expect("written");
        let nginx = program().expect("nginx, which make test installs");
        let child = Command::new(nginx)
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.join("error.log"))
            .spawn()
            .expect("nginx starts");
        Self(child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // the master ends its workers at SIGTERM; SIGKILL would leave them
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.0.wait());
    }
}

/// The manual's recipe with this test's addresses, and around it what Debian's own file has.
fn configuration(folder: &Path, face: &Face, market: u16) -> String {
    let recipe = MANUAL
        .split("```nginx\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the manual has a recipe");
    let here = folder.display();
    let mut adapted = String::new();
    for line in recipe.lines().filter(|line| !line.contains("[::]")) {
        let (address, tls, plain) = (face.address, face.tls, face.plain);
        let line = line
            .replace("127.0.0.1:8402", &format!("127.0.0.1:{market}"))
            .replace("listen 443", &format!("listen {address}:{tls}"))
            .replace("listen 80;", &format!("listen {address}:{plain};"))
            .replace(
                "server_name market.example",
                &format!("server_name {}", face.names),
            )
            .replace(
                "/etc/letsencrypt/live/market.example/fullchain.pem",
                &format!("{here}/leaf.pem"),
            )
            .replace(
                "/etc/letsencrypt/live/market.example/privkey.pem",
                &format!("{here}/leaf.key"),
            );
        assert!(!line.contains("/etc/"), "{line}");
        adapted.push_str(&line);
        adapted.push('\n');
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
        .concat();
    // started by root, its workers would change to a user who can't enter a test's folder
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {here}/nginx.pid;\nevents {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\n{temporary}{adapted}}}\n"
    )
}
