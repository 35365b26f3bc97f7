//! The page from which people sign in with an account elsewhere, and to which a provider's answer that was refused leads.

use serde::Deserialize;

use super::html::escape;
use crate::domain::oidc::{
    model::{Next, Refusal},
    provider::{Provider, encoded},
};

/// What the page is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Where to afterwards.
    next: Option<String>,
    /// The code of what went wrong before.
    error: Option<String>,
}

/// The page.
pub(super) fn page(providers: &[&Provider], asked: &Asked) -> String {
    let next = asked
        .next
        .as_deref()
        .and_then(Next::parse)
        .unwrap_or_default();
    let links: String = providers
        .iter()
        .map(|provider| link(provider, &next))
        .collect();
    let ways = if providers.is_empty() {
        "<p>This market has no identity provider; sign in by the API.</p>\n".to_owned()
    } else {
        format!("<ul>\n{links}</ul>\n")
    };
    format!("{HEAD}{}{ways}{FOOT}", told(asked.error.as_deref()))
}

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in: RAMarket</title>
<link rel="stylesheet" href="/static/site.css">
</head>
<body>
<header><strong><a href="/">RAMarket</a></strong></header>
<main id="main">
<h1>Sign in</h1>
"#;

const FOOT: &str = r#"<p>With a password: <code>POST /api/v1/auth/login</code>, see <a href="/api/docs/">the API</a>.</p>
</main>
</body></html>
"#;

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
        page(&[&provider], &asked)
    }

    #[test]
    fn a_link_for_each_provider_and_nothing_of_the_query_is_shown() {
        let page = asked(Some("/rentals?a=1&b=2"), None);
        let link = "href=\"/api/v1/auth/oidc/google/start?next=%2Frentals%3Fa%3D1%26b%3D2\">Continue with &lt;Google&gt;</a>";
        assert!(page.contains(link) && !page.contains("refusal"), "{page}");
        let page = asked(Some("//evil.example"), Some("<b>boo"));
        assert!(
            page.contains("start?next=%2F\"") && !page.contains("boo") && page.contains("refusal")
        );
        assert!(
            asked(None, Some("oidc_email_taken"))
                .contains("there is an account with this e-mail address")
        );
    }
}
