//! The pages that links in mails open. Complete without JavaScript: `GET` shows a form and changes nothing, so that a mail
//! scanner that follows links uses none up; `POST` acts.
//!
//! # Invariants
//! - Nobody is signed in or out here, and no cookie counts: the link's token alone says what may be done.
//! - A page with a token isn't kept by anybody, and its address isn't told to anybody.

use std::sync::Arc;

use axum::{
    Form, Router,
    extract::{Query, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::html::{self, alert, escape};
use crate::{
    app::App,
    domain::auth::{
        account,
        links::{LinkToken, Purpose},
    },
    error::{Error, Kind, Result},
    http::{ClientIp, PublicCtx, error::status_of},
    limits::{Action, Caller},
};

/// A page: what it asks, and what it says when that is done.
struct Page {
    purpose: Purpose,
    title: &'static str,
    asks: &'static str,
    button: &'static str,
    done: &'static str,
}

const VERIFY: Page = Page {
    purpose: Purpose::VerifyEmail,
    title: "Confirm your e-mail address",
    asks: "Is this your address? Then confirm it.",
    button: "Confirm",
    done: "Thank you: your e-mail address is confirmed.",
};
const CHANGE: Page = Page {
    purpose: Purpose::ChangeEmail,
    title: "Use this e-mail address",
    asks: "Your account will use this address from now on: to sign in, and for mail from us.",
    button: "Use it",
    done: "Done: sign in with this address from now on.",
};
const RESET: Page = Page {
    purpose: Purpose::ResetPassword,
    title: "Choose a new password",
    asks: "It has 8 to 256 bytes. Four unrelated words make a good one. All your sessions end.",
    button: "Set the password",
    done: "Done: sign in with the new password.",
};

#[derive(Deserialize)]
struct Opened {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    token: String,
    #[serde(default)]
    password: String,
}

/// The pages.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            VERIFY.purpose.page(),
            get(async |opened: Query<Opened>| open(&VERIFY, &opened)).post(verify),
        )
        .route(
            CHANGE.purpose.page(),
            get(async |opened: Query<Opened>| open(&CHANGE, &opened)).post(change),
        )
        .route(
            RESET.purpose.page(),
            get(async |opened: Query<Opened>| open(&RESET, &opened)).post(reset),
        )
}

fn open(page: &Page, opened: &Opened) -> Response {
    match LinkToken::parse(&opened.token) {
        Ok(_) => show(StatusCode::OK, page, &form(page, &opened.token, None)),
        Err(error) => refuse(page, "", &error),
    }
}

async fn verify(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Form(sent): Form<Sent>,
) -> Response {
    let act = async {
        let token = link(&app, client, &sent)?;
        app.db
            .write("auth.verify_email", move |tx| {
                account::verify(tx, &ctx, &token)
            })
            .await
    };
    answer(&VERIFY, &sent.token, act.await)
}

async fn change(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Form(sent): Form<Sent>,
) -> Response {
    let act = async {
        let token = link(&app, client, &sent)?;
        let postbox = Arc::clone(&app.postbox);
        app.db
            .write("auth.change_email", move |tx| {
                account::change_email(tx, &ctx, &postbox, &token)
            })
            .await
    };
    answer(&CHANGE, &sent.token, act.await)
}

async fn reset(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Form(sent): Form<Sent>,
) -> Response {
    let (shown, Sent { password, .. }) = (sent.token.clone(), &sent);
    let act = async {
        let token = link(&app, client, &sent)?;
        account::reset_password(&app, ctx, token, password.clone()).await
    };
    answer(&RESET, &shown, act.await)
}

fn link(app: &App, client: ClientIp, sent: &Sent) -> Result<LinkToken> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::SignIn, address, app.clock.boot_ms())?;
    LinkToken::parse(&sent.token)
}

fn answer(page: &Page, token: &str, outcome: Result<()>) -> Response {
    match outcome {
        Ok(()) => show(StatusCode::OK, page, &format!("<p>{}</p>", page.done)),
        Err(error) => refuse(page, token, &error),
    }
}

/// What went wrong in words, and the form again where another try can help.
fn refuse(page: &Page, token: &str, error: &Error) -> Response {
    let status = status_of(error.kind());
    if matches!(error.kind(), Kind::Internal) {
        tracing::error!(%error, "a page of an account failed");
    }
    let again = error.code() != "link_invalid" && LinkToken::parse(token).is_ok();
    let said = error
        .fields()
        .first()
        .map_or(error.detail(), |field| &field.message);
    let body = if again {
        form(page, token, Some(said))
    } else {
        alert(said)
    };
    show(status, page, &body)
}

fn form(page: &Page, token: &str, said: Option<&str>) -> String {
    let alert = said.map(alert).unwrap_or_default();
    let field = if page.purpose == Purpose::ResetPassword {
        "<p><label for=\"password\">New password</label>\n\
         <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"new-password\" required \
         minlength=\"8\" maxlength=\"256\"></p>\n"
    } else {
        ""
    };
    format!(
        "{alert}<form method=\"post\" action=\"{}\">\n<p>{}</p>\n\
         <input type=\"hidden\" name=\"token\" value=\"{}\">\n{field}<p><button>{}</button></p>\n</form>",
        page.purpose.page(),
        page.asks,
        escape(token),
        page.button
    )
}

fn show(status: StatusCode, page: &Page, body: &str) -> Response {
    let html = html::page(page.title, body);
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("x-robots-tag"),
            HeaderValue::from_static("noindex"),
        ),
    ];
    (status, headers, Html(html)).into_response()
}
