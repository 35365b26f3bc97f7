//! One of our programs as a process: found or built, logged to a file, ended with its value.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

const LOG_LINES_SHOWN: usize = 60;

/// A running program. Killed when dropped; its log's end is shown if the test failed.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    log: PathBuf,
    child: Option<Child>,
}

/// The path of one of our programs: beside the test's own binary.
///
/// # Panics
/// If they can't be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let own = std::env::current_exe().expect("a test is a program");
        // <target>/debug/deps/it-0123 or <target>/debug/program
        let folder = own.parent().expect("a program lies in a folder");
        let folder = if folder.ends_with("deps") {
            folder.parent().expect("deps lies in a folder")
        } else {
            folder
        };
        build_missing(folder);
        folder.to_owned()
    });
    folder.join(name)
}

/// Builds the programs unless they are there: `make test` has done it, a single test may come first.
fn build_missing(folder: &Path) {
    let names = [
        "ramarket-coordinator",
        "ramarket-agent",
        "ramarket-helper",
        "ramarket-inside",
        "ramarket",
    ];
    let missing = || names.iter().any(|name| !folder.join(name).exists());
    if !missing() {
        return;
    }
    // tests are several processes: one builds, the others wait
    let lock = File::create(folder.join(".ramarket-build-lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !missing() {
        return;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--workspace", "--bins"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("CARGO_TARGET_DIR", folder.parent().expect("a target"));
    let built = cargo.status().expect("cargo runs");
    assert!(built.success() && !missing(), "the programs can't be built");
}

/// A command of one of our programs, without settings from this process's environment.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("RAMARKET_") {
            command.env_remove(variable);
        }
    }
    command
}

impl Program {
    /// Starts it; its standard error is appended to `log`.
    pub(crate) fn spawn(name: &'static str, mut command: Command, log: &Path) -> Self {
        let mut program = Self {
            name,
            log: log.to_owned(),
            child: None,
        };
        program.again(&mut command);
        program
    }

    /// Starts it anew after its end.
    pub(crate) fn again(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("a log file");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        self.child = Some(command.spawn().expect("a program that starts"));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether it was started and not killed or ended since.
    pub(crate) const fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was started");
        child.try_wait().expect("our child").is_some()
    }

    /// `SIGKILL`, and waits for its end.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // an error means that it has ended already
            drop(child.kill());
            child.wait().expect("our child");
        }
    }

    /// `SIGTERM`, and waits for its end. Returns whether it ended well.
    pub(crate) fn end(&mut self) -> bool {
        let Some(mut child) = self.child.take() else {
            return true;
        };
        signal(child.id(), "TERM");
        child.wait().expect("our child").success()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Sends a signal (`TERM`, `STOP`, `CONT`) to a process of ours.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(
        sent.expect("kill runs").success(),
        "no signal {name} to {pid}"
    );
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- last lines of {}\n{}", self.name, shown.join("\n"));
        }
    }
}
