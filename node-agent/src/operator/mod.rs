//! The person in front of the machine: what they ask of the running agent over a socket of its own, and what they want of the market.
//!
//! [`orders`] keeps what the market hasn't answered for, [`protocol`] is what goes over the socket, [`socket`] the agent's side of it,
//! [`client`] that of the command line, [`commands`] what there is to ask, [`words`] how it is shown.
//!
//! # Invariants
//! - Only root and the agent's own user are heard, by what the kernel says of the peer.
//! - An order is on disk before it is acknowledged, and stays until the market says what became of it.

pub mod client;
pub mod commands;
pub mod orders;
pub mod protocol;
pub mod socket;
pub mod units;
pub mod words;

#[cfg(test)]
mod tests;
