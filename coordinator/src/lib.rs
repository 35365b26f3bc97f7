//! The coordinator: the market between providers and consumers, as one binary over SQLite or PostgreSQL.
//!
//! Imports go down only: `main`, `cli`, `serve` → `app` → `router`, `tasks` → `domain/*/api` → `http` →
//! `domain/*` (services) → `domain/*/store` → `domain/*/model` → `store` → `shared`. `adapters` implement `domain/*/ports`
//! and are named only by `app`. `tests/it/tidy.rs` holds these rules.

pub mod adapters;
pub mod app;
pub mod audit_file;
pub mod books;
pub mod cli;
pub mod config;
pub mod context;
mod crash;
pub mod cron;
pub mod domain;
pub mod error;
pub mod http;
pub mod keys;
pub mod lifecycle;
pub mod limits;
pub mod outbound;
pub mod router;
pub mod serve;
pub mod ssh;
pub mod store;
pub mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod web;
