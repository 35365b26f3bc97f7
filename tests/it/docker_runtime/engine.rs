//! Docker engines for tests: the one of this machine, started when there is none, and private ones that may be killed.

use std::{
    fs::File,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use system_tests::wait::came_to_hold;

use super::node::remove_folder;

/// Containers' supervisor, which must outlive a killed engine.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Makes sure that this machine's engine answers and has `busybox:latest`.
pub(super) fn shared() {
    static READY: Once = Once::new();
    READY.call_once(|| {
        script("start");
        script("image");
    });
}

/// Runs a subcommand of the engine script and returns what it printed.
pub(super) fn script(subcommand: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/docker-engine.sh");
    run(Command::new(path).arg(subcommand))
}

fn run(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .expect("a command that runs");
    assert!(output.status.success(), "failed: {command:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// An engine's address.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(crate) fn shared() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
        }
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Runs the Docker client and returns what it printed.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        run(Command::new("docker")
            .arg("--host")
            .arg(self.host())
            .args(args))
    }
}

/// An engine of this test's own, on the machine's containerd but in a namespace and folders of its own.
pub(crate) struct PrivateEngine {
    folder: PathBuf,
    namespace: String,
    process: Child,
}

impl PrivateEngine {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With programs of these names and texts in its path, before all others.
    pub(crate) fn start_with(programs: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        shared();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("ramarket-engine-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&namespace);
        std::fs::create_dir_all(folder.join("bin")).expect("a folder");
        for (name, text) in programs {
            let path = folder.join("bin").join(name);
            std::fs::write(&path, text).expect("written");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("runnable");
        }
        let process = spawn(&folder, &namespace);
        let mut engine = Self {
            folder,
            namespace,
            process,
        };
        engine.wait();
        let image = engine.folder.join("busybox.tar");
        let image = image.to_str().expect("text");
        Engine::shared().docker(&["save", "-o", image, "busybox:latest"]);
        engine.address().docker(&["load", "-q", "-i", image]);
        engine
    }

    pub(crate) fn address(&self) -> Engine {
        Engine {
            socket: self.folder.join("docker.sock"),
        }
    }

    /// SIGKILL, as an out-of-memory killer would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// Starts it again on what it left.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(&self.folder, &self.namespace);
        self.wait();
    }

    fn wait(&mut self) {
        let (host, shown) = (self.address().host(), self.folder.display());
        let answers = came_to_hold(|| {
            let mut ask = Command::new("docker");
            ask.args(["--host", &host, "version"]);
            let asked = ask.stdout(Stdio::null()).stderr(Stdio::null()).status();
            let ended = self.process.try_wait().expect("our child");
            assert_eq!(ended, None, "the private engine ended; see {shown}");
            asked.expect("a command that runs").success()
        });
        assert!(answers, "the private engine doesn't answer; see {shown}");
    }
}

fn spawn(folder: &std::path::Path, namespace: &str) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("dockerd.log"))
        .expect("a log");
    let path = |name: &str| folder.join(name).display().to_string();
    let plugins = format!("{namespace}-plugins");
    // programs of the test's own come first in its path
    Command::new("sh")
        .args(["-c", "PATH=$0:$PATH exec dockerd \"$@\"", &path("bin")])
        .args(["--live-restore", "--bridge", "none"])
        .args(["--iptables=false", "--ip6tables=false"])
        .args(["--containerd", CONTAINERD])
        .args(["--containerd-namespace", namespace])
        .args(["--containerd-plugins-namespace", &plugins])
        .args(["--host", &format!("unix://{}", path("docker.sock"))])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args(["--pidfile", &path("dockerd.pid")])
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("dockerd, which the engine script installs")
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            // a test failed while it was away; what it left can only be removed by an engine
            self.restart();
        }
        let left = self.address().docker(&["ps", "-aq"]);
        for id in left.split_whitespace() {
            self.address().docker(&["rm", "-f", id]);
        }
        // SIGTERM, so that it unmounts what it holds
        run(Command::new("kill").arg(self.process.id().to_string()));
        self.process.wait().expect("gone");
        // with live-restore it leaves its data folder mounted on itself, for the next engine to find
        let data = self.folder.join("data");
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        if mounts.contains(&*data.to_string_lossy()) {
            run(Command::new("umount").arg(data));
        }
        for namespace in [
            self.namespace.clone(),
            format!("{}-plugins", self.namespace),
        ] {
            remove_namespace(&namespace);
        }
        remove_folder(&self.folder);
    }
}

/// Removes one of containerd's namespaces, which is possible once it has let go of what was in it.
fn remove_namespace(namespace: &str) {
    let ctr = |args: &[&str]| {
        let mut command = Command::new("ctr");
        command
            .args(["--address", CONTAINERD, "namespaces"])
            .args(args);
        command
    };
    let removed = came_to_hold(|| {
        let mut remove = ctr(&["remove", namespace]);
        let quiet = remove.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().expect("a command that runs");
        let left = run(&mut ctr(&["list", "--quiet"]));
        !left.lines().any(|name| name == namespace)
    });
    if !removed {
        eprintln!("containerd's namespace {namespace} is left");
    }
}
