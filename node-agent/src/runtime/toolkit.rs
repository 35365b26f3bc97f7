//! Whether containers can get GPUs here: NVIDIA's container toolkit as it is installed, and what rentals run in.
//!
//! # Invariants
//! - Decided from facts ([`Toolkit`]); what can't be told counts as missing.
//! - A toolkit older than [`FLOOR`] gives no GPU: an image's own variables reached its programs, which run as root (CVE-2025-23266).

use std::{path::PathBuf, process::Stdio, time::Duration};

use bollard::models::SystemInfo;
use shared::resources::IsolationClass;
use tokio::process::Command;

use super::isolation::{Decision, Version, parsed};

/// The first version that is safe.
const FLOOR: Version = (1, 17, 8);
/// Where packages put programs.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/local/nvidia/toolkit"];
/// What the engine runs to give a container its GPUs; an engine that doesn't find it when it starts refuses them.
const HOOK: &str = "nvidia-container-runtime-hook";
/// What says the toolkit's version.
const TOOL: &str = "nvidia-ctk";
/// Why rentals in virtual machines get no GPU.
pub(super) const IN_VIRTUAL_MACHINES: &str = "rentals are virtual machines here, and those get no GPU: take Kata's runtime away from the engine to rent GPUs out";
/// How long it may take.
const WITHIN: Duration = Duration::from_secs(2);

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Toolkit {
    /// Whether the engine's hook is installed.
    hook: bool,
    /// What the tool said of itself.
    said: Option<String>,
    /// Arguments with which the engine calls the runtime of rentals.
    runtime_args: Vec<String>,
}

impl Toolkit {
    /// Looks at this machine, `info` being what its engine said.
    pub(super) async fn read(info: &SystemInfo, decision: &Decision) -> Self {
        let find = |program: &str| {
            let mut places = PLACES
                .iter()
                .map(|folder| PathBuf::from(folder).join(program));
            places.find(|path| path.exists())
        };
        let said = match find(TOOL) {
            Some(tool) => version(tool).await,
            None => None,
        };
        let runtime = decision
            .runtime
            .as_ref()
            .and_then(|name| info.runtimes.as_ref()?.get(name));
        Self {
            hook: find(HOOK).is_some(),
            said,
            runtime_args: runtime
                .and_then(|runtime| runtime.runtime_args.clone())
                .unwrap_or_default(),
        }
    }

    /// Why rentals of this class get no GPU; `None` where they do.
    pub(super) fn refusal(&self, class: IsolationClass) -> Option<String> {
        if !self.hook {
            let why = "NVIDIA's container toolkit isn't installed: install nvidia-container-toolkit and restart Docker";
            return Some(why.to_owned());
        }
        let version = self.said.as_deref().and_then(version_in);
        let (major, minor, patch) = FLOOR;
        if version.is_none_or(|version| version < FLOOR) {
            let found = version.map_or_else(
                || "not known".to_owned(),
                |(major, minor, patch)| format!("{major}.{minor}.{patch}"),
            );
            return Some(format!(
                "the version of NVIDIA's container toolkit is {found}, and images can take over the machine through those before {major}.{minor}.{patch}: upgrade it"
            ));
        }
        refusal_of_class(class, &self.runtime_args)
    }
}

/// Why a class's containers get no GPU, whatever is installed.
fn refusal_of_class(class: IsolationClass, runtime_args: &[String]) -> Option<String> {
    let passes = runtime_args.iter().any(|argument| {
        matches!(
            argument.trim_start_matches('-'),
            "nvproxy" | "nvproxy=true" | "nvproxy=1"
        )
    });
    let why = match class {
        IsolationClass::Vm => IN_VIRTUAL_MACHINES,
        IsolationClass::Sandbox if !passes => {
            "gVisor passes no GPU on: register runsc with the argument --nvproxy in Docker's daemon.json"
        }
        IsolationClass::Sandbox | IsolationClass::SharedKernel => return None,
    };
    Some(why.to_owned())
}

/// What the tool answers; nothing if it fails or doesn't end.
async fn version(tool: PathBuf) -> Option<String> {
    let asked = Command::new(tool)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, asked).await.ok()?.ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version in `NVIDIA Container Toolkit CLI version 1.17.8`, with lines about the commit behind it.
fn version_in(said: &str) -> Option<Version> {
    let line = said.lines().next()?;
    parsed(line.rsplit_once(' ')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolkit(said: &str) -> Toolkit {
        Toolkit {
            hook: true,
            said: Some(said.to_owned()),
            runtime_args: Vec::new(),
        }
    }

    #[test]
    fn a_toolkit_that_is_missing_old_or_silent_gives_no_gpu() {
        let shared = IsolationClass::SharedKernel;
        let reason = |toolkit: &Toolkit| toolkit.refusal(shared).unwrap_or_default();
        assert!(reason(&Toolkit::default()).contains("isn't installed"));
        let good = toolkit("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80\n");
        assert_eq!(good.refusal(shared), None);
        assert_eq!(toolkit("… version 1.18.0-rc.1").refusal(shared), None);
        assert!(reason(&toolkit("… version 1.17.7")).contains("is 1.17.7"));
        assert!(reason(&toolkit("what?")).contains("is not known"));
        let silent = Toolkit { said: None, ..good };
        assert!(reason(&silent).contains("is not known"));
    }

    #[test]
    fn what_rentals_run_in_decides_too() {
        let mut good = toolkit("version 1.17.8");
        assert!(
            good.refusal(IsolationClass::Vm)
                .is_some_and(|why| why.contains("virtual"))
        );
        assert!(
            good.refusal(IsolationClass::Sandbox)
                .is_some_and(|why| why.contains("--nvproxy"))
        );
        good.runtime_args = vec!["--nvproxy=true".to_owned()];
        assert_eq!(good.refusal(IsolationClass::Sandbox), None);
    }
}
