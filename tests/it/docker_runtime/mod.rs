//! The reconciler on a real Docker engine: limits in force, ends and their causes, restarts of agent and engine, pulls.
//!
//! # Invariants
//! - Each test has its own node label and removes every container that carries it; an engine may serve others at the same time.
//! - The engine that others use is never stopped: what kills an engine starts one of its own.

mod cache;
mod disks;
mod ends;
pub(crate) mod engine;
mod gpus;
mod latency;
mod limits;
mod networks;
mod node;
mod pulls;
mod restarts;
mod within;
