//! Docker's engine: its version and how it runs containers.

use std::time::Duration;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use shared::resources::Docker;

use super::bounded;

/// How long Docker may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most OCI runtimes that are told of.
const RUNTIMES_MAX: usize = 16;

/// The engine and the version of its control groups (`1` or `2`), or why there is none.
pub type DockerFacts = Result<(Docker, Option<i64>), String>;

/// Asks the engine that listens at `socket`; takes at most twice two seconds.
pub async fn facts(socket: Option<&str>) -> DockerFacts {
    let socket = socket.ok_or("no Docker engine: its address is no socket of this machine")?;
    // made anew each time: an engine that is installed later is found
    // the client's own time-out is longer: ours says what happened
    let client = bollard::Docker::connect_with_unix(
        socket,
        TIMEOUT.as_secs() * 2,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| bounded(&format!("no Docker engine: {error}")))?;
    let client = answer(client.negotiate_version()).await?;
    let info = answer(client.info()).await?;
    Ok(describe(&client.client_version().to_string(), info))
}

async fn answer<T>(
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(bounded(&format!("no Docker engine answers: {error}"))),
        Err(_) => Err(format!(
            "the Docker engine didn't answer within {} s",
            TIMEOUT.as_secs()
        )),
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
    let cgroup = match info.cgroup_version {
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
    (docker, cgroup)
}
