//! What runs in the simulated engine's containers: the program that serves within rentals, in this very process, and what they wrote.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use shared::{
    id::RentalId,
    link::open::{Entry, LogsQuery},
};
use tokio::net::UnixStream;

use super::{FakeRuntime, Op};
use crate::{
    inside::{self, Place},
    runtime::{ContainerState, Form, Pipe, RuntimeError, code, logs},
};

impl FakeRuntime {
    /// Lets a rental's container write a line.
    pub fn write(&self, rental_id: RentalId, entry: Entry) {
        {
            let mut state = self.lock();
            let containers = state.containers.values();
            let mut own = containers.filter(|c| c.rental_id == Some(rental_id));
            if let Some(id) = own.next().map(|container| container.id.clone()) {
                state.written.entry(id).or_default().push(entry);
            }
        }
        self.turn();
    }

    /// Says of a rental's container that it wrote too much.
    pub fn overdo(&self, rental_id: RentalId, why: &str) {
        let over = {
            let mut state = self.lock();
            let mut containers = state.containers.values_mut();
            let found = containers.find(|c| c.rental_id == Some(rental_id));
            found.map(|container| {
                container.over_disk = Some(why.to_owned());
                container.clone()
            })
        };
        self.tell(over.as_ref());
    }

    /// Kills what serves within containers, as the kernel would for want of memory.
    pub fn break_entered(&self) {
        for serving in self.lock().entered.drain(..) {
            serving.abort();
        }
    }

    pub(super) async fn entered(&self, container_id: &str) -> Result<Pipe, RuntimeError> {
        self.call(Op::Enter, container_id).await?;
        let state = self.lock().containers.get(container_id).map(|c| c.state);
        if state != Some(ContainerState::Running) {
            let why = "the container doesn't run";
            return Err(RuntimeError::refused(code::ENGINE_REFUSED, why));
        }
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| RuntimeError::Unavailable(error.to_string()))?;
        let serving = tokio::spawn(inside::serve(theirs, Arc::new(Place::in_process())));
        self.lock().entered.push(serving.abort_handle());
        Ok(Pipe::new(ours, Form::Plain {}))
    }

    pub(super) fn written(
        &self,
        container_id: &str,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        let (engine, id) = (self.clone(), container_id.to_owned());
        stream::once(async move {
            engine.call(Op::Logs, &id).await?;
            let history = engine.lock().written.get(&id).cloned();
            let history = history.unwrap_or_default();
            let told = history.len();
            let past = stream::iter(history.into_iter().map(Ok)).boxed();
            let past = logs::pick(query.clone(), past);
            if !query.follow {
                return Ok(past);
            }
            let query = LogsQuery {
                tail: None,
                ..query
            };
            Ok(past
                .chain(logs::pick(query, engine.following(id, told)))
                .boxed())
        })
        .flat_map(|found: Result<_, RuntimeError>| match found {
            Ok(entries) => entries,
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    /// What is written from now on, until the container doesn't run any more.
    fn following(self, id: String, told: usize) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        let turned = self.turned.subscribe();
        stream::unfold(
            (self, id, told, turned),
            |(engine, id, told, mut turned)| async move {
                loop {
                    turned.borrow_and_update();
                    {
                        let state = engine.lock();
                        let next = state
                            .written
                            .get(&id)
                            .and_then(|all| all.get(told))
                            .cloned();
                        let running = state.containers.get(&id).map(|c| c.state);
                        drop(state);
                        if let Some(entry) = next {
                            return Some((Ok(entry), (engine, id, told + 1, turned)));
                        }
                        if running != Some(ContainerState::Running) {
                            return None;
                        }
                    }
                    turned.changed().await.ok()?;
                }
            },
        )
        .boxed()
    }
}
