//! Generated operations on the ledger beside a small reference ledger that is nothing but sums: what one allows the other allows, and in the
//! end each balance is the same.
//!
//! The ledger is the real one, over its real tables. Operations that the reference allows are posted many to a transaction; one that it
//! refuses runs in a transaction of its own, since it must undo it.

mod cast;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shared::{
    clock::{Clock as _, ManualClock},
    id::Ids,
    money::Asset,
    time::Timestamp,
};

use self::cast::{Cast, Chance};
use crate::{
    books,
    context::{Actor, OpCtx},
    domain::ledger::{
        self,
        model::{Account, Posted, Posting},
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
