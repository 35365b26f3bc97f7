//! Cases about values, statements and constraints.

use super::{by_driver, setup};
use crate::{
    error::{Error, Kind},
    params,
    store::{Db, Row, StoreError, Value},
};

pub(super) async fn round_trips_every_type(db: Db) {
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

pub(super) async fn binds_parameters_by_number(db: Db) {
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

pub(super) async fn refuses_a_wrong_number_of_values(db: Db) {
    for values in [0, 1, 3] {
        let read = db.read("test.values", move |tx| {
            let values = vec![Value::Int(1); values];
            Ok(tx.query("SELECT CAST($1 AS BIGINT) + CAST($2 AS BIGINT)", &values)?)
        });
        assert_eq!(read.await.unwrap_err().kind(), Kind::Internal, "{values}");
    }
}

pub(super) async fn returns_rows_and_counts(db: Db) {
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

pub(super) async fn maps_constraints(db: Db) {
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

pub(super) async fn refuses_text_that_only_one_could_keep(db: Db) {
    let kept = db.read("test.nul", |tx| {
        Ok(tx.query("SELECT CAST($1 AS TEXT)", params!["a\0b"])?)
    });
    assert_eq!(kept.await.unwrap_err().kind(), Kind::Internal);
}
