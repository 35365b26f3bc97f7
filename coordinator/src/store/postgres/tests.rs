//! What only PostgreSQL has: conflicts, lost connections, several coordinators.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicU32, Ordering},
};

use crate::{
    error::{Error, Kind},
    params,
    store::{
        Db,
        testing::{postgres, postgres_url},
    },
};

async fn run(db: &Db, sql: &'static str) {
    db.write("test.run", move |tx| Ok(tx.execute(sql, &[])?))
        .await
        .unwrap();
}

/// Waits the first time only: a body that runs again finds the others gone on.
fn meet(runs: &AtomicU32, barrier: &Barrier) {
    if runs.fetch_add(1, Ordering::SeqCst) == 0 {
        barrier.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_a_deadlocked_body_again() {
    let db = postgres().await;
    run(
        &db,
        "CREATE TABLE stock (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)",
    )
    .await;
    run(&db, "INSERT INTO stock (id, n) VALUES (1, 0), (2, 0)").await;
    let barrier = Arc::new(Barrier::new(2));
    let all_runs = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = [[1_i64, 2], [2, 1]]
        .into_iter()
        .map(|order| {
            let (db, barrier, all_runs) = (db.clone(), Arc::clone(&barrier), Arc::clone(&all_runs));
            let runs = AtomicU32::new(0);
            tokio::spawn(async move {
                let body = move |tx: &mut dyn crate::store::Tx| {
                    let sql = "UPDATE stock SET n = n + 1 WHERE id = $1";
                    all_runs.fetch_add(1, Ordering::SeqCst);
                    tx.execute(sql, params![order[0]])?;
                    meet(&runs, &barrier);
                    tx.execute(sql, params![order[1]])?;
                    Ok(())
                };
                db.write("test.deadlock", body).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(all_runs.load(Ordering::SeqCst) >= 3);
    let rows = db.read("test.read", |tx| Ok(tx.query("SELECT n FROM stock", &[])?));
    for row in rows.await.unwrap() {
        assert_eq!(row.int(0).unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_looks_first_sees_the_row_that_came_in_between() {
    let db = postgres().await;
    run(&db, "CREATE TABLE item (id BIGINT PRIMARY KEY)").await;
    let barrier = Arc::new(Barrier::new(2));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let (db, barrier) = (db.clone(), Arc::clone(&barrier));
            let runs = AtomicU32::new(0);
            tokio::spawn(async move {
                let body = move |tx: &mut dyn crate::store::Tx| {
                    let there = tx.query("SELECT id FROM item WHERE id = 1", &[])?;
                    meet(&runs, &barrier);
                    if !there.is_empty() {
                        return Err(Error::conflict("taken", "somebody was faster"));
                    }
                    Ok(tx.execute("INSERT INTO item (id) VALUES (1)", &[])?)
                };
                db.write("test.look_first", body).await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap().map_err(|error| error.code()));
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [Ok(1), Err("taken")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_after_a_lost_connection() {
    let db = postgres().await;
    run(&db, "CREATE TABLE item (id BIGINT PRIMARY KEY)").await;
    let runs = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&runs);
    let body = move |tx: &mut dyn crate::store::Tx| {
        tx.execute("INSERT INTO item (id) VALUES (1)", &[])?;
        if seen.fetch_add(1, Ordering::SeqCst) == 0 {
            // our own connection
            let sql = "SELECT CAST(pg_terminate_backend(pg_backend_pid()) AS TEXT)";
            tx.query(sql, &[])?;
        }
        Ok(())
    };
    db.write("test.terminate", body).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let read = db.read("test.read", |tx| Ok(tx.query("SELECT id FROM item", &[])?));
    assert_eq!(read.await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclear_commit_is_not_run_again() {
    let db = postgres().await;
    // a deferred trigger runs inside COMMIT
    run(&db, "CREATE TABLE item (id BIGINT PRIMARY KEY)").await;
    run(
        &db,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
    )
    .await;
    run(
        &db,
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION die()",
    )
    .await;
    let runs = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&runs);
    let body = move |tx: &mut dyn crate::store::Tx| {
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(tx.execute("INSERT INTO item (id) VALUES (1)", &[])?)
    };
    let why = format!("{:?}", db.write("test.die", body).await.unwrap_err());
    assert!(why.contains("CommitUnknown"), "{why}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_refuses_is_a_constraint() {
    let db = postgres().await;
    run(&db, "CREATE TABLE item (id BIGINT PRIMARY KEY)").await;
    run(
        &db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'postings are never changed'; END $$",
    )
    .await;
    run(
        &db,
        "CREATE TRIGGER refuse BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let body = |tx: &mut dyn crate::store::Tx| {
        let refused = tx.execute("INSERT INTO item (id) VALUES (1)", &[]);
        let error = refused.unwrap_err();
        assert!(matches!(&error, crate::store::StoreError::Constraint(text)
            if text.contains("never changed")));
        Err::<(), _>(error.into())
    };
    let refused = db.write("test.refused", body).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Internal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_must_fit_what_the_statement_wants() {
    let db = postgres().await;
    run(&db, "CREATE TABLE small (id INT4 PRIMARY KEY, t TEXT)").await;
    let insert = |id: i64| {
        let db = db.clone();
        async move {
            let sql = "INSERT INTO small (id, t) VALUES ($1, $2) RETURNING id";
            let rows = db.write("test.small", move |tx| {
                Ok(tx.query(sql, params![id, Option::<i64>::None])?)
            });
            rows.await.map(|rows| rows[0].int(0).unwrap())
        }
    };
    assert_eq!(insert(7).await.unwrap(), 7);
    assert_eq!(insert(i64::MAX).await.unwrap_err().kind(), Kind::Internal);
    let sql = "INSERT INTO small (id, t) VALUES (8, $1)";
    let wrong = db.write("test.wrong", move |tx| Ok(tx.execute(sql, params![8_i64])?));
    assert_eq!(wrong.await.unwrap_err().kind(), Kind::Internal);
    for sql in [
        "SELECT SUM(id) FROM small WHERE id > 2000000000 OR id = 7",
        "SELECT 1.5",
        "SELECT true",
    ] {
        let read = db
            .read("test.types", move |tx| Ok(tx.query(sql, &[])?))
            .await;
        let sum_is_bigint = sql.contains("SUM");
        assert_eq!(read.is_ok(), sum_is_bigint, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_coordinators_migrate_once() {
    let url = postgres_url().await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let db = Db::open(&url).await.unwrap();
                let applied = db.migrate().await.unwrap().len();
                db.check_schema().await.unwrap();
                (applied > 0, db.database_id().await.unwrap())
            })
        })
        .collect();
    let mut migrated = 0;
    let mut ids = Vec::new();
    for task in tasks {
        let (did, id) = task.await.unwrap();
        migrated += u32::from(did);
        ids.push(id);
    }
    ids.dedup();
    assert_eq!((migrated, ids.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_server_that_may_lose_commits() {
    let url = postgres_url().await;
    let db = Db::open(&url).await.unwrap();
    let sql = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
    run(&db, sql).await;
    let why = Db::open(&url).await.unwrap_err().to_string();
    assert!(why.contains("synchronous_commit"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bodies_than_connections_wait_their_turn() {
    let db = postgres().await;
    let tasks: Vec<_> = (0..100_i64)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move {
                let sql = "SELECT CAST($1 AS BIGINT)";
                let rows = db.read("test.wait", move |tx| Ok(tx.query(sql, params![id])?));
                rows.await.unwrap()[0].int(0).unwrap()
            })
        })
        .collect();
    for (id, task) in (0..).zip(tasks) {
        assert_eq!(task.await.unwrap(), id);
    }
}

#[tokio::test]
async fn says_how_to_back_up_instead() {
    let db = postgres().await;
    let refused = db.backup_to(std::path::Path::new("/nowhere")).await;
    assert!(refused.unwrap_err().to_string().contains("pg_dump"));
}

#[tokio::test]
async fn an_unreachable_server_is_an_error_at_once() {
    let url = "postgres://me@/market?host=/nowhere".parse().unwrap();
    let why = Db::open(&url).await.unwrap_err().to_string();
    assert!(why.contains("can't connect"), "{why}");
}
