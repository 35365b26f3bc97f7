//! Checks of the container engine and of what keeps rentals apart.

use shared::resources::Finding;

use super::{facts::Facts, failed, ok, warning};

/// Whether an engine answers.
pub(super) fn docker(name: &'static str, facts: &Facts) -> Finding {
    let inventory = match &facts.inventory {
        Ok(inventory) => inventory,
        Err(why) => {
            return failed(
                name,
                &format!("this machine can't be measured: {why}"),
                "look at what the cause names",
            );
        }
    };
    match (&inventory.docker, &inventory.docker_absent_reason) {
        (Some(docker), _) => ok(
            name,
            &format!(
                "Docker {} answers (API {}, runtimes {})",
                docker.version,
                docker.api_version,
                docker.runtimes.join(", ")
            ),
        ),
        (None, reason) => failed(
            name,
            &format!(
                "no rentals can be taken: {}",
                reason.as_deref().unwrap_or("no engine answers")
            ),
            "install Docker and start it: systemctl enable --now docker; the agent finds it by itself",
        ),
    }
}

/// What the engine's side found under this name.
pub(super) fn isolation(name: &'static str, facts: &Facts) -> Finding {
    found(name, facts).unwrap_or_else(|| {
        let known = facts
            .inventory
            .as_ref()
            .is_ok_and(|inventory| inventory.isolation.is_some());
        if known {
            let why =
                "it wasn't looked at yet: the agent looks when it runs, at its start and hourly";
            warning(
                name,
                why,
                "start the agent, or run: ramarket-agent self-test",
            )
        } else {
            let why = "it isn't known: no engine answers";
            warning(name, why, "mend docker and helper first")
        }
    })
}

/// As [`isolation`]; rentals that don't share the machine's kernel don't need it.
pub(super) fn isolation_if_shared(name: &'static str, facts: &Facts) -> Finding {
    let answers = found("isolation_class", facts).is_some();
    match found(name, facts) {
        Some(finding) => finding,
        None if answers => ok(name, "rentals don't share this machine's kernel"),
        None => isolation(name, facts),
    }
}

fn found(name: &str, facts: &Facts) -> Option<Finding> {
    let isolation = facts.inventory.as_ref().ok()?.isolation.as_ref()?;
    let mut all = isolation.findings.iter();
    all.find(|finding| finding.check == name).cloned()
}

/// Whether rentals outlive a restart of the engine.
pub(super) fn live_restore(name: &'static str, facts: &Facts) -> Finding {
    let docker = facts.inventory.as_ref().ok();
    match docker.and_then(|inventory| inventory.docker.as_ref()) {
        Some(docker) if docker.live_restore => ok(name, "rentals outlive a restart of Docker"),
        Some(_) => warning(
            name,
            "a restart of Docker, such as by an upgrade, ends all rentals",
            "set \"live-restore\": true in /etc/docker/daemon.json, then: systemctl reload docker",
        ),
        None => warning(
            name,
            "it isn't known: no engine answers",
            "mend docker first",
        ),
    }
}

/// Whether the engine can be used over the network: whoever reaches it is root here.
pub(super) fn over_tcp(name: &'static str, facts: &Facts) -> Finding {
    /// In plain text, and with TLS.
    const PORTS: [u16; 2] = [2_375, 2_376];
    let open = facts.listening.iter().map(|found| found.port);
    let open: Vec<String> = open
        .filter(|port| PORTS.contains(port))
        .map(|port| port.to_string())
        .collect();
    match open.as_slice() {
        [] => ok(name, "nothing listens on the ports of Docker's network API"),
        open => failed(
            name,
            &format!(
                "something listens on {}: whoever reaches Docker there is root on this machine",
                open.join(" and ")
            ),
            "take the tcp:// address out of \"hosts\" in /etc/docker/daemon.json and out of dockerd's unit, then restart Docker",
        ),
    }
}

/// Whether containers can be given this machine's GPUs.
pub(super) fn gpu_toolkit(name: &'static str, facts: &Facts) -> Finding {
    let Ok(inventory) = &facts.inventory else {
        return warning(name, "this machine can't be measured", "mend docker first");
    };
    if inventory.gpus.is_empty() {
        let why = inventory.gpu_absent_reason.as_deref();
        let why = why.unwrap_or("the driver reports none");
        return if facts.nvidia_device {
            failed(
                name,
                &format!("there is an NVIDIA device, and no GPU to rent out: {why}"),
                "install the driver's libnvidia-ml.so.1; for an agent under systemd, its drop-in gpu.conf as well",
            )
        } else {
            ok(name, &format!("no GPUs here: {why}"))
        };
    }
    let Some(refused) = &inventory.gpus_refused else {
        let count = inventory.gpus.len();
        return ok(
            name,
            &format!("{count} GPUs, and Docker can give them to containers"),
        );
    };
    failed(
        name,
        &format!("there are GPUs, and Docker can't give them to containers: {refused}"),
        "install the NVIDIA container toolkit, then: nvidia-ctk runtime configure --runtime=docker && systemctl restart docker",
    )
}
