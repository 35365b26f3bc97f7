//! Compares the two schemas: what the migrations of SQLite and of PostgreSQL make must be the same tables.

use std::collections::{BTreeMap, BTreeSet};

use super::{Db, Tx, testing};
use crate::{error::Result, params};

/// The portable part of a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Type and whether NULL is refused, by name.
    columns: BTreeMap<String, (String, bool)>,
    /// Columns in their order.
    primary_key: Vec<String>,
    /// Columns in their order, and whether only some rows count (`WHERE`).
    unique: BTreeSet<(Vec<String>, bool)>,
    foreign_keys: BTreeSet<ForeignKey>,
}

/// Columns here, the table they lead to, the columns there.
type ForeignKey = (Vec<String>, String, Vec<String>);

type Schema = BTreeMap<String, Table>;

const SQLITE_TABLES: &str = "SELECT name, strict FROM pragma_table_list \
     WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%' \
     AND name <> 'refinery_schema_history'";
const SQLITE_COLUMNS: &str =
    "SELECT name, type, \"notnull\", pk FROM pragma_table_info($1) ORDER BY pk";
const SQLITE_UNIQUE: &str = "SELECT name, partial FROM pragma_index_list($1) \
     WHERE \"unique\" = 1 AND origin <> 'pk'";
const SQLITE_INDEX: &str =
    "SELECT COALESCE(name, '(expression)') FROM pragma_index_info($1) ORDER BY seqno";
const SQLITE_FOREIGN: &str = "SELECT id, \"from\", \"table\", COALESCE(\"to\", '') \
     FROM pragma_foreign_key_list($1) ORDER BY id, seq";

const POSTGRES_COLUMNS: &str = "SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT), format_type(a.atttypid, a.atttypmod), \
     CAST(a.attnotnull AS INT) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
     WHERE c.relnamespace = CAST('public' AS regnamespace) AND c.relkind IN ('r', 'p') \
     AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> 'refinery_schema_history'";
const POSTGRES_UNIQUE: &str = "SELECT CAST(c.relname AS TEXT), CAST(i.indexrelid AS BIGINT), CAST(i.indisprimary AS INT), \
     CAST(i.indpred IS NOT NULL AS INT), COALESCE(CAST(a.attname AS TEXT), '(expression)') \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
     CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place) \
     LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0 \
     WHERE c.relnamespace = CAST('public' AS regnamespace) AND i.indisunique \
     AND k.place <= i.indnkeyatts AND c.relname <> 'refinery_schema_history' ORDER BY 2, k.place";
const POSTGRES_FOREIGN: &str = "SELECT CAST(c.relname AS TEXT), CAST(f.oid AS BIGINT), CAST(a.attname AS TEXT), \
     CAST(t.relname AS TEXT), CAST(b.attname AS TEXT) FROM pg_constraint f \
     JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class t ON t.oid = f.confrelid \
     CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY AS k (here, there, place) \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.here \
     JOIN pg_attribute b ON b.attrelid = t.oid AND b.attnum = k.there \
     WHERE f.contype = 'f' ORDER BY 2, k.place";

fn sqlite_schema(tx: &mut dyn Tx) -> Result<Schema> {
    let mut schema = Schema::new();
    for row in tx.query(SQLITE_TABLES, &[])? {
        let name = row.text(0)?;
        assert_eq!(row.int(1)?, 1, "table {name} isn't STRICT");
        schema.insert(name.to_owned(), sqlite_table(tx, name)?);
    }
    // a foreign key that names no columns leads to the primary key
    let keys: BTreeMap<_, _> = schema
        .iter()
        .map(|(name, table)| (name.clone(), table.primary_key.clone()))
        .collect();
    for table in schema.values_mut() {
        table.foreign_keys = std::mem::take(&mut table.foreign_keys)
            .into_iter()
            .map(|(columns, to, there)| {
                let implied = there.iter().all(String::is_empty);
                let there = if implied { keys[&to].clone() } else { there };
                (columns, to, there)
            })
            .collect();
    }
    Ok(schema)
}

fn sqlite_table(tx: &mut dyn Tx, name: &str) -> Result<Table> {
    let mut table = Table::default();
    for row in tx.query(SQLITE_COLUMNS, params![name])? {
        let column = row.text(0)?.to_owned();
        let (kind, in_key) = (row.text(1)?.to_owned(), row.int(3)? > 0);
        if in_key {
            table.primary_key.push(column.clone());
        }
        // STRICT tables refuse NULL in a primary key
        table
            .columns
            .insert(column, (kind, row.int(2)? == 1 || in_key));
    }
    for index in tx.query(SQLITE_UNIQUE, params![name])? {
        let mut columns = Vec::new();
        for row in tx.query(SQLITE_INDEX, params![index.text(0)?])? {
            columns.push(row.text(0)?.to_owned());
        }
        table.unique.insert((columns, index.int(1)? == 1));
    }
    let mut foreign: BTreeMap<i64, ForeignKey> = BTreeMap::new();
    for row in tx.query(SQLITE_FOREIGN, params![name])? {
        let key = foreign.entry(row.int(0)?).or_default();
        key.0.push(row.text(1)?.to_owned());
        row.text(2)?.clone_into(&mut key.1);
        key.2.push(row.text(3)?.to_owned());
    }
    table.foreign_keys = foreign.into_values().collect();
    Ok(table)
}

fn postgres_schema(tx: &mut dyn Tx) -> Result<Schema> {
    let mut schema = Schema::new();
    for row in tx.query(POSTGRES_COLUMNS, &[])? {
        let kind = match row.text(2)? {
            "text" => "TEXT",
            "bigint" => "INTEGER",
            "bytea" => "BLOB",
            other => panic!("{row:?}: {other} isn't one of text, bigint, bytea"),
        };
        let table = schema.entry(row.text(0)?.to_owned()).or_default();
        let facts = (kind.to_owned(), row.int(3)? == 1);
        table.columns.insert(row.text(1)?.to_owned(), facts);
    }
    let mut indexes: BTreeMap<i64, (String, bool, bool, Vec<String>)> = BTreeMap::new();
    for row in tx.query(POSTGRES_UNIQUE, &[])? {
        let index = indexes.entry(row.int(1)?).or_default();
        row.text(0)?.clone_into(&mut index.0);
        (index.1, index.2) = (row.int(2)? == 1, row.int(3)? == 1);
        index.3.push(row.text(4)?.to_owned());
    }
    for (table, primary, partial, columns) in indexes.into_values() {
        let table = schema.entry(table).or_default();
        if primary {
            table.primary_key = columns;
        } else {
            table.unique.insert((columns, partial));
        }
    }
    let mut foreign: BTreeMap<(String, i64), ForeignKey> = BTreeMap::new();
    for row in tx.query(POSTGRES_FOREIGN, &[])? {
        let name = (row.text(0)?.to_owned(), row.int(1)?);
        let key = foreign.entry(name).or_default();
        key.0.push(row.text(2)?.to_owned());
        row.text(3)?.clone_into(&mut key.1);
        key.2.push(row.text(4)?.to_owned());
    }
    for ((table, _), key) in foreign {
        schema.entry(table).or_default().foreign_keys.insert(key);
    }
    Ok(schema)
}

async fn schema_of(db: &Db, read: fn(&mut dyn Tx) -> Result<Schema>) -> Schema {
    db.read("test.schema", read).await.unwrap()
}

#[tokio::test]
async fn both_schemas_are_the_same() {
    let (sqlite, _folder) = testing::sqlite().await;
    let postgres = testing::postgres().await;
    let left = schema_of(&sqlite, sqlite_schema).await;
    let right = schema_of(&postgres, postgres_schema).await;
    assert!(left.contains_key("store_meta"));
    let (left_names, right_names): (Vec<_>, Vec<_>) =
        (left.keys().collect(), right.keys().collect());
    assert_eq!(left_names, right_names, "tables: sqlite, postgres");
    for (name, table) in &left {
        assert_eq!(table, &right[name], "table {name}: sqlite, postgres");
    }
}

/// The comparison itself: each of these differences must be seen.
#[tokio::test]
async fn every_kind_of_drift_is_seen() {
    const SAME: &str = "CREATE TABLE probe (a TEXT NOT NULL, b TEXT, n BIGINT, PRIMARY KEY (a, b))";
    const UNIQUE: &str = "CREATE UNIQUE INDEX probe_n ON probe (n, b) WHERE n > 0";
    let base = "CREATE TABLE base (id TEXT PRIMARY KEY)";
    let postgres = testing::postgres().await;
    run(&postgres, [base, SAME, UNIQUE].map(str::to_owned)).await;
    let foreign = "ALTER TABLE probe ADD FOREIGN KEY (b) REFERENCES base (id)".to_owned();
    run(&postgres, [foreign]).await;
    let expected = schema_of(&postgres, postgres_schema).await;
    let table = "CREATE TABLE probe (a TEXT NOT NULL, b TEXT REFERENCES base, n INTEGER, PRIMARY KEY (a, b)) STRICT";
    for (from, to, same) in [
        ("", "", true),
        ("n INTEGER", "n INTEGER NOT NULL", false),
        ("n INTEGER", "n TEXT", false),
        ("n INTEGER", "m INTEGER, n INTEGER", false),
        ("(a, b)) STRICT", "(b, a)) STRICT", false),
        (" REFERENCES base", "", false),
        ("(n, b)", "(b, n)", false),
        (" WHERE n > 0", "", false),
        ("UNIQUE ", "", false),
    ] {
        let (sqlite, _folder) = testing::sqlite().await;
        let edited =
            [&format!("{base} STRICT"), table, UNIQUE].map(|sql| sql.replacen(from, to, 1));
        run(&sqlite, edited).await;
        let seen = schema_of(&sqlite, sqlite_schema).await;
        assert_eq!(seen["probe"] == expected["probe"], same, "{from} -> {to}");
    }
}

async fn run<const N: usize>(db: &Db, statements: [String; N]) {
    let body = move |tx: &mut dyn Tx| {
        for sql in &statements {
            tx.execute(sql, &[])?;
        }
        Ok(())
    };
    db.write("test.run", body).await.unwrap();
}
