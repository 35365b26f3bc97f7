//! How a connection ends: its client leaves, its key or its rental is gone, it is idle, we stop. Each but the first with a word.
//!
//! # Invariants
//! - Authorization is asked again every `ssh.recheck_s`. When it can't be asked for [`UNASKED_MAX`] times, the connection ends.
//! - Whoever was told goodbye and doesn't leave is cut off.

use std::{convert::Infallible, sync::Arc, time::Duration};

use russh::{Disconnect, server::Handle};
use shared::id::RentalId;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    admit::{Admission, admit},
    flow::Flow,
    server::HANDSHAKE_TIME_MAX,
};
use crate::{app::App, domain::sshkeys::model::PublicKey};

/// Time to take a goodbye.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// So many times in a row authorization may fail to be asked.
const UNASKED_MAX: u32 = 5;
/// How often idleness is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A connection, for whoever ends it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    flow: Arc<Flow>,
    /// Cancelled with the connection: whatever serves one of its channels stops.
    pub(super) ended: CancellationToken,
    /// Who came in, once somebody did.
    guest: watch::Sender<Option<Guest>>,
}

/// Who came in.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) rental: RentalId,
    pub(super) key: PublicKey,
}

impl Connection {
    pub(super) fn new(flow: &Arc<Flow>) -> Self {
        Self {
            flow: Arc::clone(flow),
            ended: CancellationToken::new(),
            guest: watch::Sender::new(None),
        }
    }

    /// Notes who came in.
    pub(super) fn let_in(&self, guest: Guest) {
        self.guest.send_replace(Some(guest));
    }

    /// The connection is over.
    pub(super) fn end(&self) {
        self.ended.cancel();
        self.flow.cut();
    }

    /// Watches over a connection until it is told goodbye and cut off; whoever calls waits for the connection's own end beside.
    pub(super) async fn keep(&self, app: &App, handle: Handle) -> Infallible {
        let why = tokio::select! {
            why = self.reason(app) => why,
            () = app.shutdown.cancelled() => "the gateway restarts: connect again in a moment".to_owned(),
        };
        if !why.is_empty() {
            let told = handle.disconnect(Disconnect::ByApplication, why, String::new());
            if timeout(LEAVE_TIME_MAX, told).await.is_ok() {
                sleep(LEAVE_TIME_MAX).await;
            }
        }
        self.flow.cut();
        std::future::pending().await
    }

    /// Why this connection has to end; empty if nobody is there to be told.
    async fn reason(&self, app: &App) -> String {
        let settings = &app.config.ssh;
        let Some(guest) = self.guest().await else {
            return String::new();
        };
        let idle_max = Duration::from_secs(u64::from(settings.idle_s));
        let recheck = Duration::from_secs(u64::from(settings.recheck_s));
        let mut asked_at = Instant::now();
        let mut unasked = 0;
        loop {
            sleep(LOOK).await;
            if self.flow.idle() >= idle_max {
                return format!("nothing moved for {} s", settings.idle_s);
            }
            if asked_at.elapsed() < recheck {
                continue;
            }
            asked_at = Instant::now();
            match admit(app, guest.rental, &guest.key).await {
                Ok(Admission::Open(_)) => unasked = 0,
                Ok(Admission::Closed(why)) => return why,
                Ok(Admission::Unknown) => {
                    return "this key doesn't open the rental any more".to_owned();
                }
                Err(error) => {
                    unasked += 1;
                    tracing::warn!(rental.id = %guest.rental, %error, "authorization can't be asked again");
                    if unasked >= UNASKED_MAX {
                        return "the market can't say whether you may stay: connect again"
                            .to_owned();
                    }
                }
            }
        }
    }

    /// Who came in, within the time for that.
    async fn guest(&self) -> Option<Guest> {
        let mut guests = self.guest.subscribe();
        let came = timeout(HANDSHAKE_TIME_MAX, guests.wait_for(Option::is_some)).await;
        came.ok()?.ok()?.clone()
    }
}
