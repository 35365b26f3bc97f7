//! The problem codes: which one means what, and which operation answers with which beyond those that all share.

mod accounts;

/// A status, a code, and what a caller reads.
type Code = (u16, &'static str, &'static str);

/// Any operation may answer these.
const SHARED: [Code; 15] = [
    (
        400,
        "query",
        "the query string has a parameter that this operation doesn't know; it takes none",
    ),
    (
        400,
        "malformed_json",
        "the body isn't JSON: expected value at line 1 column 1",
    ),
    (
        401,
        "sign_in_required",
        "sign in first: POST /api/v1/auth/login",
    ),
    (
        401,
        "session_ended",
        "this session was signed out or has ended: sign in again",
    ),
    (403, "forbidden", "this needs the role provider"),
    (
        403,
        "csrf",
        "a cookie counts here only with the header X-Requested-With: ramarket",
    ),
    (
        404,
        "not_found",
        "there is no such resource, or it isn't yours",
    ),
    (
        408,
        "body_too_slow",
        "the body wasn't here within 30 s: send it again",
    ),
    (
        412,
        "changed_meanwhile",
        "it was changed since you read it: read it again, and edit that",
    ),
    (
        413,
        "body_too_large",
        "a body may have at most 1048576 bytes",
    ),
    (414, "url_too_long", "a URL may have at most 8192 bytes"),
    (
        415,
        "content_type",
        "send the body as JSON with the header content-type: application/json",
    ),
    (422, "invalid", "/duration_seconds: more than zero"),
    (
        429,
        "too_many_attempts",
        "too many attempts (the limit named login); try again in 12 s",
    ),
    (
        431,
        "headers_too_large",
        "a request may have at most 64 headers of together 16384 bytes",
    ),
];

/// And these, when something is wrong with us.
const OURS: [Code; 3] = [
    (
        500,
        "internal",
        "something failed on our side; it was logged",
    ),
    (
        503,
        "busy",
        "too much is going on at this moment; try again",
    ),
    (
        503,
        "timeout",
        "this took too long and was given up; look at the state of things before you try again",
    ),
];

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
const CAPACITY_GONE: Code = (
    409,
    "capacity_gone",
    "the node has less than that free now: choose another offer or a smaller size",
);
const CAPACITY_IN_USE: Code = (
    409,
    "capacity_in_use",
    "rentals hold more than that: wait for them to end, or stop them",
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
    ("create_quote", &[CAPACITY_GONE, NOT_SUPPORTED]),
    (
        "create_rental",
        &[
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            CAPACITY_GONE,
            QUOTE_EXPIRED,
            QUOTE_USED,
            PAYMENT_CONFLICT,
            PAYMENT_EXPIRED,
            NOT_SUPPORTED,
        ],
    ),
    (
        "extend_rental",
        &[
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            PAYMENT_CONFLICT,
            PAYMENT_EXPIRED,
        ],
    ),
    (
        "authorize_payment",
        &[
            CAPACITY_GONE,
            QUOTE_EXPIRED,
            QUOTE_USED,
            PAYMENT_CONFLICT,
            PAYMENT_EXPIRED,
            NOT_SUPPORTED,
        ],
    ),
    ("complete_payment", &[PAYMENT_EXPIRED]),
    (
        "top_up",
        &[
            KEY_MISSING,
            KEY_REUSED,
            KEY_IN_USE,
            (
                409,
                "sandbox_limit",
                "the sandbox fills a balance up to 100.000000: it holds 100.000000",
            ),
            (
                409,
                "sandbox_only",
                "this market takes real money and gives none away: pay each rental by x402",
            ),
        ],
    ),
    (
        "heartbeat",
        &[
            (
                401,
                "signature_invalid",
                "the signature's keyid isn't the node of the path",
            ),
            (
                401,
                "beacon_stale",
                "the beacon isn't of this coordinator's run, or is older than 60 s: use the one in `recover`",
            ),
            (
                409,
                "journal_beacon_unknown",
                "record 7 carries no beacon of ours",
            ),
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
pub(super) fn of(
    operation: &str,
    status: u16,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = OWN.iter().chain(accounts::OWN);
    let own = own.into_iter().find(|(name, _)| *name == operation);
    let own = own.map_or(&[][..], |(_, codes)| codes).iter();
    // 409 is shared by none: what has no line of its own can say that things moved on
    let any = (status == 409 && own.clone().all(|(own, ..)| *own != 409)).then_some(&CONFLICT);
    SHARED
        .iter()
        .chain(&OURS)
        .chain(own)
        .chain(any)
        .filter(move |(of, ..)| *of == status)
        .map(|(_, code, detail)| (*code, *detail))
}

const CONFLICT: Code = (409, "conflict", "the state of things doesn't allow it now");

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
