//! Streams between a coordinator and what runs on a node: many over one connection, each with its own flow control (yamux).
//!
//! Coordinator —(WebSocket that the agent dialled)— agent —(standard input and output of a program in the container)— rental.
//! Both hops are a [`session`]; on both a stream begins with an [`open::Open`] and its answer.
//!
//! # Invariants
//! - A session's memory is bounded by [`session::STREAMS_MAX`] windows; a reader that never reads stops its own stream only.
//! - What opens a stream is bounded before it is read, and answered before anything else flows.
//! - This module is the only one of the crate that does input and output; it needs the feature `link`.

pub mod address;
pub mod alive;
pub mod frame;
pub mod lines;
pub mod open;
pub mod session;
pub mod socket;

/// The WebSocket subprotocol of a link between an agent and a coordinator.
pub const SUBPROTOCOL: &str = "ramarket-link-2";
/// The coordinator asks so often whether the agent is there.
pub const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// A link on which nothing is heard for so long is dead.
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(25);
