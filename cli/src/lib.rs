//! The consumer's client of the market: `ramarket`.
//!
//! Top down: [`commands`] (what a person asks for) → [`payment`], [`wait`] (the two things that take time) → [`api`] (one
//! request, one answer) → [`local`], [`key_file`] (what is kept between commands, in [`private_file`]s) · [`args`],
//! [`units`], [`output`] (words in and out) · [`failure`].
//!
//! # Invariants
//! - Results go to stdout, everything else to stderr: output can be piped.
//! - Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, 5 not found, 6 payment required.

pub mod api;
pub mod args;
pub mod commands;
pub mod failure;
pub mod key_file;
pub mod local;
pub mod output;
pub mod payment;
pub mod private_file;
pub mod random;
pub mod units;
pub mod wait;
