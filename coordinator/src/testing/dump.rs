//! Every row of the database, to compare before and after.

use std::collections::BTreeMap;

use crate::{params, store::Db};

/// Table → its rows as text, sorted.
pub type Dump = BTreeMap<String, Vec<String>>;

/// Reads every table but the migrations' own and those in `without`.
///
/// # Panics
/// If the database can't be read.
pub async fn dump(db: &Db, without: &'static [&'static str]) -> Dump {
    let tables = if format!("{db:?}") == "Db(sqlite)" {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    } else {
        "SELECT CAST(tablename AS TEXT) FROM pg_catalog.pg_tables WHERE schemaname = 'public'"
    };
    db.read("test.dump", move |tx| {
        let mut dump = Dump::new();
        for table in tx.query(tables, params![])? {
            let name = table.text(0)?.to_owned();
            if name.starts_with("refinery") || without.contains(&name.as_str()) {
                continue;
            }
            let rows = tx.query(&format!("SELECT * FROM {name}"), params![])?;
            let mut rows: Vec<String> = rows.iter().map(|row| format!("{:?}", row.0)).collect();
            rows.sort();
            dump.insert(name, rows);
        }
        Ok(dump)
    })
    .await
    .expect("the tables can be read")
}

/// The tables that differ, for a readable failure.
#[must_use]
pub fn changed(before: &Dump, after: &Dump) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut changed: Vec<String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    changed.sort();
    changed.dedup();
    changed
}
