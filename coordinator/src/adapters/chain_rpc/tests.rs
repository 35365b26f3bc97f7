//! What is read from a node's answers. (That a real chain's are read right is shown by the journey over one.)

use shared::{
    money::Amount,
    x402::{
        network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
        terms::Resource,
    },
};

use super::*;

const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const PAYEE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

fn terms() -> Terms {
    Terms {
        network: &BASE_SEPOLIA,
        asset: BASE_SEPOLIA_USDC,
        pay_to: PAYEE.parse().expect("an address"),
        amount: Amount::from_atomic(1_000).expect("an amount"),
        max_timeout_s: 300,
        resource: Resource {
            url: "https://market.example/".into(),
            description: String::new(),
            mime_type: String::new(),
        },
    }
}

fn signed() -> Authorization {
    Authorization {
        from: PAYER.parse().expect("an address"),
        to: PAYEE.parse().expect("an address"),
        value: 1_000,
        valid_after: 0,
        valid_before: 1_800_000_000,
        nonce: [0xab; 32],
    }
}

#[test]
fn only_our_whole_transfer_counts() {
    let whole = json!({
        "address": BASE_SEPOLIA_USDC.address.to_string().to_lowercase(),
        "topics": [
            "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
            "0x00000000000000000000000070997970c51812dc3a010c7d01b50e0d17dc79c8",
            "0x00000000000000000000000090f79bf6eb2c4f870365e785982e1f101e93b906",
        ],
        "data": "0x00000000000000000000000000000000000000000000000000000000000003e8",
    });
    assert!(is_our_transfer(&whole, &terms(), &signed()));
    for (pointer, other) in [
        ("/address", json!(PAYER)),
        (
            "/topics/0",
            json!(topic("Approval(address,address,uint256)")),
        ),
        ("/topics/1", whole["topics"][2].clone()),
        ("/topics/2", whole["topics"][1].clone()),
        ("/data", json!(word(&999_u64.to_be_bytes()))),
        ("/data", json!(word(&1_001_u64.to_be_bytes()))),
        ("/data", json!("0x")),
        ("/topics", json!([])),
        ("/data", Value::Null),
    ] {
        let mut log = whole.clone();
        *log.pointer_mut(pointer).expect("a member") = other;
        assert!(!is_our_transfer(&log, &terms(), &signed()), "{log}");
    }
}

#[test]
fn calls_are_encoded_as_the_contract_reads_them() {
    let call = is_used_call(&signed());
    assert!(call.starts_with("0xe94a0102"), "{call}");
    assert_eq!(call.len(), 2 + 2 * (4 + 32 + 32));
    assert!(call.ends_with(&"ab".repeat(32)));
    assert!(call.contains("70997970c51812dc3a010c7d01b50e0d17dc79c8"));
}

#[test]
fn what_is_no_number_or_truth_value_is_refused() {
    assert_eq!(quantity(&json!("0x1b4")).expect("a quantity"), 436);
    for wrong in [
        json!("1b4"),
        json!(436),
        json!("0x"),
        json!("0xg"),
        Value::Null,
        json!("0x1ffffffffffffffff"),
    ] {
        assert!(quantity(&wrong).is_err(), "{wrong}");
    }
    let of = |digit: char| json!(format!("0x{digit:0>64}"));
    assert!(!flag(&of('0')).expect("a truth value"));
    assert!(flag(&of('1')).expect("a truth value"));
    // no code at the address answers nothing at all
    for wrong in [of('2'), json!("0x"), json!("0x1"), Value::Null] {
        assert!(flag(&wrong).is_err(), "{wrong}");
    }
}
