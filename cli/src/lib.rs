//! The consumer's client of the market: `ramarket`.
//!
//! Top down: [`commands`] (what a person or a program asks for) → [`payment`], [`wait`], [`receipts`], [`reach`] (what takes time or
//! thought) → [`api`] (one request, one answer), [`sse`] → [`local`], [`key_file`], [`spending`] (what is kept between commands, in [`private_file`]s) ·
//! [`args`], [`config`], [`units`], [`output`], [`terminal`], [`signals`] (words in and out) · [`failure`].
//!
//! # Invariants
//! - Results go to stdout, everything else to stderr: output can be piped.
//! - Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, 5 not found, 6 payment required.

pub mod api;
pub mod args;
pub mod chain;
pub mod commands;
pub mod config;
pub mod failure;
pub mod key_file;
pub mod local;
pub mod output;
pub mod passphrase;
pub mod payment;
pub mod private_file;
pub mod progress;
pub mod random;
pub mod reach;
pub mod receipts;
pub mod signals;
pub mod spending;
pub mod sse;
pub mod terminal;
pub mod units;
pub mod wait;
