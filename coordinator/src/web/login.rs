//! The pages from which people sign in: by password and a code, or with an account elsewhere. Complete without JavaScript.
//!
//! # Invariants
//! - What the query says is never shown; what went wrong is said in words of ours.
//! - Forms are taken from our own pages only ([`PublicCtx`]), so that nobody is signed in to somebody else's account.

use std::sync::Arc;

use axum::{
    Form, Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{AppendHeaders, Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use shared::{secret::Secret, time::Timestamp};

use super::html::{self, alert, escape};
use crate::{
    app::App,
    domain::{
        auth::{
            SignedIn, cookies,
            login::{self, Asker, Entered},
            model::Device,
        },
        oidc::{
            model::{Next, Refusal},
            provider::{Provider, encoded},
        },
    },
    error::{Error, Kind, Result},
    http::{ClientIp, PublicCtx, error::status_of},
};

/// What the page is asked for.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// Where to afterwards.
    next: Option<String>,
    /// The code of what went wrong before.
    error: Option<String>,
}

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    code: String,
    next: Option<String>,
}

/// The pages.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/login", get(login_page).post(enter))
        .route("/login/code", get(code_page).post(enter_code))
}

async fn login_page(State(app): State<Arc<App>>, Query(asked): Query<Asked>) -> Response {
    let providers: Vec<_> = app.oidc.providers().collect();
    shown(StatusCode::OK, "Sign in", &body(&providers, &asked, None))
}

/// By password.
async fn enter(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    Form(sent): Form<Sent>,
) -> Response {
    let asker = asker(client, device);
    let (now, next) = (ctx.now, next_of(sent.next.as_deref()));
    let entered = login::by_password(&app, ctx, asker, &sent.email, sent.password).await;
    let answered = entered.and_then(|entered| match entered {
        Entered::In(signed_in) => on_to(&app, now, &signed_in, &next),
        Entered::NeedsCode(challenge) => {
            let to = format!("/login/code?next={}", encoded(next.as_str()));
            let cookie = app.auth.cookies.set_challenge(&challenge);
            see_other(&to, [cookie])
        }
    });
    answered.unwrap_or_else(|error| {
        let providers: Vec<_> = app.oidc.providers().collect();
        let asked = Asked {
            next: sent.next,
            error: None,
        };
        refused(&error, "Sign in", |said| {
            body(&providers, &asked, Some(said))
        })
    })
}

async fn code_page(Query(asked): Query<Asked>) -> Response {
    let form = code_form(&next_of(asked.next.as_deref()), None);
    shown(StatusCode::OK, "One more step", &form)
}

/// By the code, after a password or a provider was right: of that the browser keeps the challenge.
async fn enter_code(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    headers: HeaderMap,
    Form(sent): Form<Code>,
) -> Response {
    let (now, next) = (ctx.now, next_of(sent.next.as_deref()));
    let challenge = cookies::read(&headers, app.auth.cookies.challenge_name()).unwrap_or_default();
    let code = Secret::new(sent.code);
    let entered = login::by_code(&app, ctx, asker(client, device), challenge, code).await;
    let answered = entered.and_then(|signed_in| on_to(&app, now, &signed_in, &next));
    answered.unwrap_or_else(|error| {
        refused(&error, "One more step", |said| code_form(&next, Some(said)))
    })
}

fn asker(client: ClientIp, device: Device) -> Asker {
    Asker {
        address: client.group(),
        device,
    }
}

fn next_of(text: Option<&str>) -> Next {
    text.and_then(Next::parse).unwrap_or_default()
}

/// On to the page that was asked for, signed in; the challenge is over.
fn on_to(app: &App, now: Timestamp, signed_in: &SignedIn, next: &Next) -> Result<Response> {
    let [access, refresh] = app.auth.hand_over(now, signed_in)?.cookies;
    let over = app.auth.cookies.set_challenge("");
    see_other(next.as_str(), [access, refresh, over])
}

fn see_other<const N: usize>(to: &str, cookies: [String; N]) -> Result<Response> {
    let to = HeaderValue::from_str(to).map_err(Error::internal)?;
    let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
    let to = [(header::LOCATION, to)];
    Ok((StatusCode::SEE_OTHER, to, cookies, quiet()).into_response())
}

/// The form again, with what went wrong.
fn refused(error: &Error, title: &str, form: impl FnOnce(&str) -> String) -> Response {
    if error.kind() == Kind::Internal {
        tracing::error!(%error, "signing in failed");
    }
    shown(status_of(error.kind()), title, &form(error.detail()))
}

fn shown(status: StatusCode, title: &str, body: &str) -> Response {
    (status, quiet(), Html(html::page(title, body))).into_response()
}

/// Nothing of it is kept.
const fn quiet() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

/// The ways in.
fn body(providers: &[&Provider], asked: &Asked, said: Option<&str>) -> String {
    let next = next_of(asked.next.as_deref());
    let links: String = providers
        .iter()
        .map(|provider| link(provider, &next))
        .collect();
    let elsewhere = if providers.is_empty() {
        String::new()
    } else {
        format!("<h2>Or with an account elsewhere</h2>\n<ul>\n{links}</ul>\n")
    };
    let told = match said {
        Some(said) => alert(said),
        None => told(asked.error.as_deref()),
    };
    format!(
        "{told}<form method=\"post\" action=\"/login\">\n\
         <p><label for=\"email\">E-mail address</label>\n\
         <input id=\"email\" name=\"email\" type=\"email\" autocomplete=\"username\" required maxlength=\"254\"></p>\n\
         <p><label for=\"password\">Password</label>\n\
         <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required maxlength=\"256\"></p>\n\
         <input type=\"hidden\" name=\"next\" value=\"{}\">\n\
         <p><button>Sign in</button></p>\n</form>\n\
         <p><a href=\"/account/forgot-password\">Forgotten your password?</a></p>\n{elsewhere}",
        escape(next.as_str())
    )
}

fn code_form(next: &Next, said: Option<&str>) -> String {
    format!(
        "{}<form method=\"post\" action=\"/login/code\">\n\
         <p>Your account has a second factor: enter what your authenticator app shows now, or a recovery code.</p>\n\
         <p><label for=\"code\">Code</label>\n\
         <input id=\"code\" name=\"code\" autocomplete=\"one-time-code\" required maxlength=\"64\"></p>\n\
         <input type=\"hidden\" name=\"next\" value=\"{}\">\n\
         <p><button>Go on</button></p>\n</form>\n\
         <p><a href=\"/login\">Begin again</a></p>\n",
        said.map(alert).unwrap_or_default(),
        escape(next.as_str())
    )
}

fn link(provider: &Provider, next: &Next) -> String {
    // the name is one of the settings: lower-case letters, digits and dashes
    format!(
        "<li><a id=\"oidc-{name}\" href=\"/api/v1/auth/oidc/{name}/start?next={}\">Continue with {}</a></li>\n",
        encoded(next.as_str()),
        escape(&provider.display_name),
        name = provider.name,
    )
}

/// What went wrong; only texts of ours are shown.
fn told(code: Option<&str>) -> String {
    let Some(code) = code else {
        return String::new();
    };
    let text = Refusal::from_code(code).map_or(
        "signing in didn't work: try again, or in another way",
        Refusal::text,
    );
    format!(
        "<p role=\"alert\" id=\"refusal\">Not signed in: {}.</p>\n",
        escape(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(next: Option<&str>, error: Option<&str>) -> String {
        let asked = Asked {
            next: next.map(str::to_owned),
            error: error.map(str::to_owned),
        };
        let provider = Provider::for_pages("google", "<Google>");
        body(&[&provider], &asked, None)
    }

    #[test]
    fn a_link_for_each_provider_and_nothing_of_the_query_is_shown() {
        let page = asked(Some("/rentals?a=1&b=2"), None);
        let link = "href=\"/api/v1/auth/oidc/google/start?next=%2Frentals%3Fa%3D1%26b%3D2\">Continue with &lt;Google&gt;</a>";
        assert!(page.contains(link) && !page.contains("refusal"), "{page}");
        assert!(page.contains("name=\"next\" value=\"/rentals?a=1&amp;b=2\""));
        let page = asked(Some("//evil.example"), Some("<b>boo"));
        assert!(
            page.contains("start?next=%2F\"") && !page.contains("boo") && page.contains("refusal")
        );
        assert!(
            asked(None, Some("oidc_email_taken"))
                .contains("there is an account with this e-mail address")
        );
        assert!(!body(&[], &Asked::default(), None).contains("elsewhere"));
    }
}
