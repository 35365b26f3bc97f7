//! What an engine says of itself: its version and how it runs containers.
//!
//! # Invariants
//! - It is asked on a connection of its own, with short waits: a hanging engine delays nobody, and one that is installed later is found.

use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use shared::resources::Docker;

use crate::{
    probe::bounded,
    runtime::{
        RuntimeError,
        isolation::{self, Decision, Seen},
        profile::Ground,
        toolkit::Toolkit,
    },
};

/// How long Docker may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most OCI runtimes that are told of.
const RUNTIMES_MAX: usize = 16;

/// What an engine said, and what follows from it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) docker: Docker,
    pub(super) cgroup_version: Option<i64>,
    pub(super) ground: Ground,
    pub(super) decision: Decision,
    /// Why no GPU can be given to a container.
    pub(super) gpus_refused: Option<String>,
}

/// Asks the engine that listens at `socket`; takes at most three times two seconds.
pub(super) async fn facts(socket: &str) -> Result<Known, RuntimeError> {
    // the client's own time-out is longer: ours says what happened
    let client = bollard::Docker::connect_with_unix(
        socket,
        TIMEOUT.as_secs() * 2,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| absent(&format!("no Docker engine: {error}")))?;
    let client = answer(client.negotiate_version()).await?;
    let info = answer(client.info()).await?;
    let version = answer(client.version()).await?;
    let decision = isolation::decide(&Seen::read(&info, &version));
    let ground = Ground::read(&info);
    let gpus_refused = Toolkit::read(&info, &decision)
        .await
        .refusal(decision.class);
    let (docker, cgroup_version) = describe(&client.client_version().to_string(), info);
    Ok(Known {
        docker,
        cgroup_version,
        ground,
        decision,
        gpus_refused,
    })
}

fn absent(why: &str) -> RuntimeError {
    RuntimeError::Unavailable(bounded(why))
}

async fn answer<T>(
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(absent(&format!("no Docker engine answers: {error}"))),
        Err(_) => Err(absent(&format!(
            "the Docker engine didn't answer within {} s",
            TIMEOUT.as_secs()
        ))),
    }
}

fn describe(api_version: &str, info: SystemInfo) -> (Docker, Option<i64>) {
    let mut runtimes: Vec<String> = info
        .runtimes
        .unwrap_or_default()
        .into_keys()
        .map(|name| bounded(&name))
        .collect();
    runtimes.sort();
    runtimes.truncate(RUNTIMES_MAX);
    let cgroup_version = match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
        Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
        _ => None,
    };
    let docker = Docker {
        version: bounded(&info.server_version.unwrap_or_default()),
        api_version: bounded(api_version),
        runtimes,
        cgroup_driver: info
            .cgroup_driver
            .map(|driver| bounded(driver.as_ref()))
            .unwrap_or_default(),
        live_restore: info.live_restore_enabled.unwrap_or(false),
    };
    (docker, cgroup_version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_a_reason_and_one_that_hangs_costs_little_time() {
        let dir = TempDir::new();
        let socket = dir.path().join("docker.sock");
        let path = socket.to_str().expect("text");
        let reason = facts(path).await.expect_err("absent").reason();
        assert!(reason.starts_with("no Docker engine"), "{reason}");
        let _listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let reason = facts(path).await.expect_err("hangs").reason();
        assert!(reason.contains("didn't answer within 2 s"), "{reason}");
    }
}
