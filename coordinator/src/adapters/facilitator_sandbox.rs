//! A facilitator without a chain: signatures are checked for real, balances are play money in the coordinator's database.
//!
//! Its tables are its "chain", which is why this adapter, unlike others, has SQL: no slice knows them, and
//! replacing this file by a facilitator's client changes nothing else.
//!
//! # Invariants
//! - A nonce of a payer moves money once. The identical payload again is answered with the same transaction, also after it
//!   has expired; another payload under the same nonce is refused.
//! - A wallet is granted play money once, when it is first seen, and only if it is then seen as a payer.
//! - Money only moves: Σ balance = Σ granted.
//! - The market's own wallet is never short: what its accounts were given as play money was never paid to it, so it is granted what it
//!   lacks when it pays.

use std::sync::Arc;

use async_trait::async_trait;
use shared::{
    clock::Clock,
    money::Amount,
    time::Timestamp,
    x402::{
        address::Address,
        eip712::keccak256,
        exact::{VerifiedPayment, check_to_settle},
        network::Network,
        payment::{Identity, PresentedPayment},
    },
};

use crate::{
    domain::payments::ports::{Facilitator, SettleOutcome, SettleRequest, Support, VerifyOutcome},
    error::{Error, Result},
    params,
    store::{Db, Tx},
};

/// What a chain says to a payer without money.
const INSUFFICIENT_FUNDS: &str = "insufficient_funds";
/// What a token's contract says to a nonce that it has seen.
const NONCE_USED: &str = "invalid_exact_evm_nonce_already_used";

/// The embedded facilitator.
#[derive(Debug)]
pub struct SandboxFacilitator {
    db: Db,
    clock: Arc<dyn Clock>,
    grant: Amount,
    house: Option<Address>,
}

impl SandboxFacilitator {
    /// Each new payer is given `grant`; `house` is the market's own wallet.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, grant: Amount, house: Option<Address>) -> Self {
        Self {
            db,
            clock,
            grant,
            house,
        }
    }

    fn transfer(&self, payment: &VerifiedPayment, amount: Amount) -> Transfer {
        Transfer {
            key: Key::of(&payment.identity),
            pay_to: payment.authorization.to.to_string(),
            amount,
            grant: self.grant,
            by_house: self.house == Some(payment.identity.payer),
            payload_sha256: payment.identity.payload_sha256,
            transaction: transaction_hash(&payment.identity),
            now: self.clock.now(),
        }
    }
}

#[async_trait]
impl Facilitator for SandboxFacilitator {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        let payment = match checked(request, self.clock.now()) {
            Ok(payment) => payment,
            Err(reason) => return VerifyOutcome::Invalid { reason },
        };
        let key = Key::of(&payment.identity);
        let seen = self
            .db
            .read("sandbox_verify", move |tx| {
                Ok((settlement(tx, &key)?, balance(tx, &key)?))
            })
            .await;
        let invalid = |reason: &str| VerifyOutcome::Invalid {
            reason: reason.to_owned(),
        };
        match seen {
            Ok((Some(_), _)) => invalid(NONCE_USED),
            Ok((None, balance)) if balance.unwrap_or(self.grant) < request.terms.amount => {
                invalid(INSUFFICIENT_FUNDS)
            }
            Ok(_) => VerifyOutcome::Valid {
                payer: payment.identity.payer,
            },
            Err(error) => VerifyOutcome::Unknown {
                detail: error.to_string(),
            },
        }
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        let refused = |reason: &str| SettleOutcome::Refused {
            reason: reason.to_owned(),
        };
        let identity = match identity(request) {
            Ok(identity) => identity,
            Err(reason) => return SettleOutcome::Refused { reason },
        };
        let key = Key::of(&identity);
        let transfer = checked(request, self.clock.now())
            .map(|payment| self.transfer(&payment, request.terms.amount));
        let settled = self
            .db
            .write("sandbox_settle", move |tx| {
                // what was settled stays so after it has expired: asked before the check of its times counts
                match (settlement(tx, &key)?, &transfer) {
                    (Some(before), _) => Ok(Ok(before)),
                    (None, Ok(transfer)) => transfer.apply(tx).map(Ok),
                    (None, Err(reason)) => Ok(Err(reason.clone())),
                }
            })
            .await;
        match settled {
            Ok(Err(reason)) => SettleOutcome::Refused { reason },
            Ok(Ok(settlement)) if settlement.payload_sha256 != identity.payload_sha256 => {
                refused(NONCE_USED)
            }
            Ok(Ok(settlement)) => SettleOutcome::Settled {
                transaction: settlement.transaction,
                log_index: None,
            },
            Err(error) if error.code() == INSUFFICIENT_FUNDS => refused(INSUFFICIENT_FUNDS),
            Err(error) => SettleOutcome::Unknown {
                detail: error.to_string(),
            },
        }
    }

    async fn supports(&self, _network: &'static Network) -> Support {
        Support::Yes
    }

    fn name(&self) -> &str {
        "sandbox"
    }
}

fn presented(request: &SettleRequest) -> Result<PresentedPayment, String> {
    PresentedPayment::from_json(request.payload.clone()).map_err(|_| "invalid_payload".to_owned())
}

fn identity(request: &SettleRequest) -> Result<Identity, String> {
    presented(request)?
        .identity()
        .ok_or_else(|| "invalid_network".to_owned())
}

fn checked(request: &SettleRequest, now: Timestamp) -> Result<VerifiedPayment, String> {
    check_to_settle(&request.terms, &presented(request)?, now)
        .map_err(|reject| reject.code().to_owned())
}

/// Looks like a chain's, and is the same for the same nonce.
fn transaction_hash(identity: &Identity) -> String {
    let mut bytes = b"ramarket/sandbox/transaction/v1\0".to_vec();
    bytes.extend_from_slice(&identity.network.chain_id.to_be_bytes());
    bytes.extend_from_slice(identity.asset.as_bytes());
    bytes.extend_from_slice(identity.payer.as_bytes());
    bytes.extend_from_slice(&identity.nonce);
    format!("0x{}", hex::encode(keccak256(&bytes)))
}

/// Where a nonce is kept.
#[derive(Debug, Clone)]
struct Key {
    network: &'static str,
    asset: String,
    payer: String,
    nonce: String,
}

impl Key {
    fn of(identity: &Identity) -> Self {
        Self {
            network: identity.network.caip2,
            asset: identity.asset.to_string(),
            payer: identity.payer.to_string(),
            nonce: identity.nonce_hex(),
        }
    }
}

/// A used nonce.
#[derive(Debug, PartialEq, Eq)]
struct Settlement {
    payload_sha256: [u8; 32],
    transaction: String,
}

fn settlement(tx: &mut dyn Tx, key: &Key) -> Result<Option<Settlement>> {
    let rows = tx.query(
        "SELECT payload_sha256, transaction_hash FROM sandbox_settlements
         WHERE network = $1 AND asset = $2 AND payer = $3 AND nonce = $4",
        params![
            key.network,
            key.asset.as_str(),
            key.payer.as_str(),
            key.nonce.as_str()
        ],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Settlement {
        payload_sha256: row
            .blob(0)?
            .try_into()
            .map_err(|_| Error::corrupt("sandbox_settlements", &key.nonce, "payload_sha256"))?,
        transaction: row.text(1)?.to_owned(),
    }))
}

fn balance(tx: &mut dyn Tx, key: &Key) -> Result<Option<Amount>> {
    let rows = tx.query(
        "SELECT balance FROM sandbox_wallets WHERE network = $1 AND asset = $2 AND address = $3",
        params![key.network, key.asset.as_str(), key.payer.as_str()],
    )?;
    rows.first()
        .map(|row| {
            Amount::from_atomic(row.int(0)?)
                .map_err(|_| Error::corrupt("sandbox_wallets", &key.payer, "balance"))
        })
        .transpose()
}

/// One movement of play money.
struct Transfer {
    key: Key,
    pay_to: String,
    amount: Amount,
    grant: Amount,
    by_house: bool,
    payload_sha256: [u8; 32],
    transaction: String,
    now: Timestamp,
}

impl Transfer {
    /// Uses the nonce and moves the money, or finds that the nonce was used.
    fn apply(&self, tx: &mut dyn Tx) -> Result<Settlement> {
        if !self.use_nonce(tx)? {
            return settlement(tx, &self.key)?
                .ok_or_else(|| Error::corrupt("sandbox_settlements", &self.key.nonce, "nonce"));
        }
        if self.by_house {
            self.open_wallet(tx, &self.key.payer, Amount::ZERO)?;
            self.change_balance(
                tx,
                "UPDATE sandbox_wallets SET granted = granted + ($4 - balance), balance = $4
                 WHERE network = $1 AND asset = $2 AND address = $3 AND balance < $4",
                &self.key.payer,
            )?;
        } else {
            self.open_wallet(tx, &self.key.payer, self.grant)?;
        }
        // a payee isn't granted anything for being paid
        self.open_wallet(tx, &self.pay_to, Amount::ZERO)?;
        let taken = self.change_balance(
            tx,
            "UPDATE sandbox_wallets SET balance = balance - $4
             WHERE network = $1 AND asset = $2 AND address = $3 AND balance >= $4",
            &self.key.payer,
        )?;
        if !taken {
            // an error, so that the nonce isn't used either
            return Err(Error::conflict(
                INSUFFICIENT_FUNDS,
                "the payer's sandbox wallet holds less than the price",
            ));
        }
        let given = self.change_balance(
            tx,
            "UPDATE sandbox_wallets SET balance = balance + $4
             WHERE network = $1 AND asset = $2 AND address = $3",
            &self.pay_to,
        )?;
        if !given {
            return Err(Error::corrupt("sandbox_wallets", &self.pay_to, "address"));
        }
        Ok(Settlement {
            payload_sha256: self.payload_sha256,
            transaction: self.transaction.clone(),
        })
    }

    fn use_nonce(&self, tx: &mut dyn Tx) -> Result<bool> {
        let inserted = tx.execute(
            "INSERT INTO sandbox_settlements
             (network, asset, payer, nonce, pay_to, amount, payload_sha256, transaction_hash, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (network, asset, payer, nonce) DO NOTHING",
            params![
                self.key.network,
                self.key.asset.as_str(),
                self.key.payer.as_str(),
                self.key.nonce.as_str(),
                self.pay_to.as_str(),
                self.amount,
                self.payload_sha256.as_slice(),
                self.transaction.as_str(),
                self.now
            ],
        )?;
        Ok(inserted == 1)
    }

    fn open_wallet(&self, tx: &mut dyn Tx, address: &str, grant: Amount) -> Result<()> {
        tx.execute(
            "INSERT INTO sandbox_wallets (network, asset, address, balance, granted, created_at)
             VALUES ($1, $2, $3, $4, $4, $5) ON CONFLICT (network, asset, address) DO NOTHING",
            params![
                self.key.network,
                self.key.asset.as_str(),
                address,
                grant,
                self.now
            ],
        )?;
        Ok(())
    }

    fn change_balance(&self, tx: &mut dyn Tx, sql: &str, address: &str) -> Result<bool> {
        let changed = tx.execute(
            sql,
            params![
                self.key.network,
                self.key.asset.as_str(),
                address,
                self.amount
            ],
        )?;
        Ok(changed == 1)
    }
}

mod chain;
#[cfg(test)]
mod tests;
