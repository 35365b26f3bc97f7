//! Money that is to go out, each to an address of its own, and what the database says of it in the end.

use std::collections::BTreeMap;

use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset, Money},
    x402::{address::Address, signature::PayerKey},
};

use super::super::{Behaviour, facilitator::Mood};
use crate::{
    domain::{
        ledger::{
            self,
            holds::Owner,
            model::{Account, Cause, Posting},
        },
        payouts::{self, Wish},
    },
    error::Result,
    params,
    store::Tx,
    testing::TestApp,
};

/// Somebody's money that goes out once.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    pub(super) behaviour: Behaviour,
    pub(super) mood: Mood,
    pub(super) seed: u64,
    pub(super) owner: Owner,
    /// Nobody else is paid there.
    pub(super) to: Address,
    pub(super) amount: i64,
    /// Whoever asked asks again if nobody knows of it.
    pub(super) repeats: bool,
}

/// The address of a number.
pub(super) fn address(number: usize) -> Address {
    let mut secret = [3; 32];
    let number = u64::try_from(number).unwrap_or(0);
    secret[..8].copy_from_slice(&number.to_be_bytes());
    PayerKey::from_bytes(&secret).expect("a key").address()
}

fn positive(atomic: i64) -> Amount {
    Amount::from_atomic(atomic).expect("positive")
}

impl Owed {
    /// As the chain and the facilitator know it.
    pub(super) fn key(&self) -> String {
        self.to.to_string().to_lowercase()
    }

    /// Who takes it without asking: a wallet that something is owed to.
    pub(super) const fn is_refund(&self) -> bool {
        matches!(self.owner, Owner::Payer(_))
    }

    /// Gives its owner the money, as if it came by the network.
    pub(super) async fn fund(&self, test: &TestApp, asset: Asset) {
        let ctx = test.app.task_context("test");
        let posting = Posting {
            asset,
            debit: Account::External("sandbox".to_owned()),
            credit: self.owner.available(),
            amount: positive(self.amount),
            cause: Cause::SandboxGrant(self.key()),
        };
        let post = move |tx: &mut dyn Tx| ledger::post(tx, &ctx, &posting);
        test.app.db.write("test.fund", post).await.expect("funded");
    }

    /// Asks for it, as its owner's request does.
    pub(super) async fn ask(&self, test: &TestApp) -> PayoutId {
        let (ctx, payouts) = (test.app.task_context("test"), &test.app.payouts);
        let (rules, rail) = (payouts.rules, &payouts.rails[0]);
        let (way, currency) = (rail.way(), rail.asset);
        let wish = Wish {
            owner: self.owner.clone(),
            money: Money {
                amount: positive(self.amount),
                currency,
            },
            pay_to: self.to,
        };
        let request = move |tx: &mut dyn Tx| payouts::request(tx, &ctx, &rules, &way, &wish);
        let asked = test.app.db.write("payout.ask", request).await;
        asked.unwrap_or_else(|e| panic!("{self:?}: {e}")).id
    }
}

/// A payout in the end.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: PayoutId,
    pub(super) amount: i64,
    pub(super) state: String,
    pub(super) doubtful: bool,
    pub(super) signatures: i64,
    /// That its end was posted, and that it was told.
    pub(super) ends: i64,
    pub(super) told_paid: i64,
    pub(super) told_failed: i64,
}

impl Row {
    pub(super) fn is_final(&self) -> bool {
        ["paid", "failed"].contains(&self.state.as_str())
    }

    /// Whether its money is with its owner, held or not.
    pub(super) fn is_at_home(&self) -> bool {
        ["awaiting_approval", "requested", "failed"].contains(&self.state.as_str())
    }
}

/// Payouts by where they go.
pub(super) async fn rows(test: &TestApp) -> BTreeMap<String, Vec<Row>> {
    let found = test.app.db.read("test.payouts", |tx| {
        let rows = tx.query(
            "SELECT LOWER(p.pay_to), p.id, p.amount, p.state, p.doubtful, p.signatures,
                    (SELECT COUNT(*) FROM transfers t WHERE t.ref = p.id AND t.code = 'payout_ended'),
                    (SELECT COUNT(*) FROM events e WHERE e.kind = 'payout.paid' AND e.payload LIKE '%' || p.id || '%'),
                    (SELECT COUNT(*) FROM events e WHERE e.kind = 'payout.failed' AND e.payload LIKE '%' || p.id || '%')
             FROM payouts p",
            params![],
        )?;
        let mut all: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in &rows {
            let payout = Row {
                id: row.text(1)?.parse().expect("an id"),
                amount: row.int(2)?,
                state: row.text(3)?.to_owned(),
                doubtful: row.int(4)? != 0,
                signatures: row.int(5)?,
                ends: row.int(6)?,
                told_paid: row.int(7)?,
                told_failed: row.int(8)?,
            };
            all.entry(row.text(0)?.to_owned()).or_default().push(payout);
        }
        Ok(all)
    });
    found.await.expect("rows")
}

/// What an owner has that didn't leave: to spend, and held.
pub(super) async fn at_home(test: &TestApp, owner: &Owner, asset: Asset) -> i64 {
    let (available, held) = (owner.available(), owner.held());
    let read = move |tx: &mut dyn Tx| -> Result<i64> {
        let available = ledger::standing(tx, asset, &available)?;
        Ok(available + ledger::standing(tx, asset, &held)?)
    };
    test.app.db.read("test.at_home", read).await.expect("read")
}

/// Somebody who was signed up.
pub(super) async fn person(test: &TestApp, email: &str, roles: &[&str]) -> UserId {
    let token = test.signup(email, roles).await;
    let me = test.get("/api/v1/auth/me", &token).await.json();
    serde_json::from_value(me["id"].clone()).expect("an id")
}
