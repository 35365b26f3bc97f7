//! Talking to a provider: its metadata and keys, kept for a while; codes into tokens; what it says of somebody.
//!
//! # Invariants
//! - Every request goes through [`Outbound`]: bounded, no redirects, public addresses only.
//! - The metadata's issuer is exactly the configured one.
//! - One request for metadata or keys at a time; after a failure none for [`REST_MS`], and none for a key that isn't known
//!   more often than every [`KEYS_REST_MS`]: nobody can make us knock at a provider's door.

mod form;
mod metadata;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use shared::secret::Secret;
use tokio::sync::Mutex;

use self::form::form;
pub use self::{form::encoded, metadata::Metadata};
use super::{
    attempt::{Attempt, Purpose},
    id_token::About,
    jwks::Jwks,
    model::Refusal,
};
use crate::{
    error::{Error, Kind, Result},
    outbound::{Outbound, OutboundRequest},
};

/// For so long metadata and keys are believed, milliseconds.
const FRESH_MS: i64 = 3_600_000;
/// After a failure nothing is asked for so long, milliseconds.
const REST_MS: i64 = 5_000;
/// Keys are asked for again because of an unknown one not more often than this, milliseconds.
const KEYS_REST_MS: i64 = 60_000;
const CODE_BYTES_MAX: usize = 2_048;
const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// A provider and what is known of it.
#[derive(Debug)]
pub struct Provider {
    /// Its name here.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// Its issuer URL.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    pub(super) client_secret: Option<Secret<String>>,
    pub(super) redirect_uri: String,
    pub(super) known: Mutex<Known>,
}

/// What was asked and when, on the boot clock.
#[derive(Debug, Default)]
pub(super) struct Known {
    metadata: Option<(i64, Arc<Metadata>)>,
    keys: Option<(i64, Arc<Jwks>)>,
    failed_ms: Option<i64>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    about: About,
}

/// What a code was exchanged for.
#[derive(Debug)]
pub struct Tokens {
    /// To be checked.
    pub id_token: Secret<String>,
    /// Opens the userinfo endpoint.
    pub access_token: Option<Secret<String>>,
}

impl Provider {
    /// One that is shown and never asked.
    #[cfg(test)]
    pub(crate) fn for_pages(name: &str, display_name: &str) -> Self {
        Self {
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            issuer: "https://issuer.example".to_owned(),
            client_id: "us".to_owned(),
            client_secret: None,
            redirect_uri: String::new(),
            known: Mutex::default(),
        }
    }

    /// What its discovery document says, at most an hour ago. `now_ms` is of the boot clock.
    ///
    /// # Errors
    /// 503 when it can't be had or used.
    pub async fn metadata(&self, outbound: &Outbound, now_ms: i64) -> Result<Arc<Metadata>> {
        let mut known = self.known.lock().await;
        if let Some((asked_ms, metadata)) = &known.metadata
            && now_ms.saturating_sub(*asked_ms) < FRESH_MS
        {
            return Ok(Arc::clone(metadata));
        }
        self.rested(&known, now_ms)?;
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let made = match self.read_json(outbound, get(url)).await {
            Ok(document) => Metadata::of(document, &self.issuer).map_err(|why| self.unusable(why)),
            Err(error) => Err(error),
        };
        let metadata = Arc::new(made.inspect_err(|_| known.failed_ms = Some(now_ms))?);
        known.metadata = Some((now_ms, Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// Its keys. `missing` are those in which a key wasn't found: they are asked for again, unless that was done just now.
    ///
    /// # Errors
    /// 503 when they can't be had.
    pub async fn keys(
        &self,
        outbound: &Outbound,
        metadata: &Metadata,
        missing: Option<&Arc<Jwks>>,
        now_ms: i64,
    ) -> Result<Arc<Jwks>> {
        let mut known = self.known.lock().await;
        if let Some((asked_ms, keys)) = &known.keys {
            let age_ms = now_ms.saturating_sub(*asked_ms);
            // somebody else may have asked while we waited
            let helps = missing.is_none_or(|missing| !Arc::ptr_eq(missing, keys));
            if age_ms < KEYS_REST_MS || (helps && age_ms < FRESH_MS) {
                return Ok(Arc::clone(keys));
            }
        }
        self.rested(&known, now_ms)?;
        let asked = self.read(outbound, get(metadata.jwks_uri.clone())).await;
        let made = asked.and_then(|body| {
            Jwks::parse(&body).ok_or_else(|| self.unusable("it has no usable signature key"))
        });
        let keys = Arc::new(made.inspect_err(|_| known.failed_ms = Some(now_ms))?);
        known.keys = Some((now_ms, Arc::clone(&keys)));
        Ok(keys)
    }

    /// Where the browser goes for `attempt`.
    #[must_use]
    pub fn authorize_url(&self, metadata: &Metadata, attempt: &Attempt) -> String {
        let endpoint = &metadata.authorization_endpoint;
        let (state, nonce, challenge) = (attempt.state(), attempt.nonce(), attempt.challenge());
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", "openid email"),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if attempt.purpose == Purpose::ProveAgain {
            // with max_age the ID token must tell when they were asked
            query.extend([("prompt", "login"), ("max_age", "0")]);
        }
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        format!("{endpoint}{joint}{}", form(&query))
    }

    /// Exchanges a code.
    ///
    /// # Errors
    /// [`Refusal::Code`] when the provider doesn't know it; 503 when there is no usable answer.
    pub async fn exchange(
        &self,
        outbound: &Outbound,
        metadata: &Metadata,
        code: &Secret<String>,
        verifier: &Secret<String>,
    ) -> Result<Tokens> {
        if code.expose().len() > CODE_BYTES_MAX {
            return Err(Refusal::Code.into());
        }
        let request = self.token_request(metadata, code, verifier)?;
        let answer = outbound
            .send(request)
            .await
            .map_err(|error| self.unavailable(&error))?;
        if answer.status != StatusCode::OK {
            let told = serde_json::from_slice::<TokenError>(&answer.body);
            let unknown = told
                .as_ref()
                .is_ok_and(|told| told.error == "invalid_grant");
            return Err(if unknown {
                Refusal::Code.into()
            } else {
                // invalid_client and the like: the operator's part
                self.unavailable(&format!("its token endpoint answered {}", answer.status))
            });
        }
        let tokens: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| self.unusable("its token endpoint answered no ID token"))?;
        let short = |token: &String| token.len() <= TOKEN_BYTES_MAX;
        if !short(&tokens.id_token) || !tokens.access_token.as_ref().is_none_or(short) {
            return Err(self.unusable("its tokens are too long"));
        }
        Ok(Tokens {
            id_token: Secret::new(tokens.id_token),
            access_token: tokens.access_token.map(Secret::new),
        })
    }

    /// What the userinfo endpoint says of `subject`; nothing when there is none to ask.
    ///
    /// # Errors
    /// [`Refusal::IdToken`] when it speaks of somebody else; 503 when there is no usable answer.
    pub async fn about(
        &self,
        outbound: &Outbound,
        metadata: &Metadata,
        access_token: Option<&Secret<String>>,
        subject: &str,
    ) -> Result<Option<About>> {
        let (Some(url), Some(token)) = (&metadata.userinfo_endpoint, access_token) else {
            return Ok(None);
        };
        let mut request = get(url.clone());
        let bearer = sensitive(&format!("Bearer {}", token.expose()))
            .ok_or_else(|| self.unusable("its access token can't be sent"))?;
        request.headers.insert(header::AUTHORIZATION, bearer);
        let said: UserInfo = self.read_json(outbound, request).await?;
        if said.sub == subject {
            Ok(Some(said.about))
        } else {
            Err(Refusal::IdToken.into())
        }
    }

    fn token_request(
        &self,
        metadata: &Metadata,
        code: &Secret<String>,
        verifier: &Secret<String>,
    ) -> Result<OutboundRequest> {
        let mut body = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose().as_str()),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", verifier.expose().as_str()),
        ];
        let mut headers = HeaderMap::new();
        match &self.client_secret {
            Some(secret) if !metadata.secret_in_body => {
                let (id, secret) = (encoded(&self.client_id), encoded(secret.expose()));
                let pair = BASE64.encode(format!("{id}:{secret}"));
                let basic = sensitive(&format!("Basic {pair}"))
                    .ok_or_else(|| self.unusable("the client secret can't be sent"))?;
                headers.insert(header::AUTHORIZATION, basic);
            }
            secret => {
                body.push(("client_id", &self.client_id));
                body.extend(
                    secret
                        .as_ref()
                        .map(|it| ("client_secret", it.expose().as_str())),
                );
            }
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form_type);
        Ok(OutboundRequest {
            method: Method::POST,
            url: metadata.token_endpoint.clone(),
            headers,
            body: form(&body).into(),
        })
    }

    async fn read_json<T: DeserializeOwned>(
        &self,
        outbound: &Outbound,
        request: OutboundRequest,
    ) -> Result<T> {
        let body = self.read(outbound, request).await?;
        serde_json::from_slice(&body).map_err(|error| self.unavailable(&error))
    }

    async fn read(&self, outbound: &Outbound, request: OutboundRequest) -> Result<Vec<u8>> {
        let answer = outbound
            .send(request)
            .await
            .map_err(|error| self.unavailable(&error))?;
        if answer.status == StatusCode::OK {
            Ok(answer.body.to_vec())
        } else {
            Err(self.unavailable(&format!("it answered {}", answer.status)))
        }
    }

    fn rested(&self, known: &Known, now_ms: i64) -> Result<()> {
        let failed = known
            .failed_ms
            .is_some_and(|at| now_ms.saturating_sub(at) < REST_MS);
        if failed { Err(self.not_now()) } else { Ok(()) }
    }

    fn unusable(&self, why: &'static str) -> Error {
        self.unavailable(&why)
    }

    fn unavailable(&self, cause: &dyn std::fmt::Display) -> Error {
        tracing::warn!(oidc.provider = self.name, %cause, "identity provider can't be used");
        self.not_now()
    }

    fn not_now(&self) -> Error {
        let retry_after_s = 5;
        Error::new(
            Kind::Unavailable { retry_after_s },
            "oidc_unavailable",
            format!(
                "{} doesn't answer as it should: try again, or sign in another way",
                self.display_name
            ),
        )
    }
}

fn get(url: String) -> OutboundRequest {
    let json = (header::ACCEPT, HeaderValue::from_static("application/json"));
    OutboundRequest {
        method: Method::GET,
        url,
        headers: HeaderMap::from_iter([json]),
        body: Default::default(),
    }
}

/// A header value that no log shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
