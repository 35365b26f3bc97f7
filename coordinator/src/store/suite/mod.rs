//! The conformance suite: what both drivers must do alike. Each case gets a fresh, migrated database.
//!
//! A new case is a function in one of the files and its name in [`suite!`].

mod transactions;
mod upkeep;
mod values;

use super::{Db, Driver, StoreError, Tx};
use crate::params;

macro_rules! suite {
    ($($file:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (db, _folder) = crate::store::testing::sqlite().await;
                super::$file::$case(db).await;
            })+)+
        }

        mod postgres {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$file::$case(crate::store::testing::postgres().await).await;
            })+)+
        }
    };
}

suite! {
    values:
        round_trips_every_type,
        binds_parameters_by_number,
        refuses_a_wrong_number_of_values,
        refuses_text_that_only_one_could_keep,
        returns_rows_and_counts,
        maps_constraints;
    transactions:
        leaves_nothing_after_an_error,
        leaves_nothing_after_a_panic,
        lets_no_body_hide_an_error,
        lets_one_body_fail_among_many,
        guards_a_counter,
        reads_one_snapshot,
        refuses_to_write_while_reading,
        acknowledges_every_writer,
        tells_of_commits;
    upkeep:
        measures_itself,
        migrates_once,
        notices_another_schema;
}

/// Runs DDL (no body of the product does).
async fn setup(db: &Db, statements: &'static [&'static str]) {
    let made = db.write("test.setup", move |tx| {
        for sql in statements {
            tx.execute(sql, &[])?;
        }
        Ok(())
    });
    made.await.unwrap();
}

/// What differs between the drivers: SQLite's form, PostgreSQL's form.
fn by_driver(db: &Db, [sqlite, postgres]: [&'static str; 2]) -> &'static str {
    match db.inner.driver {
        Driver::Sqlite(_) => sqlite,
        Driver::Postgres(_) => postgres,
    }
}

async fn count(db: &Db, table: &'static str) -> i64 {
    db.read("test.count", move |tx| {
        let rows = tx.query(&format!("SELECT COUNT(*) FROM {table}"), &[])?;
        Ok(rows[0].int(0)?)
    })
    .await
    .unwrap()
}

fn insert(tx: &mut dyn Tx, id: i64) -> Result<u64, StoreError> {
    tx.execute("INSERT INTO item (id) VALUES ($1)", params![id])
}
