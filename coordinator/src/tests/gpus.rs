//! GPUs and disk space are rented like memory: priced, held by one rental each, given back, and not billed while they don't work.

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::{
    id::{OfferId, RentalId},
    resources::{Gpu, GpuHealth, Inventory, QuotaMeans, RentalDisk},
    wire::observed::ExitCause,
};

use crate::{
    domain::rentals::model::EndReason,
    tasks::market_feed,
    testing::{
        Answer, TestApp,
        market::{self, Market},
        node::{self, ScriptedNode},
        on_both_stores,
        payer::{Payer, paid},
    },
};

const GIB: i64 = 1 << 30;

fn gpu(uuid: &str) -> Gpu {
    Gpu {
        uuid: uuid.into(),
        model: "Test H100".into(),
        vram_total_bytes: 80 * GIB,
        pci_bus_id: "00000000:01:00.0".into(),
        driver: "550.54".into(),
        cuda: Some("12.4".into()),
        pcie: None,
        mig: false,
        health: GpuHealth::Good,
    }
}

fn machine() -> Inventory {
    Inventory {
        gpus: vec![gpu("GPU-b"), gpu("GPU-a")],
        gpu_absent_reason: None,
        rental_disk: Some(RentalDisk {
            means: QuotaMeans::Loopback,
            total_bytes: 100 * GIB,
        }),
        ..node::inventory(64 * GIB)
    }
}

/// A market whose machine has two GPUs and 100 GiB of disk: a GPU costs 1 an hour, a GiB of disk 0.01.
async fn open(test: TestApp) -> Market {
    test.start_ingest();
    let provider = test.signup("provider@example.org", &["provider"]).await;
    let mut node = ScriptedNode::enrol_as(&test, &provider, machine()).await;
    node.beat(&test).await;
    let body = json!({
        "node_id": node.id,
        "prices": {"ram_gib_hour": "0.002", "cpu_hour": "0", "gpu_hour": "1", "disk_gib_hour": "0.01"},
    });
    let answer = test.post("/api/v1/offers", &provider, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let id = answer.json()["id"].as_str().map(str::parse);
    let offer: OfferId = id.expect("an id").expect("an offer's id");
    market_feed::load(&test.app).await.expect("the index loads");
    Market {
        test,
        provider,
        node,
        offer,
        payer: Payer::numbered(1),
    }
}

fn order(market: &Market, gpus: i64, disk_bytes: i64) -> Value {
    let mut order = market.order(3_600);
    order["resources"]["gpu_count"] = json!(gpus);
    order["resources"]["disk_bytes"] = json!(disk_bytes);
    order
}

async fn buy(market: &mut Market, gpus: i64, disk_bytes: i64) -> Answer {
    let order = order(market, gpus, disk_bytes);
    market
        .payer
        .buy(&market.test, "/api/v1/rentals", "", &order)
        .await
}

/// What is answered to who doesn't even pay.
async fn ask(market: &Market, gpus: i64, disk_bytes: i64) -> Answer {
    let order = order(market, gpus, disk_bytes);
    market.test.post("/api/v1/rentals", "", &order).await
}

fn gpus_of(answer: &Answer) -> Vec<String> {
    serde_json::from_value(answer.json()["gpus"].clone()).expect("a list of UUIDs")
}

async fn free(market: &Market) -> Value {
    let path = format!("/api/v1/nodes/{}", market.node.id);
    market.test.get(&path, &market.provider).await.json()["free"].clone()
}

async fn end(market: &mut Market, answer: &Answer) {
    let id: RentalId = market::rental_of(answer);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.node.finish(id, 0, ExitCause::Itself);
    market.node.beat(&market.test).await;
    market.settle().await;
}

on_both_stores!(
    a_gpu_is_one_rentals_and_priced_and_given_back,
    two_at_once_never_get_the_same_gpu,
    what_is_degraded_or_split_is_not_rented,
    time_in_which_a_gpu_does_not_work_is_not_billed,
    disk_space_is_counted,
    what_a_machine_keeps_or_lacks_is_not_rented,
    who_writes_too_much_reads_so,
);

async fn a_gpu_is_one_rentals_and_priced_and_given_back(test: TestApp) {
    let mut market = open(test).await;
    let first = buy(&mut market, 1, 0).await;
    assert_eq!(gpus_of(&first), ["GPU-a"], "{first:?}");
    assert_eq!(
        first.json()["price"]["per_hour"]["amount"],
        "1.000500",
        "a quarter of a GiB and a GPU"
    );
    let both = ask(&market, 2, 0).await;
    assert_eq!(both.status, StatusCode::CONFLICT, "one is left: {both:?}");
    let second = buy(&mut market, 1, 0).await;
    assert_eq!(gpus_of(&second), ["GPU-b"]);
    assert_eq!(free(&market).await["gpu_count"], 0);
    let third = ask(&market, 1, 0).await;
    assert_eq!(third.json()["code"], "capacity_gone", "{third:?}");

    let desired = market.node.beat(&market.test).await.desired.rentals;
    let told: Vec<&str> = desired
        .iter()
        .flat_map(|rental| &rental.gpus)
        .map(String::as_str)
        .collect();
    assert_eq!(told, ["GPU-a", "GPU-b"]);

    end(&mut market, &first).await;
    assert_eq!(free(&market).await["gpu_count"], 1);
    let fourth = buy(&mut market, 1, 0).await;
    assert_eq!(
        gpus_of(&fourth),
        ["GPU-a"],
        "what came back is rented again"
    );
    market.check_books().await;
}

async fn two_at_once_never_get_the_same_gpu(test: TestApp) {
    let market = open(test).await;
    let order = order(&market, 1, 0);
    let mut payers: Vec<Payer> = (1..=6).map(Payer::numbered).collect();
    let mut signed = Vec::new();
    for payer in &mut payers {
        let asked = market.test.post("/api/v1/rentals", "", &order).await;
        signed.push(payer.sign(&asked, &market.test));
    }
    let bought = signed.iter().map(|signed| {
        market
            .test
            .send(paid("/api/v1/rentals", "", &order, &signed.header_v2))
    });
    let answers = join_all(bought).await;
    let mut won: Vec<String> = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED)
        .flat_map(gpus_of)
        .collect();
    won.sort();
    assert_eq!(won, ["GPU-a", "GPU-b"]);
    let refused = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CONFLICT)
        .count();
    assert_eq!(refused, 4, "{answers:?}");
    market.check_books().await;
}

async fn what_is_degraded_or_split_is_not_rented(test: TestApp) {
    let mut market = open(test).await;
    market.node.inventory.gpus[1].health = GpuHealth::Degraded {
        reason: "XID 79: fallen off the bus".into(),
    };
    market.node.inventory.gpus[0].mig = true;
    market.node.beat(&market.test).await;
    let answer = ask(&market, 1, 0).await;
    assert_eq!(answer.json()["code"], "capacity_gone", "{answer:?}");
    let without = buy(&mut market, 0, 0).await;
    assert_eq!(without.status, StatusCode::CREATED, "{without:?}");
    market.node.inventory.gpus[1].health = GpuHealth::Good;
    market.node.beat(&market.test).await;
    assert_eq!(gpus_of(&buy(&mut market, 1, 0).await), ["GPU-a"]);
    market.check_books().await;
}

async fn time_in_which_a_gpu_does_not_work_is_not_billed(test: TestApp) {
    let mut market = open(test).await;
    let bought = buy(&mut market, 1, 0).await;
    let id = market::rental_of(&bought);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.pass(120_000).await;
    market.node.degraded.insert(id);
    market.pass(300_000).await;
    let told = market.rental(id).await;
    assert!(told.detail.contains("a GPU of it doesn't work"), "{told:?}");
    market.node.degraded.clear();
    market.pass(120_000).await;
    assert_eq!(market.rental(id).await.detail, "", "it works again");
    market.node.finish(id, 0, ExitCause::Itself);
    market.node.beat(&market.test).await;
    market.settle().await;
    let rental = market.rental(id).await;
    // the fault is from the beat before it was told until the beat that told of its end
    assert_eq!(rental.billed_ms, 240_000 - 5_000 + 5_000 - market::BEAT_MS);
    market.check_books().await;
}

async fn disk_space_is_counted(test: TestApp) {
    let mut market = open(test).await;
    let tiny = ask(&market, 0, 1 << 20).await;
    assert_eq!(tiny.status, StatusCode::UNPROCESSABLE_ENTITY, "{tiny:?}");
    let first = buy(&mut market, 0, 60 * GIB).await;
    assert_eq!(
        first.json()["price"]["per_hour"]["amount"],
        "0.600500",
        "60 GiB of disk and a quarter of a GiB"
    );
    assert_eq!(free(&market).await["disk_bytes"], 40 * GIB);
    let second = ask(&market, 0, 60 * GIB).await;
    assert_eq!(second.json()["code"], "capacity_gone", "{second:?}");
    end(&mut market, &first).await;
    assert_eq!(free(&market).await["disk_bytes"], 100 * GIB);
    market.check_books().await;
}

async fn what_a_machine_keeps_or_lacks_is_not_rented(test: TestApp) {
    let mut market = open(test).await;
    let first = buy(&mut market, 0, 60 * GIB).await;
    end(&mut market, &first).await;
    // the machine keeps 60 GiB for their grace
    market.node.inventory.rental_disk = Some(RentalDisk {
        means: QuotaMeans::Loopback,
        total_bytes: 40 * GIB,
    });
    market.node.beat(&market.test).await;
    market_feed::load(&market.test.app).await.expect("loads");
    let offer = format!("/api/v1/offers/{}", market.offer);
    let view = market.test.get(&offer, "").await.json();
    assert_eq!(view["disk_free_bytes"], 40 * GIB, "{view}");
    assert_eq!(view["disk"]["means"], "loopback");
    let large = ask(&market, 0, 41 * GIB).await;
    assert_eq!(large.json()["code"], "capacity_gone", "{large:?}");
    let second = buy(&mut market, 0, 30 * GIB).await;
    assert_eq!(second.status, StatusCode::CREATED, "{second:?}");
    let third = ask(&market, 0, 11 * GIB).await;
    assert_eq!(third.json()["code"], "capacity_gone", "{third:?}");
    assert_eq!(ask(&market, 0, 10 * GIB).await.status, 402);
    // a full disk: nothing at all
    let why = "its disk is nearly full";
    market.node.inventory.shortage = Some(why.to_owned());
    market.node.beat(&market.test).await;
    let refused = ask(&market, 0, 0).await.json();
    assert_eq!(refused["code"], "capacity_gone");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|text| text.contains(why)),
        "{refused}"
    );
    market.node.inventory.shortage = None;
    market.node.beat(&market.test).await;
    assert_eq!(ask(&market, 0, 0).await.status, 402, "by itself");
}

async fn who_writes_too_much_reads_so(test: TestApp) {
    let mut market = open(test).await;
    let rented = buy(&mut market, 0, GIB).await;
    let id: RentalId = market::rental_of(&rented);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.node.finish(id, 143, ExitCause::OverDisk);
    market.node.beat(&market.test).await;
    market.settle().await;
    let rental = market.rental(id).await;
    assert_eq!(
        rental.end_reason,
        Some(EndReason::DiskExceeded),
        "{rental:?}"
    );
    assert!(rental.detail.contains("wrote more"), "{}", rental.detail);
}
