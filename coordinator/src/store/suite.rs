//! The conformance suite: what both drivers must do alike. Each case gets a fresh, migrated database.
//!
//! A new case is a function here and a line in [`suite!`].

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{Db, Driver, Row, StoreError, Tx, Value};
use crate::{
    error::{Error, Kind, Result},
    params,
};

macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (db, _folder) = crate::store::testing::sqlite().await;
                super::$case(db).await;
            })+
        }
    };
}

suite!(
    round_trips_every_type,
    binds_parameters_by_number,
    refuses_a_wrong_number_of_values,
    returns_rows_and_counts,
    leaves_nothing_after_an_error,
    leaves_nothing_after_a_panic,
    lets_no_body_hide_an_error,
    lets_one_body_fail_among_many,
    maps_constraints,
    guards_a_counter,
    reads_one_snapshot,
    refuses_to_write_while_reading,
    acknowledges_every_writer,
    tells_of_commits,
    migrates_once,
    notices_another_schema,
);

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
fn by_driver(db: &Db, [sqlite, _]: [&'static str; 2]) -> &'static str {
    match db.inner.driver {
        Driver::Sqlite(_) => sqlite,
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

async fn round_trips_every_type(db: Db) {
    // the types' names differ, as in the migrations
    let blob = by_driver(&db, ["BLOB", "BYTEA"]);
    db.write("test.setup", move |tx| {
        let sql = format!("CREATE TABLE kinds (id BIGINT PRIMARY KEY, n BIGINT, t TEXT, b {blob})");
        Ok(tx.execute(&sql, &[])?)
    })
    .await
    .unwrap();
    let rows: Vec<Vec<Value>> = [
        (i64::MIN, String::new(), vec![]),
        (
            i64::MAX,
            "Zoë's ½ €, 漢字, \u{10ffff}".to_owned(),
            vec![0, 1, 255, 0],
        ),
        (0, "x".repeat(100_000), vec![7; 100_000]),
    ]
    .into_iter()
    .map(|(n, t, b)| vec![n.into(), t.into(), b.into()])
    .chain([vec![Value::Null, Value::Null, Value::Null]])
    .collect();
    let written = rows.clone();
    db.write("test.insert", move |tx| {
        for (id, row) in (0_i64..).zip(&written) {
            let [n, t, b] = &row[..] else { unreachable!() };
            let sql = "INSERT INTO kinds (id, n, t, b) VALUES ($1, $2, $3, $4)";
            let values = [Value::Int(id), n.clone(), t.clone(), b.clone()];
            assert_eq!(tx.execute(sql, &values)?, 1);
        }
        Ok(())
    })
    .await
    .unwrap();
    let read = db.read("test.read", |tx| {
        Ok(tx.query("SELECT n, t, b FROM kinds ORDER BY id", &[])?)
    });
    let expected: Vec<Row> = rows.into_iter().map(Row).collect();
    assert_eq!(read.await.unwrap(), expected);
}

async fn binds_parameters_by_number(db: Db) {
    setup(
        &db,
        &["CREATE TABLE pair (a TEXT NOT NULL, b TEXT NOT NULL, c BIGINT)"],
    )
    .await;
    let read = db.write("test.params", |tx| {
        let sql = "INSERT INTO pair (c, b, a) VALUES ($3, $2, $1)";
        tx.execute(sql, params!["a", "b", 3_i64])?;
        tx.execute(sql, params!["a2", "b2", Option::<i64>::None])?;
        let sql = "SELECT a, b FROM pair WHERE (b = $2 OR a = $2) AND a = $1 AND $1 <> $2";
        Ok(tx.query(sql, params!["a", "b"])?)
    });
    assert_eq!(read.await.unwrap(), [Row(params!["a", "b"].to_vec())]);
}

async fn refuses_a_wrong_number_of_values(db: Db) {
    for values in [0, 1, 3] {
        let read = db.read("test.values", move |tx| {
            let values = vec![Value::Int(1); values];
            Ok(tx.query("SELECT CAST($1 AS BIGINT) + CAST($2 AS BIGINT)", &values)?)
        });
        assert_eq!(read.await.unwrap_err().kind(), Kind::Internal, "{values}");
    }
}

async fn returns_rows_and_counts(db: Db) {
    setup(
        &db,
        &["CREATE TABLE item (id BIGINT PRIMARY KEY, n BIGINT NOT NULL DEFAULT 0)"],
    )
    .await;
    db.write("test.returning", |tx| {
        let upsert = "INSERT INTO item (id, n) VALUES ($1, 1) \
                      ON CONFLICT (id) DO UPDATE SET n = item.n + 1 RETURNING n";
        assert_eq!(
            tx.query(upsert, params![7_i64])?,
            [Row(params![1_i64].to_vec())]
        );
        assert_eq!(
            tx.query(upsert, params![7_i64])?,
            [Row(params![2_i64].to_vec())]
        );
        let ignore = "INSERT INTO item (id) VALUES ($1) ON CONFLICT DO NOTHING";
        assert_eq!(tx.execute(ignore, params![7_i64])?, 0);
        assert_eq!(tx.execute(ignore, params![8_i64])?, 1);
        assert_eq!(tx.execute("UPDATE item SET n = 5 RETURNING id", &[])?, 2);
        assert_eq!(tx.execute("UPDATE item SET n = 5 WHERE id = 99", &[])?, 0);
        assert_eq!(tx.query("UPDATE item SET n = 6", &[])?, []);
        let sums = "SELECT CAST(SUM(n) AS BIGINT), COUNT(*) FROM item";
        assert_eq!(tx.query(sums, &[])?, [Row(params![12_i64, 2_i64].to_vec())]);
        assert_eq!(tx.execute("DELETE FROM item", &[])?, 2);
        Ok(())
    })
    .await
    .unwrap();
}

async fn leaves_nothing_after_an_error(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let failed = db.write("test.fail", |tx| -> Result<()> {
        insert(tx, 1)?;
        Err(Error::conflict("sold_out", "nothing left"))
    });
    assert_eq!(failed.await.unwrap_err().code(), "sold_out");
    assert_eq!(count(&db, "item").await, 0);
}

async fn leaves_nothing_after_a_panic(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let failed = db.write("test.panic", |tx| -> Result<()> {
        insert(tx, 1)?;
        panic!("a bug in a body");
    });
    assert_eq!(failed.await.unwrap_err().kind(), Kind::Internal);
    let failed = db.read("test.panic", |_| -> Result<()> { panic!("another") });
    assert_eq!(failed.await.unwrap_err().kind(), Kind::Internal);
    // the driver lives
    db.write("test.insert", |tx| Ok(insert(tx, 2)?))
        .await
        .unwrap();
    assert_eq!(count(&db, "item").await, 1);
}

async fn lets_no_body_hide_an_error(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let hidden = db.write("test.hide", |tx| {
        insert(tx, 1)?;
        let _ = insert(tx, 1).unwrap_err();
        Ok(())
    });
    assert_eq!(hidden.await.unwrap_err().kind(), Kind::Internal);
    let going_on = db.write("test.go_on", |tx| {
        insert(tx, 1)?;
        let _ = insert(tx, 1).unwrap_err();
        assert!(insert(tx, 2).unwrap_err().to_string().contains("already"));
        Err::<(), _>(Error::conflict("taken", "it is taken"))
    });
    assert_eq!(going_on.await.unwrap_err().code(), "taken");
    assert_eq!(count(&db, "item").await, 0);
}

async fn lets_one_body_fail_among_many(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let tasks: Vec<_> = (0_i64..60)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write("test.some_fail", move |tx| {
                    insert(tx, id)?;
                    match id % 6 {
                        0 => Err(Error::conflict("unlucky", "by its own will")),
                        1 => Ok(insert(tx, id).map(drop)?),
                        2 => panic!("by a bug"),
                        _ => Ok(()),
                    }
                })
                .await
                .is_ok()
            })
        })
        .collect();
    for (id, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), id % 6 > 2, "{id}");
    }
    assert_eq!(count(&db, "item").await, 30);
}

async fn maps_constraints(db: Db) {
    setup(
        &db,
        &[
            "CREATE TABLE parent (id BIGINT PRIMARY KEY, code TEXT UNIQUE)",
            "CREATE TABLE item (id BIGINT PRIMARY KEY, n BIGINT NOT NULL CHECK (n > 0), \
             parent BIGINT REFERENCES parent (id))",
            "INSERT INTO parent (id, code) VALUES (1, 'a')",
        ],
    )
    .await;
    let refused = |sql: &'static str| {
        let db = db.clone();
        async move {
            let seen = db.write("test.refused", move |tx| match tx.execute(sql, &[]) {
                Ok(_) => Ok(()),
                Err(StoreError::Unique(what)) => Err(Error::conflict("unique", what)),
                Err(StoreError::Constraint(what)) => Err(Error::conflict("constraint", what)),
                Err(other) => Err(other.into()),
            });
            let error = seen.await.unwrap_err();
            (error.code(), error.detail().to_owned())
        }
    };
    let (code, what) = refused("INSERT INTO parent (id, code) VALUES (1, 'b')").await;
    assert_eq!(
        (code, &*what),
        ("unique", by_driver(&db, ["parent.id", "parent_pkey"]))
    );
    let (code, what) = refused("INSERT INTO parent (id, code) VALUES (2, 'a')").await;
    assert_eq!(
        (code, &*what),
        ("unique", by_driver(&db, ["parent.code", "parent_code_key"]))
    );
    for sql in [
        "INSERT INTO item (id, n) VALUES (1, 0)",
        "INSERT INTO item (id, n) VALUES (1, NULL)",
        "INSERT INTO item (id, n, parent) VALUES (1, 1, 99)",
    ] {
        assert_eq!(refused(sql).await.0, "constraint", "{sql}");
    }
    assert_eq!(
        refused("INSERT INTO nowhere (id) VALUES (1)").await.0,
        "internal"
    );
}

async fn guards_a_counter(db: Db) {
    setup(
        &db,
        &[
            "CREATE TABLE stock (id BIGINT PRIMARY KEY, free BIGINT NOT NULL)",
            "CREATE TABLE item (id BIGINT PRIMARY KEY)",
            "INSERT INTO stock (id, free) VALUES (1, 30)",
        ],
    )
    .await;
    let tasks: Vec<_> = (0_i64..100)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write("test.take", move |tx| {
                    insert(tx, id)?;
                    let sql = "UPDATE stock SET free = free - $1 WHERE id = $2 AND free >= $1";
                    match tx.execute(sql, params![1_i64, 1_i64])? {
                        1 => Ok(()),
                        _ => Err(Error::conflict("sold_out", "nothing left")),
                    }
                })
                .await
            })
        })
        .collect();
    let mut sold = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => sold += 1,
            Err(error) => assert_eq!(error.code(), "sold_out"),
        }
    }
    assert_eq!(sold, 30);
    assert_eq!(count(&db, "item").await, 30);
    assert_eq!(count(&db, "stock WHERE free = 0").await, 1);
}

async fn reads_one_snapshot(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let (looked, wait_looked) = std::sync::mpsc::sync_channel(1);
    let (wrote, wait_wrote) = std::sync::mpsc::sync_channel::<()>(1);
    let wait_wrote = std::sync::Mutex::new(wait_wrote);
    let reader = db.clone();
    let counts = tokio::spawn(async move {
        let counts = reader.read("test.snapshot", move |tx| {
            let mut counts = Vec::new();
            for _ in 0..2 {
                let rows = tx.query("SELECT COUNT(*) FROM item", &[])?;
                counts.push(rows[0].int(0)?);
                if counts.len() == 1 {
                    looked.send(()).unwrap();
                    wait_wrote.lock().unwrap().recv().unwrap();
                }
            }
            Ok(counts)
        });
        counts.await.unwrap()
    });
    tokio::task::spawn_blocking(move || wait_looked.recv().unwrap())
        .await
        .unwrap();
    db.write("test.insert", |tx| Ok(insert(tx, 1)?))
        .await
        .unwrap();
    wrote.send(()).unwrap();
    assert_eq!(counts.await.unwrap(), [0, 0]);
    assert_eq!(count(&db, "item").await, 1);
}

async fn refuses_to_write_while_reading(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let written = db.read("test.write", |tx| Ok(insert(tx, 1)?)).await;
    assert_eq!(written.unwrap_err().kind(), Kind::Internal);
    assert_eq!(count(&db, "item").await, 0);
}

async fn acknowledges_every_writer(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let runs = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0_i64..256)
        .map(|id| {
            let (db, runs) = (db.clone(), Arc::clone(&runs));
            tokio::spawn(async move {
                db.write("test.many", move |tx| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    Ok(insert(tx, id)?)
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    assert_eq!(count(&db, "item").await, 256);
    assert!(runs.load(Ordering::Relaxed) >= 256);
}

async fn tells_of_commits(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let mut committed = db.committed();
    committed.mark_unchanged();
    let failed = db.write("test.fail", |_| Err::<(), _>(Error::conflict("no", "no")));
    failed.await.unwrap_err();
    count(&db, "item").await;
    assert!(!committed.has_changed().unwrap());
    db.write("test.insert", |tx| Ok(insert(tx, 1)?))
        .await
        .unwrap();
    assert!(committed.has_changed().unwrap());
}

async fn migrates_once(db: Db) {
    let id = db.database_id().await.unwrap();
    assert_eq!(id.len(), 32);
    assert!(db.migrate().await.unwrap().is_empty());
    assert_eq!(db.database_id().await.unwrap(), id);
    db.check_schema().await.unwrap();
}

async fn notices_another_schema(db: Db) {
    let edit = |sql: &'static str| {
        let db = db.clone();
        async move {
            db.write("test.edit", move |tx| Ok(tx.execute(sql, &[])?))
                .await
                .unwrap();
            format!("{:?}", db.check_schema().await.unwrap_err())
        }
    };
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'future', '2030-01-01T00:00:00Z', '1')";
    assert!(
        edit(newer)
            .await
            .contains("newer than this binary (it has V9999__future)")
    );
    assert!(db.migrate().await.is_err());
    let edited = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 10";
    assert!(edit(edited).await.contains("another V10__store_meta"));
    let older = "DELETE FROM refinery_schema_history WHERE version >= 10";
    assert!(
        edit(older)
            .await
            .contains("older than this binary (V10__store_meta")
    );
    assert!(
        edit("DROP TABLE refinery_schema_history")
            .await
            .contains("V10__store_meta")
    );
}
