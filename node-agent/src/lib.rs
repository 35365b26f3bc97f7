//! The node agent as two pipelines: *measure → journal → sign → send* going up, *desired → plan → apply* coming down.
//!
//! `report` owns the beat: it samples (`measure`), appends to the `journal`, sends, and hands the reply to `reconcile`.
//! `reconcile` owns the containers: it compares the desired state on disk with Docker (`runtime`) and publishes what it sees
//! as [`rental::LiveRental`]s on a watch channel, which `report` reads. `boundary` puts Docker into a process of root's own.
//!
//! `inside` is a program of its own that runs within rentals and serves streams there; `streams` carries them from the `link` to it.

pub mod boot;
mod both_ways;
pub mod boundary;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod desired;
pub mod doctor;
mod durable;
pub mod endpoint;
pub mod enroll;
pub mod http;
pub mod identity;
pub mod inside;
pub mod journal;
pub mod kept;
pub mod lease;
pub mod lifecycle;
pub mod link;
mod logging;
#[cfg(test)]
#[path = "../../shared/src/tests/mangled.rs"]
pub(crate) mod mangled;
mod manual;
pub mod measure;
pub mod operator;
pub mod probe;
pub mod reconcile;
pub mod rental;
pub mod report;
pub mod runtime;
pub mod sealed_file;
pub mod status;
pub mod streams;
mod systemd;
mod written;

#[cfg(test)]
mod testing;
