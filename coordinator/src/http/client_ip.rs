//! Whom we talk to: the peer's address, or what a trusted proxy says of it.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, request::Parts},
};

use crate::app::App;

/// The client's address; unspecified (`0.0.0.0`) when the connection has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// Of a request's head.
    #[must_use]
    pub fn of(parts: &Parts, trusted_proxies: &[IpAddr]) -> Self {
        Self(client(peer(parts), &parts.headers, trusted_proxies))
    }

    /// The address, if the connection has one.
    #[must_use]
    pub fn known(self) -> Option<IpAddr> {
        Some(self.0).filter(|address| !address.is_unspecified())
    }

    /// What to count by: the address, or for IPv6 its /64, since a client has all addresses of that.
    #[must_use]
    pub fn group(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        }
    }
}

impl FromRequestParts<Arc<App>> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self::of(parts, &app.config.http.trusted_proxies))
    }
}

/// The address of the other end of the connection.
#[must_use]
pub fn peer(parts: &Parts) -> IpAddr {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| {
            info.0.ip().to_canonical()
        })
}

/// The last address in `X-Forwarded-For` that isn't a trusted proxy's, if a trusted proxy speaks.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    if !trusted.contains(&peer) {
        return peer;
    }
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
        if !trusted.contains(&client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_count_as_one() {
        let group = |text: &str| ClientIp(text.parse().expect("address")).group();
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1:2"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_ne!(group("10.0.0.1"), group("10.0.0.2"));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let trusted = [ip("127.0.0.1")];
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            "6.6.6.6, 9.9.9.9".parse().expect("header"),
        );
        assert_eq!(client(ip("127.0.0.1"), &headers, &trusted), ip("9.9.9.9"));
        assert_eq!(client(ip("8.8.8.8"), &headers, &trusted), ip("8.8.8.8"));
        assert_eq!(
            client(ip("127.0.0.1"), &HeaderMap::new(), &trusted),
            ip("127.0.0.1")
        );
    }
}
