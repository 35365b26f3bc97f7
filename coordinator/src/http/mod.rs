//! The web kit: what every endpoint speaks. It knows of the slices only `access`, for the gate, `auth` and `apikeys`, for the credentials.
//!
//! # Invariants
//! - Every error that leaves is `application/problem+json` (RFC 9457), made in [`error`] and nowhere else.
//! - A credential that doesn't hold is refused, never taken for nobody.
//! - Bodies, headers, nesting and time are bounded before a handler sees anything.

pub mod client_ip;
pub(crate) mod codes;
pub mod contract;
pub mod credentials;
pub mod csrf;
pub mod csv;
mod device;
pub mod document;
pub mod error;
pub mod etag;
pub mod extract;
pub mod gate;
pub mod intake;
pub mod lanes;
pub mod llms;
pub mod middleware;
pub mod openapi;
pub mod pagination;
pub mod rental_token;
pub mod request_id;
#[cfg(test)]
mod tests;

pub use self::{
    client_ip::ClientIp,
    credentials::{PublicCtx, VisitCtx},
    etag::{IfMatch, Tag, Tagged},
    extract::{Json, Path, Query, RawBody},
    openapi::Problems,
    pagination::{Page, Paging, SeenAs, SidedParams},
};
