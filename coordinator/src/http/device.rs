//! What a request says of the program that sent it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::ClientIp;
use crate::{app::App, domain::auth::model::Device};

impl FromRequestParts<Arc<App>> for Device {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let ClientIp(ip) = ClientIp::from_request_parts(parts, app).await?;
        let name = parts.headers.get(header::USER_AGENT);
        let name = name.map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(Self::new(name.as_deref(), Some(ip)))
    }
}
