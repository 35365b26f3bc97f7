//! A network at the engine: made with a bridge of its name, on addresses that nothing has, and removed.

use std::{collections::HashMap, path::Path};

use bollard::{
    errors::Error,
    models::{Ipam, IpamConfig, NetworkCreateRequest},
};

use super::{DockerRuntime, engine::is_status};
use crate::runtime::{
    LABEL_NODE, RuntimeError, code,
    network::{self, host::Routes, rules, subnet::Subnet},
};

/// Pieces of the pool that are tried for one network.
const TRIES: u32 = 256;

impl DockerRuntime {
    /// Makes a network on the first piece of the pool that nothing has.
    pub(super) async fn make_network(
        &self,
        name: &str,
        internet: bool,
    ) -> Result<Subnet, RuntimeError> {
        let client = self.engine.client().await?;
        let taken = Routes::read(Path::new("/proc"))
            .map_err(|error| RuntimeError::Unavailable(format!("{error:#}")))?
            .taken;
        let pool = self.networks.settings.pool;
        // a route that covers the whole pool, such as a company's 10.0.0.0/8, doesn't use its pieces
        let used = |piece: &Subnet| {
            taken
                .iter()
                .any(|route| route.overlaps(piece) && !route.covers(&pool))
        };
        let pieces = (0..TRIES).map(|attempt| network::piece(pool, name, attempt));
        for piece in pieces.filter(|piece| !used(piece)) {
            let request = self.request(name, internet, piece);
            match client.create_network(request).await {
                Ok(_) => return Ok(piece),
                Err(error) if overlaps(&error) => {}
                Err(error) => return Err(self.engine.classify(error, code::CREATE_FAILED)),
            }
        }
        let why =
            format!("no free network in {pool} after {TRIES} tries; set a larger network_pool");
        Err(RuntimeError::refused(code::CREATE_FAILED, why))
    }

    fn request(&self, name: &str, internet: bool, piece: Subnet) -> NetworkCreateRequest {
        let option = |name: &str, value: &str| {
            (
                format!("com.docker.network.bridge.{name}"),
                value.to_owned(),
            )
        };
        NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(!internet),
            attachable: Some(false),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(piece.to_string()),
                    gateway: piece.address(1).map(|address| address.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(HashMap::from([
                option("name", name),
                option("enable_icc", "false"),
                // the firewall's table does it, whether or not the engine may write rules of its own
                option("enable_ip_masquerade", "false"),
            ])),
            labels: Some(HashMap::from([(LABEL_NODE.to_owned(), self.scope.clone())])),
            ..NetworkCreateRequest::default()
        }
    }

    /// Removes a network of a rental's; one that is gone is fine, and one that is in use goes with the next sweep.
    pub(super) async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        if !name.starts_with(rules::PREFIX) {
            return Ok(());
        }
        let client = self.engine.client().await?;
        match client.remove_network(name).await {
            Ok(()) => Ok(()),
            Err(error) if is_status(&error, 404) => Ok(()),
            Err(error) => Err(self.engine.classify(error, code::ENGINE_REFUSED)),
        }
    }
}

/// Docker's answer when a network has addresses of another one.
fn overlaps(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { message, .. } if message.to_lowercase().contains("overlap") || message.contains("conflicts with network"))
}
