//! The gateway: streams into rentals, over the links that their nodes dialled.
//!
//! [`links`] are those held here, [`relay`] reaches those held by other coordinators, [`places`] bounds how many streams are open,
//! [`reached`] is one.
//!
//! # Invariants
//! - Whoever opens a stream has been authorized before; nothing here looks at credentials.
//! - A stream is answered within [`OPEN_TIME_MAX`], or it isn't there: nobody waits for a node that is away.
//! - Of the links of a node that coordinators hold at once the newest is noted; whoever finds that theirs isn't it ends it.
//! - What a node says is passed on, never believed: codes are known ones, texts bounded.

pub mod access;
pub mod api;
pub mod links;
pub mod places;
pub mod reached;
mod refusal;
pub mod relay;
mod store;
#[cfg(test)]
mod tests;
pub mod tickets;
pub mod web;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use shared::{
    clock::Clock,
    id::{NodeId, RentalId},
    link::{
        address::may_be_dialled,
        open::{self, Open, Opened},
        session::{Session, Stream},
    },
};
use tokio::time::{sleep, timeout};

use self::{
    links::{Held, Links},
    places::{Bounds, Places},
    reached::Reached,
    relay::Relay,
    store::Noted,
    web::PortTokens,
};
use super::rentals::model::{Rental, State};
use crate::{
    config::GatewayConfig,
    error::{Error, Kind, Result},
    keys::TokenSecret,
    store::{Db, Tx},
};

/// Archives of rentals that are over, made and sent at once.
const ARCHIVES: Bounds = Bounds {
    all: 8,
    renter: 2,
    rental: 2,
};
/// A stream is there within this.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);
/// After a link couldn't be noted, it is tried again after this.
const NOTE_AGAIN: Duration = Duration::from_secs(5);
/// Whether a link is still noted is looked at so often.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    db: Db,
    clock: Arc<dyn Clock>,
    /// Links held here.
    pub links: Arc<Links>,
    places: Arc<Places>,
    archives: Arc<Places>,
    /// The tokens of private ports.
    pub port_tokens: PortTokens,
    /// Other coordinators, if there may be any.
    pub relay: Option<Arc<Relay>>,
}

impl Gateway {
    /// As the settings say.
    ///
    /// # Errors
    /// The system has no random numbers, or no HTTP client can be made.
    pub fn new(
        config: &GatewayConfig,
        db: &Db,
        clock: &Arc<dyn Clock>,
        secret: &TokenSecret,
    ) -> anyhow::Result<Self> {
        let count = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let bounds = Bounds {
            all: count(config.streams_max),
            renter: count(config.streams_per_renter_max),
            rental: count(config.streams_per_rental_max),
        };
        let relay = match &config.peer_url {
            Some(url) => Some(Arc::new(Relay::new(url, clock, secret)?)),
            None => None,
        };
        Ok(Self {
            db: db.clone(),
            clock: Arc::clone(clock),
            links: Arc::default(),
            places: Arc::new(Places::new(bounds)),
            archives: Arc::new(Places::new(ARCHIVES)),
            port_tokens: PortTokens::new(secret),
            relay,
        })
    }

    /// Opens a stream of a rental, for whoever was found to rent it.
    ///
    /// # Errors
    /// 404 without the rental, 409 when it doesn't run or refuses, 403 for an address that isn't to be reached, 429 for too many, 503
    /// while its node isn't reached.
    pub async fn open(&self, rental: RentalId, open: &Open) -> Result<Reached> {
        let opened = self.try_open(rental, open).await;
        let outcome = opened.as_ref().map_or_else(Error::code, |_| "opened");
        metrics::counter!("gateway_streams_opened_total", "kind" => kind(open), "outcome" => outcome)
            .increment(1);
        opened
    }

    async fn try_open(&self, rental: RentalId, open: &Open) -> Result<Reached> {
        if open.rental_id() != Some(rental) {
            return Err(Error::internal(
                "a stream was to be opened for another rental",
            ));
        }
        check_address(open)?;
        check_size(open)?;
        let found = self
            .db
            .read("gateway.rental", move |tx| access::find_open(tx, rental))
            .await?;
        check_state(&found, open)?;
        let place = self.places.take(rental, renter_of(&found))?;
        let reached = timeout(OPEN_TIME_MAX, self.reach(found.node_id, open));
        let stream = reached.await.map_err(|_| refusal::unreachable())??;
        Ok(Reached {
            stream,
            _place: place,
        })
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.places.taken()
    }

    async fn reach(&self, node: NodeId, open: &Open) -> Result<Stream> {
        if let Some(session) = self.links.session(node) {
            return ask(session, open).await;
        }
        let Some(relay) = &self.relay else {
            return Err(refusal::unreachable());
        };
        let holder = self
            .db
            .read("gateway.holder", move |tx| store::holder(tx, node))
            .await?;
        // a row of this run is one of a link that just ended
        let elsewhere = holder.filter(|holder| holder.instance != relay.instance());
        let holder = elsewhere.ok_or_else(refusal::unreachable)?;
        relay.reach(&holder.peer_url, node, open).await
    }

    /// Holds a node's link from now on.
    #[must_use]
    pub fn hold(&self, node: NodeId, session: Session) -> Held {
        self.links.hold(node, session, self.clock.now())
    }

    /// Notes for other coordinators that a link is held here; returns when it is noted, false if another one holds a newer link of the
    /// node.
    pub async fn note(&self, held: &Held) -> bool {
        let Some(relay) = &self.relay else {
            return true;
        };
        let link = Noted {
            node: held.node,
            holder: relay.own(),
            serial: held.serial,
            // not the moment of the try: an older link that is noted late stays the older one
            linked: held.linked,
        };
        loop {
            match self.try_note(&link).await {
                Ok(is_newest) => return is_newest,
                Err(error) => {
                    tracing::warn!(node.id = %held.node, %error, "other coordinators aren't told of a link");
                    sleep(NOTE_AGAIN).await;
                }
            }
        }
    }

    async fn try_note(&self, link: &Noted) -> Result<bool> {
        let asked = link.clone();
        let is_noted = move |tx: &mut dyn Tx| store::is_noted(tx, &asked);
        if self.db.read("gateway.is_noted", is_noted).await? {
            return Ok(true);
        }
        let link = link.clone();
        let hold = move |tx: &mut dyn Tx| store::hold(tx, &link);
        self.db.write("gateway.hold", hold).await
    }

    /// Keeps the note for as long as this is polled, whatever becomes of its row; returns once another coordinator holds a newer link of
    /// the node.
    pub async fn keep_noted(&self, held: &Held) {
        while self.note(held).await {
            sleep(NOTED_EVERY).await;
        }
    }

    /// Takes that note back.
    pub async fn forget(&self, node: NodeId, serial: i64) {
        let Some(relay) = &self.relay else { return };
        let instance = relay.instance().to_owned();
        let body = move |tx: &mut dyn Tx| store::let_go(tx, node, &instance, serial);
        if let Err(error) = self.db.write("gateway.let_go", body).await {
            // whoever believes it asks us, and hears that we don't hold it
            tracing::warn!(node.id = %node, %error, "a link that ended stays noted");
        }
    }
}

/// Opens a stream on a link that is held here, and hears the answer.
async fn ask(session: Session, open: &Open) -> Result<Stream> {
    let answer = async {
        let mut stream = session.stream().await?;
        open::send(&mut stream, open).await?;
        let opened: Opened = open::receive(&mut stream).await?;
        io::Result::Ok((opened, stream))
    };
    match answer.await {
        Ok((opened, stream)) => refusal::unless_refused(opened).map(|()| stream),
        Err(error) => Err(refusal::not_opened(&error)),
    }
}

/// Only what is kept of it can be asked of a rental that is over; of one that isn't paid, nothing.
fn check_state(rental: &Rental, open: &Open) -> Result<()> {
    let kept = matches!(open, Open::Logs { .. } | Open::Metrics { .. });
    match rental.state {
        State::Active | State::Stopping => Ok(()),
        State::Ended if kept => Ok(()),
        State::Ended => Err(Error::conflict(
            "rental_not_running",
            "this rental has ended",
        )),
        State::Reserved => Err(Error::conflict(
            "rental_not_running",
            "this rental isn't paid yet",
        )),
    }
}

/// Where an address is written down, the rental must be allowed to reach it; names are resolved, and judged, in the rental.
fn check_address(open: &Open) -> Result<()> {
    let Open::Dial { host, .. } = open else {
        return Ok(());
    };
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return Ok(());
    };
    if may_be_dialled(address) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "address_not_allowed",
        format!("{address} is neither the rental itself nor on the public internet"),
    ))
}

/// What doesn't fit into the message that opens a stream would break the stream, and look as if the node were away.
fn check_size(open: &Open) -> Result<()> {
    if open::fits(open) {
        return Ok(());
    }
    Err(Error::bad_request(
        "stream_request_too_large",
        format!(
            "what is asked for takes more than {} KiB on its way to the node, where a quote or a line's end counts twice and other control \
             characters six times: send a long command as a file, or by its input",
            open::MESSAGE_BYTES_MAX / 1_024
        ),
    ))
}

/// Who rents, as places are counted.
fn renter_of(rental: &Rental) -> String {
    let account = rental.consumer.map(|consumer| consumer.to_string());
    account
        .or_else(|| rental.payer.clone())
        .unwrap_or_else(|| rental.id.to_string())
}

const fn kind(open: &Open) -> &'static str {
    match open {
        Open::Control {} => "control",
        Open::Logs { .. } => "logs",
        Open::Exec { .. } => "exec",
        Open::Sftp { .. } => "sftp",
        Open::Dial { .. } => "dial",
        Open::Metrics { .. } => "metrics",
    }
}
