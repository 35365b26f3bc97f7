//! The ledger beside a reference, over generated operations: `LEDGER_SEED` gives the seed, which is printed. A million of them in memory are run by
//! the optimised build of the benches (`bench generated`, in `make test-full` and `make bench`).

use shared::{
    clock::{Clock as _, SystemClock},
    money::Asset,
};

use crate::{
    store::{
        Db,
        testing::{TempDir, postgres, sqlite, sqlite_at},
    },
    testing::ledger_run,
};

/// Operations in memory, on a database, and there with `TEST_FULL=1`.
const IN_MEMORY: u64 = 20_000;
const ON_DATABASE: u64 = 1_000;
const ON_DATABASE_FULL: u64 = 10_000;

async fn run(name: &str, db: &Db, count: u64) {
    let given = std::env::var_os("LEDGER_SEED");
    let seed = given.map_or_else(
        || SystemClock.now().as_micros().unsigned_abs() % 1_000_000_007,
        |seed| seed.to_string_lossy().parse().expect("a number"),
    );
    eprintln!("{name}: seed {seed} (LEDGER_SEED), {count} operations");
    let assets = ["USDC", "EURC"].map(|code| Asset::from_code(code).expect("a currency"));
    let done = ledger_run::run(db, assets.to_vec(), seed, count).await;
    eprintln!("{done:?}");
    let all = [done.posted, done.repeated, done.refused];
    assert!(all.iter().all(|some| *some > count / 100), "{done:?}");
}

fn on_database() -> u64 {
    if std::env::var_os("TEST_FULL").is_some_and(|value| value == "1") {
        ON_DATABASE_FULL
    } else {
        ON_DATABASE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_it_says_what_the_reference_says() {
    let folder = TempDir::in_memory();
    let db = sqlite_at(&folder.path().join("market.db")).await;
    run("in memory", &db, IN_MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_it_says_what_the_reference_says() {
    let (db, _folder) = sqlite().await;
    run("sqlite", &db, on_database()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_it_says_what_the_reference_says() {
    let db = postgres().await;
    run("postgres", &db, on_database()).await;
}
