//! The public API as a client sees it: JSON in, JSON out, and whom one speaks as.

use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// JSON; a string if it isn't JSON.
    pub body: Value,
}

impl Answer {
    /// The body of an answer of this status.
    ///
    /// # Panics
    /// If the status is another.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Asserts a refusal by its status and its code; returns the problem.
    ///
    /// # Panics
    /// If it is another answer.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        self.body
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A market's API, as somebody.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A client with time-outs.
///
/// # Panics
/// If TLS can't be set up.
#[must_use]
pub fn http_client() -> reqwest::Client {
    shared::tls::init();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(TIMEOUT)
        .build()
        .expect("a client")
}

impl Api {
    /// The API of the market at `url` (scheme, host and port), as nobody.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self {
            http: http_client(),
            base: format!("{url}/api/v1"),
            token: String::new(),
        }
    }

    /// The same API as the bearer of `token`: an access token or a rental token.
    #[must_use]
    pub fn bearing(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The bearer token; empty for nobody.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The URL of a path below `/api/v1`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request to be sent with [`send`].
    ///
    /// # Panics
    /// If the method isn't one.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.http.request(method, self.url(path));
        if self.token.is_empty() {
            request
        } else {
            request.bearer_auth(&self.token)
        }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    /// `POST` of JSON; of nothing for `null`.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request("POST", path);
        if body.is_null() {
            return send(request).await;
        }
        send(request.json(body)).await
    }

    /// `POST` of JSON with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Answer {
        let request = self.request("POST", path).header("idempotency-key", key);
        send(request.json(body)).await
    }

    /// `DELETE`.
    ///
    /// # Panics
    /// If nothing answers.
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request("DELETE", path)).await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        send(self.request("PATCH", path).json(body)).await
    }
}

/// Sends a request and reads the whole answer.
///
/// # Panics
/// If nothing answers.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.expect("the market answers")
}

/// As [`send`], for requests to a market that may be down.
///
/// # Errors
/// Nothing answers.
pub async fn try_send(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer {
        status,
        headers,
        body,
    })
}
