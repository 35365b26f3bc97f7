//! The privilege split: the agent faces the network and may do nothing; `ramarket-helper` may do everything on this machine and
//! answers nobody but the agent, over a unix socket, in a handful of typed verbs.
//!
//! # Invariants
//! - The helper takes nothing on trust: ids, limits, references and the scope are checked again (`guard`, `binding`), and a container is
//!   built from a typed rental by the helper's own code, never from a body that the agent sends.
//! - It answers root and the agent's user only, by what the kernel says of the peer (`server`).
//! - It holds no state that matters: the engine has the containers, so it may die at any instruction and be started again.
//! - Bytes of rentals don't go through it: a connection into a container that it has checked and made is handed to the agent (`handover`).
//! - Calls that change something are finished although the agent goes away; pulls and events end with their connection.

mod binding;
mod client;
mod guard;
mod handover;
mod limits;
pub mod program;
mod protocol;
mod server;
pub mod settings;
mod socket;

pub use self::{
    client::HelperRuntime,
    guard::{Engine, Room},
    server::{Engines, Helper, Peers},
};
