//! The one error of the coordinator: what went wrong, in words for the caller, and its cause for the log.
//!
//! # Invariants
//! - `detail` may be shown to the caller; `source` never is.
//! - The HTTP form of an error is decided in `http/error.rs` and nowhere else.

use std::{error::Error as StdError, fmt};

use shared::wire::problem::FieldError;

use crate::store::StoreError;

/// What kind of failure it is; decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request can't be understood.
    BadRequest,
    /// 401: who are you?
    Unauthenticated,
    /// 403: you may know that it exists, but not do this.
    Forbidden,
    /// 404: absent, or not yours.
    NotFound,
    /// 405: this path has no such method.
    MethodNotAllowed,
    /// 408: the request didn't arrive in time.
    Slow,
    /// 409: the state of things doesn't allow it now.
    Conflict,
    /// 412: it isn't any more what the caller saw.
    Changed,
    /// 413: too much.
    TooLarge,
    /// 414: the URL is too long.
    LongUrl,
    /// 415: a body of this type isn't understood.
    MediaType,
    /// 422: understood, but a value is out of bounds.
    Invalid,
    /// 431: the headers are too many or too long.
    LargeHead,
    /// 429: too often; seconds until it may be tried again.
    TooMany {
        /// For `Retry-After`.
        retry_after_s: u64,
    },
    /// 500: our fault.
    Internal,
    /// 503: not now; seconds until it may be tried again.
    Unavailable {
        /// For `Retry-After`.
        retry_after_s: u64,
    },
}

/// A failure.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    code: &'static str,
    detail: String,
    fields: Vec<FieldError>,
    retry_after_s: Option<u64>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind` with a stable `code` and a sentence for the caller.
    pub fn new(kind: Kind, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after_s: None,
            source: None,
        }
    }

    /// 400.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, code, detail)
    }

    /// 401.
    pub fn unauthenticated(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Kind::Unauthenticated, code, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, "forbidden", detail)
    }

    /// 404, for what is absent and for what isn't the caller's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(
            Kind::NotFound,
            "not_found",
            format!("there is no such {what}, or it isn't yours"),
        )
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, detail)
    }

    /// 422 for one field, named by its JSON pointer.
    pub fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::field(Kind::Invalid, "invalid", pointer, message)
    }

    /// 422: the field is known but nothing enforces it yet.
    #[must_use]
    pub fn not_supported(pointer: &str, message: &str) -> Self {
        Self::field(Kind::Invalid, "not_supported", pointer, message)
    }

    /// 500 with a cause that only the log sees.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let mut error = Self::new(
            Kind::Internal,
            "internal",
            "something failed on our side; it was logged",
        );
        error.source = Some(source.into());
        error
    }

    /// A row that can't be: the database was changed by something else, or we have a bug.
    #[must_use]
    pub fn corrupt(table: &str, id: &str, column: &str) -> Self {
        Self::internal(format!(
            "corrupt row: table {table}, id {id}, column {column}"
        ))
    }

    fn field(kind: Kind, code: &'static str, pointer: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut error = Self::new(kind, code, format!("{pointer}: {message}"));
        error.fields.push(FieldError {
            pointer: pointer.to_owned(),
            message,
        });
        error
    }

    /// The same for a field that the caller knows under another name.
    #[must_use]
    pub fn at(self, pointer: &str) -> Self {
        let Some(field) = self.fields.into_iter().next() else {
            return Self {
                fields: Vec::new(),
                ..self
            };
        };
        Self::field(self.kind, self.code, pointer, field.message)
    }

    /// The same, with the seconds after which a repetition makes sense, for kinds that don't say it themselves.
    #[must_use]
    pub const fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Seconds until it may be tried again, where that is known.
    #[must_use]
    pub const fn wait_s(&self) -> Option<u64> {
        match self.kind {
            Kind::TooMany { retry_after_s } | Kind::Unavailable { retry_after_s } => {
                Some(retry_after_s)
            }
            _ => self.retry_after_s,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong with which field.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.fields
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => {
                let mut busy = Self::new(
                    Kind::Unavailable { retry_after_s: 1 },
                    "busy",
                    "the database is busy; try again",
                );
                busy.source = Some(Box::new(error));
                busy
            }
            other => Self::internal(other),
        }
    }
}

impl From<shared::money::AmountOverflow> for Error {
    fn from(error: shared::money::AmountOverflow) -> Self {
        Self::new(Kind::Invalid, "amount_out_of_range", error.to_string())
    }
}

impl From<shared::container::SpecError> for Error {
    fn from(error: shared::container::SpecError) -> Self {
        Self::invalid(error.pointer, error.message)
    }
}
