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

/// Logs of the token: what happened, by whose authorization or between whom, and how much.
fn log(event: &str, topics: &[String; 2], data: u64) -> Value {
    json!({
        "address": BASE_SEPOLIA_USDC.address.to_string(),
        "topics": [topic(event), topics[0], topics[1]],
        "data": word(&data.to_be_bytes()),
    })
}

#[test]
fn each_authorization_of_a_transaction_has_its_own_transfer() {
    let payer = word(signed().from.as_bytes());
    let used = |nonce: u8| {
        let event = "AuthorizationUsed(address,bytes32)";
        log(event, &[payer.clone(), word(&[nonce; 32])], 0)
    };
    let cancelled = |nonce: u8| {
        let event = "AuthorizationCanceled(address,bytes32)";
        log(event, &[payer.clone(), word(&[nonce; 32])], 0)
    };
    let moved = |to: &str, amount: u64| {
        let to: shared::x402::address::Address = to.parse().expect("an address");
        let event = "Transfer(address,address,uint256)";
        log(event, &[payer.clone(), word(to.as_bytes())], amount)
    };
    let found = |logs: &[Value], nonce: u8| {
        let signed = Authorization {
            nonce: [nonce; 32],
            ..signed()
        };
        let transfer = transfer_of(logs, &terms(), &signed);
        let place = transfer.and_then(|one| logs.iter().position(|log| log == one));
        (
            place,
            transfer.is_some_and(|log| is_our_transfer(log, &terms(), &signed)),
        )
    };
    // two payments of one payer, alike but for their nonces
    let other = json!({"address": PAYER, "topics": [topic("Approval(address,address,uint256)")], "data": "0x"});
    let both = [
        used(1),
        moved(PAYEE, 1_000),
        other,
        used(2),
        moved(PAYEE, 1_000),
    ];
    let place = |nonce: u8, logs: &[Value]| {
        let signed = Authorization {
            nonce: [nonce; 32],
            ..signed()
        };
        let transfer = transfer_of(logs, &terms(), &signed).expect("a transfer");
        logs.iter().position(|log| std::ptr::eq(log, transfer))
    };
    assert_eq!((place(1, &both), place(2, &both)), (Some(1), Some(4)));
    assert!(found(&both, 1).1 && found(&both, 2).1);
    // a nonce that was used for something else, or cancelled, isn't paid by another's transfer
    let small = [used(1), moved(PAYER, 1), used(2), moved(PAYEE, 1_000)];
    assert_eq!(found(&small, 1), (Some(1), false));
    assert_eq!(found(&small, 2), (Some(3), true));
    let gone = [cancelled(1), used(2), moved(PAYEE, 1_000)];
    assert_eq!(found(&gone, 1), (None, false));
    // a token that tells of the transfer first
    let first = [moved(PAYEE, 1_000), used(1)];
    assert_eq!(found(&first, 1), (Some(0), true));
}

#[test]
fn a_contract_with_another_domain_is_noticed() {
    let text = |text: &str| {
        let mut bytes = vec![0; 64];
        bytes[31] = 32;
        bytes[63] = u8::try_from(text.len()).expect("short");
        bytes.extend(text.as_bytes());
        bytes.resize(96, 0);
        abi_text(&bytes)
    };
    assert_eq!(text("USD Coin").as_deref(), Some("USD Coin"));
    assert_eq!(abi_text(&[0; 31]), None);
    assert_eq!(abi_text(&[0xff; 96]), None);
    let token = &BASE_SEPOLIA_USDC;
    let ours = domain_separator(BASE_SEPOLIA.chain_id, token);
    let judged = |separator: Option<&[u8]>, name: &str, version: &str| {
        judge_domain(&BASE_SEPOLIA, token, separator, text(name), text(version))
    };
    assert_eq!(judged(Some(&ours), "USDC", "2"), Domain::Same);
    assert_eq!(judged(None, "USDC", "2"), Domain::Same);
    // the separator decides
    assert_eq!(judged(Some(&ours), "Something", "1"), Domain::Same);
    for (separator, name, version) in [
        (Some(&[0; 32][..]), "USDC", "2"),
        (None, "USD Coin", "2"),
        (None, "USDC", "1"),
    ] {
        let judged = judged(separator, name, version);
        let Domain::Differs { detail } = judged else {
            panic!("{judged:?}")
        };
        assert!(
            detail.contains(name) && detail.contains("\"USDC\""),
            "{detail}"
        );
    }
    let silent = judge_domain(&BASE_SEPOLIA, token, None, None, None);
    assert!(matches!(silent, Domain::Unknown { .. }), "{silent:?}");
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
