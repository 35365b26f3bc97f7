//! The assembled coordinator: the only place that names adapters.

use std::sync::Arc;

use shared::{clock::Clock, id::Ids};

use crate::{
    config::Config,
    context::{Actor, OpCtx},
    store::Db,
};

/// Everything that handlers and tasks share.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<Ids>,
}

impl App {
    /// A context for `actor` at this moment.
    #[must_use]
    pub fn context(&self, actor: Actor, request_id: String) -> OpCtx {
        OpCtx::new(actor, self.clock.now(), request_id, Arc::clone(&self.ids))
    }
}
