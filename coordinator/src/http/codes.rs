//! The problem codes: which one means what, and which operation answers with which beyond those that all share.

mod accounts;
mod gateway;
mod images;
mod nodes;
mod payouts;
mod requests;
mod running;
#[cfg(test)]
mod tests;

use self::{
    nodes::{
        CAPACITY_GONE, CAPACITY_IN_USE, MAINTENANCE, NODE_CORDONED, NODE_DRAINING,
        NODE_NOT_ISOLATED,
    },
    requests::{CONFLICT, OURS, SHARED},
};

/// A status, a code, and what a caller reads.
type Code = (u16, &'static str, &'static str);

const KEY_MISSING: Code = (
    400,
    "idempotency_key_missing",
    "send an Idempotency-Key header: any text that is new for a new order",
);
const KEY_REUSED: Code = (
    422,
    "idempotency_key_reused",
    "this Idempotency-Key was used for another request: use a new one",
);
const KEY_IN_USE: Code = (
    409,
    "idempotency_key_in_use",
    "a request with this key is running: repeat it in a moment",
);
const NOT_SUPPORTED: Code = (
    422,
    "not_supported",
    "/ports: ports can't be opened yet: leave it out",
);
const QUOTE_EXPIRED: Code = (
    409,
    "quote_expired",
    "this quote is too old: ask for a new one",
);
const QUOTE_USED: Code = (
    409,
    "quote_used",
    "this quote was paid before: ask for a new one",
);
const PAYMENT_CONFLICT: Code = (
    409,
    "payment_conflict",
    "payer and nonce were used for another payment: sign anew",
);
const PAYMENT_EXPIRED: Code = (
    409,
    "payment_expired",
    "this payment was never settled: order again and sign anew",
);
const NAME_INVALID: Code = (
    400,
    "payment_identifier_invalid",
    "the payment-identifier's id has 16 to 128 characters of A-Z, a-z, 0-9, - and _",
);
const NAME_REUSED: Code = (
    409,
    "payment_identifier_reused",
    "this payment-identifier stands for another payment: use a new one",
);
const OFFER_GONE: Code = (
    409,
    "offer_gone",
    "this offer is off the market: choose another one",
);
const KEY_INVALID: Code = (
    400,
    "idempotency_key_invalid",
    "at most 128 printable characters without spaces",
);
const INSUFFICIENT: Code = (
    409,
    "insufficient_funds",
    "the balance doesn't suffice: top it up, or pay by x402",
);
const NOT_ACTIVE: Code = (
    409,
    "rental_not_active",
    "only a rental that runs or is about to can be extended",
);
const PAYMENT_REJECTED: Code = (409, "payment_rejected", "the payment was refused: refused");
const PAYMENT_RUNS: Code = (
    409,
    "payment_in_progress",
    "it is being paid: wait for the payment to end",
);
const AMOUNT: Code = (
    422,
    "amount_out_of_range",
    "the amount is larger than the market can count",
);
const CHANGED: Code = (
    409,
    "changed_meanwhile",
    "somebody changed this offer in between: read it again",
);

const RANGE: Code = (
    400,
    "range",
    "ask for 1 to 1000 steps: from must be before to, and near enough for the step",
);

const FORMAT: Code = (400, "format", "format is json or csv");
const MONTH: Code = (
    400,
    "month",
    "write a month such as 2026-11, from 2020-01 to 2999-12",
);
const DISPUTE_DECIDED: Code = (
    409,
    "dispute_decided",
    "this dispute is decided: the decision is final",
);

/// What one operation answers besides.
const OWN: &[(&str, &[Code])] = &[
    (
        "create_offer",
        &[
            (
                403,
                "kyc_required",
                "this market wants your identity proven first: POST /api/v1/kyc",
            ),
            (
                409,
                "too_many_offers",
                "a node has at most 16 offers: delete one first",
            ),
        ],
    ),
    ("provider_analytics", &[RANGE]),
    ("consumer_analytics", &[RANGE]),
    ("market_analytics", &[RANGE]),
    ("change_offer", &[CHANGED]),
    ("delete_offer", &[CHANGED]),
    ("change_node", &[CAPACITY_IN_USE]),
    ("retire_node", &[CAPACITY_IN_USE]),
    (
        "create_quote",
        &[
            CAPACITY_GONE,
            NODE_NOT_ISOLATED,
            NODE_CORDONED,
            MAINTENANCE,
            NODE_DRAINING,
            OFFER_GONE,
            AMOUNT,
            NOT_SUPPORTED,
        ],
    ),
    ("stop_rental", &[PAYMENT_RUNS]),
    ("delete_rental", &[PAYMENT_RUNS]),
    (
        "refund",
        &[
            PAYMENT_RUNS,
            KEY_MISSING,
            KEY_INVALID,
            KEY_REUSED,
            KEY_IN_USE,
        ],
    ),
    ("get_invoice", &[FORMAT]),
    (
        "rental_invoice",
        &[
            FORMAT,
            (
                409,
                "invoice_not_issued",
                "an invoice is issued when the rental is over and its money is split: try again then",
            ),
        ],
    ),
    ("get_statement", &[FORMAT, MONTH]),
    ("statement_transfers", &[MONTH]),
    (
        "report_rental",
        &[
            DISPUTE_DECIDED,
            PAYMENT_RUNS,
            (
                409,
                "rental_not_paid",
                "this rental was never paid: there is nothing to dispute",
            ),
            (
                409,
                "dispute_window_over",
                "it ended too long ago: what it earned is its provider's",
            ),
        ],
    ),
    (
        "add_dispute_evidence",
        &[
            DISPUTE_DECIDED,
            (
                409,
                "too_many_statements",
                "each party adds at most 20 statements: wait for the decision",
            ),
        ],
    ),
    (
        "decide_dispute",
        &[
            DISPUTE_DECIDED,
            (
                409,
                "dispute_not_settled",
                "the rental is still being stopped and billed: decide once it is settled",
            ),
            (
                409,
                "dispute_uncovered",
                "the provider has 1.000000 of it left and the platform's fees hold 2.000000: give back less, or wait for more fees",
            ),
        ],
    ),
    (
        "create_rental",
        &[
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            KEY_INVALID,
            OFFER_GONE,
            INSUFFICIENT,
            PAYMENT_REJECTED,
            AMOUNT,
            CAPACITY_GONE,
            NODE_NOT_ISOLATED,
            NODE_CORDONED,
            MAINTENANCE,
            NODE_DRAINING,
            QUOTE_EXPIRED,
            QUOTE_USED,
            PAYMENT_CONFLICT,
            NAME_INVALID,
            NAME_REUSED,
            PAYMENT_EXPIRED,
            NOT_SUPPORTED,
        ],
    ),
    (
        "extend_rental",
        &[
            MAINTENANCE,
            NODE_DRAINING,
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            KEY_INVALID,
            NOT_ACTIVE,
            INSUFFICIENT,
            PAYMENT_REJECTED,
            AMOUNT,
            PAYMENT_CONFLICT,
            NAME_INVALID,
            NAME_REUSED,
            PAYMENT_EXPIRED,
        ],
    ),
    (
        "authorize_payment",
        &[
            OFFER_GONE,
            PAYMENT_REJECTED,
            AMOUNT,
            CAPACITY_GONE,
            NODE_NOT_ISOLATED,
            NODE_CORDONED,
            MAINTENANCE,
            NODE_DRAINING,
            QUOTE_EXPIRED,
            QUOTE_USED,
            PAYMENT_CONFLICT,
            NAME_INVALID,
            NAME_REUSED,
            PAYMENT_EXPIRED,
            NOT_SUPPORTED,
        ],
    ),
    ("complete_payment", &[PAYMENT_EXPIRED, PAYMENT_REJECTED]),
    (
        "top_up",
        &[
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            KEY_INVALID,
            (
                409,
                "sandbox_limit",
                "the sandbox fills a balance up to 100.000000: it holds 100.000000",
            ),
            (
                409,
                "sandbox_only",
                "this market takes real money and gives none away: leave `source` out and pay by x402",
            ),
            PAYMENT_REJECTED,
            PAYMENT_CONFLICT,
            NAME_INVALID,
            NAME_REUSED,
            PAYMENT_EXPIRED,
            AMOUNT,
        ],
    ),
    (
        "follow_events",
        &[
            (
                400,
                "last_event_id",
                "Last-Event-ID is the id of an event, a number",
            ),
            (
                503,
                "too_many_streams",
                "too many streams are open; try again",
            ),
        ],
    ),
];

/// The codes that `operation` answers with `status`, each with an example of its words.
pub(crate) fn of(
    operation: &str,
    status: u16,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = all_own().filter(move |(name, _)| *name == operation);
    let own = own.flat_map(|(_, codes)| codes.iter());
    // 409 is shared by none: what has no line of its own can say that things moved on
    let any = (status == 409 && own.clone().all(|(own, ..)| *own != 409)).then_some(&CONFLICT);
    SHARED
        .iter()
        .chain(OURS)
        .chain(own)
        .chain(any)
        .filter(move |(of, ..)| *of == status)
        .map(|(_, code, detail)| (*code, *detail))
}

/// What each operation answers besides, by area; one may be in several.
fn all_own() -> impl Iterator<Item = &'static (&'static str, &'static [Code])> + Clone {
    OWN.iter()
        .chain(accounts::OWN)
        .chain(gateway::OWN)
        .chain(images::OWN)
        .chain(payouts::OWN)
        .chain(running::OWN)
}

/// The title of a status.
pub(super) const fn title(status: u16) -> &'static str {
    match status {
        400 => "The request can't be understood",
        401 => "Valid credentials are needed",
        403 => "Not allowed",
        404 => "Not found",
        408 => "The request didn't arrive in time",
        409 => "The state of things doesn't allow it now",
        412 => "It was changed in between",
        413 => "The request is too large",
        414 => "The URL is too long",
        415 => "This type of body isn't understood",
        422 => "A value is out of bounds",
        429 => "Too many requests",
        431 => "The headers are too many or too long",
        503 => "Not available at the moment",
        _ => "Something failed on our side",
    }
}
