//! A client, as far as the gateway knows it: who it is, and which channels it has.
//!
//! # Invariants
//! - Only a key that [`admit`] takes lets anybody in.
//! - Channels are at most [`CHANNELS_MAX`] at once and [`CHANNELS_IN_ALL_MAX`] in a connection's life, since the library forgets a part of
//!   each only with the connection.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use russh::{
    Channel, ChannelId, MethodKind, MethodSet,
    server::{Auth, Msg, Session},
};
use shared::{
    id::RentalId,
    link::open::{Exec, Open},
};

use super::{
    admit::{Admission, admit},
    bytes,
    counts::Place,
    flow::Flow,
    inbox::{Inbox, Item},
    keeper::{Connection, Guest},
    program::{self, Line},
    server::Gateway,
    visit::Visit,
    wish::Wish,
};
use crate::{
    domain::sshkeys::model::PublicKey,
    http::ClientIp,
    limits::{Action, Caller},
};

/// Channels of a connection at once.
const CHANNELS_MAX: usize = 16;
/// Channels of a connection in its life.
const CHANNELS_IN_ALL_MAX: u32 = 4_096;

/// A client.
pub(super) struct Client {
    pub(super) gateway: Gateway,
    pub(super) address: ClientIp,
    pub(super) flow: Arc<Flow>,
    pub(super) connection: Connection,
    pub(super) offers: u32,
    /// Where it came in, and its place there.
    pub(super) visit: Option<(Arc<Visit>, Place<RentalId>)>,
    /// Why it can't stay although its key fits.
    pub(super) refusal: Option<String>,
    pub(super) channels: HashMap<ChannelId, Weak<Inbox>>,
    opened: u32,
    /// Session channels whose program wasn't named yet.
    pub(super) waiting: HashMap<ChannelId, (Line, Wish)>,
}

impl Client {
    pub(super) fn new(
        gateway: Gateway,
        address: ClientIp,
        flow: &Arc<Flow>,
        connection: &Connection,
    ) -> Self {
        Self {
            gateway,
            address,
            flow: Arc::clone(flow),
            connection: connection.clone(),
            offers: 0,
            visit: None,
            refusal: None,
            channels: HashMap::new(),
            opened: 0,
            waiting: HashMap::new(),
        }
    }

    /// What a key opens of what the user name says.
    pub(super) async fn judge(
        &self,
        user: &str,
        key: &russh::keys::PublicKey,
    ) -> Result<Option<(Guest, Admission)>, russh::Error> {
        let (Ok(rental), Ok(key)) = (user.parse::<RentalId>(), PublicKey::of(key.clone())) else {
            return Ok(None);
        };
        match admit(&self.gateway.app, rental, &key).await {
            Ok(Admission::Unknown) => Ok(None),
            Ok(admission) => Ok(Some((Guest { rental, key }, admission))),
            Err(error) => {
                tracing::warn!(%error, "it can't be asked who may come in");
                Err(russh::Error::Disconnect)
            }
        }
    }

    /// Refuses a key; whoever had too many refused lately is cut off.
    pub(super) fn refuse(&self) -> Result<Auth, russh::Error> {
        let caller = Caller::Address(self.address.group());
        let app = &self.gateway.app;
        metrics::counter!("ssh_keys_refused_total").increment(1);
        app.limits
            .count(Action::SshRefused, caller, app.clock.boot_ms())
            .map_err(|_| russh::Error::Disconnect)?;
        Ok(Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
            partial_success: false,
        })
    }

    /// A place for one more channel; `None` if there are as many as may be.
    pub(super) fn line(&mut self, channel: Channel<Msg>, session: &Session) -> Option<Line> {
        self.channels.retain(|_, inbox| inbox.strong_count() > 0);
        if self.channels.len() >= CHANNELS_MAX || self.opened >= CHANNELS_IN_ALL_MAX {
            return None;
        }
        self.opened += 1;
        let id = channel.id();
        let inbox = Inbox::new(&self.flow);
        self.channels.insert(id, Arc::downgrade(&inbox));
        // what arrives comes by `data` and `channel_eof`
        let (_, writer) = channel.split();
        Some(Line {
            id,
            writer,
            inbox,
            flow: Arc::clone(&self.flow),
            handle: session.handle(),
            ended: self.connection.ended.clone(),
        })
    }

    pub(super) fn put(&self, channel: ChannelId, item: Item) {
        if let Some(inbox) = self.channels.get(&channel).and_then(Weak::upgrade) {
            inbox.put(item);
        }
    }

    /// Starts what a session channel is for.
    pub(super) fn begin(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
        what: impl FnOnce(Wish) -> Option<What>,
    ) -> Result<(), russh::Error> {
        let Some((line, wish)) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let (Some(what), Some((visit, _))) = (what(wish), &self.visit) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let (visit, rental_id) = (Arc::clone(visit), visit.rental());
        tracing::debug!(rental.id = %rental_id, "session begins");
        match what {
            What::Exec(exec) => {
                let opening = visit.open(Open::Exec { rental_id, exec });
                tokio::spawn(program::serve(line, opening));
            }
            What::Sftp => {
                let opening = visit.open(Open::Sftp { rental_id });
                tokio::spawn(bytes::serve_subsystem(line, opening));
            }
        }
        Ok(())
    }
}

/// What a session channel is for.
pub(super) enum What {
    Exec(Exec),
    Sftp,
}
