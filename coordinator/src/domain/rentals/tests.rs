//! Buying and renting through the router: payments under every kind of facilitator and crash, timers, and who sees what.

mod access;
mod currencies;
mod extensions;
mod foreign_balance;
mod formats;
mod jobs;
mod one_transaction;
mod payments;
mod spending;
mod terms;
mod topup;
