//! Whom and what the owner of a machine doesn't serve: customers, images, registries.
//!
//! # Invariants
//! - Lists are bounded; they are asked at the quote and again when a rental is sold. What runs goes on.
//! - Only the owner (and administrators) read them: nobody learns that they are on one but by being refused.

use std::str::FromStr;

use shared::{
    id::{NodeId, UserId},
    image::{
        Digest, ImageRef,
        rules::{Broken, Pattern, check_image_pattern, lists},
    },
    time::Timestamp,
    x402::address::Address,
};

use super::{get_own_locked, store};
use crate::{
    context::OpCtx,
    domain::audit::{self, Entry},
    error::{Error, Result},
    store::Tx,
};

/// Entries of one list.
pub const ENTRIES_MAX: usize = 256;

/// Somebody who isn't served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// An account.
    User(UserId),
    /// A wallet that pays without one.
    Wallet(Address),
}

impl FromStr for Blocked {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let user = text.parse().map(Self::User);
        user.or_else(|_| text.parse().map(Self::Wallet).map_err(drop))
    }
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Wallet(wallet) => wallet.fmt(f),
        }
    }
}

/// The lists of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocklists {
    /// Who isn't served.
    pub consumers: Vec<Blocked>,
    /// Repositories and digests that aren't run.
    pub images: Vec<Pattern>,
    /// Registries of which nothing is run.
    pub registries: Vec<Pattern>,
    /// Grows with each change; 0 before the first.
    pub version: i64,
    /// When they were changed last.
    pub updated_at: Option<Timestamp>,
}

impl Blocklists {
    /// Checks bounds.
    ///
    /// # Errors
    /// 422 with the list.
    pub fn check(&self) -> Result<()> {
        for (pointer, count) in [
            ("/consumers", self.consumers.len()),
            ("/images", self.images.len()),
            ("/registries", self.registries.len()),
        ] {
            if count > ENTRIES_MAX {
                return Err(Error::invalid(pointer, format!("at most {ENTRIES_MAX}")));
            }
        }
        match self
            .images
            .iter()
            .map(check_image_pattern)
            .find(Result::is_err)
        {
            Some(Err(error)) => Err(Error::invalid("/images", error.to_string())),
            _ => Ok(()),
        }
    }

    /// Whether somebody isn't served.
    #[must_use]
    pub fn refuses(&self, user: Option<UserId>, wallet: Option<&str>) -> bool {
        let wallet = wallet.and_then(|text| text.parse::<Address>().ok());
        self.consumers.iter().any(|blocked| match blocked {
            Blocked::User(id) => user == Some(*id),
            Blocked::Wallet(address) => wallet.as_ref() == Some(address),
        })
    }

    /// Whether an image may run.
    ///
    /// # Errors
    /// [`Broken::Registry`], [`Broken::Image`].
    pub fn admit(&self, image: &ImageRef, digest: Option<&Digest>) -> Result<(), Broken> {
        let registry = image.registry();
        if self.registries.iter().any(|known| known.matches(registry)) {
            return Err(Broken::Registry(registry.to_owned()));
        }
        if lists(&self.images, image, digest) {
            return Err(Broken::Image(image.to_string()));
        }
        Ok(())
    }
}

/// The lists of a node; empty ones until its owner makes some.
///
/// # Errors
/// The database's.
pub fn of(tx: &mut dyn Tx, node: NodeId) -> Result<Blocklists> {
    Ok(store::blocklists::of(tx, node)?.unwrap_or_default())
}

/// The lists of a node of the caller's.
///
/// # Errors
/// 404 if it isn't theirs.
pub fn get_own(tx: &mut dyn Tx, ctx: &OpCtx, node: NodeId) -> Result<Blocklists> {
    super::get_own(tx, ctx, node)?;
    of(tx, node)
}

/// Replaces the lists of a node of the caller's; `seen` is asked whether the lists that are replaced are those that the caller saw.
///
/// # Errors
/// 404 if it isn't theirs; 412 if they are others by now; 422 out of bounds.
pub fn replace(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: NodeId,
    lists: &Blocklists,
    seen: &dyn Fn(&Blocklists) -> Result<()>,
) -> Result<Blocklists> {
    get_own_locked(tx, ctx, node)?;
    lists.check()?;
    let old = of(tx, node)?;
    seen(&old)?;
    let new = Blocklists {
        version: old.version.saturating_add(1),
        updated_at: Some(ctx.now),
        ..lists.clone()
    };
    store::blocklists::put(tx, node, &new)?;
    let told = |lists: &Blocklists| {
        serde_json::json!({
            "consumers": lists.consumers.len(),
            "images": lists.images,
            "registries": lists.registries,
        })
    };
    let entry = Entry::of("node.blocklists_changed", node);
    audit::record(tx, ctx, entry.before(told(&old)).after(told(&new)))?;
    Ok(new)
}
