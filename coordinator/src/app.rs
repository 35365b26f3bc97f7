//! The assembled coordinator: the only place that names adapters.

use std::sync::Arc;

use shared::{clock::Clock, id::Ids, money::Amount};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    context::{Actor, OpCtx},
    domain::{auth::AuthState, events::Events},
    http::rental_token::RentalTokens,
    keys::Keys,
    store::Db,
    tasks::Tasks,
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
    /// The coordinator's own keys.
    pub keys: Keys,
    /// Passwords, tokens and sessions.
    pub auth: AuthState,
    /// The tokens of rentals.
    pub rental_tokens: RentalTokens,
    /// The live end of the event stream.
    pub events: Events,
    /// The built-in timers.
    pub tasks: Tasks,
    /// Cancelled when the process stops; whatever waits for long also waits for this.
    pub shutdown: CancellationToken,
}

impl App {
    /// Puts the parts together; starts nothing.
    ///
    /// # Errors
    /// A key file can't be read or made, or the system has no random numbers.
    pub fn new(
        config: Config,
        db: Db,
        clock: Arc<dyn Clock>,
        ids: Arc<Ids>,
    ) -> anyhow::Result<Arc<Self>> {
        let keys = Keys::open(&config)?;
        let auth = AuthState::new(&config, &keys)?;
        Ok(Arc::new(Self {
            rental_tokens: RentalTokens::new(&keys.token),
            events: Events::new(config.http.event_streams_max),
            tasks: Tasks::default(),
            shutdown: CancellationToken::new(),
            auth,
            keys,
            config,
            db,
            clock,
            ids,
        }))
    }

    /// A context for `actor` at this moment.
    #[must_use]
    pub fn context(&self, actor: Actor, request_id: String) -> OpCtx {
        OpCtx::new(actor, self.clock.now(), request_id, Arc::clone(&self.ids))
    }

    /// The context of a built-in timer; `name` shows as the request id.
    #[must_use]
    pub fn task_context(&self, name: &str) -> OpCtx {
        self.context(Actor::System, format!("task-{name}"))
    }

    /// The market in five numbers, for the first page.
    #[must_use]
    pub fn market_numbers(&self) -> MarketNumbers {
        MarketNumbers::default()
    }
}

/// The market in five numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarketNumbers {
    /// Memory of all nodes online that is offered, bytes.
    pub online_ram_bytes: u64,
    /// Of that, what can be rented now, bytes.
    pub free_ram_bytes: u64,
    /// Offers that can be rented now.
    pub offers: u64,
    /// The lowest price of a GiB of memory for an hour.
    pub lowest_ram_gib_hour: Option<Amount>,
    /// Rentals that run now.
    pub running_rentals: u64,
}
