//! The market's API over HTTP: one request, one answer or a [`Failure`].
//!
//! # Invariants
//! - Secrets are sent in plain text to this machine only; anywhere else it takes https.
//! - Redirects aren't followed: a payment or a token never goes to another host than the one that was named.
//! - Answers are bounded in size and time.

mod request;

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, redirect::Policy};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use shared::secret::Secret;

pub use self::request::{Answer, Auth, Request};
use crate::{
    failure::{Failure, Kind, Result},
    local::{Local, Session},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

const NOBODY: &str = "nobody who is signed in";

/// The code of a failure that happened before anything was sent.
pub const NOT_SENT: &str = "not_sent";

/// The market.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    /// For what lasts: no time-out but to connect.
    lasting: Client,
    base: Url,
    /// Given with this command.
    key: Option<Secret<String>>,
    /// What this client remembers of it.
    pub local: Local,
}

impl Api {
    /// The market at `base`, by an API key if there is one.
    ///
    /// # Errors
    /// The HTTP client can't be set up.
    pub fn new(base: Url, local: Local, key: Option<Secret<String>>) -> Result<Self> {
        let made = |builder: ClientBuilder| {
            let client = builder
                .user_agent(concat!("ramarket/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(Policy::none())
                .build();
            client.map_err(|error| Failure::failed(format!("HTTP can't be set up: {error}")))
        };
        Ok(Self {
            client: made(Client::builder().timeout(REQUEST_TIMEOUT))?,
            lasting: made(Client::builder().http1_only())?,
            base,
            key,
            local,
        })
    }

    /// The API key that was given with this command.
    pub const fn given_key(&self) -> Option<&Secret<String>> {
        self.key.as_ref()
    }

    /// Whether requests are made as somebody: by a key, or signed in.
    ///
    /// # Errors
    /// The client's own files are unusable.
    pub fn is_somebody(&self) -> Result<bool> {
        Ok(self.account_key()?.is_some() || self.local.session()?.is_some())
    }

    /// Who a request is made as, in words that are the same as long as it is the same: for what is kept and repeated later.
    ///
    /// # Errors
    /// The client's own files are unusable.
    pub fn who(&self, auth: &Auth) -> Result<String> {
        Ok(match auth {
            Auth::Anonymous => NOBODY.to_owned(),
            Auth::Token(_) => "the rental's token".to_owned(),
            Auth::Account => match (self.account_key()?, self.local.session()?) {
                (Some(key), _) => {
                    let hash = digest(&SHA256, key.expose().as_bytes());
                    format!("the API key of hash {}", hex::encode(&hash.as_ref()[..8]))
                }
                (None, Some(session)) => session.email,
                (None, None) => NOBODY.to_owned(),
            },
        })
    }

    /// The API key that acts: the one given with this command, else the one that was remembered.
    fn account_key(&self) -> Result<Option<Secret<String>>> {
        match &self.key {
            Some(key) => Ok(Some(key.clone())),
            None => Ok(self.local.api_key()?.map(Secret::new)),
        }
    }

    /// Where the market is.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request and returns the answer to it. A sign-in that is over is renewed once.
    ///
    /// # Errors
    /// No answer (exit code 3), or the client's own files are unusable.
    pub async fn send(&self, request: &Request) -> Result<Answer> {
        let response = self.respond(&self.client, request).await?;
        self.read(response).await
    }

    /// Sends a request whose answer lasts; the answer's head has come, and its body is read as it comes.
    ///
    /// # Errors
    /// As [`Api::send`], and what the market says if it refuses.
    pub async fn open(&self, request: &Request) -> Result<Response> {
        let response = self.respond(&self.lasting, request);
        let response = tokio::time::timeout(REQUEST_TIMEOUT, response)
            .await
            .map_err(|_| self.late())??;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(self.read(response).await?.failure())
    }

    async fn respond(&self, client: &Client, request: &Request) -> Result<Response> {
        let key = match request.auth {
            Auth::Account => self.account_key()?,
            _ => None,
        };
        let session = match request.auth {
            Auth::Account if key.is_none() => self.local.session()?,
            _ => None,
        };
        let token = match (&request.auth, &key, &session) {
            (Auth::Token(token), ..) | (_, Some(token), _) => Some(token.expose().as_str()),
            (.., Some(session)) => Some(session.access_token.as_str()),
            _ => None,
        };
        let response = self.respond_to(client, request, token).await?;
        match session {
            Some(session) if response.status() == StatusCode::UNAUTHORIZED => {
                let renewed = self.renew(session).await?;
                self.respond_to(client, request, Some(&renewed)).await
            }
            _ => Ok(response),
        }
    }

    /// Signs in and remembers it.
    ///
    /// # Errors
    /// The market refuses or doesn't answer.
    pub async fn login(&self, email: &str, password: &str) -> Result<Session> {
        let body = json!({"email": email, "password": password});
        let request = Request::post("/api/v1/auth/login", body).auth(Auth::Anonymous);
        let session = session_of(email, &self.send(&request).await?.ok()?)?;
        self.local.set_session(Some(session.clone()))?;
        Ok(session)
    }

    async fn renew(&self, session: Session) -> Result<String> {
        let body = json!({"refresh_token": session.refresh_token});
        let request = Request::post("/api/v1/auth/refresh", body);
        let answer = self.send_as(&request, None).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // another command may have renewed it meanwhile: a refresh token holds once
            return match self.local.session()? {
                Some(newer) if newer.refresh_token != session.refresh_token => {
                    Ok(newer.access_token)
                }
                _ => Err(Failure::new(
                    Kind::Auth,
                    "the sign-in is over: run `ramarket login` again",
                )),
            };
        }
        let new = session_of(&session.email, &answer.ok()?)?;
        self.local.rotate(&session.refresh_token, new.clone())?;
        Ok(new.access_token)
    }

    async fn send_as(&self, request: &Request, token: Option<&str>) -> Result<Answer> {
        let response = self.respond_to(&self.client, request, token).await?;
        self.read(response).await
    }

    async fn respond_to(
        &self,
        client: &Client,
        request: &Request,
        token: Option<&str>,
    ) -> Result<Response> {
        let mut url = self.base.clone();
        url.set_path(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut builder = client
            .request(request.method.clone(), url)
            .headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        if let Some(token) = token {
            builder = builder.bearer_auth(token);
        }
        let response = builder.send().await;
        response.map_err(|error| self.unreachable(&error))
    }

    async fn read(&self, mut response: Response) -> Result<Answer> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::failed("the market's answer is larger than 8 MiB"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            // what isn't JSON comes from something between us and the market: the status says enough
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    }

    fn late(&self) -> Failure {
        let base = &self.base;
        Failure::new(
            Kind::Unreachable,
            format!("the market at {base} doesn't answer in time: check --url and your network"),
        )
    }

    /// The failure to reach the market.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let why = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            cause.to_string()
        };
        let base = &self.base;
        let mut failure = Failure::new(
            Kind::Unreachable,
            format!("the market at {base} can't be reached ({why}): check --url and your network"),
        );
        failure.code = error.is_connect().then(|| NOT_SENT.to_owned());
        failure
    }
}

fn session_of(email: &str, answer: &Value) -> Result<Session> {
    let token = |name: &str| {
        let text = answer.get(name).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| Failure::failed(format!("the market's answer has no {name}")))
    };
    Ok(Session {
        email: email.to_owned(),
        access_token: token("access_token")?,
        refresh_token: token("refresh_token")?,
    })
}

/// The market's URL as the command line gives it.
///
/// # Errors
/// Not http or https, or plain http to another machine.
pub fn parse_base(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("not a URL: {error}"))?;
    let local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => return Err("a market's URL has a host: https://market.example".into()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err("plain http goes to this machine only: use https".into()),
        _ => Err("a market's URL begins with https://".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        for good in [
            "https://market.example",
            "http://127.0.0.1:8080",
            "http://localhost/",
            "http://[::1]:1",
        ] {
            assert!(parse_base(good).is_ok(), "{good}");
        }
        for bad in [
            "http://market.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "market.example",
            "",
            "data:x",
        ] {
            assert!(parse_base(bad).is_err(), "{bad}");
        }
    }
}
