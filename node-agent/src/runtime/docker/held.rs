//! Which limits Docker holds a container to: what the helper counts containers by that it didn't make itself.

use async_trait::async_trait;

use super::{DockerRuntime, parse};
use crate::{
    boundary::Engine,
    runtime::{HeldLimits, RuntimeError},
};

#[async_trait]
impl Engine for DockerRuntime {
    async fn limits(&self, container_id: &str) -> Result<Option<HeldLimits>, RuntimeError> {
        let Some(answer) = self.inspect_raw(container_id).await? else {
            return Ok(None);
        };
        if parse::container(&answer, &self.scope).is_none() {
            return Ok(None);
        }
        let host = answer.host_config.unwrap_or_default();
        Ok(Some(HeldLimits {
            ram_bytes: host.memory.unwrap_or_default(),
            cpu_millis: host.nano_cpus.unwrap_or_default() / 1_000_000,
        }))
    }
}
