//! The program `ramarket` as a process, against a stub of the market that checks payments for real.

#![expect(clippy::unwrap_used, reason = "tests panic when something is wrong")]

mod accounts;
mod journeys;
mod program;
mod resumed;
mod streams;
mod stub;
mod terminals;
mod wallets;
