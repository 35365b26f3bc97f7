//! Each crash point × each behaviour of a facilitator × some seeds: every payment ends in one credit or none, as the chain says, in time.
//!
//! A world is one crash point with every behaviour under each of its seeds: their payments are driven at once, each dies at the place, another
//! coordinator over the same database takes up what they left while time passes, and then the books are held against the chain. Behaviours of
//! HTTP go through the real adapter, to a server of our own.
//!
//! `MATRIX_SEED` gives the first seed; it is printed. `TEST_FULL=1` does on PostgreSQL what is done on SQLite otherwise.

mod chance;
mod facilitator;
mod payments;
mod payouts;
mod started;
mod truth;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use shared::{
    clock::{Clock as _, SystemClock},
    resources::Resources,
};

use self::{
    chance::Chance,
    facilitator::{Behaviour, Wire},
    payments::{Paying, Person, Script},
    truth::{Truth, Use},
};
use crate::{
    books,
    crash::{
        Side,
        plan::{At, Plan},
    },
    testing::{TestApp, market, node::ScriptedNode, payer::Payer},
};

/// Seeds of each crash point and behaviour; `MATRIX_SEEDS` says another number.
const SEEDS: u64 = 20;
/// On PostgreSQL, unless all is asked for.
const SEEDS_REDUCED: u64 = 1;
/// Of these, so many fill a balance as well.
const TOP_UPS: u64 = 4;
/// Turns of the reconciler, forty seconds apart: half an hour, which is longer than any authorization.
const TURNS_WITHOUT_A_CHAIN: usize = 45;
/// Payments at work at once.
const AT_ONCE: usize = 16;
/// After the end of its authorization a payment has its end within this, seconds.
const FINAL_AFTER_S: i64 = 600;

/// Where the process dies that received a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    /// Not at all.
    Never,
    /// At a place of the code.
    At(At),
    /// The facilitator did what it does, and its answer never came.
    NoResponse,
    /// So, and whoever takes it up dies too, at a place that the seed says.
    InReconciler,
}

const fn before(name: &'static str) -> Crash {
    Crash::At(At::Place(name, Side::Before))
}

const fn after(name: &'static str) -> Crash {
    Crash::At(At::Place(name, Side::After))
}

/// How a payment's end is committed.
const ENDS: &[&str] = &["payment.credit", "payment.refuse"];

macro_rules! matrix {
    ($($name:ident: $crash:expr),+ $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = $crate::testing::TestApp::in_memory().await;
                run(stringify!($name), test, $crash, $crate::tests::matrix_money::seeds()).await;
            })+
        }

        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = $crate::testing::TestApp::on_postgres().await;
                let seeds = $crate::tests::matrix_money::seeds_on_postgres();
                run(stringify!($name), test, $crash, seeds).await;
            })+
        }
    };
}
use matrix;

matrix!(
    without_a_crash: Crash::Never,
    before_it_is_inserted: before("payment.receive"),
    after_it_was_inserted: after("payment.receive"),
    before_it_is_verified: before("facilitator.verify"),
    after_it_was_verified: after("facilitator.verify"),
    before_settling_is_committed: before("payment.advance"),
    after_settling_was_committed: after("payment.advance"),
    before_the_request_is_written: before("facilitator.settle"),
    request_written_no_response: Crash::NoResponse,
    response_read_not_committed: after("facilitator.settle"),
    before_the_chain_is_asked: before("chain.look"),
    after_the_chain_was_asked: after("chain.look"),
    before_its_end_is_committed: Crash::At(At::AnyOf(ENDS, Side::Before)),
    after_its_end_was_committed: Crash::At(At::AnyOf(ENDS, Side::After)),
    in_the_reconciler: Crash::InReconciler,
);

/// Without a chain to ask, what a facilitator leaves open stays open: nothing that moved is given up, nothing that didn't is credited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_chain_nothing_is_guessed() {
    let seed = first_seed();
    eprintln!(
        "without a chain: seed {seed} (MATRIX_SEED), {} seeds of 16 behaviours",
        seeds()
    );
    let mut world = World::open(TestApp::in_memory().await, seed, false).await;
    let paying = world.sign(seed, seeds()).await;
    let crash = after("facilitator.settle");
    stream::iter(&paying)
        .for_each_concurrent(AT_ONCE, |paying| world.pay(paying, crash))
        .await;
    world = world.restarted();
    for _ in 0..TURNS_WITHOUT_A_CHAIN {
        world.test.clock.advance_ms(40_000);
        let taken_up = world.test.app.purchases.reconcile().await;
        taken_up.expect("payments are taken up");
    }
    let rows = payments::rows(&world.test).await;
    for paying in &paying {
        let row = &rows[&paying.nonce];
        let has_moved = world.truth.used(&paying.nonce) == Some(Use::Paid);
        assert!(world.truth.moves(&paying.nonce) <= 1, "{paying:?}: {row:?}");
        assert_eq!(
            row.postings,
            i64::from(row.state == "credited"),
            "{paying:?}: {row:?}"
        );
        match row.state.as_str() {
            "credited" => assert!(has_moved || paying.behaviour.lies(), "{paying:?}: {row:?}"),
            "rejected" | "expired" => assert!(!has_moved, "{paying:?}: {row:?}"),
            _ => {}
        }
    }
    let open = payments::open(&world.test).await;
    assert!(open > 0, "some can't be known");
    let report = books::check(&world.test.app.db, world.test.clock.now()).await;
    let report = report.expect("a report");
    assert!(report.holds(), "{report:#?}");
    let late = report.alarms.iter().find(|alarm| alarm.invariant == "I9");
    assert!(
        late.is_some_and(|late| !late.broken.is_empty()),
        "somebody is told"
    );
}

/// A small market that is paid through the double.
struct World {
    test: TestApp,
    truth: Arc<Truth>,
    wire: Arc<Wire>,
    chance: Chance,
    has_chain: bool,
}

fn number(variable: &str) -> Option<u64> {
    let given = std::env::var_os(variable)?;
    Some(given.to_string_lossy().parse().expect("a number"))
}

fn first_seed() -> u64 {
    let chance = || SystemClock.now().as_micros().unsigned_abs() % 1_000_000_007;
    number("MATRIX_SEED").unwrap_or_else(chance)
}

fn seeds() -> u64 {
    number("MATRIX_SEEDS").unwrap_or(SEEDS)
}

fn seeds_on_postgres() -> u64 {
    let is_full = std::env::var_os("TEST_FULL").is_some_and(|value| value == "1");
    if is_full { seeds() } else { SEEDS_REDUCED }
}

async fn run(name: &str, test: TestApp, crash: Crash, seeds: u64) {
    let seed = first_seed();
    eprintln!("{name}: seed {seed} (MATRIX_SEED), {seeds} seeds of 16 behaviours");
    let mut world = World::open(test, seed, true).await;
    let paying = world.sign(seed, seeds).await;
    stream::iter(&paying)
        .for_each_concurrent(AT_ONCE, |paying| world.pay(paying, crash))
        .await;
    // the process is gone; another one takes up what it left
    world = world.restarted();
    world.wire.answer_all();
    stream::iter(paying.iter().filter(|paying| paying.repeats))
        .for_each_concurrent(AT_ONCE, |paying| paying.repeat(&world.test))
        .await;
    world.reconcile(crash, &paying).await;
    world.judge(&paying).await;
}

impl World {
    async fn open(test: TestApp, seed: u64, has_chain: bool) -> Self {
        let truth = Truth::new(test.clock.clone(), seed);
        let wire = Wire::open(&truth, &test.clock).await;
        let chain = has_chain.then(|| Arc::clone(&truth) as _);
        let test = test.paid_and_seen(Arc::clone(&wire) as _, chain);
        test.start_ingest();
        Self {
            test,
            truth,
            wire,
            chance: Chance::of(seed),
            has_chain,
        }
    }

    fn restarted(self) -> Self {
        let test = self.test.restarted();
        let chain = self.has_chain.then(|| Arc::clone(&self.truth) as _);
        Self {
            test: test.paid_and_seen(Arc::clone(&self.wire) as _, chain),
            ..self
        }
    }

    /// Orders and signs, once for each behaviour and seed.
    async fn sign(&mut self, seed: u64, seeds: u64) -> Vec<Paying> {
        let provider = self
            .test
            .signup("provider@example.org", &["provider"])
            .await;
        let mut node = ScriptedNode::enrol(&self.test, &provider, 512 << 30).await;
        node.beat(&self.test).await;
        let offer = market::offer(&self.test, &provider, &node, "0.002").await;
        let (payer, person) = (Payer::numbered(1), Person::new(&self.test).await);
        let mut all = Vec::new();
        for number in 0..seeds {
            let mut chance = Chance::of(seed.wrapping_add(number));
            for behaviour in Behaviour::all(&mut chance) {
                let script = |repeats, number| Script {
                    behaviour,
                    seed: seed.wrapping_add(u64::try_from(number).unwrap_or(0)),
                    repeats,
                    number,
                };
                let next = script(chance.coin(), all.len());
                all.push(Paying::rental(&self.test, &payer, offer, next).await);
                if number < TOP_UPS {
                    let next = script(chance.coin(), all.len());
                    all.push(Paying::top_up(&self.test, &payer, &person, next).await);
                }
            }
        }
        all
    }

    /// Receives and drives a payment until its process dies.
    async fn pay(&self, paying: &Paying, crash: Crash) {
        let plan = Plan::new(match crash {
            Crash::At(at) => at,
            Crash::Never => At::Never,
            Crash::NoResponse | Crash::InReconciler => At::Told,
        });
        let silent = (plan.at == At::Told).then(|| Arc::clone(&plan));
        self.wire
            .expect(&paying.nonce, paying.behaviour, paying.seed, silent);
        plan.run(paying.pay(&self.test)).await;
    }

    /// Time passes and what is open is taken up, until nothing is.
    async fn reconcile(&mut self, crash: Crash, paying: &[Paying]) {
        let deadline_s = paying.iter().map(|it| it.valid_before_s).max();
        let deadline_s = deadline_s.unwrap_or_default() + FINAL_AFTER_S;
        let mut turn = 0;
        while turn == 0 || payments::open(&self.test).await > 0 {
            let step_ms = 5_000 + i64::try_from(self.chance.below(30_000)).unwrap_or(0);
            self.test.clock.advance_ms(step_ms);
            if crash == Crash::InReconciler && turn < 8 {
                // each dies a few places further on than the one before, and takes all that it had in hand with it
                let place = usize::try_from(self.chance.below(40)).unwrap_or(0);
                let plan = Plan::new(At::Nth(place));
                plan.run(self.test.app.purchases.reconcile()).await;
            }
            let purchases = &self.test.app.purchases;
            // two coordinators may have the same idea
            let (one, other) = tokio::join!(purchases.reconcile(), purchases.reconcile());
            one.expect("payments are taken up");
            other.expect("payments are taken up");
            purchases.lapse().await.expect("reservations lapse");
            let now_s = self.test.clock.now().as_secs();
            assert!(
                now_s <= deadline_s,
                "not final in time: {:#?}",
                payments::rows(&self.test).await
            );
            turn += 1;
        }
    }

    /// Holds the books against the chain.
    async fn judge(&self, paying: &[Paying]) {
        let rows = payments::rows(&self.test).await;
        let mut credited = 0;
        for paying in paying {
            let row = rows.get(&paying.nonce);
            let moves = self.truth.moves(&paying.nonce);
            let used = self.truth.used(&paying.nonce);
            let case = || format!("{paying:?}: {used:?}, {row:#?}");
            assert!(moves <= 1, "paid {moves} times: {}", case());
            let Some(row) = row else {
                assert_eq!(moves, 0, "nobody knows of it: {}", case());
                continue;
            };
            let is_credited = row.state == "credited";
            assert_eq!(is_credited, used == Some(Use::Paid), "{}", case());
            assert_eq!(row.postings, i64::from(is_credited), "{}", case());
            assert_eq!(row.announced, i64::from(is_credited), "{}", case());
            let expected = paying.expected(is_credited);
            assert_eq!(row.rental, expected, "{}", case());
            let limit_s = paying.valid_before_s + FINAL_AFTER_S;
            assert!(row.ended_at_s <= limit_s, "too late: {}", case());
            credited += usize::from(is_credited);
        }
        // whose driver died before settlement was asked for pays only if its client comes back, which a few seeds may never do
        let is_telling = paying.len() >= TELLING;
        assert!(!is_telling || credited > 0, "none of {}", paying.len());
        assert!(credited < paying.len(), "{credited}");
        prove_books(&self.test).await;
    }
}

/// Invariants that are proven besides those of the ledger itself: earnings, payouts, capacity.
const PROVEN: [&str; 3] = ["E1", "P1", "C1"];

/// Panics unless every invariant of the books holds, and those of what was posted since.
async fn prove_books(test: &TestApp) {
    let now = test.clock.now();
    let report = books::check(&test.app.db, now).await.expect("a report");
    assert!(report.holds(), "{report:#?}");
    for name in PROVEN {
        let is_there = report.findings.iter().any(|it| it.invariant == name);
        assert!(is_there, "{name} isn't looked at");
    }
    let passed = books::watch::pass(&test.app.db, now).await;
    let passed = passed.expect("a pass");
    assert!(passed.findings.is_empty(), "{passed:#?}");
}

/// So many payments without a single credit would mean that nothing was tried.
const TELLING: usize = 64;

/// The slice of a machine that each payment rents: many fit.
const SLICE: Resources = Resources {
    ram_bytes: 256 << 20,
    cpu_millis: 10,
    gpu_count: 0,
    disk_bytes: 0,
};
