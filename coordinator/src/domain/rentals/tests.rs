//! Buying and renting through the router: payments under every kind of facilitator and crash, timers, and who sees what.

mod access;
mod currencies;
mod facilitator;
mod jobs;
mod payments;
mod terms;
mod topup;
