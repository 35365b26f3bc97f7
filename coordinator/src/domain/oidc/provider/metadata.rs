//! A provider's discovery document, and what we ask of it before we believe it.

use serde::Deserialize;

use crate::domain::oidc::jwks::Alg;

const URL_BYTES_MAX: usize = 2_048;

/// What we use of a provider's discovery document.
#[derive(Debug)]
pub struct Metadata {
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    pub(super) userinfo_endpoint: Option<String>,
    /// Its algorithms that we believe.
    pub algs: Vec<Alg>,
    /// Whether its answers say from whom they are (RFC 9207).
    pub names_itself: bool,
    pub(super) secret_in_body: bool,
}

#[derive(Deserialize)]
pub(super) struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    response_types_supported: Vec<String>,
    id_token_signing_alg_values_supported: Vec<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// From the discovery document of the provider that is asked.
    pub(super) fn of(document: Document, issuer: &str) -> Result<Self, &'static str> {
        if document.issuer != issuer {
            return Err("the discovery document is of another issuer");
        }
        if !document
            .response_types_supported
            .iter()
            .any(|it| it == "code")
        {
            return Err("it has no response type code");
        }
        let methods = &document.code_challenge_methods_supported;
        if methods
            .as_ref()
            .is_some_and(|all| !all.iter().any(|it| it == "S256"))
        {
            return Err("it has no PKCE by S256");
        }
        let named = &document.id_token_signing_alg_values_supported;
        let algs: Vec<Alg> = named
            .iter()
            .filter_map(|name| Alg::from_name(name))
            .collect();
        if algs.is_empty() {
            return Err("it signs with none of RS256, ES256 and EdDSA");
        }
        // people are sent there, not we
        let plain = issuer.starts_with("http://");
        let page = &document.authorization_endpoint;
        let usable = page.starts_with("https://") || (plain && page.starts_with("http://"));
        let written =
            |url: &str| url.len() <= URL_BYTES_MAX && url.bytes().all(|b| b.is_ascii_graphic());
        if !usable || !written(page) || page.contains('#') {
            return Err("its authorization endpoint can't be used");
        }
        let methods = document.token_endpoint_auth_methods_supported.as_deref();
        let has = |method: &str| methods.is_some_and(|all| all.iter().any(|it| it == method));
        Ok(Self {
            secret_in_body: !has("client_secret_basic") && has("client_secret_post"),
            authorization_endpoint: document.authorization_endpoint,
            token_endpoint: document.token_endpoint,
            jwks_uri: document.jwks_uri,
            userinfo_endpoint: document.userinfo_endpoint,
            names_itself: document.authorization_response_iss_parameter_supported,
            algs,
        })
    }
}
