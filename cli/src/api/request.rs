//! What is asked of the market and what it answers.

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use shared::{secret::Secret, wire::problem::Problem};

use crate::failure::{Failure, Result};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Nobody in particular.
    Anonymous,
    /// Whose API key was given, else whoever signed in, if anybody did.
    Account,
    /// The holder of a rental's token.
    Token(Secret<String>),
}

/// A request. Not `Debug`: its body may hold a password, its headers a payment.
#[derive(Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    pub(super) headers: HeaderMap,
    pub(super) auth: Auth,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its JSON; null if it had none.
    pub body: Value,
}

impl Request {
    /// `GET`, as whoever is signed in.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), None)
    }

    /// `POST` with a JSON body, as whoever is signed in.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path.into(), Some(body))
    }

    /// `PUT` with a JSON body, as whoever is signed in.
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path.into(), Some(body))
    }

    fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body,
            headers: HeaderMap::new(),
            auth: Auth::Account,
        }
    }

    /// `DELETE`, as whoever is signed in.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into(), None)
    }

    /// As somebody else.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// With a parameter, if there is a value.
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// With a header whose value is ours.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a header.
    ///
    /// # Errors
    /// The value has characters that a header doesn't take.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::try_from(value)
            .map_err(|_| Failure::failed(format!("the header {name} can't hold this value")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// Any other status, with what the market says about it.
    pub fn ok(self) -> Result<Value> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(self.failure())
        }
    }

    /// The failure that an answer is.
    pub fn failure(&self) -> Failure {
        let problem = serde_json::from_value::<Problem>(self.body.clone()).ok();
        Failure::from_status(self.status.as_u16(), problem)
    }

    /// Seconds after which to ask again.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }
}
