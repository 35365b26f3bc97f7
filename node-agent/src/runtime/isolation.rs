//! How well a machine keeps rentals apart: its class, and each thing that weakens it, in words.
//!
//! # Invariants
//! - Decided from facts alone ([`Seen`]); the strongest class that works here is taken.
//! - A version that is missed is a warning and not the end: distributions mend without a new number. The class says what is weaker.

use bollard::models::{SystemInfo, SystemVersion};
use shared::resources::{Finding, FindingStatus, IsolationClass};

/// The shim of Kata by the name that engines from 23 on take without any setting.
const KATA_SHIM: &str = "io.containerd.kata.v2";
/// The first engine that runs a shim by its name.
const DOCKER_WITH_SHIMS: u32 = 23;

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Versions as the engine says them; empty when it doesn't.
    pub docker: String,
    /// containerd's.
    pub containerd: String,
    /// runc's.
    pub runc: String,
    /// `uname -r`.
    pub kernel: String,
    /// Names of the OCI runtimes.
    pub runtimes: Vec<String>,
    /// Whether the kernel can run virtual machines.
    pub kvm: bool,
    /// Whether Kata's shim is installed.
    pub kata_shim: bool,
    /// Whether the engine can filter system calls.
    pub seccomp: bool,
    /// Whether the engine maps containers' root to an unprivileged user.
    pub userns_remap: bool,
    /// Whether a kernel module confines containers besides (AppArmor or SELinux).
    pub confined: bool,
}

impl Seen {
    /// From the engine's two answers and this machine.
    #[must_use]
    pub fn read(info: &SystemInfo, version: &SystemVersion) -> Self {
        let component = |name: &str| {
            let mut all = version.components.iter().flatten();
            all.find(|component| component.name == name)
                .map(|component| component.version.clone())
        };
        let has = |name: &str| {
            let wanted = format!("name={name}");
            info.security_options
                .iter()
                .flatten()
                .any(|option| option.split(',').any(|part| part == wanted))
        };
        let mut runtimes: Vec<String> = info
            .runtimes
            .iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        runtimes.sort();
        let exists = |path: &str| std::path::Path::new(path).exists();
        Self {
            docker: version
                .version
                .clone()
                .or_else(|| info.server_version.clone())
                .unwrap_or_default(),
            containerd: component("containerd").unwrap_or_default(),
            runc: component("runc").unwrap_or_default(),
            kernel: info.kernel_version.clone().unwrap_or_default(),
            runtimes,
            // not /dev/kvm: the helper's unit has a /dev of its own
            kvm: exists("/sys/class/misc/kvm"),
            kata_shim: ["/usr/bin", "/usr/local/bin", "/opt/kata/bin"]
                .iter()
                .any(|folder| exists(&format!("{folder}/containerd-shim-kata-v2"))),
            seccomp: has("seccomp"),
            userns_remap: has("userns"),
            confined: has("apparmor") || has("selinux"),
        }
    }
}

/// What new rentals run under, and by which runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What lies between rental and machine.
    pub class: IsolationClass,
    /// For `HostConfig.runtime`; the engine's default if `None`.
    pub runtime: Option<String>,
    /// What was looked at.
    pub findings: Vec<Finding>,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Seen) -> Decision {
    let (class, runtime) = class(seen);
    let mut findings = vec![described(class, runtime.as_deref(), seen)];
    findings.extend(FLOORS.iter().map(|floor| floor.finding(seen)));
    findings.push(seccomp(seen));
    if class == IsolationClass::SharedKernel {
        findings.push(userns(seen));
        findings.push(confined(seen));
    }
    Decision {
        class,
        runtime,
        findings,
    }
}

fn class(seen: &Seen) -> (IsolationClass, Option<String>) {
    let registered = |wanted: &str| {
        seen.runtimes
            .iter()
            .find(|name| name.as_str() == wanted)
            .cloned()
    };
    let shims = parsed(&seen.docker).is_some_and(|(major, ..)| major >= DOCKER_WITH_SHIMS);
    if seen.kvm {
        let named = seen
            .runtimes
            .iter()
            .find(|name| name.starts_with("kata"))
            .cloned();
        let kata = registered(KATA_SHIM)
            .or(named)
            .or_else(|| (seen.kata_shim).then(|| KATA_SHIM.to_owned()));
        if let Some(kata) = kata.filter(|_| shims) {
            return (IsolationClass::Vm, Some(kata));
        }
    }
    if let Some(runsc) = registered("runsc") {
        return (IsolationClass::Sandbox, Some(runsc));
    }
    // named, so that another default of the engine's isn't taken by accident
    (IsolationClass::SharedKernel, registered("runc"))
}

fn described(class: IsolationClass, runtime: Option<&str>, seen: &Seen) -> Finding {
    let runtime = runtime.unwrap_or("the engine's default runtime");
    match class {
        IsolationClass::Vm => Finding::new(
            "isolation_class",
            FindingStatus::Ok,
            &format!("each rental is a virtual machine ({runtime})"),
            "",
        ),
        IsolationClass::Sandbox => Finding::new(
            "isolation_class",
            FindingStatus::Ok,
            &format!("each rental has a kernel of its own in user space ({runtime})"),
            "",
        ),
        IsolationClass::SharedKernel if seen.kvm => Finding::new(
            "isolation_class",
            FindingStatus::Warning,
            &format!(
                "rentals share this machine's kernel ({runtime}), although it could run virtual machines"
            ),
            "install Kata with Docker 23 or later, or gVisor (runsc), to be found by consumers who ask for more than a shared kernel",
        ),
        IsolationClass::SharedKernel => Finding::new(
            "isolation_class",
            FindingStatus::Warning,
            &format!("rentals share this machine's kernel ({runtime})"),
            "install gVisor and register it as runsc in Docker's daemon.json to be found by consumers who ask for more than a shared kernel",
        ),
    }
}

pub(super) type Version = (u32, u32, u32);

/// The versions from which on the escapes that are known are mended, one for each line that is kept up.
struct Floor {
    check: &'static str,
    what: &'static str,
    of: fn(&Seen) -> &str,
    floors: &'static [Version],
    why: &'static str,
}

const FLOORS: [Floor; 4] = [
    Floor {
        check: "docker_version",
        what: "Docker",
        of: |seen| &seen.docker,
        floors: &[(25, 0, 13), (28, 3, 3)],
        why: "older ones can lose their own rules between containers when a firewall is reloaded",
    },
    Floor {
        check: "containerd_version",
        what: "containerd",
        of: |seen| &seen.containerd,
        floors: &[(1, 7, 29), (2, 0, 7), (2, 1, 5)],
        why: "older ones run some images as root that name another user, and leave folders open to local users",
    },
    Floor {
        check: "runc_version",
        what: "runc",
        of: |seen| &seen.runc,
        floors: &[(1, 2, 8), (1, 3, 3)],
        why: "containers can escape from older ones while they are set up (November 2025)",
    },
    Floor {
        check: "kernel_version",
        what: "the kernel",
        of: |seen| &seen.kernel,
        floors: &[(5, 15, 0)],
        why: "older lines aren't mended any more",
    },
];

impl Floor {
    fn finding(&self, seen: &Seen) -> Finding {
        let (what, text) = (self.what, (self.of)(seen));
        let floors: Vec<String> = self
            .floors
            .iter()
            .map(|(a, b, c)| format!("{a}.{b}.{c}"))
            .collect();
        let floors = floors.join(" or ");
        match parsed(text) {
            None => Finding::new(
                self.check,
                FindingStatus::Warning,
                &format!("the version of {what} isn't known"),
                &format!("make sure that it is {floors} or later: {}", self.why),
            ),
            Some(version) if meets(version, self.floors) => Finding::new(
                self.check,
                FindingStatus::Ok,
                &format!("{what} is {text}"),
                "",
            ),
            Some(_) => Finding::new(
                self.check,
                FindingStatus::Warning,
                &format!("{what} is {text}, older than {floors}: {}", self.why),
                &format!(
                    "upgrade to {floors} or later; a distribution's package may be mended under its old number, as its changelog says"
                ),
            ),
        }
    }
}

/// The first three numbers of a version; whatever follows is the distribution's.
pub(super) fn parsed(text: &str) -> Option<Version> {
    let mut numbers = text.trim().trim_start_matches('v').split('.').map(|part| {
        let digits = part
            .find(|c: char| !c.is_ascii_digit())
            .map_or(part, |end| part.get(..end).unwrap_or_default());
        digits.parse::<u32>().ok()
    });
    let major = numbers.next()??;
    let minor = numbers.next()??;
    Some((major, minor, numbers.next().flatten().unwrap_or(0)))
}

/// Whether a version is at least its own line's floor, or later than all lines.
fn meets(version: Version, floors: &[Version]) -> bool {
    let line = floors
        .iter()
        .find(|floor| (floor.0, floor.1) == (version.0, version.1));
    let last = floors.iter().max();
    line.or(last).is_some_and(|floor| version >= *floor)
}

fn seccomp(seen: &Seen) -> Finding {
    if seen.seccomp {
        return Finding::new(
            "seccomp",
            FindingStatus::Ok,
            "rentals make only the system calls that are listed",
            "",
        );
    }
    Finding::new(
        "seccomp",
        FindingStatus::Failed,
        "the engine can't filter system calls: no rental starts here",
        "use a kernel with CONFIG_SECCOMP_FILTER and a Docker that was built with seccomp",
    )
}

fn userns(seen: &Seen) -> Finding {
    if seen.userns_remap {
        return Finding::new(
            "userns_remap",
            FindingStatus::Ok,
            "root in a rental is an unprivileged user of this machine",
            "",
        );
    }
    Finding::new(
        "userns_remap",
        FindingStatus::Warning,
        "root in a rental is root of this machine, if it escapes",
        "set \"userns-remap\": \"default\" in Docker's daemon.json and restart Docker; images are fetched anew then",
    )
}

fn confined(seen: &Seen) -> Finding {
    if seen.confined {
        return Finding::new(
            "kernel_confinement",
            FindingStatus::Ok,
            "AppArmor or SELinux confines rentals besides",
            "",
        );
    }
    Finding::new(
        "kernel_confinement",
        FindingStatus::Warning,
        "neither AppArmor nor SELinux confines rentals besides",
        "install AppArmor (package apparmor) and restart Docker",
    )
}

#[cfg(test)]
mod tests;
