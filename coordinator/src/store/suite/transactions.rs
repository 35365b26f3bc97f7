//! Cases about transactions: all or nothing, one snapshot, many at once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{count, insert, setup};
use crate::{
    error::{Error, Kind, Result},
    params,
    store::Db,
};

pub(super) async fn leaves_nothing_after_an_error(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let failed = db.write("test.fail", |tx| -> Result<()> {
        insert(tx, 1)?;
        Err(Error::conflict("sold_out", "nothing left"))
    });
    assert_eq!(failed.await.unwrap_err().code(), "sold_out");
    assert_eq!(count(&db, "item").await, 0);
}

pub(super) async fn leaves_nothing_after_a_panic(db: Db) {
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

pub(super) async fn lets_no_body_hide_an_error(db: Db) {
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

pub(super) async fn lets_one_body_fail_among_many(db: Db) {
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

pub(super) async fn guards_a_counter(db: Db) {
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

pub(super) async fn reads_one_snapshot(db: Db) {
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

pub(super) async fn refuses_to_write_while_reading(db: Db) {
    setup(&db, &["CREATE TABLE item (id BIGINT PRIMARY KEY)"]).await;
    let written = db.read("test.write", |tx| Ok(insert(tx, 1)?)).await;
    assert_eq!(written.unwrap_err().kind(), Kind::Internal);
    assert_eq!(count(&db, "item").await, 0);
}

pub(super) async fn acknowledges_every_writer(db: Db) {
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

pub(super) async fn tells_of_commits(db: Db) {
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
