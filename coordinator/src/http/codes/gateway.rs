//! The problem codes of reaching into a rental.

use super::Code;

/// What every stream into a rental may answer.
const STREAM: &[Code] = &[
    (409, "rental_not_running", "this rental has ended"),
    (
        409,
        "stream_not_supported",
        "this node's agent can't reach into rentals: its owner has to update it",
    ),
    (
        429,
        "too_many_streams",
        "this rental has as many open streams as may be: end one first",
    ),
    (
        503,
        "node_unreachable",
        "the rental's node isn't connected at this moment: try again; the rental itself goes on",
    ),
    (
        503,
        "node_unavailable",
        "the node can't reach into the rental at this moment: try again",
    ),
    (
        403,
        "account_disabled",
        "an administrator disabled the account that rents this: write to the operator of this market",
    ),
];
const TICKET: Code = (
    401,
    "ticket",
    "this ticket isn't known, was used, is older than 30 s or is for something else: ask for a new one",
);

/// What one operation answers besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    ("rental_logs", STREAM),
    (
        "rental_logs",
        &[
            TICKET,
            (
                400,
                "last_event_id",
                "Last-Event-ID is the id of an event of these logs",
            ),
        ],
    ),
    ("rental_metrics", STREAM),
    ("rental_exec", STREAM),
    (
        "rental_post_mortem",
        &[
            (
                409,
                "rental_not_over",
                "there is a post-mortem when the rental has ended: its logs, metrics and events can be read meanwhile",
            ),
            (
                429,
                "too_many_archives",
                "as many archives as may be are being made and sent: wait for yours to arrive, or try again",
            ),
            (
                503,
                "archive_unavailable",
                "the archive can't be written on our side: try again later; logs, metrics, events and receipts can be read one by one",
            ),
        ],
    ),
    (
        "rental_exec",
        &[
            TICKET,
            (
                400,
                "exec",
                "the first message is text: what to run, as JSON",
            ),
            (
                400,
                "stream_request_too_large",
                "what is asked for takes more than 64 KiB on its way to the node: send a long command as a file, or by its input",
            ),
            (
                409,
                "command_not_started",
                "python4: there is no such program",
            ),
        ],
    ),
    ("rental_port", STREAM),
    (
        "rental_port",
        &[
            TICKET,
            (409, "port_not_open", "nobody listens at port 8080"),
            (
                403,
                "address_not_allowed",
                "10.0.0.1 is neither the rental itself nor on the public internet",
            ),
        ],
    ),
    ("rental_files", STREAM),
    ("rental_files", &[TICKET]),
    (
        "open_port",
        &[
            (
                409,
                "no_web_endpoints",
                "this market gives rentals no host names: reach the port by a WebSocket, ramarket port-forward or SSH",
            ),
            (
                409,
                "too_many_ports",
                "32 ports of this rental are open to the web: close one first",
            ),
        ],
    ),
];
