//! Web endpoints: ports of rentals that browsers reach under a host name of their own.
//!
//! # Invariants
//! - A port is reached by the web only after who rents it said so; a private one, only with its token.
//! - A token is derived, not kept, and a change of the port's row voids it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::hmac;
use serde_json::json;
use shared::{id::RentalId, secret::Secret};

use super::{
    super::audit::{self, Entry},
    access, store,
};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    keys::TokenSecret,
    store::Tx,
};

/// How every token starts.
pub const PREFIX: &str = "rmp_";
const DOMAIN: &str = "ramarket-port-token-v1";
/// Ports of one rental that the web may reach.
const PORTS_MAX: usize = 32;

/// A port that the web reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebPort {
    /// Of which rental.
    pub rental: RentalId,
    /// Which.
    pub port: u16,
    /// Whether without a token.
    pub public: bool,
    /// Grows with each change.
    pub version: i64,
}

/// Makes and checks the tokens of private ports.
#[derive(Debug)]
pub struct PortTokens {
    key: hmac::Key,
}

impl PortTokens {
    /// From the coordinators' secret.
    #[must_use]
    pub fn new(secret: &TokenSecret) -> Self {
        Self {
            key: secret.key(DOMAIN),
        }
    }

    /// The token of a port.
    #[must_use]
    pub fn mint(&self, port: &WebPort) -> Secret<String> {
        let mac = hmac::sign(&self.key, message(port).as_bytes());
        Secret::new(format!("{PREFIX}{}", BASE64URL.encode(mac)))
    }

    /// Whether `token` opens the port now.
    #[must_use]
    pub fn opens(&self, port: &WebPort, token: &str) -> bool {
        let mac = token.strip_prefix(PREFIX).map(|mac| BASE64URL.decode(mac));
        let Some(Ok(mac)) = mac else { return false };
        hmac::verify(&self.key, message(port).as_bytes(), &mac).is_ok()
    }
}

fn message(port: &WebPort) -> String {
    format!("{}\n{}\n{}", port.rental, port.port, port.version)
}

/// Lets the web reach a port, with its token or, if it is public, without; a private port's older tokens are void.
///
/// # Errors
/// 404 for whoever doesn't rent it, 409 for too many.
pub fn open(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: RentalId,
    port: u16,
    public: bool,
) -> Result<WebPort> {
    access::reachable(tx, ctx, rental)?;
    let ports = store::web_ports(tx, rental)?;
    let before = ports.iter().find(|open| open.port == port);
    if before.is_none() && ports.len() >= PORTS_MAX {
        return Err(Error::conflict(
            "too_many_ports",
            format!("{PORTS_MAX} ports of this rental are open to the web: close one first"),
        ));
    }
    // later than any before, also of a port that was closed meanwhile
    let version = ctx.now.as_micros();
    let now = WebPort {
        rental,
        port,
        public,
        version,
    };
    store::put_web_port(tx, &now)?;
    let entry =
        Entry::of("rental.port_opened", rental).after(json!({"port": port, "public": public}));
    audit::record(tx, ctx, entry)?;
    Ok(now)
}

/// Closes a port to the web; closing it again changes nothing.
///
/// # Errors
/// 404 for whoever doesn't rent it.
pub fn close(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId, port: u16) -> Result<()> {
    access::reachable(tx, ctx, rental)?;
    if store::delete_web_port(tx, rental, port)? {
        let entry = Entry::of("rental.port_closed", rental).before(json!({"port": port}));
        audit::record(tx, ctx, entry)?;
    }
    Ok(())
}

/// The ports of a rental that the web reaches, the lowest first.
///
/// # Errors
/// 404 for whoever doesn't rent it.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId) -> Result<Vec<WebPort>> {
    access::reachable(tx, ctx, rental)?;
    all(tx, rental)
}

/// As [`list`]. The caller has checked who asks.
///
/// # Errors
/// The database's.
pub fn all(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<WebPort>> {
    store::web_ports(tx, rental)
}

/// The port that a host name means: the one that it names, or the lowest one that is open.
///
/// # Errors
/// The database's.
pub fn find(tx: &mut dyn Tx, rental: RentalId, port: Option<u16>) -> Result<Option<WebPort>> {
    let ports = store::web_ports(tx, rental)?;
    Ok(ports
        .into_iter()
        .find(|open| port.is_none_or(|port| open.port == port)))
}

/// Whether a visitor who was let in to a port as it was may stay: everybody may now, or nothing of it has changed.
///
/// # Errors
/// The database's.
pub fn is_still_open(tx: &mut dyn Tx, before: &WebPort) -> Result<bool> {
    let now = find(tx, before.rental, Some(before.port))?;
    // a public one that became private is another one, whenever that was
    Ok(now.is_some_and(|now| now.public || (!before.public && now.version == before.version)))
}
