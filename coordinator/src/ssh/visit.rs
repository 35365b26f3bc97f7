//! What a connection opens in its rental, and the record of it.
//!
//! # Invariants
//! - It is in the audit log before it is opened; what can't be recorded isn't opened.
//! - A connection has one entry for a program, one for files and one for each port: a proxy of a client's opens thousands of streams, and who
//!   looks into the log has to find the others.

use std::{collections::HashSet, sync::Arc};

use shared::{id::RentalId, link::open::Open};
use tokio::sync::Mutex;

use super::{Opening, server::Gateway};
use crate::{
    context::{Actor, SshKey},
    domain::gateway::access::{self, Verb, Way},
    error::{Error, Result},
    http::{ClientIp, request_id},
    store::Tx,
};

/// Somebody who was let in.
pub(super) struct Visit {
    gateway: Gateway,
    key: SshKey,
    fingerprint: String,
    address: ClientIp,
    /// To find the connection's entries together.
    request_id: String,
    /// What has its entry; whoever opens the same meanwhile waits until it has.
    noted: Mutex<HashSet<Verb>>,
}

impl Visit {
    pub(super) fn new(
        gateway: Gateway,
        key: SshKey,
        fingerprint: String,
        address: ClientIp,
    ) -> Self {
        Self {
            gateway,
            key,
            fingerprint,
            address,
            request_id: request_id::mint(),
            noted: Mutex::default(),
        }
    }

    pub(super) const fn rental(&self) -> RentalId {
        self.key.rental
    }

    /// Records what is opened, and opens it. Nothing happens before the first poll: whoever moves the connection waits for neither.
    pub(super) fn open(self: Arc<Self>, open: Open) -> Opening {
        Box::pin(async move {
            let verb = Verb::of_stream(&open);
            let verb = verb.ok_or_else(|| Error::internal("a stream of no rental"))?;
            self.note(verb).await?;
            (self.gateway.opens)(open).await
        })
    }

    async fn note(&self, verb: Verb) -> Result<()> {
        let mut noted = self.noted.lock().await;
        if noted.contains(&verb) {
            return Ok(());
        }
        let (app, rental) = (&self.gateway.app, self.key.rental);
        let ctx = app
            .context(Actor::SshKey(self.key), self.request_id.clone())
            .with_client(self.address.known());
        let way = Way::Ssh(self.fingerprint.clone());
        let note = move |tx: &mut dyn Tx| access::note(tx, &ctx, rental, verb, &way);
        app.db.write("ssh.note", note).await?;
        noted.insert(verb);
        Ok(())
    }
}
