//! Whether the money has moved: by the facilitator's word, and by the chain where one can be asked.
//!
//! # Invariants
//! - With a chain, money counts as moved only when the chain shows it: a facilitator's word alone credits nothing.
//! - What was asked for before without a clear answer is looked up on the chain before it is asked for again.

use super::Purchases;
use crate::domain::payments::{
    ports::{Chain, OnChain, SettleOutcome, SettleRequest, VerifyOutcome},
    routes::Routes,
};

impl Purchases {
    /// Whether a payment could be settled, by the facilitator of its network.
    pub(super) async fn judged(&self, request: &SettleRequest) -> VerifyOutcome {
        match self.routes.of(request.terms.network) {
            Some(route) => route.facilitator.verify(request).await,
            None => VerifyOutcome::Unknown {
                detail: Routes::missing(request.terms.network),
            },
        }
    }

    /// What became of a payment of which it is durable that it is being settled. Asks for the money unless the chain shows its end.
    pub(super) async fn outcome(&self, request: &SettleRequest) -> SettleOutcome {
        let Some(route) = self.routes.of(request.terms.network) else {
            return SettleOutcome::Unknown {
                detail: Routes::missing(request.terms.network),
            };
        };
        let Some(chain) = &route.chain else {
            return route.facilitator.settle(request).await;
        };
        if request.asked_before
            && let Some(end) = end_on(chain.as_ref(), request).await
        {
            return end;
        }
        match route.facilitator.settle(request).await {
            SettleOutcome::Settled { .. } => {
                let end = end_on(chain.as_ref(), request).await;
                end.unwrap_or_else(|| SettleOutcome::Unknown {
                    detail: "the facilitator says settled, the chain doesn't show it yet"
                        .to_owned(),
                })
            }
            other => other,
        }
    }
}

/// The end of a payment by the chain, or `None` as long as it shows none.
async fn end_on(chain: &dyn Chain, request: &SettleRequest) -> Option<SettleOutcome> {
    let refused = |reason: &str| {
        Some(SettleOutcome::Refused {
            reason: reason.to_owned(),
        })
    };
    match chain.look(request).await {
        OnChain::Used {
            transaction,
            paid: true,
        } => Some(SettleOutcome::Settled { transaction }),
        OnChain::Used {
            transaction,
            paid: false,
        } => {
            tracing::warn!(payment.id = %request.payment_id, transaction, "the payer used the authorization otherwise");
            refused("authorization_used_otherwise")
        }
        OnChain::Unused { expired: true } => refused("authorization_expired"),
        OnChain::Unused { expired: false } => None,
        OnChain::Unknown { detail } => {
            tracing::warn!(payment.id = %request.payment_id, detail, "the chain gives no clear answer");
            None
        }
    }
}
