//! What the system tests share: the real programs as processes ([`market`], [`node`], both on a [`stage`]), those who
//! use them ([`people`], [`payer`], [`stock_client`]), and how to look at what came of it ([`containers`], [`books`]).
//!
//! # Invariants
//! - Everything that is started ends when its value is dropped, and says its last words when the test failed.
//! - Only [`wait`] sleeps, and only until a condition holds.
//! - Whatever goes wrong here panics: a test can't go on without it.

pub mod api;
pub mod authenticator;
pub mod authority;
pub mod books;
pub mod browser;
pub mod chain;
pub mod client;
pub mod containers;
pub mod events;
pub mod home;
pub mod machine;
pub mod mail_server;
pub mod market;
pub mod memory;
pub mod nat;
pub mod netns;
pub mod node;
pub mod npm;
pub mod oidc_issuer;
pub mod payer;
pub mod people;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod ssh_client;
pub mod stage;
pub mod stock_client;
pub mod wait;
pub mod webhook_receiver;

/// Bytes of a mebibyte.
pub const MIB: i64 = 1 << 20;
/// Bytes of a gibibyte.
pub const GIB: i64 = 1 << 30;
