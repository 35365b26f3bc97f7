//! Extractors that speak problems: [`Json`], [`Path`], [`Query`], [`RawBody`]. Handlers use these and never axum's.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Kind};

/// Largest request body, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 32;

/// A JSON body, both ways.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::new(
                Kind::MediaType,
                "content_type",
                "send the body as JSON with the header content-type: application/json",
            ));
        }
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        parse_json(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Reads JSON that came from outside: bounded in depth, errors with their place.
///
/// # Errors
/// 400 when it isn't JSON, 422 when it is but doesn't say what `T` needs.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if depth(bytes) > JSON_DEPTH_MAX {
        return Err(Error::bad_request(
            "malformed_json",
            format!("the body nests deeper than {JSON_DEPTH_MAX} levels"),
        ));
    }
    if has_nul(bytes) {
        return Err(Error::invalid("", "text can't contain NUL"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer_of(error.path());
        let inner = error.into_inner();
        if inner.is_data() {
            Error::invalid(&pointer, without_text(&inner.to_string()))
        } else {
            Error::bad_request("malformed_json", format!("the body isn't JSON: {inner}"))
        }
    })?;
    reader.end().map_err(|error| {
        Error::bad_request("malformed_json", format!("the body isn't JSON: {error}"))
    })?;
    Ok(value)
}

/// What serde says of a wrong type, without the text that was there instead: it may be a password in the wrong place.
fn without_text(message: &str) -> String {
    let quoted = message
        .split_once(": string \"")
        .and_then(|(head, rest)| Some((head, rest.rsplit_once("\", expected ")?.1)));
    quoted.map_or_else(
        || message.to_owned(),
        |(head, wanted)| format!("{head}: a string, expected {wanted}"),
    )
}

/// The raw body, at most [`BODY_BYTES_MAX`]; for what is signed.
#[derive(Debug, Clone)]
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        Bytes::from_request(request, state)
            .await
            .map(Self)
            .map_err(|rejection| refuse_body(&rejection))
    }
}

fn refuse_body(rejection: &BytesRejection) -> Error {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Error::new(
            Kind::TooLarge,
            "body_too_large",
            format!("a body may have at most {BODY_BYTES_MAX} bytes"),
        )
    } else {
        Error::bad_request("body_unreadable", "the body ended early or can't be read")
    }
}

/// Parameters of the path.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            // an id that can't be one names nothing
            .map_err(|_| Error::not_found("resource"))
    }
}

/// Parameters of the query string.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| {
                use std::error::Error as _;
                let why = rejection
                    .source()
                    .map_or_else(|| rejection.to_string(), ToString::to_string);
                Error::bad_request("query", format!("the query string: {why}"))
            })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// How deep brackets nest, those in strings not counted.
fn depth(bytes: &[u8]) -> usize {
    let (mut now, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                now += 1;
                deepest = deepest.max(now);
            }
            (false, b'}' | b']') => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a string holds `\u0000`: databases can't keep it.
pub(super) fn has_nul(json: &[u8]) -> bool {
    let mut escaped = false;
    json.iter().enumerate().any(|(at, byte)| {
        let starts_escape = *byte == b'\\' && !escaped;
        let is_nul = escaped
            && json
                .get(at..)
                .is_some_and(|rest| rest.starts_with(b"u0000"));
        escaped = starts_escape;
        is_nul
    })
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => return pointer,
        };
        format!("{pointer}/{step}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only parsed")]
        list: Vec<u32>,
    }

    #[test]
    fn errors_name_their_place() {
        let error = parse_json::<Outer>(br#"{"list":[1,"x"]}"#).expect_err("a string");
        assert_eq!(error.fields()[0].pointer, "/list/1");
        for hush in [r#"{"list":"hush"}"#, r#"{"list":["hush\", expected y"]}"#] {
            let error = parse_json::<Outer>(hush.as_bytes()).expect_err("text");
            assert!(!error.detail().contains("hush"), "{error}");
            assert!(error.detail().contains("expected "), "{error}");
        }
        let error = parse_json::<Outer>(br#"{"list":[],"more":1}"#).expect_err("unknown");
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "invalid"));
        let error = parse_json::<Outer>(br#"{"list":[]}x"#).expect_err("trailing");
        assert_eq!(error.code(), "malformed_json");
    }

    #[test]
    fn nul_is_refused_however_it_is_escaped() {
        assert!(has_nul(br#"{"a":"x\u0000"}"#) && has_nul(br#""\\\u0000""#));
        assert!(!has_nul(br#""\\u0000""#) && !has_nul(br#""\u0001 u0000""#));
        let error = parse_json::<String>(br#""\u0000""#).expect_err("NUL");
        assert_eq!(error.kind(), Kind::Invalid);
    }

    #[test]
    fn nesting_is_bounded_and_strings_do_not_nest() {
        let deep = "[".repeat(33) + &"]".repeat(33);
        assert_eq!(depth(deep.as_bytes()), 33);
        assert!(parse_json::<serde_json::Value>(deep.as_bytes()).is_err());
        assert_eq!(depth(br#"{"a\"[[[":"[[["}"#), 1);
    }
}
