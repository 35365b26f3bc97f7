//! The problem codes of running a market: machines, keys of programs, webhooks, providers elsewhere, administration.

use shared::wire::problem::agent_codes;

use super::Code;

const OIDC_UNAVAILABLE: Code = (
    503,
    "oidc_unavailable",
    "the provider doesn't answer as it should: try again, or sign in another way",
);
const NODE_RETIRED: Code = (
    409,
    "node_retired",
    "its owner retired this node: its key is void already",
);
const NOT_SENT: Code = (
    409,
    "webhook_not_active",
    "nothing is sent to this webhook now: PATCH it with {\"state\": \"active\"} first",
);
const NO_RATE: Code = (
    409,
    "no_exchange_rate",
    "no rate is known now for paying in EURC what is priced in USDC: pay in USDC, or try again later",
);
const HALTED: Code = (
    503,
    "ledger_halted",
    "the books are being looked into: new rentals, extensions, top-ups and payouts wait; what runs goes on and can be read and stopped",
);

/// What an agent hears that isn't believed.
const DISBELIEVED: [Code; 9] = [
    (
        401,
        agent_codes::SIGNATURE_MALFORMED,
        "the signature headers can't be read",
    ),
    (
        401,
        agent_codes::SIGNATURE_INVALID,
        "the signature's keyid isn't the node of the path",
    ),
    (
        401,
        agent_codes::SIGNATURE_STALE,
        "the signature was made too long ago, or in the future: set the clock",
    ),
    (
        401,
        agent_codes::DIGEST_MISMATCH,
        "the body isn't what was signed",
    ),
    (
        401,
        agent_codes::NODE_UNKNOWN,
        "no node with this id is enrolled here",
    ),
    (
        401,
        agent_codes::NODE_BANNED,
        "an administrator threw this node out",
    ),
    (
        401,
        agent_codes::NODE_REVOKED,
        "this node was retired by its owner: enrol anew",
    ),
    (
        401,
        agent_codes::BEACON_STALE,
        "the beacon isn't of this coordinator's run, or is older than 60 s: use the one in `recover`",
    ),
    (
        401,
        agent_codes::KEY_IN_USE_TWICE,
        "another process beats with this key: stop one of them",
    ),
];

/// What one operation answers besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    ("create_quote", &[HALTED]),
    ("authorize_payment", &[HALTED]),
    ("create_rental", &[HALTED, NO_RATE]),
    ("extend_rental", &[HALTED, NO_RATE]),
    ("top_up", &[HALTED]),
    (
        "resume_ledger",
        &[
            (
                409,
                "books_broken",
                "I3 still doesn't hold (each stored balance is the sum of its transfers): mend it first, \
                 GET /admin/ledger/check shows all of it",
            ),
            (
                409,
                "changed_meanwhile",
                "the halt isn't any more the one that was checked: look again",
            ),
        ],
    ),
    (
        "signup",
        &[(
            403,
            "signups_closed",
            "no new accounts are opened at the moment; renting by x402 needs none",
        )],
    ),
    ("oidc_start", &[OIDC_UNAVAILABLE]),
    (
        "oidc_callback",
        &[
            OIDC_UNAVAILABLE,
            (
                409,
                "oidc_at_once",
                "another request opened this account in this moment: sign in again",
            ),
        ],
    ),
    ("link_identity", &[OIDC_UNAVAILABLE]),
    (
        "unlink_identity",
        &[(
            409,
            "last_way_in",
            "without this identity nobody could sign in to the account: set a password or link another first",
        )],
    ),
    (
        "create_api_key",
        &[(
            409,
            "too_many_keys",
            "an account has at most 50 keys: end one that isn't used",
        )],
    ),
    (
        "create_ssh_key",
        &[
            (
                409,
                "too_many_ssh_keys",
                "an account has at most 50 SSH keys: remove one that isn't used",
            ),
            (409, "ssh_key_exists", "your account has this key already"),
        ],
    ),
    (
        "get_ssh_gateway",
        &[(404, "ssh_not_offered", "this market has no SSH gateway")],
    ),
    (
        "create_enrollment_token",
        &[(
            409,
            "too_many_tokens",
            "100 tokens wait to be used: use them, or wait until they expire",
        )],
    ),
    (
        "enroll_node",
        &[
            (
                401,
                "enroll_token_invalid",
                "unknown, used or expired token: ask for a new one",
            ),
            (
                401,
                "enroll_proof_invalid",
                "the proof isn't a signature by this key",
            ),
            (
                409,
                "key_already_enrolled",
                "this key is another node's: make a new one",
            ),
        ],
    ),
    ("heartbeat", &DISBELIEVED),
    (
        "heartbeat",
        &[
            (
                401,
                agent_codes::BEAT_REPLAYED,
                "this beat, or a later one, was accepted before",
            ),
            (
                409,
                agent_codes::JOURNAL_FORKED,
                "two different records have the number 7",
            ),
            (
                409,
                agent_codes::JOURNAL_GAP,
                "record 7 is missing before record 9",
            ),
            (
                409,
                "journal_beacon_unknown",
                "record 7 carries no beacon of ours",
            ),
        ],
    ),
    ("node_link", &DISBELIEVED),
    (
        "node_link",
        &[(
            400,
            "link_version",
            "links are of the subprotocol ramarket-link-2: update the agent; until then it goes on by beats alone",
        )],
    ),
    ("ban_node", &[NODE_RETIRED]),
    (
        "create_webhook",
        &[(
            409,
            "too_many_webhooks",
            "you have 20 webhooks, the most that are allowed: delete one first",
        )],
    ),
    (
        "rotate_webhook_secret",
        &[(
            409,
            "too_many_secrets",
            "5 secrets sign already: wait until one ends, or let the old one end at once",
        )],
    ),
    ("test_webhook", &[NOT_SENT]),
    ("replay_webhook_delivery", &[NOT_SENT]),
    (
        "change_roles",
        &[(
            409,
            "own_role",
            "nobody takes their own role of administrator away: another administrator must",
        )],
    ),
    (
        "disable_user",
        &[(
            409,
            "own_account",
            "nobody disables their own account: another administrator must",
        )],
    ),
    (
        "run_metering",
        &[(
            503,
            "task_unavailable",
            "the task settlement doesn't run here, or too many ask for it; try again",
        )],
    ),
];
