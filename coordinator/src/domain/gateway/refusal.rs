//! What a node or a rental refused, as a problem for whoever asked.

use std::io;

use shared::link::open::{Opened, code};

use crate::error::{Error, Kind, Result};

/// The longest word of a node that is passed on, characters.
const DETAIL_CHARS_MAX: usize = 500;
/// After this a link that was cut is there again.
const AGAIN_AFTER_S: u64 = 5;

/// An answer that came over a link.
pub(super) fn unless_refused(opened: Opened) -> Result<()> {
    match opened {
        Opened::Ready {} => Ok(()),
        Opened::Refused { code, detail } => Err(refused(&code, &detail)),
    }
}

/// No answer came.
pub(super) fn not_opened(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::QuotaExceeded {
        return refused(
            code::TOO_MANY,
            "the rental's node has as many open streams as may be: try again",
        );
    }
    tracing::debug!(%error, "a stream wasn't opened");
    unreachable()
}

/// A refusal that came over a link: the code is one of [`code`], the detail anything.
fn refused(said: &str, detail: &str) -> Error {
    let detail: String = detail
        .chars()
        .filter(|c| !c.is_control())
        .take(DETAIL_CHARS_MAX)
        .collect();
    match said {
        code::UNKNOWN_RENTAL | code::NOT_RUNNING => Error::conflict("rental_not_running", detail),
        code::NOT_STARTED => Error::conflict("command_not_started", detail),
        code::NOT_CONNECTED => Error::conflict("port_not_open", detail),
        code::NOT_ALLOWED => Error::new(Kind::Forbidden, "address_not_allowed", detail),
        code::TOO_MANY => Error::new(
            Kind::TooMany { retry_after_s: 5 },
            "too_many_streams",
            detail,
        ),
        code::NOT_SUPPORTED => Error::conflict("stream_not_supported", detail),
        super::relay::NOT_LINKED => unreachable(),
        _ => Error::new(
            Kind::Unavailable { retry_after_s: 10 },
            "node_unavailable",
            detail,
        ),
    }
}

/// Nobody here has the node's link, or it doesn't answer.
pub(super) fn unreachable() -> Error {
    Error::new(
        Kind::Unavailable {
            retry_after_s: AGAIN_AFTER_S,
        },
        "node_unreachable",
        "the rental's node isn't connected at this moment: try again; the rental itself goes on",
    )
}
