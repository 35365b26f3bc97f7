//! Signing in with an account elsewhere, by OpenID Connect: code flow with PKCE, state and nonce, bound to the browser.
//!
//! # Invariants
//! - An account is found by (issuer, subject) alone. A new one is opened only for an address that the issuer verified and
//!   that no account here has; an address never joins two accounts.
//! - An identity is linked and unlinked only from a session with a fresh proof, and the last way in stays.
//! - Where a second factor is in force, it is asked for here as after a password.
//! - An attempt is used up before the provider is asked about it: neither a callback nor a code works twice.

pub mod api;
pub mod attempt;
mod flow;
pub mod id_token;
pub mod jwks;
pub mod model;
pub mod provider;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::json;
use shared::{id::IdentityId, secret::Secret, time::Timestamp};

use self::{
    attempt::AttemptKeys,
    model::{IDENTITIES_MAX, Identity, Person, Refusal},
    provider::Provider,
};
use crate::{
    config::{Config, OidcProviderConfig},
    context::{OpCtx, Role},
    domain::{
        audit::{self, Entry},
        auth::{
            self, Login, SignedIn, account,
            model::{Account, Email},
            password::NO_PASSWORD,
            second_factor::SecondFactors,
        },
        mail::Postbox,
        settings,
    },
    error::{Error, Result},
    keys::{Keys, read_private},
    store::Tx,
};

/// What the slice keeps in memory.
#[derive(Debug)]
pub struct Oidc {
    providers: BTreeMap<String, Provider>,
    /// Makes and reads attempts.
    pub attempts: AttemptKeys,
}

impl Oidc {
    /// Of the settings; asks no provider.
    ///
    /// # Errors
    /// A secret's file can't be read.
    pub fn new(config: &Config, keys: &Keys) -> anyhow::Result<Self> {
        let public_url = config.http.public_url();
        let providers = config
            .oidc
            .iter()
            .map(|(name, settings)| {
                let made = provider_of(name, settings, &public_url)?;
                Ok((name.clone(), made))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            providers,
            attempts: AttemptKeys::new(&keys.token),
        })
    }

    /// The provider of a name.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn provider(&self, name: &str) -> Result<&Provider> {
        self.providers
            .get(name)
            .ok_or_else(|| Error::not_found("identity provider"))
    }

    /// All providers, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.values()
    }
}

fn provider_of(
    name: &str,
    settings: &OidcProviderConfig,
    public_url: &str,
) -> anyhow::Result<Provider> {
    let client_secret = match &settings.client_secret_file {
        None => None,
        Some(path) => {
            let bytes = read_private(path)
                .with_context(|| format!("oidc.{name}.client_secret_file {}", path.display()))?;
            let text = String::from_utf8(bytes)?;
            let line = text.lines().next().unwrap_or_default();
            anyhow::ensure!(
                !line.is_empty(),
                "oidc.{name}.client_secret_file {} begins with an empty line: write the secret there",
                path.display()
            );
            Some(Secret::new(line.to_owned()))
        }
    };
    let display_name = settings.display_name.as_deref().unwrap_or(name);
    Ok(Provider {
        name: name.to_owned(),
        display_name: display_name.to_owned(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        client_secret,
        redirect_uri: format!("{public_url}/api/v1/auth/oidc/{name}/callback"),
        known: Default::default(),
    })
}

/// What came of an answer that holds. A refusal is committed, with its entry in the audit log.
#[derive(Debug)]
pub enum Outcome {
    /// Signed in.
    SignedIn(Box<SignedIn>),
    /// The account has a second factor: this challenge and a code of it sign in.
    NeedsCode(String),
    /// Linked, or it was before.
    Linked,
    /// Not let in.
    Refused(Refusal),
}

/// The account that somebody elsewhere opens.
///
/// # Errors
/// What the database says.
pub fn account_of(tx: &mut dyn Tx, person: &Person) -> Result<Option<Account>> {
    match store::by_subject(tx, &person.issuer, &person.subject)? {
        Some(identity) => auth::account(tx, identity.user).map(Some),
        None => Ok(None),
    }
}

/// Signs somebody in, and opens an account if they are new here; one with a second factor owes the code still.
///
/// # Errors
/// 409 when another request opened the account in this moment.
pub fn sign_in(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    factors: &SecondFactors,
    provider: &str,
    person: &Person,
    login: &Login,
) -> Result<Outcome> {
    let email = person.email.as_ref().map(Email::as_str);
    let (id, account) = match store::by_subject(tx, &person.issuer, &person.subject)? {
        Some(identity) => {
            store::note_use(tx, identity.id, email, ctx.now)?;
            (identity.id, auth::account(tx, identity.user)?)
        }
        None => match open_account(tx, ctx, provider, person)? {
            Ok(opened) => opened,
            Err(refusal) => return refuse(tx, ctx, provider, Some(person), refusal),
        },
    };
    account::heard_verified(tx, ctx, &account, person.verified_email())?;
    if account.second_factor {
        let state = json!({ "account": account.id, "provider": provider });
        audit::record(tx, ctx, Entry::of("identity.code_asked", id).after(state))?;
        let (account, hash) = auth::account_with_hash(tx, account.id)?;
        return Ok(Outcome::NeedsCode(
            factors.challenge(ctx, account.id, &hash),
        ));
    }
    // an issuer that doesn't say when it asked didn't ask just now
    let proven = person.proven.unwrap_or(Timestamp::from_secs(0));
    let login = login.clone().proven_at(proven);
    let signed_in = auth::begin_session(tx, ctx, &account, &login)?;
    let state =
        json!({ "account": account.id, "session": signed_in.session.id, "provider": provider });
    audit::record(tx, ctx, Entry::of("identity.signed_in", id).after(state))?;
    Ok(Outcome::SignedIn(Box::new(signed_in)))
}

/// An account for somebody new, with their identity.
fn open_account(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    provider: &str,
    person: &Person,
) -> Result<Result<(IdentityId, Account), Refusal>> {
    let Some(email) = person.verified_email() else {
        return Ok(Err(match person.email {
            Some(_) => Refusal::EmailUnverified,
            None => Refusal::EmailMissing,
        }));
    };
    if auth::find_account(tx, email)?.is_some() {
        return Ok(Err(Refusal::EmailTaken));
    }
    let roles = BTreeSet::from([Role::Consumer]);
    settings::check_signups(tx)?;
    let account = auth::create_account(tx, ctx, email, NO_PASSWORD, &roles)?;
    let identity = new_identity(ctx, provider, person, &account);
    if !store::insert(tx, &identity)? {
        return Err(Error::conflict(
            "oidc_at_once",
            "another request opened this account in this moment: sign in again",
        ));
    }
    Ok(Ok((identity.id, account)))
}

fn new_identity(ctx: &OpCtx, provider: &str, person: &Person, account: &Account) -> Identity {
    Identity {
        id: ctx.mint(),
        user: account.id,
        provider: provider.to_owned(),
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        email: person.email.as_ref().map(|email| email.as_str().to_owned()),
        created: ctx.now,
        last_used: ctx.now,
    }
}

/// Links an identity to the account of the person who acts. Their fresh proof was asked for when they began.
///
/// # Errors
/// Not signed in.
pub fn link(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    provider: &str,
    person: &Person,
) -> Result<Outcome> {
    let user = ctx.user()?.id;
    auth::hold_account(tx, user)?;
    let account = auth::account(tx, user)?;
    if let Some(known) = store::by_subject(tx, &person.issuer, &person.subject)? {
        return if known.user == user {
            Ok(Outcome::Linked)
        } else {
            refuse(tx, ctx, provider, Some(person), Refusal::IdentityTaken)
        };
    }
    if store::of_user(tx, user)?.len() >= IDENTITIES_MAX {
        return refuse(tx, ctx, provider, Some(person), Refusal::TooMany);
    }
    let identity = new_identity(ctx, provider, person, &account);
    if !store::insert(tx, &identity)? {
        return refuse(tx, ctx, provider, Some(person), Refusal::IdentityTaken);
    }
    let state = json!({ "account": user, "issuer": identity.issuer, "subject": identity.subject });
    let entry = Entry::of("identity.linked", identity.id).after(state);
    audit::record(tx, ctx, entry)?;
    account::heard_verified(tx, ctx, &account, person.verified_email())?;
    let what = "An account elsewhere was linked to your account at RAMarket: who has it can sign in to yours.";
    account::tell(
        tx,
        ctx,
        postbox,
        &account,
        "A way to sign in was added",
        what,
    )?;
    Ok(Outcome::Linked)
}

/// Unlinks an identity of the person who acts.
///
/// # Errors
/// Not signed in or not with a fresh proof; 404 when it isn't theirs; 409 when it is their last way in.
pub fn unlink(tx: &mut dyn Tx, ctx: &OpCtx, postbox: &Postbox, id: IdentityId) -> Result<()> {
    auth::require_fresh(ctx)?;
    let user = ctx.user()?.id;
    let has_password = auth::hold_account(tx, user)?;
    let all = store::of_user(tx, user)?;
    let identity = all
        .iter()
        .find(|identity| identity.id == id)
        .ok_or_else(|| Error::not_found("identity"))?;
    if !has_password && all.len() == 1 {
        return Err(Error::conflict(
            "last_way_in",
            "without this identity nobody could sign in to the account: set a password or link another first",
        ));
    }
    store::delete(tx, id)?;
    let state = json!({ "account": user, "issuer": identity.issuer, "subject": identity.subject });
    audit::record(tx, ctx, Entry::of("identity.unlinked", id).before(state))?;
    let account = auth::account(tx, user)?;
    let what = "An account elsewhere was unlinked from your account at RAMarket: it doesn't open yours any more.";
    account::tell(
        tx,
        ctx,
        postbox,
        &account,
        "A way to sign in was removed",
        what,
    )
}

/// The identities of the person who acts.
///
/// # Errors
/// Not signed in.
pub fn identities(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Vec<Identity>> {
    store::of_user(tx, ctx.user()?.id)
}

/// Notes in the audit log that an answer of a provider was refused, and says so.
///
/// # Errors
/// What the database says.
pub fn refuse(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    provider: &str,
    person: Option<&Person>,
    refusal: Refusal,
) -> Result<Outcome> {
    let mut entry =
        Entry::of("identity.refused", format!("oidc_{provider}")).reason(refusal.code());
    if let Some(person) = person {
        entry = entry.after(json!({ "issuer": person.issuer, "subject": person.subject }));
    }
    audit::record(tx, ctx, entry)?;
    Ok(Outcome::Refused(refusal))
}
