//! A Debian 12 with systemd of its own, in a container on the machine's engine: where packages are installed as people install them.
//!
//! It shares the machine's network, so that tests reach what it serves on loopback, and the engine's socket, so that rentals are
//! ordinary containers beside it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{containers::Engine, program, wait};

/// A machine that runs until dropped.
#[derive(Debug)]
pub struct Machine {
    id: String,
    engine: Engine,
}

/// Runs one of `scripts/` and returns what it printed.
///
/// # Panics
/// If it fails.
fn script(name: &str, arguments: &[&str], env: &[(&str, &str)]) -> String {
    let path = format!("{}/../scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(path)
        .args(arguments)
        .envs(env.iter().copied())
        .env("CARGO_TARGET_DIR", target())
        .output()
        .expect("a script");
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{name} failed: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// Where the programs were built.
fn target() -> PathBuf {
    let program = program::binary("ramarket-agent");
    let target = program.parent().and_then(Path::parent);
    target.expect("a folder above debug").to_owned()
}

/// Builds the Debian packages `names` of the programs under test, as `version`, into `folder`.
///
/// # Panics
/// If that fails.
pub fn packages(folder: &Path, version: &str, names: &[&str]) {
    let folder = folder.to_str().expect("text");
    let built = script(
        "package.sh",
        &[folder],
        &[
            ("PROFILE", "dev"),
            ("VERSION", version),
            ("PACKAGES", &names.join(" ")),
        ],
    );
    assert_eq!(built.lines().count(), names.len(), "{built}");
}

impl Machine {
    /// Boots one, its image made when there is none, and waits until systemd has started what it starts.
    ///
    /// # Panics
    /// If it doesn't boot.
    pub async fn boot() -> Self {
        let engine = Engine::shared();
        let image = script("debian-image.sh", &["systemd"], &[]);
        let id = engine.docker(&[
            "run",
            "--detach",
            "--label",
            "ramarket.test=machine",
            "--network",
            "host",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-add",
            "NET_ADMIN",
            "--cap-add",
            "SYS_PTRACE",
            "--security-opt",
            "seccomp=unconfined",
            "--cgroupns",
            "host",
            "--volume",
            "/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/run/lock",
            "--volume",
            "/var/run/docker.sock:/run/docker.sock",
            "--env",
            "container=docker",
            image.trim(),
            "/sbin/init",
        ]);
        let machine = Self {
            id: id.trim().to_owned(),
            engine,
        };
        wait::until("systemd is up", || async {
            let state = machine.try_run("systemctl is-system-running").stdout;
            let state = String::from_utf8_lossy(&state).trim().to_owned();
            // degraded: something of Debian's doesn't like containers
            (state == "running" || state == "degraded").then_some(())
        })
        .await;
        machine
    }

    /// Runs a shell command as root.
    ///
    /// # Panics
    /// If the engine's client can't be started.
    #[must_use]
    pub fn try_run(&self, command: &str) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["--host", &self.engine.host(), "exec", &self.id]);
        docker
            .args(["sh", "-c", command])
            .output()
            .expect("docker runs")
    }

    /// As [`Machine::try_run`], and returns what it printed, trimmed.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, command: &str) -> String {
        let output = self.try_run(command);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{command}: {out}\n{err}");
        out
    }

    /// Whether a shell command succeeds.
    #[must_use]
    pub fn holds(&self, command: &str) -> bool {
        self.try_run(command).status.success()
    }

    /// Copies a file or a folder's content to a folder there.
    pub fn copy(&self, from: &Path, to: &str) {
        self.run(&format!("mkdir -p {to}"));
        let from = from.to_str().expect("text");
        let to = format!("{}:{to}", self.id);
        drop(self.engine.docker(&["cp", from, &to]));
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, content: &str) {
        self.run(&format!(
            "cat >{path} <<'END_OF_FILE'\n{content}\nEND_OF_FILE"
        ));
    }

    /// A unit's property, such as `MainPID`.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&format!("systemctl show --value --property {name} {unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.try_run("journalctl --no-pager --lines 80 --output cat");
            eprintln!(
                "--- last lines of the machine's journal\n{}",
                String::from_utf8_lossy(&journal.stdout)
            );
        }
        let mut remove = Command::new("docker");
        remove.args(["--host", &self.engine.host(), "rm", "--force", &self.id]);
        // what it left can be removed by its label
        drop(remove.output());
    }
}
