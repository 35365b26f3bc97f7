//! What only SQLite has: groups, checkpoints, one file.

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use rusqlite::Connection;

use super::{Settings, Sqlite};
use crate::{
    error::{Error, Kind},
    params,
    store::{
        Db, Driver, Inner,
        signals::Signals,
        testing::{TempDir, sqlite, sqlite_at},
    },
};

async fn open_with(path: &Path, settings: Settings) -> Db {
    let signals = Arc::new(Signals::new());
    let driver = Sqlite::open_with(path, &signals, settings).await.unwrap();
    let db = Db {
        inner: Arc::new(Inner {
            driver: Driver::Sqlite(driver),
            signals,
        }),
    };
    db.migrate().await.unwrap();
    db
}

async fn run(db: &Db, sql: &'static str) {
    db.write("test.run", move |tx| Ok(tx.execute(sql, &[])?))
        .await
        .unwrap();
}

async fn count(db: &Db, table: &'static str) -> i64 {
    db.read("test.count", move |tx| {
        let rows = tx.query(&format!("SELECT COUNT(*) FROM {table}"), &[])?;
        Ok(rows[0].int(0)?)
    })
    .await
    .unwrap()
}

/// Holds the writer in a body until dropped, so that what is asked meanwhile becomes one group.
struct Held {
    _release: mpsc::Sender<()>,
    holder: tokio::task::JoinHandle<()>,
}

async fn hold(db: &Db) -> Held {
    let (release, released) = mpsc::channel::<()>();
    let (started, wait_started) = tokio::sync::oneshot::channel();
    let (released, started) = (Mutex::new(released), Mutex::new(Some(started)));
    let db = db.clone();
    let holder = tokio::spawn(async move {
        let held = db.write("test.hold", move |_| {
            if let Some(started) = started.lock().unwrap().take() {
                started.send(()).unwrap();
            }
            // an error: the sender was dropped
            released.lock().unwrap().recv().unwrap_err();
            Ok(())
        });
        held.await.unwrap();
    });
    wait_started.await.unwrap();
    Held {
        _release: release,
        holder,
    }
}

/// Queues writes, then lets the writer go on; their outcomes by number.
async fn as_one_group<F>(db: &Db, bodies: i64, body: F) -> Vec<Result<(), Error>>
where
    F: Fn(&mut dyn crate::store::Tx, i64) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    let held = hold(db).await;
    let mut waiting: Vec<_> = (0..bodies)
        .map(|number| {
            let body = body.clone();
            let write = db.write("test.grouped", move |tx| body(tx, number));
            Box::pin(write)
        })
        .collect();
    for write in &mut waiting {
        // the first poll queues
        assert!(futures_util::poll!(write).is_pending());
    }
    drop(held._release);
    held.holder.await.unwrap();
    let mut outcomes = Vec::new();
    for write in waiting {
        outcomes.push(write.await);
    }
    outcomes
}

#[tokio::test]
async fn commits_what_waits_together() {
    let (db, _folder) = sqlite().await;
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
    let mut committed = db.committed();
    let before = *committed.borrow_and_update();
    let outcomes = as_one_group(&db, 100, |tx, id| {
        tx.execute("INSERT INTO item (id) VALUES ($1)", params![id])?;
        if id == 50 {
            return Err(Error::conflict("unlucky", "by its own will"));
        }
        Ok(())
    })
    .await;
    for (id, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), id == 50, "{id}");
    }
    // one for the body that held the writer, one for all others
    assert_eq!(*committed.borrow(), before + 2);
    assert_eq!(count(&db, "item").await, 99);
}

#[tokio::test]
async fn survives_a_transaction_that_vanishes() {
    let (db, _folder) = sqlite().await;
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
    run(
        &db,
        "CREATE TRIGGER bad BEFORE INSERT ON item WHEN NEW.id = 3 \
         BEGIN SELECT RAISE(ROLLBACK, 'all gone'); END",
    )
    .await;
    let outcomes = as_one_group(&db, 8, |tx, id| {
        if id == 5 {
            tx.execute("ROLLBACK", &[])?;
            return Ok(());
        }
        tx.execute("INSERT INTO item (id) VALUES ($1)", params![id])?;
        Ok(())
    })
    .await;
    for (id, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), id == 3 || id == 5, "{id}");
    }
    assert_eq!(count(&db, "item").await, 6);
}

#[tokio::test]
async fn turns_away_when_too_many_wait() {
    let folder = TempDir::new();
    let settings = Settings {
        queue: 2,
        ..Settings::default()
    };
    let db = open_with(&folder.path().join("market.db"), settings).await;
    let held = hold(&db).await;
    let mut waiting: Vec<_> = (0..3)
        .map(|_| Box::pin(db.write("test.wait", |_| Ok(()))))
        .collect();
    assert!(futures_util::poll!(&mut waiting[0]).is_pending());
    assert!(futures_util::poll!(&mut waiting[1]).is_pending());
    let refused = waiting.pop().unwrap().await.unwrap_err();
    assert_eq!(refused.code(), "busy");
    drop(held._release);
    for write in waiting {
        write.await.unwrap();
    }
}

#[tokio::test]
async fn stops_a_body_that_takes_too_long() {
    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                           SELECT COUNT(*) FROM n";
    let folder = TempDir::new();
    let settings = Settings {
        body_limit: Duration::from_millis(50),
        ..Settings::default()
    };
    let db = open_with(&folder.path().join("market.db"), settings).await;
    let endless = db.read("test.endless", |tx| Ok(tx.query(ENDLESS, &[])?));
    assert_eq!(endless.await.unwrap_err().kind(), Kind::Internal);
    let endless = db.write("test.endless", |tx| Ok(tx.query(ENDLESS, &[])?));
    assert_eq!(endless.await.unwrap_err().kind(), Kind::Internal);
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
    assert_eq!(count(&db, "item").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_was_acknowledged_after_reopening() {
    let (db, folder) = sqlite().await;
    let path = folder.path().join("market.db");
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
    let outcomes = as_one_group(&db, 256, |tx, id| {
        tx.execute("INSERT INTO item (id) VALUES ($1)", params![id])?;
        Ok(())
    })
    .await;
    assert!(outcomes.iter().all(Result::is_ok));
    // as after a crash: what lies on the disk, log included, while the first process still has it open
    let copy = TempDir::new();
    for name in ["market.db", "market.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let crashed = sqlite_at(&copy.path().join("market.db")).await;
    assert_eq!(count(&crashed, "item").await, 256);
    drop(db);
    assert_eq!(count(&sqlite_at(&path).await, "item").await, 256);
}

#[tokio::test]
async fn refuses_everything_once_the_file_is_broken() {
    let (db, folder) = sqlite().await;
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY, t TEXT)").await;
    db.write("test.fill", |tx| {
        for id in 0..2_000_i64 {
            let row = params![id, "x".repeat(500)];
            tx.execute("INSERT INTO item (id, t) VALUES ($1, $2)", row)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    drop(db);
    let path = folder.path().join("market.db");
    let whole = Connection::open(&path).unwrap();
    whole
        .pragma_update_and_check(None, "wal_checkpoint", "truncate", |_| Ok(()))
        .unwrap();
    drop(whole);
    let db = sqlite_at(&path).await;
    // everything after the schema becomes rubbish
    let size = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let from = 20 * 4096;
    let rubbish = vec![0xA5; usize::try_from(size - from).unwrap()];
    std::os::unix::fs::FileExt::write_all_at(&file, &rubbish, from).unwrap();
    let fatal = db.fatal();
    let mut fatal = Box::pin(fatal);
    assert!(futures_util::poll!(&mut fatal).is_pending());
    let sql = "UPDATE item SET t = 'y'";
    let failed = db.write("test.corrupt", move |tx| Ok(tx.execute(sql, &[])?));
    failed.await.unwrap_err();
    assert!(fatal.await.contains("malformed"));
    let next = db.write("test.next", |_| Ok(()));
    let why = format!("{:?}", next.await.unwrap_err());
    assert!(why.contains("refused since an earlier failure"), "{why}");
}

#[tokio::test]
async fn is_set_up_for_durability() {
    let (db, _folder) = sqlite().await;
    let pragma = |sql: &'static str| {
        let db = db.clone();
        async move {
            let rows = db.write("test.pragma", move |tx| Ok(tx.query(sql, &[])?));
            rows.await.unwrap().remove(0).0.remove(0)
        }
    };
    assert_eq!(pragma("PRAGMA journal_mode").await, "wal".into());
    // 2: FULL
    assert_eq!(pragma("PRAGMA synchronous").await, 2.into());
    assert_eq!(pragma("PRAGMA foreign_keys").await, 1.into());
    assert_eq!(pragma("PRAGMA trusted_schema").await, 0.into());
    assert_eq!(pragma("PRAGMA busy_timeout").await, 5_000.into());
    // 2: MEMORY
    assert_eq!(pragma("PRAGMA temp_store").await, 2.into());
}

#[tokio::test]
async fn keeps_the_log_short() {
    let folder = TempDir::new();
    let settings = Settings {
        log_pages_max: 1_200,
        ..Settings::default()
    };
    let db = open_with(&folder.path().join("market.db"), settings).await;
    run(&db, "CREATE TABLE item (id INTEGER PRIMARY KEY, t TEXT)").await;
    for _ in 0..60 {
        db.write("test.grow", |tx| {
            for _ in 0..100 {
                let row = params!["x".repeat(4_000)];
                tx.execute("INSERT INTO item (t) VALUES ($1)", row)?;
            }
            tx.execute("DELETE FROM item", &[])?;
            Ok(())
        })
        .await
        .unwrap();
    }
    let log = std::fs::metadata(folder.path().join("market.db-wal")).unwrap();
    // more than 6000 pages were written
    assert!(log.len() < 2_500 * 4_096, "{} bytes", log.len());
}

#[tokio::test]
async fn is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (db, folder) = sqlite().await;
    db.backup_to(&folder.path().join("copy.db")).await.unwrap();
    for name in ["market.db", "market.db-wal", "copy.db"] {
        let facts = std::fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn several_processes_migrate_once() {
    let folder = TempDir::new();
    let path = folder.path().join("market.db");
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { sqlite_at(&path).await.database_id().await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn several_processes_open_a_new_file_at_once() {
    let folder = TempDir::new();
    for round in 0..100 {
        let path = folder.path().join(format!("{round}.db"));
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let signals = Arc::new(Signals::new());
                    let settings = Settings::default();
                    drop(Sqlite::open_blocking(path.clone(), &signals, &settings).unwrap());
                });
            }
        });
    }
}
