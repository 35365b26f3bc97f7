//! The slices of the market, in order; a slice may call only those above it:
//! `events` → `auth` → `ledger` → `nodes` → `offers` → `payments` → `rentals` → `metering` → `settlement` → `agentlink`.

pub mod payments;
