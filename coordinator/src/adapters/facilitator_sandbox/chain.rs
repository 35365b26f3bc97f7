//! The sandbox's tables as a chain that can be looked at: what money out believes.
//!
//! # Invariants
//! - A wallet has what it was paid less what it paid; what it was granted doesn't count, since nobody sent it.

use async_trait::async_trait;
use shared::x402::{
    address::Address,
    network::{Network, Token},
    payment::PresentedPayment,
};

use super::{Key, SandboxFacilitator};
use crate::{
    domain::payments::ports::{Chain, OnChain, SettleRequest},
    error::Result,
    params,
    store::Tx,
};

#[async_trait]
impl Chain for SandboxFacilitator {
    async fn look(&self, request: &SettleRequest) -> OnChain {
        let unknown = |detail: String| OnChain::Unknown { detail };
        let presented = match PresentedPayment::from_json(request.payload.clone()) {
            Ok(presented) => presented,
            Err(error) => return unknown(error.to_string()),
        };
        let Some(identity) = presented.identity() else {
            return unknown("no known network".to_owned());
        };
        let key = Key::of(&identity);
        let used = self.db.read("sandbox_look", move |tx| used(tx, &key)).await;
        let now_s = self.clock.now().as_secs();
        match used {
            Ok(Some(used)) => OnChain::Used {
                paid: used.pay_to == request.terms.pay_to.to_string()
                    && used.amount == request.terms.amount.atomic(),
                transaction: used.transaction,
                // a transaction of the sandbox is one transfer
                log_index: Some(0),
            },
            Ok(None) => OnChain::Unused {
                expired: u128::try_from(now_s)
                    .is_ok_and(|now_s| now_s >= presented.authorization.valid_before),
            },
            Err(error) => unknown(error.to_string()),
        }
    }

    async fn balance(
        &self,
        network: &'static Network,
        token: &Token,
        of: &Address,
    ) -> Result<i64, String> {
        let (token, of) = (token.address.to_string(), of.to_string());
        let read = move |tx: &mut dyn Tx| {
            let rows = tx.query(
                "SELECT balance - granted FROM sandbox_wallets WHERE network = $1 AND asset = $2 AND address = $3",
                params![network.caip2, token.as_str(), of.as_str()],
            )?;
            Ok(match rows.first() {
                Some(row) => row.int(0)?,
                None => 0,
            })
        };
        let found = self.db.read("sandbox_balance", read).await;
        found.map_err(|error| error.to_string())
    }
}

/// A nonce that was used.
struct Used {
    pay_to: String,
    amount: i64,
    transaction: String,
}

fn used(tx: &mut dyn Tx, key: &Key) -> Result<Option<Used>> {
    let rows = tx.query(
        "SELECT pay_to, amount, transaction_hash FROM sandbox_settlements
         WHERE network = $1 AND asset = $2 AND payer = $3 AND nonce = $4",
        params![
            key.network,
            key.asset.as_str(),
            key.payer.as_str(),
            key.nonce.as_str()
        ],
    )?;
    rows.first()
        .map(|row| {
            Ok(Used {
                pay_to: row.text(0)?.to_owned(),
                amount: row.int(1)?,
                transaction: row.text(2)?.to_owned(),
            })
        })
        .transpose()
}
