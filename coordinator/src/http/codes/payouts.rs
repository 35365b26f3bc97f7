//! The problem codes of money out.

use super::{Code, INSUFFICIENT, KEY_IN_USE, KEY_INVALID, KEY_MISSING, KEY_REUSED};

const NO_ADDRESS: Code = (
    409,
    "payout_address_missing",
    "no address holds for you yet: PUT /api/v1/payout-address, and wait until it takes effect",
);
const DAILY: Code = (
    409,
    "payout_daily_limit",
    "at most 10000.000000 a day leaves one account: ask for less, or tomorrow",
);
const STATE: Code = (
    409,
    "payout_state",
    "this payout is paid: it is too late, or too early, for that",
);
const IDENTITY: Code = (
    403,
    "kyc_required",
    "this market wants your identity proven first: POST /api/v1/kyc",
);
const CHANGED: Code = (
    409,
    "changed_meanwhile",
    "the address was changed in between: look again",
);
const HALTED: Code = (
    503,
    "ledger_halted",
    "the books are being looked into: new rentals, extensions, top-ups and payouts wait; what runs goes on and can be read and stopped",
);
const ASKING: [Code; 9] = [
    HALTED,
    KEY_MISSING,
    KEY_INVALID,
    KEY_REUSED,
    KEY_IN_USE,
    IDENTITY,
    INSUFFICIENT,
    NO_ADDRESS,
    DAILY,
];

/// What one operation answers besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    ("create_payout", &ASKING),
    ("withdraw", &ASKING),
    ("put_payout_address", &[CHANGED]),
    ("keep_payout_address", &[CHANGED]),
    (
        "approve_payout",
        &[
            STATE,
            (
                409,
                "payout_approved",
                "you let it go before: another administrator must, too",
            ),
        ],
    ),
    ("reject_payout", &[STATE]),
    ("resolve_payout", &[STATE]),
];
