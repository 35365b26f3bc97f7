//! The market's books: do they add up?

use serde_json::Value;
use shared::money::Amount;

use crate::market::Market;

/// Runs `ramarket-coordinator ledger check`, also while the market runs.
///
/// # Panics
/// If an invariant doesn't hold.
pub fn check(market: &Market) {
    let checked = market.run(&["ledger", "check"]);
    assert!(
        checked.status.success(),
        "the books don't add up:\n{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}

/// Atomic units of `{"amount": "1.5", "currency": "USDC"}`.
///
/// # Panics
/// If it isn't an amount.
#[must_use]
#[track_caller]
pub fn atomic(money: &Value) -> i64 {
    let text = money["amount"].as_str();
    let amount: Amount = text
        .unwrap_or_else(|| panic!("not an amount: {money}"))
        .parse()
        .expect("an amount");
    amount.atomic()
}

/// Asserts that a settled split adds up: paid = provider + fee + refund, and nothing is held any more.
///
/// # Panics
/// If it doesn't.
#[track_caller]
pub fn adds_up(split: &Value) {
    assert_eq!(split["settled"], true, "{split}");
    let of = |name: &str| atomic(&split[name]);
    assert_eq!(
        of("paid"),
        of("provider") + of("platform_fee") + of("refund"),
        "{split}"
    );
    assert_eq!(of("escrow"), 0, "{split}");
}
