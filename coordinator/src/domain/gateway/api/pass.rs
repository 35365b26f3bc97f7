//! Who gets in: by credentials, or by a ticket in the query.

use std::{collections::BTreeSet, sync::Arc};

use shared::id::RentalId;

use super::super::{
    access::{self, Verb, Way},
    tickets::{self, Bearer},
    web::{self, WebPort},
};
use crate::{
    app::App,
    context::{Actor, ApiKey, OpCtx, Scope},
    domain::{apikeys, auth},
    error::{Error, Result},
    http::credentials,
};

/// Somebody who may reach into a rental.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) app: Arc<App>,
    pub(super) ctx: OpCtx,
    pub(super) rental: RentalId,
    /// The port as it was when a visitor of the web was let in to it.
    pub(super) port: Option<WebPort>,
}

/// Lets in who rents it, by `ctx` or, where there is one, by the ticket.
pub(super) async fn admit(
    app: &Arc<App>,
    ctx: OpCtx,
    rental: RentalId,
    verb: Verb,
    ticket: Option<String>,
) -> Result<Pass> {
    let ctx = match ticket {
        None => ctx,
        Some(ticket) => {
            let bearer = tickets::redeem(&app.db, &ticket, rental, verb, ctx.now).await?;
            ctx.acting_as(actor_of(app, bearer, rental).await?)
        }
    };
    let asked = ctx.clone();
    let look = move |tx: &mut dyn crate::store::Tx| access::reachable(tx, &asked, rental);
    app.db.read("gateway.reachable", look).await?;
    Ok(Pass {
        app: Arc::clone(app),
        ctx,
        rental,
        port: None,
    })
}

/// Who asked for a ticket, if they still may.
async fn actor_of(app: &App, bearer: Bearer, rental: RentalId) -> Result<Actor> {
    let ended = || {
        Error::unauthenticated(
            "ticket",
            "who asked for this ticket isn't signed in any more",
        )
    };
    match bearer {
        Bearer::Session(user, session) => auth::session::live_user(app, session)
            .await?
            .filter(|live| live.id == user)
            .map(Actor::User)
            .ok_or_else(ended),
        Bearer::ApiKey(user, id) => {
            let key = ApiKey {
                id,
                user,
                roles: BTreeSet::new(),
                scopes: BTreeSet::from([Scope::RentalsReach]),
            };
            if apikeys::holds(app, &key).await? {
                Ok(Actor::ApiKey(key))
            } else {
                Err(ended())
            }
        }
        Bearer::RentalToken => Ok(Actor::RentalToken(rental)),
        Bearer::Wallet(wallet) => Ok(Actor::Wallet(wallet)),
    }
}

impl Pass {
    /// Records that a stream is about to be opened.
    pub(super) async fn note(&self, verb: Verb) -> Result<()> {
        let (ctx, rental) = (self.ctx.clone(), self.rental);
        let note = move |tx: &mut dyn crate::store::Tx| {
            access::note(tx, &ctx, rental, verb, &Way::WebSocket)
        };
        self.app.db.write("gateway.note", note).await
    }

    /// Whether it still holds.
    pub(super) async fn holds(&self) -> Result<bool> {
        if !credentials::still_holds(&self.app, &self.ctx.actor).await? {
            return Ok(false);
        }
        let (rental, port) = (self.rental, self.port);
        let look = move |tx: &mut dyn crate::store::Tx| {
            let open = port.map_or(Ok(true), |port| web::is_still_open(tx, &port))?;
            Ok(open && access::may_go_on(tx, rental)?)
        };
        self.app.db.read("gateway.holds", look).await
    }
}
