//! Network namespaces: other machines as far as networks go, on this one.
//!
//! # Invariants
//! - What a test lays out has its process's number in its names, and goes when it is dropped.

use std::{
    ffi::OsStr,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// A network namespace, gone when dropped, with the devices in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one; `kind` is one word of a few letters.
    ///
    /// # Panics
    /// If it can't be made: that takes root.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let name = format!("ramarket-{kind}{}", std::process::id());
        ip(&["netns", "add", &name]);
        let made = Self { name };
        made.ip(&["link", "set", "lo", "up"]);
        made
    }

    /// As `ip` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `ip` on it.
    ///
    /// # Panics
    /// If that fails.
    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// The command inside it, with its variables. (`ip netns exec` would hide the cgroups.)
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--net={}", self.path()))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Runs a command in it, with `input`.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, line: &[&str], input: &str) {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]);
        let mut child = self
            .inside(&command)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?}: {said}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        gone(&["netns", "del", &self.name]);
    }
}

/// Two addresses of a small network that is this process's own, of the range for tests of networks (RFC 2544).
///
/// # Panics
/// Never: the numbers are small.
#[must_use]
pub fn own_pair() -> (Ipv4Addr, Ipv4Addr) {
    let id = std::process::id();
    // one of 16,384 networks of four addresses
    let part = u8::try_from(id / 64 % 256).expect("a byte");
    let last = u8::try_from(id % 64 * 4).expect("a byte");
    (
        Ipv4Addr::new(198, 18, part, last + 1),
        Ipv4Addr::new(198, 18, part, last + 2),
    )
}

/// Runs `ip`.
///
/// # Panics
/// If that fails.
pub fn ip<A: AsRef<OsStr> + std::fmt::Debug>(arguments: &[A]) {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments:?}: {said}");
}

/// Runs `ip` to remove what may be gone already; says so if it isn't.
pub fn gone(arguments: &[&str]) {
    let gone = Command::new("ip").args(arguments).status();
    if !gone.is_ok_and(|status| status.success()) {
        eprintln!("left behind: {arguments:?}");
    }
}
