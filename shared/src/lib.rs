//! What the coordinator, the node agent and the client agree on, and nothing else.
//!
//! Layers, bottom up: [`id`], [`time`], [`money`], [`secret`] (values) · [`resources`], [`image`], [`container`]
//! (what is rented) · [`sign`], [`http_signature`], [`journal`] (evidence and identity) · [`wire`]
//! (the messages between agent and coordinator) · `x402` (payments) · `link` (streams), each behind the feature of its name.
//!
//! # Invariants
//! - No SQL, no web framework, and but for `link` no tokio: every item here is plain data or a pure function.
//! - Anything parsed from outside is bounded before it is believed.

pub mod clock;
pub mod container;
pub mod http_signature;
pub mod id;
pub mod image;
pub mod journal;
#[cfg(feature = "link")]
pub mod link;
pub mod money;
pub mod resources;
pub mod secret;
pub mod sign;
#[cfg(test)]
mod tests;
pub mod time;
pub mod tls;
pub mod wire;
#[cfg(feature = "x402")]
pub mod x402;

/// Version of the agent protocol; a coordinator refuses agents of another major version.
pub const PROTOCOL_VERSION: u32 = 1;
