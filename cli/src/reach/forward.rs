//! Ports of this machine that lead to ports of a rental.
//!
//! # Invariants
//! - Only this machine's own loopback listens.
//! - Each connection has a stream of its own; one that fails says so and ends alone.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::open;
use crate::{
    api::{Api, Auth, Request},
    args::reach::PortPair,
    failure::{Failure, Result},
    output::tell,
};

/// A port that listens.
#[derive(Debug)]
pub struct Forward {
    listener: TcpListener,
    remote: u16,
}

impl Forward {
    /// Listens on this machine.
    ///
    /// # Errors
    /// The port is taken, or not ours to take.
    pub async fn listen(pair: PortPair) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, pair.local));
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::usage(format!(
                "{address} can't be listened on ({error}): name another port, as :{}",
                pair.remote
            ))
        })?;
        Ok(Self {
            listener,
            remote: pair.remote,
        })
    }

    /// Where it listens, and where that leads.
    ///
    /// # Errors
    /// The system can't tell.
    pub fn pair(&self) -> Result<(SocketAddr, u16)> {
        let local = self.listener.local_addr();
        let local =
            local.map_err(|error| Failure::failed(format!("the port can't be told: {error}")))?;
        Ok((local, self.remote))
    }

    /// Serves connections until the process ends.
    pub async fn serve(self, api: Api, rental: String, auth: Auth) {
        loop {
            match self.listener.accept().await {
                Ok((connection, _)) => {
                    let (api, rental, auth) = (api.clone(), rental.clone(), auth.clone());
                    tokio::spawn(carry(connection, api, rental, auth, self.remote));
                }
                // as many files as may be are open: those that end make room
                Err(error) => {
                    tell(&format!("a connection can't be taken: {error}"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn carry(mut connection: TcpStream, api: Api, rental: String, auth: Auth, remote: u16) {
    let request = Request::get(format!("/api/v1/rentals/{rental}/ports/{remote}")).auth(auth);
    let mut stream = match open(&api, request).await {
        Ok(stream) => stream,
        Err(failure) => return tell(&format!("port {remote}: {failure}")),
    };
    // keystrokes go at once; where that can't be set they go all the same
    drop(connection.set_nodelay(true));
    if let Err(error) = copy_bidirectional(&mut connection, &mut stream).await {
        tell(&format!("port {remote}: the connection is lost: {error}"));
    }
}
