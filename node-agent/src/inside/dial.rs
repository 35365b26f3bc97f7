//! A TCP connection made where the rental is: to itself, or to a public host as far as its firewall lets it.
//!
//! # Invariants
//! - What a name stands for is judged after it was looked up, and that address is the one that is dialled.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use shared::link::{
    address::may_be_dialled,
    open::{self, Opened, code},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::both_ways;

/// From the question for a name to the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 32 * 1_024;
/// Characters of a name.
const HOST_CHARS_MAX: usize = 255;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Connects and carries bytes both ways until both directions have ended.
///
/// # Errors
/// The stream or the connection broke.
pub(super) async fn serve<S>(mut stream: S, host: &str, port: u16) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let late = || {
        let why = format!(
            "{host}:{port} didn't answer within {} s",
            CONNECT_WITHIN.as_secs()
        );
        Err(Opened::refused(code::NOT_CONNECTED, why))
    };
    let connected = timeout(CONNECT_WITHIN, connect(host, port)).await;
    match connected.unwrap_or_else(|_| late()) {
        Ok(connection) => {
            open::send(&mut stream, &Opened::Ready {}).await?;
            both_ways::carry(stream, connection, BUFFER_BYTES).await
        }
        Err(refused) => open::send(&mut stream, &refused).await,
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Opened> {
    let found = addresses(host, port).await.map_err(|error| {
        let why = format!("{host} can't be found from within the rental: {error}");
        Opened::refused(code::NOT_CONNECTED, why)
    })?;
    let allowed: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| may_be_dialled(address.ip()))
        .take(ADDRESSES_MAX)
        .collect();
    if allowed.is_empty() {
        let why = format!(
            "{host} is no address that a rental may reach: use localhost for the rental itself, or a public host"
        );
        return Err(Opened::refused(code::NOT_ALLOWED, why));
    }
    let mut last = io::Error::other("there is no address");
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(connection) => {
                // what is typed is sent at once; a failure costs only that
                connection.set_nodelay(true).ok();
                return Ok(connection);
            }
            Err(error) => last = error,
        }
    }
    let why = format!("nothing answers at {host}:{port} within the rental: {last}");
    Err(Opened::refused(code::NOT_CONNECTED, why))
}

async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.trim_end_matches('.');
    if name.eq_ignore_ascii_case("localhost") {
        let own = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ];
        return Ok(own.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    if name.is_empty() || host.len() > HOST_CHARS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(lookup_host((host, port)).await?.collect())
}
