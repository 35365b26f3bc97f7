//! Row `books`: durable transfers beside the same rows written straight to the same engine, and the settlement of many rentals. Row `generated`:
//! a million generated operations beside a reference ledger.
//!
//! The ledger is the real one over its real schema, each transfer a transaction of its own. What it is compared with writes the same three
//! rows (a transfer and two balances) by the engine's own client, on a database of the same schema: SQLite with as many transfers in a commit
//! as are under way at once, PostgreSQL with as many connections as the store has.

mod raw;
mod settlement;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use coordinator::{
    context::{Actor, OpCtx},
    domain::ledger::{
        self,
        model::{Account, Cause, Posting},
    },
    store::{
        Db,
        testing::{TempDir, postgres, sqlite, sqlite_at},
    },
    testing::ledger_run,
};
use shared::{
    clock::{Clock as _, SystemClock},
    id::{Ids, RentalId, UserId},
    money::{Amount, Asset},
};
use tokio::{task::JoinSet, time::Instant};

use crate::figures::{Goal, Report, Series, quiet_rounds, say};

/// Transfers of a round.
const TRANSFERS: usize = 6_400;
/// Under way at once, each between two accounts of its own.
pub(super) const AT_ONCE: usize = 64;
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;
/// Three statements, as the raw rows take; besides them each transfer is a closure of its own that waits for its commit.
const RATIO_LEAST: f64 = 0.5;
const OPERATIONS: u64 = 1_000_000;
const OPERATIONS_QUICK: u64 = 20_000;

/// Measures the rows.
pub(crate) async fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let (db, folder) = sqlite().await;
    let raw_file = folder.path().join("raw.db");
    // the same schema
    drop(sqlite_at(&raw_file).await);
    let raw = raw::OnSqlite::open(&raw_file)?;
    let (ours, limit) = transfers("SQLite", &db, folder.path(), rounds, async || {
        raw.run(TRANSFERS)
    })
    .await?;
    add(report, "SQLite", (&ours, &limit), RATIO_LEAST);
    let raw_per_s = limit.median();
    let db = postgres().await;
    let raw = raw::OnPostgres::open().await?;
    let (ours, limit) = transfers("PostgreSQL", &db, folder.path(), rounds, async || {
        raw.run(TRANSFERS).await
    })
    .await?;
    add(report, "PostgreSQL", (&ours, &limit), RATIO_LEAST);
    settlement::measure(report, raw_per_s, quick).await
}

fn add(report: &mut Report, engine: &str, (ours, limit): (&Series, &Series), least: f64) {
    let ratio = ours.median() / limit.median();
    let name = format!("durable transfers, {engine}");
    report.add(&name, ours, limit, (ratio, "×"), Goal::AtLeast(least));
}

/// Transfers per second through the ledger, and raw, round by round.
async fn transfers(
    engine: &str,
    db: &Db,
    folder: &Path,
    rounds: usize,
    raw: impl AsyncFn() -> Result<f64>,
) -> Result<(Series, Series)> {
    say(&format!(
        "\nbooks: {TRANSFERS} durable transfers a round on {engine}, {AT_ONCE} at once"
    ));
    let lanes: Arc<Vec<Lane>> = Arc::new((0..AT_ONCE).map(|_| Lane::new()).collect());
    for lane in lanes.iter() {
        lane.fund(db).await?;
    }
    let measured = quiet_rounds(rounds, folder, async |round| {
        let ours = through_ledger(db, &lanes, round).await?;
        Ok((ours, raw().await?))
    })
    .await?;
    let series = |name: &str, of: fn(&(f64, f64)) -> f64| {
        Series::new(name, "/s", measured.iter().map(of).collect())
    };
    Ok((
        series("transfers", |it| it.0),
        series("the same rows raw", |it| it.1),
    ))
}

/// An escrow that is charged and the provider who earns: accounts that no other lane touches.
#[derive(Debug, Clone, Copy)]
struct Lane {
    rental: RentalId,
    provider: UserId,
}

impl Lane {
    fn new() -> Self {
        Self {
            rental: Ids::System.mint(),
            provider: Ids::System.mint(),
        }
    }

    async fn fund(self, db: &Db) -> Result<()> {
        let posting = Posting {
            asset: asset()?,
            debit: Account::External("bench".to_owned()),
            credit: Account::RentalEscrow(self.rental),
            amount: Amount::from_atomic(1_000_000_000)?,
            cause: Cause::BalancePurchase(self.rental, "bench".to_owned()),
        };
        post(db, posting).await
    }

    fn charge(self, number: i64) -> Result<Posting> {
        Ok(Posting {
            asset: asset()?,
            debit: Account::RentalEscrow(self.rental),
            credit: Account::ProviderPending(self.provider),
            amount: Amount::from_atomic(1)?,
            cause: Cause::WindowProvider(self.rental, number),
        })
    }
}

fn asset() -> Result<Asset> {
    Asset::from_code("USDC").context("no such currency")
}

async fn post(db: &Db, posting: Posting) -> Result<()> {
    let ids = Arc::new(Ids::System);
    let ctx = OpCtx::new(Actor::System, SystemClock.now(), "bench".to_owned(), ids);
    let posted = db.write("bench.post", move |tx| {
        ledger::post(tx, &ctx, &posting).map(drop)
    });
    Ok(posted.await?)
}

async fn through_ledger(db: &Db, lanes: &Arc<Vec<Lane>>, round: usize) -> Result<f64> {
    let each = TRANSFERS / AT_ONCE;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for lane in lanes.iter().copied() {
        let db = db.clone();
        tasks.spawn(async move {
            for number in 0..each {
                let number = i64::try_from(round * each + number)?;
                post(&db, lane.charge(number)?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    per_second(TRANSFERS, begun)
}

/// How often something was done since then, by the second.
pub(super) fn per_second(count: usize, begun: Instant) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}

/// The property of the ledger with all its operations: no invariant is broken, every balance is the reference's.
pub(crate) async fn generated(quick: bool) -> Result<()> {
    let count = if quick { OPERATIONS_QUICK } else { OPERATIONS };
    let seed = SystemClock.now().as_micros().unsigned_abs() % 1_000_000_007;
    say(&format!(
        "\nbooks: {count} generated operations in memory beside a reference, seed {seed}"
    ));
    let folder = TempDir::in_memory();
    let db = sqlite_at(&folder.path().join("market.db")).await;
    let codes = ["USDC", "EURC"].map(Asset::from_code);
    let assets: Option<Vec<Asset>> = codes.into_iter().collect();
    let begun = Instant::now();
    let done = ledger_run::run(&db, assets.context("no such currency")?, seed, count).await;
    say(&format!(
        "  {done:?} in {:.1} s: all as the reference says, the books add up",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}
