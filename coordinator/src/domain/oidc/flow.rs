//! From a provider's answer to somebody signed in: what the edge calls, in its order.

use std::sync::Arc;

use shared::secret::Secret;

use super::{
    Outcome,
    attempt::{Attempt, LIFE_S, Purpose},
    id_token::{self, Expected, Flaw},
    model::{Person, Refusal},
    provider::{Metadata, Provider, Tokens},
};
use crate::{
    app::App,
    context::{OpCtx, Role},
    domain::auth::{Login, model::Device},
    error::{Error, Result},
};

/// What came back with the browser, parsed no further.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) code: Option<Secret<String>>,
    pub(super) iss: Option<String>,
    pub(super) is_error: bool,
}

/// Finishes an attempt whose cookie and state held. Whatever comes of it, it is used up.
///
/// # Errors
/// A [`Refusal`], or 503 when the provider can't be asked.
pub(super) async fn finish(
    app: &Arc<App>,
    ctx: &OpCtx,
    device: Device,
    attempt: &Attempt,
    returned: Returned,
) -> Result<Outcome> {
    let provider = app.oidc.provider(&attempt.provider)?;
    use_up(app, ctx, attempt).await?;
    let metadata = provider
        .metadata(&app.outbound, app.clock.boot_ms())
        .await?;
    let named = returned.iss.as_deref();
    if named.is_some_and(|iss| iss != provider.issuer) || (named.is_none() && metadata.names_itself)
    {
        return refused(app, ctx, provider, None, Refusal::Issuer).await;
    }
    let Some(code) = returned.code.filter(|_| !returned.is_error) else {
        return Err(Refusal::Denied.into());
    };
    let tokens = provider
        .exchange(&app.outbound, &metadata, &code, &attempt.verifier())
        .await?;
    let mut person = match check(app, ctx, provider, &metadata, attempt, &tokens).await? {
        Ok(person) => person,
        Err(flaw) => {
            tracing::warn!(oidc.provider = provider.name, %flaw, "id token refused");
            return refused(app, ctx, provider, None, Refusal::IdToken).await;
        }
    };
    if attempt.purpose == Purpose::ProveAgain && !asked_again(attempt, &person) {
        return refused(app, ctx, provider, Some(person), Refusal::NotAskedAgain).await;
    }
    if person.email.is_none() {
        let token = tokens.access_token.as_ref();
        let about = provider
            .about(&app.outbound, &metadata, token, &person.subject)
            .await?;
        (person.email, person.email_verified) = about.unwrap_or_default().email();
    }
    let name = provider.name.clone();
    if matches!(attempt.purpose, Purpose::Link(_)) {
        let (ctx, postbox) = (ctx.clone(), Arc::clone(&app.postbox));
        let link =
            move |tx: &mut dyn crate::store::Tx| super::link(tx, &ctx, &postbox, &name, &person);
        return app.db.write("oidc.link", link).await;
    }
    sign_in(app, ctx, device, name, person).await
}

async fn sign_in(
    app: &Arc<App>,
    ctx: &OpCtx,
    device: Device,
    provider: String,
    person: Person,
) -> Result<Outcome> {
    let asked = person.clone();
    let known = app
        .db
        .read("oidc.account", move |tx| super::account_of(tx, &asked))
        .await?;
    let roles = known.map_or_else(|| [Role::Consumer].into(), |account| account.roles);
    let login = Login::new(&app.config, &roles, device)?;
    let (ctx, state) = (ctx.clone(), Arc::clone(app));
    app.db
        .write("oidc.sign_in", move |tx| {
            let factors = &state.auth.second_factors;
            super::sign_in(tx, &ctx, factors, &provider, &person, &login)
        })
        .await
}

async fn use_up(app: &App, ctx: &OpCtx, attempt: &Attempt) -> Result<()> {
    let (digest, forgotten, now) = (attempt.digest(), attempt.forgotten_at(), ctx.now);
    let first = app
        .db
        .write("oidc.use_up", move |tx| {
            super::store::use_up(tx, digest.clone(), forgotten, now)
        })
        .await?;
    if first {
        Ok(())
    } else {
        Err(Refusal::Replayed.into())
    }
}

/// Checks the ID token with the keys that we know, and with the newest ones when its key isn't among them.
async fn check(
    app: &App,
    ctx: &OpCtx,
    provider: &Provider,
    metadata: &Metadata,
    attempt: &Attempt,
    tokens: &Tokens,
) -> Result<Result<Person, Flaw>> {
    let nonce = attempt.nonce();
    let expected = Expected {
        issuer: &provider.issuer,
        client_id: &provider.client_id,
        algs: &metadata.algs,
        nonce: &nonce,
        access_token: tokens.access_token.as_ref(),
        now: ctx.now,
    };
    let ask = |missing| provider.keys(&app.outbound, metadata, missing, app.clock.boot_ms());
    let known = ask(None).await?;
    let checked = id_token::check(tokens.id_token.expose(), &known, &expected);
    if checked != Err(Flaw::Key) {
        return Ok(checked);
    }
    let newest = ask(Some(&known)).await?;
    Ok(id_token::check(
        tokens.id_token.expose(),
        &newest,
        &expected,
    ))
}

/// Whether the issuer asked them who they are since the attempt began.
fn asked_again(attempt: &Attempt, person: &Person) -> bool {
    const LEEWAY_MS: i64 = 30_000;
    person.proven.is_some_and(|proven| {
        (-LEEWAY_MS..LIFE_S * 1_000).contains(&proven.ms_since(attempt.begun))
    })
}

async fn refused(
    app: &App,
    ctx: &OpCtx,
    provider: &Provider,
    person: Option<Person>,
    refusal: Refusal,
) -> Result<Outcome, Error> {
    let (ctx, name) = (ctx.clone(), provider.name.clone());
    app.db
        .write("oidc.refused", move |tx| {
            super::refuse(tx, &ctx, &name, person.as_ref(), refusal)
        })
        .await
}
