//! The rows of transfers, written straight to an engine: what the ledger could reach at most.

use std::{cell::RefCell, path::Path};

use anyhow::{Context as _, Result};
use coordinator::store::{DatabaseUrl, testing::postgres_url};
use rusqlite::Connection;
use tokio::{task::JoinSet, time::Instant};
use tokio_postgres::{Client, NoTls};

use super::{AT_ONCE, per_second};

/// As many as the store has.
const CONNECTIONS: usize = 16;
const INSERT: &str =
    "INSERT INTO transfers (id, asset, debit, credit, amount, code, ref, created_at)
     VALUES ($1, 'USDC', $2, $3, 1, 'raw', $1, $4)";
const TAKE: &str = "UPDATE accounts SET balance = balance - 1 WHERE id = $1";
const GIVE: &str = "UPDATE accounts SET balance = balance + 1 WHERE id = $1";
const OPEN: &str = "INSERT INTO accounts (id, asset, kind, balance, created_at) VALUES ($1, 'USDC', 'raw', 1000000000, 0)";

fn accounts(lane: usize) -> (String, String) {
    (format!("USDC/from:{lane}"), format!("USDC/to:{lane}"))
}

fn name(round: usize, lane: usize, number: usize) -> String {
    format!("raw_{round:08}_{lane:08}_{number:012}")
}

/// A SQLite database of the market's schema, by its own client.
pub(super) struct OnSqlite {
    connection: RefCell<(Connection, usize)>,
}

impl OnSqlite {
    pub(super) fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        for lane in 0..AT_ONCE {
            let (from, to) = accounts(lane);
            for account in [from, to] {
                connection.execute(OPEN, [account])?;
            }
        }
        Ok(Self {
            connection: RefCell::new((connection, 0)),
        })
    }

    /// Transfers per second, [`AT_ONCE`] in a commit.
    pub(super) fn run(&self, count: usize) -> Result<f64> {
        let mut guard = self.connection.borrow_mut();
        let (connection, round) = &mut *guard;
        *round += 1;
        let begun = Instant::now();
        for number in 0..count / AT_ONCE {
            let tx = connection.transaction()?;
            for lane in 0..AT_ONCE {
                let (from, to) = accounts(lane);
                let id = name(*round, lane, number);
                let at = i64::try_from(number)?;
                let mut insert = tx.prepare_cached(INSERT)?;
                insert.execute(rusqlite::params![id, from, to, at])?;
                tx.prepare_cached(TAKE)?.execute([from])?;
                tx.prepare_cached(GIVE)?.execute([to])?;
            }
            tx.commit()?;
        }
        per_second(count, begun)
    }
}

/// A PostgreSQL database of the market's schema, by its own client.
pub(super) struct OnPostgres {
    config: tokio_postgres::Config,
    round: RefCell<usize>,
}

impl OnPostgres {
    pub(super) async fn open() -> Result<Self> {
        let url = postgres_url().await;
        let db = coordinator::store::Db::open(&url).await?;
        db.migrate().await?;
        let DatabaseUrl::Postgres(config) = url else {
            anyhow::bail!("not a URL of PostgreSQL");
        };
        let opened = Self {
            config: (*config).clone(),
            round: RefCell::new(0),
        };
        let client = opened.connect().await?;
        for lane in 0..AT_ONCE {
            let (from, to) = accounts(lane);
            for account in [from, to] {
                client.execute(OPEN, &[&account]).await?;
            }
        }
        Ok(opened)
    }

    async fn connect(&self) -> Result<Client> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Transfers per second, each a transaction, on as many connections as the store has.
    pub(super) async fn run(&self, count: usize) -> Result<f64> {
        let round = {
            let mut round = self.round.borrow_mut();
            *round += 1;
            *round
        };
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(self.connect().await?);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for (lane, client) in clients.into_iter().enumerate() {
            tasks.spawn(lane_of(client, round, lane, count / CONNECTIONS));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        per_second(count, begun)
    }
}

async fn lane_of(mut client: Client, round: usize, lane: usize, count: usize) -> Result<()> {
    let insert = client.prepare(INSERT).await?;
    let take = client.prepare(TAKE).await?;
    let give = client.prepare(GIVE).await?;
    let (from, to) = accounts(lane);
    for number in 0..count {
        let id = name(round, lane, number);
        let at = i64::try_from(number)?;
        let tx = client.transaction().await?;
        tx.execute(&insert, &[&id, &from, &to, &at]).await?;
        tx.execute(&take, &[&from]).await?;
        tx.execute(&give, &[&to]).await?;
        tx.commit().await.context("commit")?;
    }
    Ok(())
}
