//! The problem codes of reaching into a rental.

use super::Code;

const NOT_RUNNING: Code = (409, "rental_not_running", "this rental has ended");
const NOT_SUPPORTED: Code = (
    409,
    "stream_not_supported",
    "this node's agent can't reach into rentals: its owner has to update it",
);
const TOO_MANY: Code = (
    429,
    "too_many_streams",
    "this rental has as many open streams as may be: end one first",
);
const UNREACHABLE: Code = (
    503,
    "node_unreachable",
    "the rental's node isn't connected at this moment: try again; the rental itself goes on",
);
const UNAVAILABLE: Code = (
    503,
    "node_unavailable",
    "the node can't reach into the rental at this moment: try again",
);
const TICKET: Code = (
    401,
    "ticket",
    "this ticket isn't known, was used, is older than 30 s or is for something else: ask for a new one",
);

/// What one operation answers besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    (
        "rental_logs",
        &[
            NOT_RUNNING,
            NOT_SUPPORTED,
            TOO_MANY,
            UNREACHABLE,
            UNAVAILABLE,
            TICKET,
            (
                400,
                "last_event_id",
                "Last-Event-ID is the id of an event of these logs",
            ),
        ],
    ),
    (
        "rental_metrics",
        &[
            NOT_RUNNING,
            NOT_SUPPORTED,
            TOO_MANY,
            UNREACHABLE,
            UNAVAILABLE,
        ],
    ),
    (
        "rental_exec",
        &[
            NOT_RUNNING,
            NOT_SUPPORTED,
            TOO_MANY,
            UNREACHABLE,
            UNAVAILABLE,
            TICKET,
            (
                400,
                "exec",
                "the first message is text: what to run, as JSON",
            ),
            (
                409,
                "command_not_started",
                "python4: there is no such program",
            ),
        ],
    ),
    (
        "rental_port",
        &[
            NOT_RUNNING,
            NOT_SUPPORTED,
            TOO_MANY,
            UNREACHABLE,
            UNAVAILABLE,
            TICKET,
            (409, "port_not_open", "nobody listens at port 8080"),
            (
                403,
                "address_not_allowed",
                "10.0.0.1 is neither the rental itself nor on the public internet",
            ),
        ],
    ),
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
    (
        "rental_files",
        &[
            NOT_RUNNING,
            NOT_SUPPORTED,
            TOO_MANY,
            UNREACHABLE,
            UNAVAILABLE,
            TICKET,
        ],
    ),
];
