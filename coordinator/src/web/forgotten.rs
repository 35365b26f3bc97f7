//! The page of a forgotten password: asks for an address, and says the same whether it has an account or not.

use std::sync::Arc;

use axum::{
    Form, Router,
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::html::{self, alert};
use crate::{
    app::App,
    domain::auth::account,
    http::{ClientIp, PublicCtx, error::status_of},
    limits::Caller,
};

const PATH: &str = "/account/forgot-password";
const TITLE: &str = "Forgotten your password?";

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    email: String,
}

/// The page.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route(
        PATH,
        get(async || shown(StatusCode::OK, &form(None))).post(ask),
    )
}

async fn ask(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Form(sent): Form<Sent>,
) -> Response {
    let address = Caller::Address(client.group());
    match account::forgotten(&app, ctx, address, &sent.email) {
        Ok(()) => shown(
            StatusCode::ACCEPTED,
            "<p id=\"done\">If this address has an account, a mail is on its way; the link in it works for half an hour.</p>",
        ),
        Err(error) => shown(status_of(error.kind()), &form(Some(error.detail()))),
    }
}

fn form(said: Option<&str>) -> String {
    format!(
        "{}<form method=\"post\" action=\"{PATH}\">\n<p>We send you a link with which you choose a new one.</p>\n\
         <p><label for=\"email\">E-mail address</label>\n\
         <input id=\"email\" name=\"email\" type=\"email\" autocomplete=\"username\" required maxlength=\"254\"></p>\n\
         <p><button>Send me a link</button></p>\n</form>\n",
        said.map(alert).unwrap_or_default()
    )
}

fn shown(status: StatusCode, body: &str) -> Response {
    (status, Html(html::page(TITLE, body))).into_response()
}
