//! What is paid out without being asked for: earnings by schedule, and what is owed to wallets without an account.
//!
//! # Invariants
//! - Each payout is asked for in a transaction of its own; one that is refused doesn't stop the others.
//! - A wallet that something is owed to is looked at again until nothing is (`ledger::owed`): a crash, a failure or a day's limit only
//!   puts it off.
//! - Running twice is harmless: the second finds the money held.

use shared::{
    id::UserId,
    money::{Amount, Asset, Money},
    time::Timestamp,
    x402::address::Address,
};

use super::{DAY_MS, Rules, Way, Wish, address, came_by, driver::Payouts, request, store};
use crate::{
    config::{KycConfig, KycGate},
    context::OpCtx,
    domain::{
        auth, kyc,
        ledger::{
            self,
            holds::Owner,
            model::{Account, Purse},
        },
    },
    error::Result,
    store::Tx,
};

/// Accounts or wallets that one transaction looks at.
const BATCH: i64 = 100;
/// Sums of days are kept for so many days.
const DAYS_KEPT: i64 = 7;

/// Earnings that are to be paid out.
#[derive(Debug, Clone)]
struct Due {
    user: UserId,
    pay_to: Address,
    asset: Asset,
    amount: Amount,
}

/// Earnings that are due, of a page of accounts, and the account to go on after.
fn earnings_due(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    kyc: &KycConfig,
    assets: &[Asset],
    after: &str,
) -> Result<(Vec<Due>, Option<String>)> {
    let page = address::page(tx, after, BATCH)?;
    let next = page.last().map(|(user, _)| user.to_string());
    let mut due = Vec::new();
    for (user, destination) in page {
        let Some(pay_to) = destination.at(ctx.now) else {
            continue;
        };
        for asset in assets {
            let balance = ledger::balance(tx, *asset, &Account::ProviderAvailable(user))?;
            if balance.is_zero() || balance < rules.minimum {
                continue;
            }
            if may_be_paid(tx, ctx, kyc, user)? {
                due.push(Due {
                    user,
                    pay_to,
                    asset: *asset,
                    amount: balance.min(rules.account_daily_max),
                });
            }
        }
    }
    Ok((due, next))
}

/// Whether an account's money goes out without being asked for: not while it is disabled, it may be a thief's.
fn may_be_paid(tx: &mut dyn Tx, ctx: &OpCtx, kyc: &KycConfig, user: UserId) -> Result<bool> {
    let state = kyc::state_of(tx, ctx, user)?;
    let proven = kyc::model::gate(&kyc.gates, KycGate::Payouts, state).is_ok();
    Ok(proven && auth::account(tx, user)?.disabled.is_none())
}

impl Payouts {
    fn assets(&self) -> Vec<Asset> {
        let mut assets: Vec<Asset> = self.rails.iter().map(|rail| rail.asset).collect();
        assets.sort_unstable();
        assets.dedup();
        assets
    }

    /// Asks for payouts of all earnings that are large enough and have somewhere to go; returns how many.
    ///
    /// # Errors
    /// The database's, while finding them; one that is refused is logged and left for the next time.
    pub async fn pay_earnings(&self) -> Result<usize> {
        let (mut asked, mut after) = (0, String::new());
        loop {
            let (ctx, rules, kyc) = (self.context(), self.rules, self.kyc.clone());
            let (assets, from) = (self.assets(), after.clone());
            let page = self.db.read("payout.earnings_due", move |tx| {
                earnings_due(tx, &ctx, &rules, &kyc, &assets, &from)
            });
            let (due, next) = page.await?;
            for one in due {
                let wish = Wish {
                    owner: Owner::Provider(one.user),
                    money: Money {
                        amount: one.amount,
                        currency: one.asset,
                    },
                    pay_to: one.pay_to,
                };
                asked += usize::from(self.ask_for(wish).await);
            }
            match next {
                Some(next) => after = next,
                None => return Ok(asked),
            }
        }
    }

    /// Asks for payouts of what is owed to wallets; returns how many.
    ///
    /// # Errors
    /// The database's, while finding them; one that is refused is logged and put off.
    pub async fn pay_refunds(&self) -> Result<usize> {
        let mut asked = 0;
        loop {
            let now = self.clock.now();
            let due = self
                .db
                .read("payout.owed", move |tx| ledger::owed(tx, now, BATCH))
                .await?;
            if due.is_empty() {
                return Ok(asked);
            }
            for (asset, payer) in due {
                asked += usize::from(self.refund(asset, payer).await?);
            }
        }
    }

    /// True if a payout was asked for. Whatever comes of it, the wallet isn't due any more.
    async fn refund(&self, asset: Asset, payer: Purse) -> Result<bool> {
        let Ok(rail) = self.rail(asset, payer.network.as_deref()) else {
            return self.put_off_payer(asset, payer).await;
        };
        let (ctx, rules, way, wallet) = (self.context(), self.rules, rail.way(), payer.clone());
        let asked = self
            .db
            .write("payout.refund", move |tx| {
                refund(tx, &ctx, &rules, &way, asset, &wallet)
            })
            .await;
        match asked {
            Ok(asked) => Ok(asked),
            Err(error) => {
                tracing::warn!(%payer, %error, "refund of a wallet put off");
                self.put_off_payer(asset, payer).await
            }
        }
    }

    async fn put_off_payer(&self, asset: Asset, payer: Purse) -> Result<bool> {
        let later = self.clock.now().plus_ms(DAY_MS / 24);
        self.db
            .write("payout.put_off_payer", move |tx| {
                ledger::look_at_payer(tx, asset, &payer, later)
            })
            .await?;
        Ok(false)
    }

    async fn ask_for(&self, wish: Wish) -> bool {
        let (ctx, rules, owner) = (self.context(), self.rules, wish.owner.clone());
        let asset = wish.money.currency;
        let read = {
            let owner = owner.clone();
            self.db
                .read("payout.came_by", move |tx| came_by(tx, &owner, asset))
        };
        let way = read
            .await
            .and_then(|network| Ok(self.rail(asset, network.as_deref())?.way()));
        let way = match way {
            Ok(way) => way,
            Err(error) => {
                tracing::warn!(payout.owner = ?owner, %error, "no way is found for earnings");
                return false;
            }
        };
        let asked = self
            .db
            .write("payout.by_schedule", move |tx| {
                request(tx, &ctx, &rules, &way, &wish)
            })
            .await;
        asked
            .inspect_err(|error| {
                tracing::warn!(payout.owner = ?owner, %error, "earnings aren't paid out this time");
            })
            .is_ok()
    }

    /// Forgets sums of days that nothing is measured by any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_days(&self) -> Result<u64> {
        let day = super::day_of(self.clock.now()).saturating_sub(DAYS_KEPT);
        self.db
            .write("payout.forget_days", move |tx| store::forget_days(tx, day))
            .await
    }

    /// The number of the round of earnings that a moment belongs to; nothing if there are none.
    #[must_use]
    pub fn round_at(&self, now: Timestamp) -> Option<i64> {
        (self.rules.schedule_ms > 0).then(|| {
            now.as_micros()
                .div_euclid(1_000)
                .div_euclid(self.rules.schedule_ms)
        })
    }
}

/// Asks for the payout of what is owed to a wallet, unless that is dust; the wallet isn't due any more.
fn refund(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    way: &Way,
    asset: Asset,
    payer: &Purse,
) -> Result<bool> {
    // in this order: what is credited meanwhile either waits for us, and is noted anew, or is in the balance that we read
    ledger::forget_payer(tx, asset, payer)?;
    let balance = ledger::balance(tx, asset, &Account::PayerRefunds(payer.clone()))?;
    if balance.is_zero() || balance < rules.dust {
        return Ok(false);
    }
    let amount = balance.min(rules.account_daily_max);
    let wish = Wish {
        owner: Owner::Payer(payer.clone()),
        money: Money {
            amount,
            currency: asset,
        },
        pay_to: payer.wallet.parse().map_err(|_| {
            crate::error::Error::corrupt("payers_owed", &payer.to_string(), "payer")
        })?,
    };
    request(tx, ctx, rules, way, &wish)?;
    if amount < balance {
        ledger::look_at_payer(tx, asset, payer, ctx.now.plus_ms(DAY_MS))?;
    }
    Ok(true)
}
