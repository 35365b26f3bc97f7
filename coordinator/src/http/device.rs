//! What a request says of the program that sent it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use crate::{app::App, domain::auth::model::Device};

impl FromRequestParts<Arc<App>> for Device {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        let name = parts.headers.get(header::USER_AGENT);
        let name = name.map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(Self::new(name.as_deref()))
    }
}
