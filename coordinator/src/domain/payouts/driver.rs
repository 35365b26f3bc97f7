//! Sends payouts: look, decide, make it durable, ask, write down what came of it.
//!
//! # Invariants
//! - Nothing is asked of anybody inside a transaction, and nothing before what is asked is on disk.
//! - Any step may be repeated, by this process or another: the version lets one of them win, the nonce lets one transfer happen.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use shared::{
    clock::Clock,
    id::{Ids, PayoutId},
    money::Asset,
    x402::{
        address::Address,
        network::{Network, Token},
        outgoing,
        signature::PayerKey,
        wire_v2,
    },
};

use super::{
    Rules, Way,
    model::{self, Event, Payout, Seen, State, Step, decide},
    outcome::Attempt,
    steps::{advance, begin, fail, settle},
    store,
};
use crate::{
    config::KycConfig,
    context::{Actor, OpCtx},
    domain::{
        mail::Postbox,
        payments::{
            model::retry_delay_ms,
            ports::{Chain, Facilitator, SettleRequest},
        },
        rentals::timers,
    },
    error::{Error, Kind, Result},
    store::{Db, Tx},
};

/// Payouts that one pass reads at a time.
const BATCH: i64 = 100;
/// Of these, how many are asked for at once.
const AT_ONCE: usize = 8;

/// How one currency leaves the market.
#[derive(Debug, Clone)]
pub struct Rail {
    /// Which currency.
    pub asset: Asset,
    /// Where.
    pub network: &'static Network,
    /// As which token.
    pub token: Token,
    /// Who sends.
    pub facilitator: Arc<dyn Facilitator>,
    /// What shows it, if it can be asked.
    pub chain: Option<Arc<dyn Chain>>,
}

impl Rail {
    /// As payouts note it.
    #[must_use]
    pub fn way(&self) -> Way {
        Way {
            network: self.network.caip2.to_owned(),
            token: self.token.address.to_string(),
        }
    }
}

/// Everything that money out needs.
#[derive(Debug)]
pub struct Payouts {
    /// The database.
    pub db: Db,
    /// The market's own wallet; without one the operator sends by hand.
    pub wallet: Option<Arc<PayerKey>>,
    /// By currency.
    pub rails: Vec<Rail>,
    /// Where the market is paid.
    pub pay_to: Vec<Address>,
    /// What it is bound to.
    pub rules: Rules,
    /// What needs proof of identity.
    pub kyc: KycConfig,
    /// Where letters go.
    pub postbox: Arc<Postbox>,
    /// Without a slash at its end.
    pub public_url: String,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<Ids>,
}

impl Payouts {
    pub(super) fn context(&self) -> OpCtx {
        OpCtx::new(
            Actor::System,
            self.clock.now(),
            "payout".to_owned(),
            Arc::clone(&self.ids),
        )
    }

    /// How a currency leaves: by this network if it is known and leads there, or else by the first that does.
    ///
    /// # Errors
    /// 422 if it doesn't.
    pub fn rail(&self, asset: Asset, network: Option<&str>) -> Result<&Rail> {
        let mut rails = self.rails.iter().filter(|rail| rail.asset == asset);
        let same = rails
            .clone()
            .find(|rail| Some(rail.network.caip2) == network);
        same.or_else(|| rails.next())
            .ok_or_else(|| super::no_way(asset))
    }

    /// The way of a currency by a network that somebody named.
    ///
    /// # Errors
    /// 422 if it doesn't leave by that.
    pub fn way_by(&self, asset: Asset, network: &str) -> Result<Way> {
        let rail = self.rail(asset, Some(network))?;
        if rail.network.caip2 == network {
            Ok(rail.way())
        } else {
            let names = self.rails.iter().filter(|rail| rail.asset == asset);
            let names: Vec<&str> = names.map(|rail| rail.network.caip2).collect();
            Err(Error::invalid(
                "/network",
                format!("{asset} leaves by {} here", names.join(" or ")),
            ))
        }
    }

    /// The market's own addresses: nobody is paid out there.
    #[must_use]
    pub fn ours(&self) -> Vec<Address> {
        let wallet = self.wallet.as_ref().map(|key| key.address());
        let mut ours: Vec<Address> = self.pay_to.iter().copied().chain(wallet).collect();
        ours.sort_unstable();
        ours.dedup();
        ours
    }

    fn rail_of(&self, payout: &Payout) -> Option<&Rail> {
        self.rails.iter().find(|rail| {
            rail.asset == payout.asset
                && rail.network.caip2 == payout.network
                && rail.token.address.to_string() == payout.token
        })
    }

    /// Takes up every payout whose time has come; returns how many reached an end.
    ///
    /// # Errors
    /// The database's, while finding them; a payout that fails is logged and looked at again.
    pub async fn pass(&self) -> Result<usize> {
        if self.wallet.is_none() {
            return Ok(0);
        }
        let (mut ended, mut after) = (0, timers::beginning());
        loop {
            let (now, from) = (self.clock.now(), after.clone());
            let due = self
                .db
                .read("payout.due", move |tx| {
                    store::due(tx, now, (from.0, &from.1), BATCH)
                })
                .await?;
            let Some(last) = due.last() else {
                return Ok(ended);
            };
            after = (last.next_try_at, last.id.to_string());
            let finals = stream::iter(due)
                .map(|payout| self.take_up(payout.id))
                .buffer_unordered(AT_ONCE)
                .filter(|ended| std::future::ready(*ended))
                .count();
            ended += finals.await;
        }
    }

    async fn take_up(&self, id: PayoutId) -> bool {
        match self.drive(id).await {
            Ok(payout) => payout.state.is_final(),
            // somebody else moved it first, the database is busy, or the books are looked into: the next pass looks again
            Err(error) if error.code() == "busy" || error.code() == "ledger_halted" => false,
            Err(error) => {
                tracing::error!(payout.id = %id, %error, "payout could not be taken up");
                false
            }
        }
    }

    /// Moves a payout on by one attempt at most; returns where it is.
    ///
    /// # Errors
    /// The database's, 503 if somebody else moved it meanwhile; the payout is where it was.
    pub async fn drive(&self, id: PayoutId) -> Result<Payout> {
        let payout = self
            .db
            .read("payout.load", move |tx| super::find(tx, id))
            .await?;
        let Some(wallet) = &self.wallet else {
            return Ok(payout);
        };
        if payout.next_try_at > self.clock.now() {
            // somebody else took it up since it was found to be due
            return Ok(payout);
        }
        let Some(rail) = self.rail_of(&payout) else {
            tracing::error!(payout.id = %id, payout.network, payout.token, "no setting leads to a payout's network and token any more");
            return Ok(payout);
        };
        let seen = if payout.state.is_in_flight() {
            rail.look(&self.request(rail, &payout)?).await
        } else {
            Seen::NoChain
        };
        match decide(&payout, &seen, self.clock.now()) {
            Step::Nothing => Ok(payout),
            Step::Wait(until) => self.put_off(payout, until, None).await,
            Step::Settle(transaction) => self.settle(payout, Some(transaction)).await,
            Step::GiveUp => self.give_up(payout).await,
            Step::Stuck(transaction) => {
                tracing::error!(payout.id = %id, transaction, "a payout's nonce was used by another transfer: look at the wallet's key");
                let until = self.clock.now().plus_ms(3_600_000);
                self.put_off(payout, until, Some(STUCK)).await
            }
            Step::Ask { sign } => {
                let signed = if sign {
                    Some(self.sign(rail, wallet, &payout)?)
                } else {
                    None
                };
                let begun = self.begin(payout, signed).await?;
                self.ask(rail, begun).await
            }
        }
    }

    fn sign(&self, rail: &Rail, wallet: &PayerKey, payout: &Payout) -> Result<(String, i64)> {
        let terms = payout.terms(
            rail.network,
            rail.token,
            self.rules.valid_for_s,
            &self.public_url,
        );
        let now_s = self.clock.now().as_secs();
        let valid_before_s = now_s.saturating_add(self.rules.valid_for_s);
        let nonce = model::nonce(payout.id);
        let payload =
            outgoing::transfer(wallet, &terms, nonce, valid_before_s).map_err(Error::internal)?;
        Ok((payload.to_string(), valid_before_s))
    }

    fn request(&self, rail: &Rail, payout: &Payout) -> Result<SettleRequest> {
        let id = payout.id.to_string();
        let payload = payout.payload.as_deref().unwrap_or_default();
        Ok(SettleRequest {
            terms: payout.terms(
                rail.network,
                rail.token,
                self.rules.valid_for_s,
                &self.public_url,
            ),
            payload: serde_json::from_str(payload)
                .map_err(|_| Error::corrupt("payouts", &id, "payload"))?,
            reference: id,
            version: wire_v2::VERSION,
            // after answers that were all clear, another clear one can be believed
            asked_before: payout.doubtful,
        })
    }

    async fn ask(&self, rail: &Rail, begun: Payout) -> Result<Payout> {
        match rail.send(&self.request(rail, &begun)?).await {
            Attempt::Paid(transaction) => self.settle(begun, transaction).await,
            Attempt::Refused(reason) => {
                tracing::warn!(payout.id = %begun.id, reason, "payout refused, it is asked for again");
                let note = format!("the network refused it for now: {reason}");
                self.unclear(begun, note, false).await
            }
            Attempt::Unclear(detail) => {
                tracing::warn!(payout.id = %begun.id, detail, "payout outcome unclear");
                let note = "no clear answer yet: it is asked for again".to_owned();
                self.unclear(begun, note, true).await
            }
        }
    }

    /// A step of a payout that was read before. Whoever finds it changed since gets 503 at once: what was read then stays as it is,
    /// however often the step is run.
    async fn step<F>(&self, name: &'static str, step: F) -> Result<Payout>
    where
        F: Fn(&mut dyn Tx, &OpCtx) -> Result<Payout> + Send + Sync + 'static,
    {
        let ctx = self.context();
        let overtaken = |error: Error| match error.code() {
            "busy" => Error::new(
                Kind::Unavailable { retry_after_s: 1 },
                "busy",
                "somebody else works on this payout",
            ),
            _ => error,
        };
        self.db
            .write(name, move |tx| step(tx, &ctx).map_err(overtaken))
            .await
    }

    async fn begin(&self, payout: Payout, signed: Option<(String, i64)>) -> Result<Payout> {
        self.step("payout.begin", move |tx, ctx| {
            begin(tx, ctx, &payout, signed.clone())
        })
        .await
    }

    async fn settle(&self, payout: Payout, transaction: Option<String>) -> Result<Payout> {
        self.step("payout.settle", move |tx, ctx| {
            settle(tx, ctx, &payout, Event::Settle, transaction.as_deref())
        })
        .await
    }

    async fn unclear(&self, payout: Payout, note: String, doubtful: bool) -> Result<Payout> {
        self.step("payout.unclear", move |tx, ctx| {
            advance(tx, ctx, &payout, Event::Unclear, |moved| {
                moved.note = Some(note.clone());
                moved.doubtful |= doubtful;
                moved.next_try_at = ctx.now.plus_ms(retry_delay_ms(payout.attempts));
            })
        })
        .await
    }

    async fn put_off(
        &self,
        payout: Payout,
        until: shared::time::Timestamp,
        note: Option<&'static str>,
    ) -> Result<Payout> {
        self.step("payout.put_off", move |tx, ctx| {
            advance(tx, ctx, &payout, Event::Unclear, |moved| {
                // whoever was asking died: nobody heard what came of it
                moved.doubtful |= payout.state == State::Sending;
                moved.note = note.map(str::to_owned).or_else(|| payout.note.clone());
                moved.next_try_at = until;
            })
        })
        .await
    }

    async fn give_up(&self, payout: Payout) -> Result<Payout> {
        let postbox = Arc::clone(&self.postbox);
        self.step("payout.give_up", move |tx, ctx| {
            let reason = payout.note.clone();
            let reason = reason.unwrap_or_else(|| "the network didn't take it".to_owned());
            fail(tx, ctx, &postbox, &payout, Event::GiveUp, &reason)
        })
        .await
    }
}

/// What the owner of a payout reads whose nonce was used by something else.
const STUCK: &str = "it can't be told whether it was sent: the operator looks at it";
