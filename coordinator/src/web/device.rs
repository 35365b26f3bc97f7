//! `/device`: a person confirms that a program on another device acts for them. Complete without JavaScript.
//!
//! # Invariants
//! - `GET` changes nothing; `POST` counts only from our own page, with a mark that only somebody with the reader's cookie can make.
//! - What is asked for, from where and by whom is shown before anything is confirmed; what a device calls itself is only text.

use std::sync::Arc;

use axum::{
    Form, Router,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use ring::digest;
use serde::Deserialize;

use super::html::{self, alert, escape};
use crate::{
    app::App,
    context::{OpCtx, Scope},
    domain::{
        auth::{self, cookies},
        device_login::{
            self,
            model::{Login, UserCode},
        },
        oidc::provider::encoded,
    },
    error::{Error, Kind, Result},
    http::{credentials, error::status_of},
    limits::{Action, Caller},
};

const TITLE: &str = "Sign a program in";
const MARK_DOMAIN: &str = "ramarket/device-form/v1";

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    code: String,
    #[serde(default)]
    mark: String,
    #[serde(default)]
    decision: String,
}

/// The page.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/device", get(show).post(decide))
}

async fn show(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let code = UserCode::parse(&asked.code);
    let read = async {
        let actor = credentials::actor_of(&app, &parts).await?;
        let ctx = credentials::context(&app, &parts, actor);
        // asked of everybody, so that who isn't signed in learns nothing of a code
        auth::require_fresh(&ctx)?;
        let Some(code) = code.clone() else {
            return Ok(None);
        };
        count(&app, &ctx)?;
        let login = app.db.read("device_login.find", move |tx| {
            device_login::find(tx, &ctx, &code)
        });
        login.await.map(Some)
    };
    match read.await {
        Ok(Some(login)) => {
            let mark = mark(&app, &parts.headers, &login.user_code);
            shown(StatusCode::OK, &question(&login, &mark))
        }
        Ok(None) if asked.code.is_empty() => shown(StatusCode::OK, &entry(None)),
        Ok(None) => shown(
            StatusCode::NOT_FOUND,
            &entry(Some("a code has eight letters, as BCDF-GHJK")),
        ),
        Err(error) => refused(&error, code.as_ref()),
    }
}

async fn decide(
    State(app): State<Arc<App>>,
    client: crate::http::ClientIp,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Response {
    let code = UserCode::parse(&sent.code);
    let approve = match sent.decision.as_str() {
        "approve" => Some(true),
        "deny" => Some(false),
        _ => None,
    };
    let act = async {
        let user = credentials::user_of_form(&app, &headers).await?;
        let ctx = credentials::context_of(&app, client, user);
        let (Some(code), Some(approve)) = (code.clone(), approve) else {
            return Err(Error::invalid(
                "/decision",
                "the form isn't complete: open the page again",
            ));
        };
        count(&app, &ctx)?;
        if sent.mark != mark(&app, &headers, &code) {
            return Err(Error::new(
                Kind::Forbidden,
                "csrf",
                "this form is of another session: open the page again",
            ));
        }
        let login = app.db.write("device_login.decide", move |tx| {
            device_login::decide(tx, &ctx, &code, approve)
        });
        login.await.map(|login| (login, approve))
    };
    match act.await {
        Ok((login, true)) => shown(
            StatusCode::OK,
            &format!(
                "<p id=\"done\">Done: {} acts for you now. You can end that any time among your API keys.</p>\n",
                escape(&login.wish.client_name)
            ),
        ),
        Ok((_, false)) => shown(
            StatusCode::OK,
            "<p id=\"done\">Refused: it gets nothing.</p>\n",
        ),
        Err(error) => refused(&error, code.as_ref()),
    }
}

/// A try at a code.
fn count(app: &App, ctx: &OpCtx) -> Result<()> {
    let user = Caller::User(ctx.signed_in()?.id);
    app.limits
        .count(Action::DeviceCode, user, app.clock.boot_ms())
}

/// What only a page can hold that was made for the reader's cookie, for one code.
fn mark(app: &App, headers: &HeaderMap, code: &UserCode) -> String {
    let cookie = cookies::read(headers, app.auth.cookies.access_name()).unwrap_or_default();
    let text = format!("{MARK_DOMAIN}\n{cookie}\n{}", code.letters());
    hex::encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// What went wrong, and where to go on.
fn refused(error: &Error, code: Option<&UserCode>) -> Response {
    if error.kind() == Kind::Internal {
        tracing::error!(%error, "signing a program in failed");
    }
    let next = code.map_or_else(
        || "/device".to_owned(),
        |code| format!("/device?code={code}"),
    );
    let link = format!("<p><a href=\"/login?next={}\">", encoded(&next));
    let body = match (error.kind(), error.code()) {
        (Kind::Unauthenticated, _) => {
            format!(
                "<p>A program on another device asks to act for you. Sign in to see it.</p>\n{link}Sign in</a></p>\n"
            )
        }
        (_, "step_up_required") => {
            format!(
                "<p>Confirming needs a fresh proof of who you are.</p>\n{link}Sign in again</a></p>\n"
            )
        }
        (Kind::NotFound, _) => entry(Some(error.detail())),
        _ => alert(error.detail()),
    };
    shown(status_of(error.kind()), &body)
}

fn shown(status: StatusCode, body: &str) -> Response {
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        ),
    ];
    (status, headers, Html(html::page(TITLE, body))).into_response()
}

/// Where a code is entered.
fn entry(said: Option<&str>) -> String {
    format!(
        "{}<form method=\"get\" action=\"/device\">\n\
         <p><label for=\"code\">The code that the program shows</label>\n\
         <input id=\"code\" name=\"code\" autocomplete=\"off\" autocapitalize=\"characters\" required maxlength=\"16\"></p>\n\
         <p><button>Go on</button></p>\n</form>\n",
        said.map(alert).unwrap_or_default()
    )
}

/// What is asked for.
fn question(login: &Login, mark: &str) -> String {
    let scopes: String = login
        .wish
        .scopes
        .iter()
        .map(|scope| {
            format!(
                "<li>{} (<code>{}</code>)</li>\n",
                words(*scope),
                scope.name()
            )
        })
        .collect();
    let from = login.asked_from.as_deref().unwrap_or("an unknown address");
    format!(
        "<p>Does your program show the code <strong id=\"shown-code\">{code}</strong>? Confirm only what you began yourself a moment ago.</p>\n\
         <dl class=\"facts\">\n<dt>It calls itself</dt><dd>{name}</dd>\n<dt>Asked from</dt><dd>{from}</dd>\n\
         <dt>Asked at</dt><dd>{at}</dd>\n<dt>For</dt><dd>{days} days</dd>\n</dl>\n\
         <h2>It may then, in your name</h2>\n<ul>\n{scopes}</ul>\n\
         <form method=\"post\" action=\"/device\">\n\
         <input type=\"hidden\" name=\"code\" value=\"{code}\">\n\
         <input type=\"hidden\" name=\"mark\" value=\"{mark}\">\n\
         <p><button name=\"decision\" value=\"approve\">Confirm</button>\n\
         <button name=\"decision\" value=\"deny\">Refuse</button></p>\n</form>\n",
        code = login.user_code,
        name = escape(&login.wish.client_name),
        from = escape(from),
        at = login.asked,
        days = login.wish.days,
    )
}

/// A scope for people.
const fn words(scope: Scope) -> &'static str {
    match scope {
        Scope::AccountRead => "see who you are and what your balance is",
        Scope::RentalsRead => "see your rentals, their usage and receipts",
        Scope::RentalsWrite => "rent, extend and stop, which spends your balance",
        Scope::RentalsReach => "reach into your rentals: their logs, programs, files and ports",
        Scope::BalanceWrite => "fill your balance",
        Scope::NodesRead => "see your nodes",
        Scope::NodesWrite => "enrol, change and retire your nodes",
        Scope::OffersWrite => "make, change and delete your offers",
        Scope::EventsRead => "follow what happens",
        Scope::WebhooksRead => "see your webhooks",
        Scope::WebhooksWrite => "make and change your webhooks",
        Scope::AnalyticsRead => "see your figures over time",
    }
}
