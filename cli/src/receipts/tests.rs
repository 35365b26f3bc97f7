//! A bundle that holds, and every way in which one doesn't.

use shared::{
    id::Ids,
    journal::{Hash, MeterState},
    money::Asset,
    sign::SigningKey,
};

use super::*;

fn usdc(atomic: i64) -> Money {
    Money {
        amount: Amount::from_atomic(atomic).unwrap(),
        currency: Asset::USDC,
    }
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap()
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + s)
}

/// Ten minutes, billed for nine of them, settled.
fn bundle(key: &SigningKey) -> Bundle {
    let ids = Ids::counting();
    let (rental, node) = (ids.mint(), ids.mint());
    let mut prev_hash = Hash::GENESIS;
    // record 3 is another rental's
    let receipts = [1_i64, 2, 4, 5].map(|seq| {
        let record = Record {
            node_id: node,
            boot_id: "b".into(),
            rental_id: rental,
            lease_id: ids.mint(),
            seq,
            prev_hash,
            beacon: String::new(),
            t_wall: at(seq * 120),
            t_boot_ms: seq * 120_000,
            state: MeterState::Running,
            container_id: "c".into(),
            image_digest: "sha256:0".into(),
            spec_sha256: "0".into(),
            started_at: Some(at(0)),
            finished_at: (seq == 5).then(|| at(600)),
            cum_cpu_ns: seq * 1_000_000_000,
            cum_mem_byte_s: seq,
            cum_rx_bytes: seq,
            cum_tx_bytes: seq,
            exit: None,
        };
        prev_hash = record.hash();
        Receipt {
            record: record.sign(key),
            node_key: key.public(),
            received_at: at(seq * 120 + 1),
        }
    });
    Bundle {
        format: FORMAT.into(),
        rental: Bill {
            id: rental,
            node_id: node,
            price: Price {
                per_hour: usdc(1_000_000),
            },
            billed_ms: 540_000,
            cost_so_far: usdc(150_000),
            paid: usdc(166_666),
            refunded: usdc(16_666),
            settled_at: Some(at(700)),
        },
        usage: vec![
            Window {
                start: at(0),
                end: at(300),
                billable_ms: 300_000,
                amount: usdc(83_333),
            },
            Window {
                start: at(300),
                end: at(600),
                billable_ms: 240_000,
                amount: usdc(66_667),
            },
        ],
        receipts: receipts.into(),
    }
}

fn broken(bundle: &Bundle, known: Option<&PublicKey>) -> Vec<&'static str> {
    let checks = verify(bundle, known).into_iter();
    let failed = checks.filter(|check| !check.holds);
    failed.map(|check| check.name).collect()
}

#[test]
fn a_bundle_survives_its_file_and_holds() {
    let key = key();
    let bundle = bundle(&key);
    let text = serde_json::to_string(&bundle).unwrap();
    let read = parse(&text).unwrap();
    assert_eq!(broken(&read, Some(&key.public())), Vec::<&str>::new());
    assert_eq!(broken(&read, None), Vec::<&str>::new());
    assert!(parse(&text.replace(FORMAT, "ramarket-receipts-9")).is_err());
    assert!(parse("{}").is_err());
}

type Change = fn(&mut Bundle);

#[test]
fn every_change_is_found() {
    let signer = key();
    let good = bundle(&signer);
    let changes: [(&str, Change); 14] = [
        ("signatures", |b| {
            b.receipts[1].record.record.cum_cpu_ns += 1;
        }),
        ("one key", |b| b.receipts[1].node_key = key().public()),
        ("one key", |b| b.receipts.clear()),
        ("subject", |b| b.rental.id = Ids::System.mint()),
        ("chain", |b| b.receipts.swap(0, 1)),
        ("chain", |b| {
            let before = b.receipts[0].clone();
            b.receipts.insert(1, before);
        }),
        ("windows", |b| b.rental.billed_ms += 1),
        ("windows", |b| b.usage[0].end = at(301)),
        ("windows", |b| b.usage[1].billable_ms = 300_001),
        ("running time", |b| {
            b.rental.billed_ms = 700_000;
        }),
        ("running time", |b| b.receipts.clear()),
        ("price", |b| b.usage[0].amount = usdc(90_000)),
        ("price", |b| b.rental.cost_so_far = usdc(150_001)),
        ("split", |b| b.rental.refunded = usdc(0)),
    ];
    for (name, change) in changes {
        let mut bundle = good.clone();
        change(&mut bundle);
        let found = broken(&bundle, None);
        assert!(found.contains(&name), "{name}: {found:?}");
    }
    // whole and honest, of another key than the one that is known
    assert_eq!(broken(&good, Some(&key().public())), ["one key"]);
}

#[test]
fn a_record_that_was_signed_anew_breaks_the_chain_and_a_counter_is_watched() {
    let signer = key();
    let mut bundle = bundle(&signer);
    let mut record = bundle.receipts[0].record.record.clone();
    record.cum_cpu_ns = 1_500_000_000;
    bundle.receipts[0].record = record.sign(&signer);
    assert_eq!(broken(&bundle, None), ["chain"]);
    let mut record = bundle.receipts[3].record.record.clone();
    record.cum_cpu_ns = 1;
    bundle.receipts[3].record = record.sign(&signer);
    assert!(broken(&bundle, None).contains(&"counters"));
}
