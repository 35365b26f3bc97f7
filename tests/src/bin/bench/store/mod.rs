//! Row `store`: beats, paid requests and searches in process (no sockets), each beside the floor that it can't get below.
//!
//! The coordinator is the real one over SQLite on this disk, with its real router, ingest task and writer; only its clock stands
//! still. Requests are signed before the clock of the bench starts. The figures are shown, not judged.

pub(crate) mod fleet;
mod search;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use axum::{body::Body, http::Request};
use coordinator::testing::{TestApp, request};
use serde_json::json;
use shared::{
    sign::SigningKey,
    x402::{
        header,
        signature::{PayerKey, PaymentSignature},
        wire_v2::PaymentRequired,
    },
};
use tokio::{task::JoinSet, time::Instant};

use self::fleet::Fleet;
use crate::{
    figures::{Goal, Report, Series, quiet_rounds, say},
    machine::fsync_ms,
    market::{random, sign},
};

/// Nodes that only say that they live.
const QUIET_NODES: usize = 1_000;
/// Nodes with a rental each, whose beats carry a signed record.
const BUSY_NODES: usize = 200;
const BEATS_PER_NODE: usize = 5;
const ORDERS: usize = 100;
const ORDER_NODES: usize = 10;
/// Requests under way at once.
const AT_ONCE: usize = 64;
const FLOOR_CALLS: u32 = 1_000;
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;

/// Measures the rows.
pub(crate) async fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let scale = if quick { 10 } else { 1 };
    beats(report, "quiet beats", QUIET_NODES / scale, false, rounds).await?;
    beats(
        report,
        "beats with a record",
        BUSY_NODES / scale,
        true,
        rounds,
    )
    .await?;
    paid(report, rounds).await?;
    search::measure(report, rounds)
}

async fn coordinator() -> Result<Arc<TestApp>> {
    let app = Arc::new(TestApp::new().await);
    // it ends with the process: nothing of it is read afterwards
    drop(app.start_tasks());
    Ok(app)
}

async fn beats(
    report: &mut Report,
    name: &str,
    nodes: usize,
    rented: bool,
    rounds: usize,
) -> Result<()> {
    say(&format!(
        "\nstore: {name} of {nodes} nodes through the router and the ingest task"
    ));
    let app = coordinator().await?;
    let mut fleet = Fleet::enrolled(&app, nodes).await?;
    if rented {
        for number in 0..nodes {
            let paid = fleet.order(&app, number).await?;
            send_all(&app, vec![vec![paid]], 201).await?;
        }
    }
    fleet.settle(&app).await?;
    let folder = app.folder().path().to_owned();
    let rounds = quiet_rounds(rounds, &folder, async |_| {
        let beats = fleet.beats(&app, BEATS_PER_NODE, AT_ONCE)?;
        let rate = rate(&app, beats, 200).await?;
        Ok((rate, commits_per_s(&folder)?, verify_rate()?))
    })
    .await?;
    let series = |name: &str, of: fn(&(f64, f64, f64)) -> f64| {
        Series::new(name, "/s", rounds.iter().map(of).collect())
    };
    let ours = series(name, |r| r.0);
    for limit in [
        series("one fdatasync after another", |r| r.1),
        series("ring verify, one core", |r| r.2),
    ] {
        let ratio = ours.median() / limit.median();
        report.add(
            &format!("{name}, {nodes} nodes"),
            &ours,
            &limit,
            (ratio, "×"),
            Goal::None,
        );
    }
    app.app.shutdown.cancel();
    Ok(())
}

async fn paid(report: &mut Report, rounds: usize) -> Result<()> {
    say(&format!("\nstore: paid POST /rentals, {ORDERS} a round"));
    let app = coordinator().await?;
    let mut fleet = Fleet::enrolled(&app, ORDER_NODES).await?;
    let folder = app.folder().path().to_owned();
    let rounds = quiet_rounds(rounds, &folder, async |_| {
        let mut orders: Vec<Vec<Request<Body>>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
        for number in 0..ORDERS {
            orders[number % AT_ONCE].push(fleet.order(&app, number % ORDER_NODES).await?);
        }
        let rate = rate(&app, orders, 201).await?;
        Ok((rate, recover_rate()?))
    })
    .await?;
    let ours = Series::new(
        "paid POST /rentals",
        "/s",
        rounds.iter().map(|r| r.0).collect(),
    );
    let limit = Series::new(
        "ecrecover, one core",
        "/s",
        rounds.iter().map(|r| r.1).collect(),
    );
    let ratio = ours.median() / limit.median();
    report.add("paid requests", &ours, &limit, (ratio, "×"), Goal::None);
    app.app.shutdown.cancel();
    Ok(())
}

/// Requests per second: each list is sent one after another, the lists beside each other.
async fn rate(app: &Arc<TestApp>, lists: Vec<Vec<Request<Body>>>, status: u16) -> Result<f64> {
    let count = lists.iter().map(Vec::len).sum::<usize>();
    let begun = Instant::now();
    send_all(app, lists, status).await?;
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}

/// Sends everything; fails unless every answer has this status.
async fn send_all(app: &Arc<TestApp>, lists: Vec<Vec<Request<Body>>>, status: u16) -> Result<()> {
    let mut tasks = JoinSet::new();
    for list in lists {
        let app = Arc::clone(app);
        tasks.spawn(async move {
            for request in list {
                let answer = app.send(request).await;
                ensure!(
                    answer.status.as_u16() == status,
                    "expected {status}, got {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// The paid request for a slice of an offer, signed by a new payer.
async fn order(app: &TestApp, offer_id: &str) -> Result<Request<Body>> {
    const PATH: &str = "/api/v1/rentals";
    let body = json!({
        "offer_id": offer_id,
        "resources": {"ram_bytes": 16 << 20, "cpu_millis": 10},
        "duration_seconds": 3_600,
        "image": "busybox:latest",
    });
    let asked = app.post(PATH, "", &body).await;
    let terms = asked.headers.get(header::PAYMENT_REQUIRED);
    let terms = terms.with_context(|| format!("no terms: {}", asked.json()))?;
    let terms: PaymentRequired = header::decode(terms.as_bytes())?;
    let mut paid = request("POST", PATH, "", &body);
    paid.headers_mut()
        .insert(header::PAYMENT_SIGNATURE, sign_at(&terms, app)?.parse()?);
    Ok(paid)
}

fn sign_at(terms: &PaymentRequired, app: &TestApp) -> Result<String> {
    sign(terms, app.app.clock.now())
}

fn commits_per_s(folder: &Path) -> Result<f64> {
    Ok(1_000.0 / fsync_ms(folder)?)
}

fn per_second(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    for _ in 0..FLOOR_CALLS {
        call()?;
    }
    Ok(f64::from(FLOOR_CALLS) / begun.elapsed().as_secs_f64())
}

fn verify_rate() -> Result<f64> {
    let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()?)?;
    let message = [7; 600];
    let signature = key.sign_raw(&message);
    let public = key.public();
    per_second(|| Ok(public.verify_raw(&message, &signature)?))
}

fn recover_rate() -> Result<f64> {
    let key = PayerKey::from_bytes(&random()?)?;
    let digest = random()?;
    let signature: PaymentSignature = key.sign(&digest)?;
    per_second(|| {
        ensure!(
            signature.recover(&digest)? == key.address(),
            "another payer"
        );
        Ok(())
    })
}
