//! The assembled coordinator: the only place that names adapters.

mod payments;
mod payouts;

use std::sync::Arc;

use anyhow::Context as _;
use shared::{clock::Clock, id::Ids, money::Amount};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    adapters::{mail_folder::FolderMailer, mail_smtp::SmtpMailer, registry_http::HttpRegistry},
    config::Config,
    context::{Actor, OpCtx},
    domain::{
        agentlink::{AgentLink, Rhythm, beacon::Beacons, presence::Presence},
        apikeys::LiveKeys,
        auth::AuthState,
        events::Events,
        gateway::Gateway,
        images::Images,
        mail::{Postbox, ports::Mailer},
        nodes::model::Patience,
        offers::index::MarketIndex,
        oidc::Oidc,
        payouts::driver::Payouts,
        rentals::{purchase::Purchases, spec},
        wallets::model::Nonces,
        webhooks::courier::Courier,
    },
    http::rental_token::RentalTokens,
    keys::Keys,
    limits::Limits,
    outbound::Outbound,
    ssh::Face,
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
    /// Signing in with an account elsewhere.
    pub oidc: Oidc,
    /// API keys found lately.
    pub api_keys: LiveKeys,
    /// Nonces of the challenges that wallets sign.
    pub wallet_nonces: Nonces,
    /// The tokens of rentals.
    pub rental_tokens: RentalTokens,
    /// The live end of the event stream.
    pub events: Events,
    /// The built-in timers.
    pub tasks: Tasks,
    /// The market as it is searched.
    pub market: MarketIndex,
    /// Paying by x402.
    pub purchases: Arc<Purchases>,
    /// Money out.
    pub payouts: Arc<Payouts>,
    /// How often callers may do what.
    pub limits: Limits,
    /// Where mail goes out.
    pub postbox: Arc<Postbox>,
    /// The link to agents.
    pub agents: Arc<AgentLink>,
    /// Streams into rentals.
    pub gateway: Arc<Gateway>,
    /// Which images are sold.
    pub images: Images,
    /// How the SSH gateway is known, where there is one.
    pub ssh: Option<Face>,
    /// Sends webhooks.
    pub courier: Arc<Courier>,
    /// Calls to URLs from outside.
    pub outbound: Arc<Outbound>,
    /// Work that outlives its request: payments whose client hung up.
    pub background: TaskTracker,
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
        let oidc = Oidc::new(&config, &keys)?;
        let wallet = keys.wallet.as_ref().map(|key| key.address());
        let (purchases, ways_out) = payments::purchases(&config, &db, &clock, &ids, wallet)?;
        let postbox = Arc::new(postbox(&config, &keys, &db, &clock)?);
        let payouts = Arc::new(payouts::payouts(
            &config, &keys, &purchases, &ways_out, &postbox,
        ));
        let purchases = Arc::new(purchases);
        let agents = Arc::new(agents(&config, &keys, &purchases)?);
        let gateway = Arc::new(Gateway::new(&config.gateway, &db, &clock, &keys.token)?);
        let outbound = Arc::new(Outbound::new(&config.outbound)?);
        let registry = HttpRegistry::new(&config.images, &config.outbound, Arc::clone(&outbound))?;
        let images = Images::new(&config.images, Arc::new(registry));
        let courier = courier(&config, (&db, &clock, &ids), &keys, &outbound);
        Ok(Arc::new(Self {
            api_keys: LiveKeys::default(),
            courier: Arc::new(courier),
            wallet_nonces: Nonces::new(&keys.token),
            rental_tokens: RentalTokens::new(&keys.token),
            events: Events::new(config.http.event_streams_max),
            tasks: Tasks::default(),
            market: MarketIndex::default(),
            limits: Limits::new(&config),
            background: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            ssh: Face::open(&config)?,
            purchases,
            payouts,
            postbox,
            agents,
            gateway,
            images,
            outbound,
            auth,
            oidc,
            keys,
            config,
            db,
            clock,
            ids,
        }))
    }

    /// The market in numbers, for the first page.
    #[must_use]
    pub fn market_numbers(&self) -> MarketNumbers {
        let numbers = self.market.numbers(self.purchases.payees.default_asset());
        let natural = |value: i64| u64::try_from(value).unwrap_or(0);
        MarketNumbers {
            online_ram_bytes: natural(numbers.ram_rentable_bytes),
            free_ram_bytes: natural(numbers.ram_free_bytes),
            offers: u64::try_from(numbers.offers).unwrap_or(u64::MAX),
            lowest_ram_gib_hour: numbers
                .lowest_ram_gib_hour
                .and_then(|price| Amount::from_atomic(price).ok()),
            running_rentals: natural(numbers.running_rentals),
        }
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
    /// The lowest price of a GiB of memory for an hour, in the market's first currency.
    pub lowest_ram_gib_hour: Option<Amount>,
    /// Rentals that run now.
    pub running_rentals: u64,
}

fn postbox(
    config: &Config,
    keys: &Keys,
    db: &Db,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Postbox> {
    let from = config.mail.from.parse().context("mail.from")?;
    let mailer: Arc<dyn Mailer> = if let Some(url) = &config.mail.smtp_url {
        Arc::new(SmtpMailer::new(url.expose(), from)?)
    } else {
        let folder = config.mail.folder.clone();
        let folder = folder.unwrap_or_else(|| config.data_dir.join("mail"));
        Arc::new(FolderMailer::new(folder, from))
    };
    Ok(Postbox {
        db: db.clone(),
        clock: Arc::clone(clock),
        mailer,
        public_url: config.http.public_url(),
        sealer: keys.token.sealer("mail"),
    })
}

fn agents(config: &Config, keys: &Keys, purchases: &Purchases) -> anyhow::Result<AgentLink> {
    let ms = |seconds: u32| i64::from(seconds).saturating_mul(1_000);
    let mut epoch = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut epoch)
        .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    Ok(AgentLink {
        db: purchases.db.clone(),
        clock: Arc::clone(&purchases.clock),
        ids: Arc::clone(&purchases.ids),
        presence: Presence::new(purchases.clock.now()),
        beacons: Beacons::new(keys.token.key("beacon"), epoch),
        nudger: Arc::default(),
        rules: purchases.rules,
        rhythm: Rhythm {
            beat_interval_ms: i64::from(config.agents.beat_interval_ms),
            patience: Patience {
                suspect_after_ms: ms(config.agents.suspect_after_s),
                offline_after_ms: ms(config.agents.offline_after_s),
            },
            coverage_gap_ms: ms(config.agents.coverage_gap_s),
        },
        ack_key: Arc::clone(&keys.journal_ack),
        specs: Arc::new(keys.token.sealer(spec::PURPOSE)),
        public_url: purchases.public_url.clone(),
        queue: Default::default(),
    })
}

fn courier(
    config: &Config,
    (db, clock, ids): (&Db, &Arc<dyn Clock>, &Arc<Ids>),
    keys: &Keys,
    outbound: &Arc<Outbound>,
) -> Courier {
    Courier {
        db: db.clone(),
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
        outbound: Arc::clone(outbound),
        sealer: Arc::new(keys.token.sealer("webhook secrets")),
        disable_after_ms: i64::from(config.webhooks.disable_after_days).saturating_mul(86_400_000),
    }
}
