//! Whether the money has moved: by the facilitator's word, and by the chain where one can be asked.
//!
//! # Invariants
//! - With a chain, money counts as moved only when the chain shows it: a facilitator's word alone credits nothing, and refuses nothing that
//!   the chain shows paid.
//! - What was asked for before without a clear answer is looked up on the chain before it is asked for again.

use super::Purchases;
use crate::{
    crash::{self, Side},
    domain::payments::{
        ports::{Chain, OnChain, SettleOutcome, SettleRequest, VerifyOutcome},
        routes::Routes,
    },
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

    fn chain(&self, request: &SettleRequest) -> Option<&dyn Chain> {
        let route = self.routes.of(request.terms.network)?;
        route.chain.as_deref()
    }

    /// What became of a payment of which it is durable that it is being settled. Asks for the money unless the chain shows its end.
    pub(super) async fn outcome(&self, request: &SettleRequest) -> SettleOutcome {
        let Some(chain) = self.chain(request) else {
            return self.ask(request).await;
        };
        if request.asked_before
            && let Some(end) = end_on(chain, request).await
        {
            return end;
        }
        match self.ask(request).await {
            SettleOutcome::Settled { .. } => {
                let end = end_on(chain, request).await;
                end.unwrap_or_else(|| SettleOutcome::Unknown {
                    detail: "the facilitator says settled, the chain doesn't show it yet"
                        .to_owned(),
                })
            }
            SettleOutcome::Refused { reason } => refused_by(chain, request, reason).await,
            other => other,
        }
    }

    async fn ask(&self, request: &SettleRequest) -> SettleOutcome {
        let Some(route) = self.routes.of(request.terms.network) else {
            return SettleOutcome::Unknown {
                detail: Routes::missing(request.terms.network),
            };
        };
        crash::point("facilitator.settle", Side::Before).await;
        let outcome = route.facilitator.settle(request).await;
        crash::point("facilitator.settle", Side::After).await;
        outcome
    }

    /// Whether the chain, if one can be asked, shows that the money came.
    pub(super) async fn has_moved(&self, request: &SettleRequest) -> bool {
        match self.chain(request) {
            Some(chain) => matches!(look(chain, request).await, OnChain::Used { paid: true, .. }),
            None => false,
        }
    }
}

async fn look(chain: &dyn Chain, request: &SettleRequest) -> OnChain {
    crash::point("chain.look", Side::Before).await;
    let found = chain.look(request).await;
    crash::point("chain.look", Side::After).await;
    found
}

/// A refusal counts only if the chain agrees that the authorization isn't used.
async fn refused_by(chain: &dyn Chain, request: &SettleRequest, reason: String) -> SettleOutcome {
    match look(chain, request).await {
        OnChain::Used {
            transaction,
            log_index,
            paid: true,
        } => SettleOutcome::Settled {
            transaction,
            log_index,
        },
        OnChain::Unknown { detail } => SettleOutcome::Unknown {
            detail: format!("refused ({reason}), and the chain can't be asked: {detail}"),
        },
        OnChain::Used { paid: false, .. } | OnChain::Unused { .. } => {
            SettleOutcome::Refused { reason }
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
    match look(chain, request).await {
        OnChain::Used {
            transaction,
            log_index,
            paid: true,
        } => Some(SettleOutcome::Settled {
            transaction,
            log_index,
        }),
        OnChain::Used {
            transaction,
            paid: false,
            ..
        } => {
            tracing::warn!(payment.id = %request.reference, transaction, "the payer used the authorization otherwise");
            refused("authorization_used_otherwise")
        }
        OnChain::Unused { expired: true } => refused("authorization_expired"),
        OnChain::Unused { expired: false } => None,
        OnChain::Unknown { detail } => {
            tracing::warn!(payment.id = %request.reference, detail, "the chain gives no clear answer");
            None
        }
    }
}
