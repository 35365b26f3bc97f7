//! What is done within containers, and what they wrote: of this node's containers only.

use futures_util::stream::BoxStream;
use shared::link::open::{Entry, LogsQuery};

use super::Guard;
use crate::runtime::{ContainerState, Pipe, RuntimeError, code};

impl Guard {
    pub(in crate::boundary) async fn enter(&self, id: &str) -> Result<Pipe, RuntimeError> {
        let refuse = |why: &str| Err(RuntimeError::refused(code::ENGINE_REFUSED, why));
        match self.inspect(id).await?.map(|container| container.state) {
            Some(ContainerState::Running) => self.engine.enter(id).await,
            Some(_) => refuse("the container doesn't run"),
            None => refuse("this node has no such container"),
        }
    }

    pub(in crate::boundary) async fn logs(
        &self,
        id: &str,
        query: LogsQuery,
    ) -> Result<BoxStream<'static, Result<Entry, RuntimeError>>, RuntimeError> {
        if self.is_ours(id).await? {
            return Ok(self.engine.logs(id, query));
        }
        let why = "this node has no such container";
        Err(RuntimeError::refused(code::ENGINE_REFUSED, why))
    }
}
