//! Generated operations on the ledger beside a small reference ledger that is nothing but sums: what one allows the other allows, and in the
//! end each balance is the same.
//!
//! The ledger is the real one, over its real tables. Operations that the reference allows are posted many to a transaction; one that it
//! refuses runs in a transaction of its own, since it must undo it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shared::{
    clock::{Clock as _, ManualClock},
    id::{Ids, PaymentId, PayoutId, RentalId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
};

use crate::{
    books,
    context::{Actor, OpCtx},
    domain::ledger::{
        self,
        holds::{Hold, Owner},
        model::{Account, Cause, Posted, Posting},
    },
    store::{Db, Tx},
};

/// Operations of one transaction.
const BATCH: usize = 200;
/// The books are proven after so many operations, and in the end.
const PROVE_EVERY: u64 = 25_000;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// Transfers that went through.
    pub posted: u64,
    /// Operations that were there before.
    pub repeated: u64,
    /// Operations that were refused.
    pub refused: u64,
}

/// A small generator (SplitMix64): the same seed gives the same numbers everywhere.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap_or(1);
        &of[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

/// What the ledger should say to a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Moves,
    Nothing,
    Repeats,
    Overdraws,
    Contradicts,
}

/// The reference: sums by account, and what each cause did.
#[derive(Debug, Default)]
struct Reference {
    balances: BTreeMap<String, i128>,
    causes: BTreeMap<(&'static str, String), (String, String, i64)>,
}

impl Reference {
    fn judge(&self, posting: &Posting) -> Verdict {
        if posting.amount.is_zero() {
            return Verdict::Nothing;
        }
        let (debit, credit) = keys(posting);
        let cause = (posting.cause.code(), posting.cause.reference());
        let figures = (debit.clone(), credit, posting.amount.atomic());
        match self.causes.get(&cause) {
            Some(before) if *before == figures => return Verdict::Repeats,
            Some(_) => return Verdict::Contradicts,
            None => {}
        }
        let have = self.balances.get(&debit).copied().unwrap_or(0);
        let is_outside = matches!(posting.debit, Account::External(_));
        if is_outside || have >= i128::from(posting.amount.atomic()) {
            Verdict::Moves
        } else {
            Verdict::Overdraws
        }
    }

    fn apply(&mut self, posting: &Posting) {
        let (debit, credit) = keys(posting);
        let amount = posting.amount.atomic();
        *self.balances.entry(debit.clone()).or_default() -= i128::from(amount);
        *self.balances.entry(credit.clone()).or_default() += i128::from(amount);
        let cause = (posting.cause.code(), posting.cause.reference());
        self.causes.insert(cause, (debit, credit, amount));
    }
}

fn keys(posting: &Posting) -> (String, String) {
    (
        posting.debit.key(posting.asset),
        posting.credit.key(posting.asset),
    )
}

/// Who takes part.
#[derive(Debug)]
struct Cast {
    assets: Vec<Asset>,
    users: Vec<UserId>,
    providers: Vec<UserId>,
    payers: Vec<String>,
    rentals: Vec<RentalId>,
    ids: Ids,
    serial: i64,
    /// Payouts that wait or are on their way: which, and whether they are sent.
    payouts: Vec<(Hold, bool)>,
    /// Postings that were made, to be made again.
    made: Vec<Posting>,
}

impl Cast {
    fn new(assets: Vec<Asset>) -> Self {
        let ids = Ids::System;
        Self {
            assets,
            users: (0..8).map(|_| ids.mint()).collect(),
            providers: (0..4).map(|_| ids.mint()).collect(),
            payers: (0..4).map(|number| format!("0x{number:040x}")).collect(),
            rentals: (0..40).map(|_| ids.mint()).collect(),
            ids,
            serial: 0,
            payouts: Vec::new(),
            made: Vec::new(),
        }
    }

    /// The next operation: one posting, or two that belong together.
    fn next(&mut self, chance: &mut Chance) -> Vec<Posting> {
        self.serial += 1;
        let asset = *chance.pick(&self.assets);
        let user = *chance.pick(&self.users);
        let provider = *chance.pick(&self.providers);
        let rental = *chance.pick(&self.rentals);
        let payer = chance.pick(&self.payers).clone();
        // mostly small, now and then nothing or much
        let atomic = match chance.below(20) {
            0 => 0,
            1 => 1_000_000_000_000,
            _ => i64::try_from(chance.below(5_000_000)).unwrap_or(0),
        };
        let amount = Amount::from_atomic(atomic).unwrap_or(Amount::ZERO);
        let one = |debit, credit, cause| {
            vec![Posting {
                asset,
                debit,
                credit,
                amount,
                cause,
            }]
        };
        let outside = || Account::External("eip155:84532".to_owned());
        let escrow = Account::RentalEscrow(rental);
        let serial = self.serial;
        match chance.below(14) {
            0 | 1 => {
                let payment: PaymentId = self.ids.mint();
                one(outside(), escrow, Cause::Payment(payment))
            }
            2 => one(
                outside(),
                Account::UserAvailable(user),
                Cause::SandboxGrant(serial.to_string()),
            ),
            3 => one(
                Account::UserAvailable(user),
                escrow,
                Cause::BalancePurchase(rental, serial.to_string()),
            ),
            4 | 5 => one(
                escrow,
                Account::ProviderPending(provider),
                Cause::WindowProvider(rental, serial),
            ),
            6 => one(
                escrow,
                Account::PlatformFees,
                Cause::WindowFee(rental, serial),
            ),
            7 => {
                let paid = Amount::from_atomic(serial).unwrap_or(Amount::ZERO);
                let back = if serial % 2 == 0 {
                    Account::UserAvailable(user)
                } else {
                    Account::PayerRefunds(payer)
                };
                one(escrow, back, Cause::Refund(rental, paid))
            }
            8 => {
                let before = Amount::from_atomic(serial).unwrap_or(Amount::ZERO);
                one(
                    Account::ProviderPending(provider),
                    Account::ProviderAvailable(provider),
                    Cause::EarningsReleased(rental, before),
                )
            }
            9 => one(
                Account::PlatformFees,
                Account::UserAvailable(user),
                Cause::Goodwill(rental, serial.to_string()),
            ),
            10 | 11 => self.payout(chance, asset, amount),
            12 => self.exchange(chance, user, amount),
            _ => self.again(chance),
        }
    }

    /// A payout's next step: it is held, sent, and then gone or back.
    fn payout(&mut self, chance: &mut Chance, asset: Asset, amount: Amount) -> Vec<Posting> {
        let moves = |hold: &Hold, debit, credit, cause| {
            vec![Posting {
                asset: hold.asset,
                debit,
                credit,
                amount: hold.amount,
                cause,
            }]
        };
        if self.payouts.is_empty() || chance.below(2) == 0 {
            let owner = match chance.below(3) {
                0 => Owner::Consumer(*chance.pick(&self.users)),
                1 => Owner::Provider(*chance.pick(&self.providers)),
                _ => Owner::Payer(chance.pick(&self.payers).clone()),
            };
            let payout: PayoutId = self.ids.mint();
            let hold = Hold {
                payout,
                owner,
                asset,
                amount,
            };
            let (from, to) = (hold.owner.available(), hold.owner.held());
            let steps = moves(&hold, from, to, Cause::PayoutHeld(payout));
            self.payouts.push((hold, false));
            return steps;
        }
        let count = u64::try_from(self.payouts.len()).unwrap_or(1);
        let at = usize::try_from(chance.below(count)).unwrap_or(0);
        let (hold, sent) = self.payouts.swap_remove(at);
        let held = hold.owner.held();
        match (sent, chance.below(2)) {
            (false, 0) => {
                let cause = Cause::PayoutSent(hold.payout);
                let steps = moves(&hold, held, Account::PayoutClearing, cause);
                self.payouts.push((hold, true));
                steps
            }
            (true, 0) => {
                let to = Account::External("eip155:84532".to_owned());
                let cause = Cause::PayoutEnded(hold.payout);
                moves(&hold, Account::PayoutClearing, to, cause)
            }
            (sent, _) => {
                let from = if sent { Account::PayoutClearing } else { held };
                let cause = Cause::PayoutEnded(hold.payout);
                moves(&hold, from, hold.owner.available(), cause)
            }
        }
    }

    /// Out of one currency into another: two transfers in one transaction, through the desk.
    fn exchange(&mut self, chance: &mut Chance, user: UserId, amount: Amount) -> Vec<Posting> {
        let (from, to) = (*chance.pick(&self.assets), *chance.pick(&self.assets));
        let desk = || Account::External("exchange".to_owned());
        let leg = |asset, debit, credit, side: &str| Posting {
            asset,
            debit,
            credit,
            amount,
            cause: Cause::SandboxGrant(format!("exchange {} {side}", self.serial)),
        };
        vec![
            leg(from, Account::UserAvailable(user), desk(), "out"),
            leg(to, desk(), Account::UserAvailable(user), "in"),
        ]
    }

    /// Something that was posted before, unchanged or with other figures.
    fn again(&mut self, chance: &mut Chance) -> Vec<Posting> {
        if self.made.is_empty() {
            return Vec::new();
        }
        let mut posting = chance.pick(&self.made).clone();
        if chance.below(4) == 0 {
            let more = posting.amount.atomic().saturating_add(1);
            posting.amount = Amount::from_atomic(more).unwrap_or(posting.amount);
        }
        vec![posting]
    }

    fn remember(&mut self, posting: &Posting) {
        const MADE_MAX: usize = 256;
        if self.made.len() < MADE_MAX {
            self.made.push(posting.clone());
        } else {
            let at = usize::try_from(self.serial).unwrap_or(0) % MADE_MAX;
            self.made[at] = posting.clone();
        }
    }
}

/// Runs `count` operations from `seed` on an empty ledger, in these currencies; panics where ledger and reference differ.
///
/// # Panics
/// With the operation, or the account, that differs.
pub async fn run(db: &Db, assets: Vec<Asset>, seed: u64, count: u64) -> Run {
    let (mut chance, mut reference, mut cast) =
        (Chance(seed), Reference::default(), Cast::new(assets));
    let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
    let (mut done, mut batch) = (Run::default(), Vec::new());
    for number in 1..=count {
        clock.advance_ms(1 + i64::try_from(chance.below(50)).unwrap_or(0));
        let postings = cast.next(&mut chance);
        // legs of one operation meet what the ones before them did
        let verdicts = trial(&reference, &postings);
        let refused = [Verdict::Overdraws, Verdict::Contradicts];
        let ctx = context(&clock);
        if let Some(verdict) = verdicts.iter().find(|it| refused.contains(it)) {
            flush(db, &mut batch).await;
            refuse(db, ctx, postings, *verdict).await;
            done.refused += 1;
        } else {
            for (posting, verdict) in postings.into_iter().zip(verdicts) {
                if verdict == Verdict::Moves {
                    reference.apply(&posting);
                    cast.remember(&posting);
                    done.posted += 1;
                } else {
                    done.repeated += 1;
                }
                batch.push((ctx.clone(), posting, verdict));
            }
            if batch.len() >= BATCH {
                flush(db, &mut batch).await;
            }
        }
        if number % PROVE_EVERY == 0 {
            flush(db, &mut batch).await;
            prove(db, &clock).await;
        }
    }
    flush(db, &mut batch).await;
    prove(db, &clock).await;
    compare(db, &reference).await;
    done
}

fn context(clock: &ManualClock) -> OpCtx {
    let ids = Arc::new(Ids::System);
    OpCtx::new(Actor::System, clock.now(), "run".to_owned(), ids)
}

fn trial(reference: &Reference, postings: &[Posting]) -> Vec<Verdict> {
    match postings {
        [out, into] => {
            // the desk gives whatever it takes, so the second leg depends on the first only for the same person's money
            let first = reference.judge(out);
            vec![first, reference.judge(into)]
        }
        others => others.iter().map(|it| reference.judge(it)).collect(),
    }
}

/// Posts what the reference allows, in one transaction.
async fn flush(db: &Db, batch: &mut Vec<(OpCtx, Posting, Verdict)>) {
    let postings = Arc::new(std::mem::take(batch));
    let body = move |tx: &mut dyn Tx| {
        for (ctx, posting, verdict) in postings.iter() {
            let expected = match verdict {
                Verdict::Repeats => Posted::Before,
                _ => Posted::Now,
            };
            let posted = ledger::post(tx, ctx, posting)?;
            assert_eq!(posted, expected, "{posting:?}");
        }
        Ok(())
    };
    let posted = db.write("test.batch", body).await;
    posted.expect("the reference allows all of it");
}

/// Asks for what the reference refuses, and sees it refused and undone.
async fn refuse(db: &Db, ctx: OpCtx, postings: Vec<Posting>, verdict: Verdict) {
    let told = format!("{postings:?}");
    let body = move |tx: &mut dyn Tx| {
        for posting in &postings {
            ledger::post(tx, &ctx, posting)?;
        }
        Ok(())
    };
    let outcome = db.write("test.refused", body).await;
    let error = outcome.expect_err(&told);
    let expected = match verdict {
        Verdict::Overdraws => "insufficient_funds",
        _ => "internal",
    };
    assert_eq!(error.code(), expected, "{told}: {error}");
}

async fn prove(db: &Db, clock: &ManualClock) {
    let passed = books::watch::pass(db, clock.now()).await.expect("a pass");
    let money = |finding: &&ledger::check::Finding| ["I1", "I2", "I3"].contains(&finding.invariant);
    let broken: Vec<_> = passed.findings.iter().filter(money).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let (_, findings) = db
        .read("test.check", ledger::check::check)
        .await
        .expect("a check");
    assert!(
        findings.iter().all(|it| it.broken.is_empty()),
        "{findings:#?}"
    );
}

async fn compare(db: &Db, reference: &Reference) {
    let stored = db.read("test.balances", |tx| {
        let rows = tx.query("SELECT id, balance FROM accounts", &[])?;
        rows.iter()
            .map(|row| Ok((row.text(0)?.to_owned(), i128::from(row.int(1)?))))
            .collect::<crate::error::Result<BTreeMap<_, _>>>()
    });
    let stored = stored.await.expect("balances");
    let keys: BTreeSet<&String> = stored.keys().chain(reference.balances.keys()).collect();
    for key in keys {
        let of = |balances: &BTreeMap<String, i128>| balances.get(key).copied().unwrap_or(0);
        assert_eq!(of(&stored), of(&reference.balances), "{key}");
    }
}
