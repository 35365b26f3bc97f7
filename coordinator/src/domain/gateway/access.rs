//! Who may reach into a rental: whoever rents it, and nobody else. Its provider has the machine, administrators have the market, and
//! neither gets in here.
//!
//! # Invariants
//! - Opening a program, files or a port is recorded with who, when and from where; never what went through. A connection that carries many
//!   streams (SSH) has one entry for each of those that it opens.

use serde_json::json;
use shared::{id::RentalId, link::open::Open};

use super::super::{
    audit::{self, Entry},
    auth,
    rentals::{
        self,
        model::{Rental, State},
    },
};
use crate::{
    context::{Actor, OpCtx, sign_in_required},
    error::{Error, Kind, Result},
    store::Tx,
};

/// What of a rental is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// What a stream reaches; `None` for what isn't a rental's.
    #[must_use]
    pub const fn of_stream(open: &Open) -> Option<Self> {
        match open {
            Open::Control {} => None,
            Open::Exec { .. } => Some(Self::Exec),
            Open::Logs { .. } | Open::Metrics { .. } => Some(Self::Logs),
            Open::Sftp { .. } => Some(Self::Files),
            Open::Dial { port, .. } => Some(Self::Port(*port)),
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

/// A rental, unless who rents it has had their account disabled: then nobody reaches into it, by whatever token or key.
///
/// # Errors
/// 404 without it, 403 for a disabled account.
pub fn find_open(tx: &mut dyn Tx, rental: RentalId) -> Result<Rental> {
    let found = rentals::find(tx, rental)?;
    if let Some(consumer) = found.consumer
        && auth::account(tx, consumer)?.disabled.is_some()
    {
        return Err(Error::new(
            Kind::Forbidden,
            "account_disabled",
            "an administrator disabled the account that rents this: write to the operator of this market",
        ));
    }
    Ok(found)
}

/// Whether streams into a rental may go on: it isn't over, and its account isn't disabled.
///
/// # Errors
/// The database's.
pub fn may_go_on(tx: &mut dyn Tx, rental: RentalId) -> Result<bool> {
    match find_open(tx, rental) {
        Ok(found) => Ok(found.state != State::Ended),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Forbidden) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How a rental is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a WebSocket.
    WebSocket,
    /// By SSH, with the key of this fingerprint.
    Ssh(String),
}

/// Records that somebody is about to reach into a rental.
///
/// # Errors
/// The database's.
pub fn note(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId, verb: Verb, way: &Way) -> Result<()> {
    let (name, port) = (verb.name(), verb.port());
    let state = match way {
        Way::WebSocket => json!({"verb": name, "port": port, "way": "websocket"}),
        Way::Ssh(key) => json!({"verb": name, "port": port, "way": "ssh", "fingerprint": key}),
    };
    audit::record(tx, ctx, Entry::of("rental.reached", rental).after(state))
}
