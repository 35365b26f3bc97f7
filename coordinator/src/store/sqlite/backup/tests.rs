//! Copies made while work goes on, opened and compared.

use rusqlite::Connection;

use crate::{
    params,
    store::{
        Tx,
        testing::{sqlite, sqlite_at},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backs_up_while_writes_run() {
    let (db, folder) = sqlite().await;
    let table = "CREATE TABLE pair (id INTEGER PRIMARY KEY, half TEXT NOT NULL)";
    let made = db.write("test.setup", move |tx| Ok(tx.execute(table, &[])?));
    made.await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let (writing, stopped) = (db.clone(), stop.clone());
    let writer = tokio::spawn(async move {
        let mut written = 0_i64;
        while !stopped.is_cancelled() {
            let body = move |tx: &mut dyn Tx| {
                for half in ["a", "b"] {
                    let sql = "INSERT INTO pair (half) VALUES ($1)";
                    tx.execute(sql, params![half.repeat(1_000)])?;
                }
                Ok(())
            };
            writing.write("test.pair", body).await.unwrap();
            written += 2;
        }
        written
    });
    let mut commits = db.committed();
    let target = folder.path().join("copy.db");
    let mut copied = 0;
    for _ in 0..5 {
        for _ in 0..20 {
            commits.changed().await.unwrap();
        }
        db.backup_to(&target).await.unwrap();
        let copy = Connection::open(&target).unwrap();
        let ask = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, String>(0));
        assert_eq!(ask("PRAGMA integrity_check").unwrap(), "ok");
        let halves =
            "SELECT CAST(SUM(half LIKE 'a%') AS TEXT) || ' ' || SUM(half LIKE 'b%') FROM pair";
        let halves = ask(halves).unwrap();
        let (a, b) = halves.split_once(' ').unwrap();
        assert_eq!(a, b);
        let rows: i64 = a.parse().unwrap();
        assert!(rows * 2 >= copied + 20 && rows > 0);
        copied = rows * 2;
    }
    stop.cancel();
    assert!(writer.await.unwrap() >= copied);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|it| {
            it.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("unfinished")
        })
        .collect();
    assert!(left.is_empty());
    let restored = sqlite_at(&target).await;
    assert_eq!(
        restored.database_id().await.unwrap(),
        db.database_id().await.unwrap()
    );
}

#[tokio::test]
async fn never_backs_up_over_itself() {
    let (db, folder) = sqlite().await;
    let itself = folder.path().join("market.db");
    assert!(db.backup_to(&itself).await.is_err());
    assert!(db.backup_to(folder.path()).await.is_err());
    let nowhere = folder.path().join("no/such/folder/copy.db");
    assert!(db.backup_to(&nowhere).await.is_err());
    db.check_schema().await.unwrap();
}
