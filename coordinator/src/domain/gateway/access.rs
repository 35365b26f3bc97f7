//! Who may reach into a rental: whoever rents it, and nobody else. Its provider has the machine, administrators have the market, and
//! neither gets in here.
//!
//! # Invariants
//! - Opening a program, files or a port is recorded with who, when and from where; never what went through.

use serde_json::json;
use shared::id::RentalId;

use super::super::{
    audit::{self, Entry},
    rentals::{self, model::Rental},
};
use crate::{
    context::{Actor, OpCtx, sign_in_required},
    error::{Error, Result},
    store::Tx,
};

/// What of a rental is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A program in it.
    Exec,
    /// What it wrote.
    Logs,
    /// Its files.
    Files,
    /// A port of it.
    Port(u16),
}

impl Verb {
    /// Its name in tickets and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Logs => "logs",
            Self::Files => "files",
            Self::Port(_) => "port",
        }
    }

    /// The port, where it is one.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(port),
            Self::Exec | Self::Logs | Self::Files => None,
        }
    }

    /// The verb of a name and a port.
    #[must_use]
    pub fn of(name: &str, port: Option<u16>) -> Option<Self> {
        Some(match (name, port) {
            ("exec", None) => Self::Exec,
            ("logs", None) => Self::Logs,
            ("files", None) => Self::Files,
            ("port", Some(port)) if port > 0 => Self::Port(port),
            _ => return None,
        })
    }
}

/// A rental that the caller may reach into: by the account or the wallet that rents it, or by its token.
///
/// # Errors
/// 401 for nobody, 404 for anybody else, administrators too.
pub fn reachable(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId) -> Result<Rental> {
    match &ctx.actor {
        Actor::Anonymous => Err(sign_in_required()),
        Actor::RentalToken(token) if *token == rental => rentals::find(tx, rental),
        Actor::RentalToken(_) => Err(Error::not_found("rental")),
        _ => rentals::get_as_renter(tx, ctx, rental),
    }
}

/// Records that somebody is about to reach into a rental; `way` is how, such as `websocket` or `ssh`.
///
/// # Errors
/// The database's.
pub fn note(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId, verb: Verb, way: &str) -> Result<()> {
    let state = json!({"verb": verb.name(), "port": verb.port(), "way": way});
    audit::record(tx, ctx, Entry::of("rental.reached", rental).after(state))
}
