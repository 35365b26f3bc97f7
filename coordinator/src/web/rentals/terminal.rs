//! The page with a terminal: the one page of ours that is nothing without scripts.
//!
//! # Invariants
//! - Scripts come from this host's own files; styles from there, or with the page's own nonce. Nothing is evaluated.

use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Shown, escape, html, page as parts, quiet, shown};
use crate::error::{Error, Result};

const NONCE_BYTES: usize = 16;

/// The terminal's page; of a rental that doesn't run, why there is none. `url` is where we are reached.
pub(super) fn page(url: &str, found: &Shown) -> Result<Response> {
    let id = escape(found.text("/id"));
    if !found.is_running() {
        let body = format!(
            "<p role=\"alert\">This rental is {}: a terminal opens while it runs.</p>\n<p><a href=\"/rentals/{id}\">The rental</a></p>\n",
            escape(found.text("/state"))
        );
        let status = axum::http::StatusCode::CONFLICT;
        return Ok(shown(status, "Terminal", &body));
    }
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Error::internal("the system has no random numbers"))?;
    let nonce = BASE64.encode(nonce);
    let head = format!(
        "<link rel=\"stylesheet\" href=\"/static/terminal/xterm-6.0.0.css\">\n\
         <link rel=\"stylesheet\" href=\"/static/terminal/terminal.css\">\n\
         <script type=\"module\" nonce=\"{nonce}\" src=\"/static/terminal/terminal.js\"></script>\n"
    );
    let title = format!("Terminal in {id}");
    let html = html::wide_page(&title, &head, &body(found, &id));
    let policy = HeaderValue::from_str(&policy(url, &nonce)).map_err(Error::internal)?;
    let policy = [(header::CONTENT_SECURITY_POLICY, policy)];
    Ok((quiet(), policy, Html(html)).into_response())
}

/// As that of our other pages, with our scripts, requests to us, and style sheets that have the nonce.
fn policy(url: &str, nonce: &str) -> String {
    // not every browser takes 'self' for WebSockets too
    let sockets = url.replacen("http", "ws", 1);
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; connect-src 'self' {sockets}; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    )
}

fn body(found: &Shown, id: &str) -> String {
    format!(
        "<p><a href=\"/rentals/{id}\">The rental</a> · <a href=\"#after\">Skip the terminal</a></p>\n\
         <noscript>\n<p>A terminal in this page needs JavaScript. Without it, run one of these:</p>\n{}{}</noscript>\n\
         <div id=\"terminal\" role=\"region\" aria-label=\"Terminal\" aria-describedby=\"keys\" data-rental=\"{id}\"></div>\n\
         <div class=\"tools\" id=\"after\" tabindex=\"-1\">\n<p id=\"status\" role=\"status\"></p>\n\
         <button id=\"again\" type=\"button\" hidden>Connect again</button>\n\
         <button id=\"reader\" type=\"button\" aria-pressed=\"false\">Screen reader mode</button>\n</div>\n\
         <p id=\"keys\">The Tab key goes into the terminal. <kbd>Ctrl</kbd>+<kbd>F6</kbd> leaves it for the buttons below.</p>\n",
        parts::ssh(found),
        parts::client(id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lets_nothing_be_evaluated_and_names_our_sockets() {
        let policy = policy("https://market.example", "abc");
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"));
        assert!(policy.contains("connect-src 'self' wss://market.example;"));
    }
}
