//! Registries by HTTP, as the distribution specification has it: manifests, blobs, and tokens from wherever a registry sends us.
//!
//! # Invariants
//! - Registries, realms and places that blobs are redirected to are all called through [`Outbound`]: public addresses by https only.
//!   The registries that the operator lists may be private, at exactly that host and port.
//! - Credentials go to the registry and, where it names one, its realm: never to where a blob is redirected to. Never over plain http,
//!   but to a listed registry.
//! - What was asked for by digest has that digest.

mod challenge;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use serde::Deserialize;
use shared::{
    image::{DOCKER_HUB, Digest, ImageRef, RegistryAuth},
    secret::Secret,
};

use self::challenge::Challenge;
use crate::{
    config::{ImagesConfig, OutboundConfig, registry_of},
    domain::images::ports::{Access, Document, Refusal, Registry},
    outbound::{Outbound, OutboundAnswer, OutboundError, OutboundRequest},
};

/// Where Docker Hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// What manifests are understood.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Redirects of a blob that are followed.
const REDIRECTS_MAX: usize = 2;
/// Longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Registries somewhere else.
#[derive(Debug)]
pub struct HttpRegistry {
    outbound: Arc<Outbound>,
    /// Base URLs of the registries that may be private.
    private: Vec<String>,
    /// For those alone.
    inside: Outbound,
}

impl HttpRegistry {
    /// Asks through `outbound`, and those that `config` lists wherever they are.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn new(
        config: &ImagesConfig,
        settings: &OutboundConfig,
        outbound: Arc<Outbound>,
    ) -> anyhow::Result<Self> {
        let everywhere = ["0.0.0.0/0", "::/0"].map(str::parse);
        let inside = OutboundConfig {
            allow_private: everywhere.into_iter().collect::<Result<_, _>>()?,
            extra_ca_file: settings.extra_ca_file.clone(),
        };
        Ok(Self {
            outbound,
            private: config.private_registries.clone(),
            inside: Outbound::new(&inside)?,
        })
    }

    /// The base URL of a registry's API.
    fn base(&self, registry: &str) -> String {
        let listed = self.private.iter();
        let mut listed = listed.filter(|url| registry_of(url) == Some(registry));
        match listed.next() {
            Some(url) => url.clone(),
            None if registry == DOCKER_HUB => format!("https://{DOCKER_HUB_API}"),
            None => format!("https://{registry}"),
        }
    }

    /// Whether a URL is one of a registry that is listed: by the scheme, host and port that are listed.
    fn is_listed(&self, url: &str) -> bool {
        let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
        let of_url = origin(url);
        let known = self.private.iter().map(|listed| origin(listed));
        of_url.is_some() && known.into_iter().any(|listed| listed == of_url)
    }

    async fn send(&self, url: String, headers: HeaderMap) -> Result<OutboundAnswer, Refusal> {
        let client = if self.is_listed(&url) {
            &self.inside
        } else {
            self.outbound.as_ref()
        };
        let request = OutboundRequest {
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
        };
        client.send(request).await.map_err(|error| match error {
            OutboundError::NotPublic { .. } | OutboundError::Url(_) => {
                Refusal::NotCallable(error.to_string())
            }
            OutboundError::TooLarge => Refusal::Odd(error.to_string()),
            other => Refusal::Unavailable(other.to_string()),
        })
    }

    /// Asks a registry, with a token if it wants one.
    async fn ask(
        &self,
        image: &ImageRef,
        path: &str,
        access: &mut Access,
    ) -> Result<OutboundAnswer, Refusal> {
        let url = format!(
            "{}/v2/{}/{path}",
            self.base(image.registry()),
            image.repository()
        );
        let first = self.send(url.clone(), headers(access)?).await?;
        if first.status != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let asked = first.headers.get_all(header::WWW_AUTHENTICATE);
        let asked = asked.iter().filter_map(|value| value.to_str().ok());
        let challenge = asked.filter_map(challenge::read).next();
        access.header = Some(match (challenge, &access.auth) {
            (None, _) | (Some(Challenge::Basic), None) => return Err(Refusal::Unauthorized),
            (Some(Challenge::Basic), Some(auth)) => basic(auth),
            (Some(Challenge::Bearer { realm, service }), auth) => {
                let token = self.token(image, &realm, service, auth.as_ref()).await?;
                Secret::new(format!("Bearer {}", token.expose()))
            }
        });
        let second = self.send(url, headers(access)?).await?;
        match second.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::Unauthorized),
            _ => Ok(second),
        }
    }

    /// A token to pull this image with. The realm is whatever the registry says, so it is called like any other stranger's URL.
    async fn token(
        &self,
        image: &ImageRef,
        realm: &str,
        service: Option<String>,
        auth: Option<&RegistryAuth>,
    ) -> Result<Secret<String>, Refusal> {
        let odd = |why: &str| Refusal::Odd(why.to_owned());
        let mut url = Url::parse(realm).map_err(|_| odd("its realm isn't a URL"))?;
        if url.scheme() != "https" && !self.is_listed(realm) {
            return Err(Refusal::NotCallable("its realm isn't https".to_owned()));
        }
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{}:pull", image.repository()));
        let mut headers = HeaderMap::new();
        if let Some(auth) = auth {
            headers.insert(header::AUTHORIZATION, value(basic(auth).expose())?);
        }
        let answer = self.send(url.to_string(), headers).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(Refusal::Unauthorized);
            }
            status => return Err(Refusal::Unavailable(format!("its realm answers {status}"))),
        }
        let told: Token =
            serde_json::from_slice(&answer.body).map_err(|_| odd("its realm gives no token"))?;
        let token = told.token.or(told.access_token).unwrap_or_default();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(odd("its realm gives no token"));
        }
        Ok(Secret::new(token))
    }

    /// Goes where a blob is, without credentials.
    async fn follow(&self, mut answer: OutboundAnswer) -> Result<OutboundAnswer, Refusal> {
        for _ in 0..REDIRECTS_MAX {
            if !answer.status.is_redirection() {
                break;
            }
            let place = answer.headers.get(header::LOCATION);
            let place = place.and_then(|place| place.to_str().ok());
            let place = place.filter(|place| place.starts_with("https://"));
            let place =
                place.ok_or_else(|| Refusal::Odd("it redirects to no https URL".to_owned()))?;
            answer = self.send(place.to_owned(), HeaderMap::new()).await?;
        }
        Ok(answer)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(auth: &RegistryAuth) -> Secret<String> {
    let pair = format!("{}:{}", auth.username(), auth.password().expose());
    Secret::new(format!("Basic {}", STANDARD.encode(pair)))
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Refusal::Odd("its token can't be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn headers(access: &Access) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    if let Some(text) = &access.header {
        headers.insert(header::AUTHORIZATION, value(text.expose())?);
    }
    Ok(headers)
}

fn document(answer: OutboundAnswer, wanted: Option<&Digest>) -> Result<Document, Refusal> {
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Refusal::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::Unauthorized),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Refusal::Unavailable(format!("status {status}")));
        }
        status => return Err(Refusal::Odd(format!("status {status}"))),
    }
    let digest = Digest::of(&answer.body);
    if wanted.is_some_and(|wanted| *wanted != digest) {
        return Err(Refusal::Odd(
            "what it gives hasn't the digest that was asked for".to_owned(),
        ));
    }
    Ok(Document {
        digest,
        bytes: answer.body.into(),
    })
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn manifest(&self, image: &ImageRef, access: &mut Access) -> Result<Document, Refusal> {
        let which = match (image.digest(), image.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let answer = self
            .ask(image, &format!("manifests/{which}"), access)
            .await?;
        document(answer, image.digest())
    }

    async fn blob(
        &self,
        image: &ImageRef,
        digest: &Digest,
        access: &mut Access,
    ) -> Result<Document, Refusal> {
        let answer = self.ask(image, &format!("blobs/{digest}"), access).await?;
        document(self.follow(answer).await?, Some(digest))
    }
}
