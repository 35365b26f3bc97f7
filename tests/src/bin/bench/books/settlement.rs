//! The settlement of many rentals that ended at once, by the real task, page by page: how long it takes, and whether memory grows with them.
//!
//! The rentals are copies of one that was ordered and paid, with an escrow each, billed time, and evidence of it; afterwards the books are
//! proven.

use anyhow::{Context as _, Result, ensure};
use coordinator::{
    books,
    store::Tx,
    tasks::{Task as _, settlement::Settlement},
    testing::TestApp,
};
use shared::clock::Clock as _;
use tokio::time::Instant;

use super::per_second;
use crate::{
    figures::{Goal, Report, Series, say},
    machine::rss_mib,
    store::fleet::Fleet,
};

const RENTALS: usize = 100_000;
const RENTALS_QUICK: usize = 2_000;
/// Rentals that one transaction makes.
const MADE_AT_ONCE: usize = 2_000;
/// What is left in the escrow goes back, besides the shares of provider and platform.
const TRANSFERS_EACH: f64 = 3.0;
/// Pages of 200 rentals fit into so much more memory, however many rentals there are, MiB.
const GROWTH_MIB_MOST: f64 = 64.0;

/// Settles them.
pub(super) async fn measure(report: &mut Report, raw_per_s: f64, quick: bool) -> Result<()> {
    let count = if quick { RENTALS_QUICK } else { RENTALS };
    say(&format!(
        "\nbooks: {count} rentals that ended are settled, on SQLite"
    ));
    let app = TestApp::new().await;
    let template = template(&app).await?;
    for first in (0..count).step_by(MADE_AT_ONCE) {
        let (template, now) = (template.clone(), app.clock.now().as_micros());
        let (first, last) = (i64::try_from(first)?, i64::try_from(first + MADE_AT_ONCE)?);
        let make = move |tx: &mut dyn Tx| copies(tx, &template, now, first, last);
        app.app.db.write("bench.copies", make).await?;
    }
    let before = rss_mib(std::process::id())?.0;
    let mut most = before;
    let mut task = Settlement::new(app.app.clone());
    let begun = Instant::now();
    // one activation settles a bounded number of pages of what is over
    loop {
        let done = task.activate().await?;
        ensure!(done["failed"] == 0, "some weren't settled: {done}");
        most = most.max(rss_mib(std::process::id())?.0);
        if done["settled"] == 0 {
            break;
        }
    }
    let settled = app.app.db.read("bench.settled", settled_in_all).await?;
    let rate = per_second(settled, begun)?;
    let took_s = begun.elapsed().as_secs_f64();
    say(&format!("  {settled} settled in {took_s:.1} s"));
    ensure!(settled >= count, "only {settled} were settled");
    let proven = books::check(&app.app.db, app.clock.now()).await?;
    ensure!(proven.holds(), "the books don't add up: {proven:?}");
    let ours = Series::new("rentals settled", "/s", vec![rate]);
    let limit = Series::new("raw transfers / 3", "/s", vec![raw_per_s / TRANSFERS_EACH]);
    let ratio = ours.median() / limit.median();
    let name = format!("settlement of {count} rentals");
    report.add(&name, &ours, &limit, (ratio, "×"), Goal::None);
    let after = Series::new("most resident memory", "MiB", vec![most]);
    let start = Series::new("before it", "MiB", vec![before]);
    let grown = (most - before, "MiB");
    let name = format!("memory of settling {count} rentals");
    report.add(&name, &after, &start, grown, Goal::AtMost(GROWTH_MIB_MOST));
    app.app.shutdown.cancel();
    Ok(())
}

fn settled_in_all(tx: &mut dyn Tx) -> coordinator::error::Result<usize> {
    let rows = tx.query(
        "SELECT COUNT(*) FROM rentals WHERE settled_at IS NOT NULL",
        &[],
    )?;
    Ok(usize::try_from(rows[0].int(0)?).unwrap_or(0))
}

/// A rental that was ordered and paid: its id.
async fn template(app: &TestApp) -> Result<String> {
    app.start_ingest();
    let mut fleet = Fleet::enrolled(app, 1).await?;
    let order = fleet.order(app, 0).await?;
    let paid = app.send(order).await;
    ensure!(paid.status == 201, "not paid: {}", paid.json());
    let id = paid.json()["id"].as_str().context("an id")?.to_owned();
    let (rental, now) = (id.clone(), app.clock.now().as_micros());
    let evidence = move |tx: &mut dyn Tx| {
        let node = "(SELECT node_id FROM rentals WHERE id = $1)";
        let sql = format!(
            "INSERT INTO node_chains (node_id, seq, hash, boot_id, boot_ms, received_at)
             VALUES ({node}, 1, zeroblob(32), 'b007', 0, $2) ON CONFLICT (node_id) DO UPDATE SET received_at = $2"
        );
        tx.execute(&sql, &[rental.clone().into(), now.into()])?;
        let sql = format!(
            "INSERT INTO node_coverage (node_id, start_at, end_at) VALUES ({node}, $2, $3)"
        );
        let since = now - 700_000_000;
        tx.execute(&sql, &[rental.clone().into(), since.into(), now.into()])?;
        Ok(())
    };
    app.app.db.write("bench.evidence", evidence).await?;
    Ok(id)
}

/// Copies of a rental that ran for nine minutes and are over, each with its escrow and the transfer that filled it.
fn copies(
    tx: &mut dyn Tx,
    template: &str,
    now: i64,
    first: i64,
    last: i64,
) -> coordinator::error::Result<()> {
    let minute = 60_000_000;
    let columns = tx.query("SELECT name FROM pragma_table_info('rentals')", &[])?;
    let mut names = Vec::new();
    let mut values = Vec::new();
    for column in &columns {
        let name = column.text(0)?;
        names.push(name.to_owned());
        values.push(match name {
            "id" => "'rnt_0192f0c1a2b37c4d8' || printf('%015x', n.i)".to_owned(),
            "lease_id" => {
                "substr(r.lease_id, 1, 4) || '0192f0c1a2b37c4d8' || printf('%015x', n.i)".to_owned()
            }
            "state" => "'ended'".to_owned(),
            "end_reason" => "'stopped'".to_owned(),
            "paid_at" | "created_at" | "started_at" => (now - 10 * minute).to_string(),
            "finished_at" => (now - minute).to_string(),
            "lease_until" | "ended_at" => now.to_string(),
            other => format!("r.{other}"),
        });
    }
    let (names, values) = (names.join(", "), values.join(", "));
    let numbers = "WITH RECURSIVE n(i) AS (SELECT CAST($1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2)";
    let made = format!(
        "{numbers} INSERT INTO rentals ({names}) SELECT {values} FROM n, rentals r WHERE r.id = $3"
    );
    tx.execute(&made, &[first.into(), last.into(), template.into()])?;
    let escrow = "r.asset || '/rental:' || r.id || ':escrow'";
    let made = "FROM rentals r WHERE r.settled_at IS NULL AND r.state = 'ended'
                AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = r.asset || '/rental:' || r.id || ':escrow')";
    let outside = "(SELECT debit FROM transfers WHERE code = 'payment' LIMIT 1)";
    tx.execute(
        &format!("UPDATE accounts SET balance = balance - (SELECT COALESCE(SUM(r.paid), 0) {made}) WHERE id = {outside}"),
        &[],
    )?;
    tx.execute(
        "CREATE TEMP TABLE IF NOT EXISTS made (id TEXT, paid INTEGER, asset TEXT, escrow TEXT)",
        &[],
    )?;
    tx.execute(
        &format!("INSERT INTO made SELECT r.id, r.paid, r.asset, {escrow} {made}"),
        &[],
    )?;
    tx.execute(
        "INSERT INTO accounts (id, asset, kind, balance, created_at) SELECT escrow, asset, 'rental_escrow', paid, $1 FROM made",
        &[now.into()],
    )?;
    tx.execute(
        &format!(
            "INSERT INTO transfers (id, asset, debit, credit, amount, code, ref, created_at)
             SELECT 'xfr_' || substr(id, 5), asset, {outside}, escrow, paid, 'bench', id, $1 FROM made"
        ),
        &[now.into()],
    )?;
    tx.execute("DELETE FROM made", &[])?;
    Ok(())
}
