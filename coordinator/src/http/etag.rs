//! Edits of what the caller saw: `ETag` on what can be edited, `If-Match` on the edit (RFC 9110).
//!
//! # Invariants
//! - A tag stands for what an edit can change, not for every figure beside it: free memory moving doesn't void it.
//! - The comparison is made in the transaction of the edit.
//!
//! `If-Match` may be left out: edits name the fields that they change and are guarded by a version, so two of them never
//! lose each other's fields. Whoever must know what they overwrite sends it.

use std::fmt;

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use ring::digest;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{Error, Kind, Result};

const TAGS_MAX: usize = 16;

/// A strong entity tag, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Of something whose every edit counts a version up.
    #[must_use]
    pub fn of_version(version: i64) -> Self {
        Self(format!("v{version}"))
    }

    /// Of the fields that can be edited, written down.
    #[must_use]
    pub fn of_fields(fields: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for field in fields {
            context.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(field.as_bytes());
        }
        let hash = context.finish();
        Self(hex::encode(hash.as_ref().get(..12).unwrap_or_default()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A response with its tag.
#[derive(Debug)]
pub struct Tagged<T>(pub Tag, pub T);

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        // tags are digits and letters
        if let Ok(value) = HeaderValue::from_str(&self.0.to_string()) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

/// `If-Match` in the document of the API.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfMatchParam {
    /// The `ETag` of what you read: refused with 412 if it was changed since.
    #[serde(rename = "If-Match")]
    #[param(rename = "If-Match", example = "\"v3\"")]
    #[expect(dead_code, reason = "only described")]
    if_match: Option<String>,
}

/// What the caller demands of the state that is edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing.
    Anything,
    /// One of these.
    OneOf(Vec<Tag>),
}

impl IfMatch {
    /// Whether what is edited is what the caller saw.
    ///
    /// # Errors
    /// 412 if it isn't.
    pub fn check(&self, current: &Tag) -> Result<()> {
        match self {
            Self::Anything => Ok(()),
            Self::OneOf(tags) if tags.contains(current) => Ok(()),
            Self::OneOf(_) => Err(Error::new(
                Kind::Changed,
                "changed_meanwhile",
                "it was changed since you read it: read it again, and edit that",
            )),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Anything);
        }
        let tags = text
            .split(',')
            .take(TAGS_MAX + 1)
            .map(|item| {
                let item = item.trim();
                // a weak tag is understood, but never matches
                let strong = item.strip_prefix("W/").unwrap_or(item);
                let inner = strong.strip_prefix('"')?.strip_suffix('"')?;
                (!inner.contains('"'))
                    .then(|| (strong.len() == item.len()).then(|| Tag(inner.to_owned())))
            })
            .collect::<Option<Vec<_>>>()?;
        (tags.len() <= TAGS_MAX).then(|| Self::OneOf(tags.into_iter().flatten().collect()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let values: Vec<&str> = parts
            .headers
            .get_all(header::IF_MATCH)
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        if values.is_empty() {
            return Ok(Self::Anything);
        }
        Self::parse(&values.join(",")).ok_or_else(|| {
            Error::bad_request(
                "if_match",
                "If-Match is an ETag as you got it, quotes included, or *",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_strongly() {
        let three = Tag::of_version(3);
        assert_eq!(three.to_string(), "\"v3\"");
        let check = |text: &str| IfMatch::parse(text).expect(text).check(&three).is_ok();
        assert!(check("*") && check("\"v3\"") && check("\"v2\", \"v3\""));
        assert!(!check("\"v2\"") && !check("W/\"v3\""));
        for odd in ["", "v3", "\"v3", "\"a\"b\"", &"\"a\",".repeat(20)] {
            assert_eq!(IfMatch::parse(odd), None, "{odd}");
        }
        assert_ne!(Tag::of_fields(&["a", "bc"]), Tag::of_fields(&["ab", "c"]));
    }
}
