//! Messages between agent and coordinator. JSON; unknown fields are ignored by the older side only inside
//! `inventory` and `load`, and refused everywhere else.
//!
//! # Invariants
//! - Level-triggered both ways: a beat is the whole truth of the node, its reply the whole wish of the market.
//!   A lost message never matters.

pub mod desired;
pub mod enroll;
pub mod heartbeat;
pub mod observed;
pub mod operator;
pub mod problem;

/// Largest body of a heartbeat: a backlog is sent in parts of at most [`BACKLOG_BYTES_MAX`].
pub const HEARTBEAT_BYTES_MAX: usize = 1024 * 1024;
/// Usage records of one beat, as JSON, oldest first.
pub const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Rentals that one node may hold.
pub const RENTALS_PER_NODE_MAX: usize = 256;
/// How far a signature's `created` may be from the coordinator's clock, seconds.
pub const CREATED_SKEW_S_MAX: i64 = 60;
