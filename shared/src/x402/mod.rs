//! x402 payments by `exact` on EVM chains (EIP-3009): wire types of both protocol versions, EIP-712 signing and the checks
//! that a payee makes itself.
//!
//! Bottom up: [`address`], [`eip712`], [`signature`] (Ethereum's part) · [`network`] (where which token lives) ·
//! [`authorization`] (what a payer signs) · [`wire_v1`], [`wire_v2`], [`header`] (the wire) · [`terms`] (what we ask) ·
//! [`payment`] (what a client presents) · [`exact`] (does it satisfy the terms?) · [`client`] (how one pays) ·
//! [`sign_in`] (a wallet comes back).
//!
//! # Invariants
//! - Lenient in reading (unknown fields and nulls pass, codes are opaque strings), strict in what is sent.
//! - Presented values are compared as values, never as bytes: the order of keys differs from client to client.
//! - Nothing here reads a clock, a file or a random source.

pub mod address;
pub mod authorization;
pub mod client;
pub mod eip712;
pub mod exact;
pub mod header;
pub mod network;
pub mod outgoing;
pub mod payment;
pub mod sign_in;
pub mod signature;
pub mod terms;
pub mod wire_v1;
pub mod wire_v2;

/// The only scheme that is offered and accepted.
pub const SCHEME_EXACT: &str = "exact";

#[cfg(test)]
mod tests;
