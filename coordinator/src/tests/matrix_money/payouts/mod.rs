//! Money out: each crash point of a payout × each behaviour of a facilitator × some seeds. No payout happens twice on the chain, none is
//! lost: what didn't arrive is with its owner, or lies in `payout_clearing` if nobody can know.
//!
//! As with payments, a world is one crash point: earnings and balances are asked for, wallets are owed something; each is driven until it
//! dies at the place, and another coordinator takes up what is left. Some facilitators say nothing useful until it is signed anew, some
//! never pay, so money goes back as well.

mod owed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use shared::{
    clock::Clock as _,
    money::{Amount, Asset},
};

use self::owed::{Owed, Row, address, at_home, person, rows};
use super::{
    AT_ONCE, Behaviour, Chance, Crash, Truth, Use, Wire, after, before, facilitator::Mood,
    first_seed, seeds,
};
use crate::{
    crash::{
        Side,
        plan::{At, Plan},
    },
    domain::{ledger::holds::Owner, payouts::model::nonce},
    testing::TestApp,
};

/// How long what is signed holds, seconds: short, so that it is signed anew within a test.
const VALID_FOR_S: i64 = 150;
/// A payout has its end within this: three signatures, each waited out, and the calls between them; seconds.
const FINAL_AFTER_S: i64 = 1_800;
/// Turns without a chain, twenty seconds apart on average.
const TURNS_WITHOUT_A_CHAIN: usize = 90;

/// How the money is held.
const HOLDS: &[&str] = &["payout.ask", "payout.refund"];
/// How an answer is noted.
const NOTES: &[&str] = &["payout.settle", "payout.unclear"];
/// How the money goes back.
const BACK: &[&str] = &["payout.give_up"];

const fn any(names: &'static [&'static str], side: Side) -> Crash {
    Crash::At(At::AnyOf(names, side))
}

super::matrix!(
    without_a_crash: Crash::Never,
    before_the_hold: any(HOLDS, Side::Before),
    after_the_hold: any(HOLDS, Side::After),
    before_sending_is_committed: before("payout.begin"),
    after_sending_was_committed: after("payout.begin"),
    before_the_facilitator_is_asked: before("payout.send"),
    request_written_no_response: Crash::NoResponse,
    response_read_not_noted: after("payout.send"),
    before_the_chain_is_asked: before("payout.look"),
    after_the_chain_was_asked: after("payout.look"),
    before_its_answer_is_noted: any(NOTES, Side::Before),
    after_its_answer_was_noted: any(NOTES, Side::After),
    before_it_is_given_back: any(BACK, Side::Before),
    after_it_was_given_back: any(BACK, Side::After),
    in_the_driver: Crash::InReconciler,
);

/// Without a chain the facilitator's word counts, and what stays open is nobody's: it neither goes back nor is sent under another nonce.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_chain_nothing_is_guessed() {
    for crash in [Crash::Never, after("payout.send"), before("payout.send")] {
        let seed = first_seed();
        eprintln!("payouts without a chain, {crash:?}: seed {seed} (MATRIX_SEED)");
        let mut world = World::open(TestApp::in_memory().await, seed, false).await;
        let owed = world.owe(seed, seeds().div_ceil(4)).await;
        world.crash(&owed, crash).await;
        world = world.restarted();
        world.ask_again(&owed).await;
        for _ in 0..TURNS_WITHOUT_A_CHAIN {
            world.turn(Crash::Never, 0).await;
        }
        world.judge(&owed).await;
    }
}

async fn run(name: &str, test: TestApp, crash: Crash, seeds: u64) {
    let seed = first_seed();
    eprintln!("payouts, {name}: seed {seed} (MATRIX_SEED), {seeds} seeds of 16 behaviours");
    let mut world = World::open(test, seed, true).await;
    let owed = world.owe(seed, seeds).await;
    world.crash(&owed, crash).await;
    world = world.restarted();
    world.ask_again(&owed).await;
    world.finish(&owed, crash).await;
    world.judge(&owed).await;
}

/// A market from which money goes out through the double.
struct World {
    test: TestApp,
    truth: Arc<Truth>,
    wire: Arc<Wire>,
    chance: Chance,
    has_chain: bool,
}

impl World {
    async fn open(test: TestApp, seed: u64, has_chain: bool) -> Self {
        let truth = Truth::new(test.clock.clone(), seed);
        let wire = Wire::open(&truth, &test.clock).await;
        let chance = Chance::of(seed);
        Self {
            test,
            truth,
            wire,
            chance,
            has_chain,
        }
        .rewired()
    }

    fn rewired(self) -> Self {
        let (wire, truth) = (Arc::clone(&self.wire), Arc::clone(&self.truth));
        let test = self.test.paying_out(|payouts| {
            let much = Amount::from_atomic(i64::MAX / 4).expect("positive");
            let rules = &mut payouts.rules;
            rules.approval_above = much;
            rules.account_daily_max = much;
            rules.market_daily_max = much;
            rules.valid_for_s = VALID_FOR_S;
            for rail in &mut payouts.rails {
                rail.facilitator = Arc::clone(&wire) as _;
                rail.chain = self.has_chain.then(|| Arc::clone(&truth) as _);
            }
        });
        Self { test, ..self }
    }

    fn restarted(self) -> Self {
        self.wire.answer_all();
        let test = self.test.restarted();
        Self { test, ..self }.rewired()
    }

    fn asset(&self) -> Asset {
        self.test.app.payouts.rails[0].asset
    }

    /// Gives money to whom it is to go out, once for each behaviour and seed.
    async fn owe(&mut self, seed: u64, seeds: u64) -> Vec<Owed> {
        let provider = person(&self.test, "provider@example.org", &["provider"]).await;
        let consumer = person(&self.test, "consumer@example.org", &[]).await;
        let mut all: Vec<Owed> = Vec::new();
        for number in 0..seeds {
            let mut chance = Chance::of(seed.wrapping_add(number));
            for behaviour in Behaviour::all(&mut chance) {
                let to = address(all.len());
                let owner = match chance.below(3) {
                    0 => Owner::Provider(provider),
                    1 => Owner::Consumer(consumer),
                    _ => Owner::Payer(to.to_string().as_str().into()),
                };
                let mood = match chance.below(3) {
                    0 => Mood::Plain,
                    1 => Mood::DeafToTheFirst,
                    _ => Mood::Unwilling,
                };
                all.push(Owed {
                    behaviour,
                    mood,
                    seed: seed.wrapping_add(u64::try_from(all.len()).unwrap_or(0)),
                    owner,
                    to,
                    // no two sums of them are the same by chance
                    amount: 1_000_000 + i64::try_from(chance.below(9_000_000)).unwrap_or(0),
                    repeats: chance.coin(),
                });
            }
        }
        for owed in &all {
            owed.fund(&self.test, self.asset()).await;
        }
        all
    }

    fn plan(&self, owed: &Owed, crash: Crash) -> Arc<Plan> {
        let plan = Plan::new(match crash {
            Crash::At(at) => at,
            Crash::Never => At::Never,
            Crash::NoResponse | Crash::InReconciler => At::Told,
        });
        let silent = (plan.at == At::Told).then(|| Arc::clone(&plan));
        let how = (owed.behaviour, owed.mood);
        self.wire.expect_in(&owed.key(), how, owed.seed, silent);
        plan
    }

    /// Each is asked for and driven until its process dies; whoever pays wallets dies once, and then with each of theirs.
    async fn crash(&self, owed: &[Owed], crash: Crash) {
        let payouts = &self.test.app.payouts;
        let plans: BTreeMap<String, Arc<Plan>> = owed
            .iter()
            .map(|owed| (owed.key(), self.plan(owed, crash)))
            .collect();
        if let Crash::At(at) = crash {
            Plan::new(at).run(payouts.pay_refunds()).await;
        }
        payouts.pay_refunds().await.expect("wallets are paid");
        let refunds = rows(&self.test).await;
        stream::iter(owed)
            .for_each_concurrent(AT_ONCE, |owed| {
                let plan = &plans[&owed.key()];
                let refund = refunds.get(&owed.key()).map(|rows| rows[0].id);
                let work = async move {
                    let id = match refund {
                        Some(id) => id,
                        None => owed.ask(&self.test).await,
                    };
                    payouts.drive(id).await.expect("it is driven");
                };
                async move {
                    plan.run(work).await;
                }
            })
            .await;
    }

    /// Some of those who got no answer ask again; with the same key nobody is asked for twice.
    async fn ask_again(&self, owed: &[Owed]) {
        let known = rows(&self.test).await;
        for owed in owed {
            if owed.repeats && !owed.is_refund() && !known.contains_key(&owed.key()) {
                owed.ask(&self.test).await;
            }
        }
    }

    /// Time passes, and what is due is taken up.
    async fn turn(&mut self, crash: Crash, turn: u32) {
        let step_ms = 5_000 + i64::try_from(self.chance.below(30_000)).unwrap_or(0);
        self.test.clock.advance_ms(step_ms);
        let payouts = &self.test.app.payouts;
        let dies_at = match crash {
            Crash::At(At::AnyOf(names, side)) if names == BACK => Some(At::AnyOf(names, side)),
            // each dies a few places further on than the one before, and takes all that it had in hand with it
            Crash::InReconciler if turn < 12 => {
                let place = usize::try_from(self.chance.below(60)).unwrap_or(0);
                Some(At::Nth(place))
            }
            _ => None,
        };
        if let Some(at) = dies_at {
            Plan::new(at).run(payouts.pass()).await;
        }
        payouts.pay_refunds().await.expect("wallets are paid");
        // two coordinators may have the same idea
        let (one, other) = tokio::join!(payouts.pass(), payouts.pass());
        one.expect("payouts are taken up");
        other.expect("payouts are taken up");
    }

    /// Turns, until each has its end or never can.
    async fn finish(&mut self, owed: &[Owed], crash: Crash) {
        let deadline_s = self.test.clock.now().as_secs() + FINAL_AFTER_S;
        for turn in 0.. {
            self.turn(crash, turn).await;
            let all = rows(&self.test).await;
            let open: Vec<&Row> = all
                .values()
                .flatten()
                .filter(|row| !row.is_final() && !self.is_stuck(row))
                .collect();
            if open.is_empty() {
                return;
            }
            let now_s = self.test.clock.now().as_secs();
            assert!(now_s <= deadline_s, "of {}: {open:#?}", owed.len());
        }
    }

    /// How its nonce, that of its id, was used.
    fn used(&self, row: &Row) -> Option<Use> {
        self.truth
            .used(&format!("0x{}", hex::encode(nonce(row.id))))
    }

    /// Whether its nonce was used by something else, which nobody but an operator can judge.
    fn is_stuck(&self, row: &Row) -> bool {
        self.has_chain && matches!(self.used(row), Some(Use::PaidLess | Use::Cancelled))
    }

    /// Holds each payout, and the sums of each owner, against the chain.
    async fn judge(&self, owed: &[Owed]) {
        let all = rows(&self.test).await;
        let none = Vec::new();
        let (mut paid, mut failed) = (0, 0);
        for owed in owed {
            let arrived = self.truth.arrived(&owed.key());
            let found = all.get(&owed.key()).unwrap_or(&none);
            let case = || format!("{owed:?}: {arrived:?}, {found:#?}");
            assert!(arrived.times <= 1, "it went out twice: {}", case());
            assert!(found.len() <= 1, "{}", case());
            let Some(row) = found.first() else {
                assert_eq!(arrived.times, 0, "nobody knows of it: {}", case());
                assert!(!owed.repeats || owed.is_refund(), "lost: {}", case());
                continue;
            };
            assert_eq!(row.amount, owed.amount, "{}", case());
            assert_eq!(row.ends, i64::from(row.is_final()), "{}", case());
            let is_paid = row.state == "paid";
            assert_eq!(row.told_paid, i64::from(is_paid), "{}", case());
            let is_failed = row.state == "failed";
            assert_eq!(row.told_failed, i64::from(is_failed), "{}", case());
            let whole = arrived.amount == owed.amount;
            let lies = owed.behaviour.lies() || owed.behaviour == Behaviour::Cancelled;
            match row.state.as_str() {
                "paid" => assert!(whole || (!self.has_chain && lies), "{}", case()),
                "failed" => assert_eq!(arrived.times, 0, "gone and back: {}", case()),
                "sending" | "sent" => assert!(self.may_be_open(row), "{}", case()),
                _ => panic!("{}", case()),
            }
            assert!(row.signatures >= 1, "{}", case());
            paid += usize::from(is_paid);
            failed += usize::from(is_failed);
        }
        assert!(paid > 0, "none of {}", owed.len());
        let is_telling = self.has_chain && owed.len() >= super::TELLING;
        assert!(!is_telling || failed > 0, "none went back");
        self.judge_sums(owed, &all).await;
    }

    /// With a chain only what is stuck stays open; without one what nobody spoke clearly of.
    fn may_be_open(&self, row: &Row) -> bool {
        if self.has_chain {
            self.is_stuck(row)
        } else {
            row.doubtful
        }
    }

    /// No owner has more or less than what didn't leave, and the books hold.
    async fn judge_sums(&self, owed: &[Owed], all: &BTreeMap<String, Vec<Row>>) {
        let mut seen = BTreeSet::new();
        for one in owed {
            if !seen.insert(format!("{:?}", one.owner)) {
                continue;
            }
            let theirs = owed.iter().filter(|it| it.owner == one.owner);
            let expected: i64 = theirs
                .filter(|it| {
                    let row = all.get(&it.key()).and_then(|rows| rows.first());
                    row.is_none_or(Row::is_at_home)
                })
                .map(|it| it.amount)
                .sum();
            let has = at_home(&self.test, &one.owner, self.asset()).await;
            assert_eq!(has, expected, "{:?}", one.owner);
        }
        super::prove_books(&self.test).await;
    }
}
