//! From a rental to its container: created in its cage, compared with it, or adopted.
//!
//! # Invariants
//! - A container that isn't caged as asked is removed before it ran an instruction; one that was started isn't adopted as what it isn't.
//! - The image is looked at first: who its first process runs as decides capabilities.

use std::sync::{Arc, PoisonError};

use bollard::{
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, ImageInspect},
    query_parameters::{CreateContainerOptions, RemoveContainerOptions},
};
use shared::{resources::IsolationClass, wire::desired::DesiredRental};

use super::{DockerRuntime, engine::is_status, short};
use crate::runtime::{
    ContainerState, Created, LABEL_LEASE, LABEL_NODE, LABEL_RENTAL, LABEL_SPEC, RuntimeError, code,
    disk::pass::Keep,
    isolation::{self, Decision, Seen},
    network, parse,
    profile::{self, Cage, Ground},
    toolkit,
};

impl DockerRuntime {
    /// As [`crate::runtime::ContainerRuntime::create`].
    pub(super) async fn make(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        profile::check_supported(rental)?;
        let decision = &self.ground().await?.1;
        if let Some(least) = rental.isolation.filter(|least| decision.class < *least) {
            let why = format!(
                "the rental was promised {}, and this node gives {} by now; choose another node",
                least.name(),
                decision.class.name()
            );
            return Err(RuntimeError::refused(code::NOT_SUPPORTED, why));
        }
        if !rental.gpus.is_empty() && decision.class == IsolationClass::Vm {
            // the inventory says so too; this one is of an earlier moment
            let why = toolkit::IN_VIRTUAL_MACHINES.to_owned();
            return Err(RuntimeError::refused(code::NOT_SUPPORTED, why));
        }
        let Some(image) = self.image(&profile::image_of(rental)).await? else {
            return Ok(Created::NoImage);
        };
        let disk = self.disk(rental).await?;
        let network = self.network(rental.internet).await?;
        let done = Box::pin(self.make_on(rental, &image, &network.name)).await;
        if !matches!(done, Ok(Created::Fresh(_))) {
            // no container has it: it was never used, or the container is gone
            self.give_back(network).await;
        }
        let unused = disk.as_ref().is_some_and(|disk| disk.fresh)
            && !matches!(done, Ok(Created::Fresh(_) | Created::Started(_)));
        drop(disk);
        if unused {
            self.end_disk(rental.rental_id, Keep::Nothing).await;
        }
        done
    }

    async fn make_on(
        &self,
        rental: &DesiredRental,
        image: &ImageInspect,
        network: &str,
    ) -> Result<Created, RuntimeError> {
        let body = self.body_of(rental, image, network).await?;
        let client = self.engine.client().await?;
        let options = CreateContainerOptions {
            name: Some(profile::name(rental.rental_id)),
            ..CreateContainerOptions::default()
        };
        tracing::debug!(rental.id = %rental.rental_id, "container asked for");
        let created = match client.create_container(Some(options), body.clone()).await {
            Ok(created) => created,
            Err(error) if is_status(&error, 409) => return self.adopt(rental, body).await,
            Err(error) if is_status(&error, 404) => return Ok(Created::NoImage),
            Err(error) => return Err(self.engine.classify(error, code::CREATE_FAILED)),
        };
        tracing::debug!(rental.id = %rental.rental_id, container.id = short(&created.id), "container made");
        // one question (about 1 ms) that must come before the start: afterwards a stranger's code would have run without the limit
        let held = self.inspect_raw(&created.id).await?.ok_or_else(|| {
            RuntimeError::Unavailable("the container vanished after it was created".to_owned())
        })?;
        self.check(&created.id, &body, &held).await?;
        Ok(Created::Fresh(created.id))
    }

    /// What the container of a rental is created from, on a network of this name; `None` when the image isn't on this machine.
    ///
    /// # Errors
    /// The engine's.
    pub async fn body(
        &self,
        rental: &DesiredRental,
        network: &str,
    ) -> Result<Option<ContainerCreateBody>, RuntimeError> {
        let Some(image) = self.image(&profile::image_of(rental)).await? else {
            return Ok(None);
        };
        Ok(Some(self.body_of(rental, &image, network).await?))
    }

    async fn body_of(
        &self,
        rental: &DesiredRental,
        image: &ImageInspect,
        network: &str,
    ) -> Result<ContainerCreateBody, RuntimeError> {
        let known = self.ground().await?;
        let (ground, decision) = known.as_ref();
        let means = self.means().await?;
        let writable = self.writable(means, rental.resources.disk_bytes);
        let dns = &self.networks.settings.dns;
        let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
        let cage = Cage {
            scope: &self.scope,
            ground,
            root_image: profile::starts_as_root(user(image)),
            network,
            runtime: decision.runtime.as_deref(),
            dns: &dns,
            means,
            root_bytes: writable.bytes,
        };
        Ok(profile::create_body(rental, &cage))
    }

    /// What host and engine can do, and what follows from it.
    pub(super) async fn ground(&self) -> Result<Arc<(Ground, Decision)>, RuntimeError> {
        let known = self
            .ground
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let client = self.engine.client().await?;
        let info = self.engine.read(client.info()).await?;
        let version = self.engine.read(client.version()).await?;
        let decision = isolation::decide(&Seen::read(&info, &version));
        Ok(self.remember_ground(Ground::read(&info), decision))
    }

    pub(super) fn remember_ground(
        &self,
        ground: Ground,
        decision: Decision,
    ) -> Arc<(Ground, Decision)> {
        let known = Arc::new((ground, decision));
        *self.ground.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        known
    }

    /// Removes a container with its network, which served it alone.
    pub(super) async fn remove_with_network(&self, container_id: &str) -> Result<(), RuntimeError> {
        let held = self.inspect_raw(container_id).await?;
        let ended = held
            .as_ref()
            .and_then(|held| parse::container(held, &self.scope));
        let network = held
            .as_ref()
            .and_then(|held| held.host_config.as_ref()?.network_mode.clone());
        let client = self.engine.client().await?;
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        if let Some(image) = held.as_ref().and_then(|held| held.image.as_deref()) {
            self.note_use(image).await;
        }
        match client.remove_container(container_id, Some(options)).await {
            Ok(()) => {}
            // gone, or being removed at this moment
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
            Err(error) => return Err(self.engine.classify(error, code::ENGINE_REFUSED)),
        }
        if let Some(ended) = ended
            && let Some(rental_id) = ended.rental_id
        {
            let keep = match ended.state {
                ContainerState::Created => Keep::Nothing,
                _ => Keep::Grace,
            };
            self.end_disk(rental_id, keep).await;
        }
        if let Some(network) = network
            && let Err(error) = self.remove_network(&network).await
        {
            // the rental is gone, which is what was asked; the next sweep finds its network
            tracing::warn!(network.name = network, %error, "a rental's network can't be removed yet");
        }
        Ok(())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInspect>, RuntimeError> {
        let client = self.engine.client().await?;
        let call = async {
            match client.inspect_image(reference).await {
                Err(error) if is_status(&error, 404) => Ok(None),
                other => other.map(Some),
            }
        };
        self.engine.read(call).await
    }

    /// Adopts the container that holds the rental's name, if it is the rental's own. It keeps the network that it was created with, which
    /// must be one of this node's for a rental of this kind.
    async fn adopt(
        &self,
        rental: &DesiredRental,
        mut body: ContainerCreateBody,
    ) -> Result<Created, RuntimeError> {
        let name = profile::name(rental.rental_id);
        let Some(held) = self.inspect_raw(&name).await? else {
            let why = format!("the name {name} was taken and is free again");
            return Err(RuntimeError::Unavailable(why));
        };
        let same = |label: &str| {
            let asked = body.labels.as_ref().and_then(|labels| labels.get(label));
            let labels = held.config.as_ref().and_then(|c| c.labels.as_ref());
            asked.is_some() && asked == labels.and_then(|labels| labels.get(label))
        };
        if !same(LABEL_RENTAL) || !same(LABEL_NODE) {
            let why = format!("another container of this machine has the name {name}");
            return Err(RuntimeError::refused(code::CREATE_FAILED, why));
        }
        if !same(LABEL_LEASE) || !same(LABEL_SPEC) {
            // the reconciler removes it and comes back
            let why = format!("{name} is of an earlier lease or specification");
            return Err(RuntimeError::Unavailable(why));
        }
        let id = held.id.clone().unwrap_or_default();
        let parsed = parse::container(&held, &self.scope);
        let started = parsed.is_some_and(|c| c.state != ContainerState::Created);
        if let Some(asked) = body.host_config.as_mut() {
            self.keep_network(asked, &held, rental.internet).await?;
        }
        if !started {
            self.check(&id, &body, &held).await?;
            return Ok(Created::Fresh(id));
        }
        // somebody works in it: it is left as it is, and isn't passed off as what was asked for
        if let Err(difference) = profile::check(&body, &held) {
            tracing::error!(container.id = short(&id), error = %difference, "a rental's container was started with other limits than are asked for");
            let why = format!(
                "{name} was started before, and not as it is asked for now; remove it first"
            );
            return Err(RuntimeError::refused(code::CREATE_FAILED, why));
        }
        Ok(Created::Started(id))
    }

    /// Asks for the network that a container has, if it is a rental's of the same kind; what isn't differs from what is asked, and is found out.
    async fn keep_network(
        &self,
        asked: &mut HostConfig,
        held: &ContainerInspectResponse,
        internet: bool,
    ) -> Result<(), RuntimeError> {
        let mode = held
            .host_config
            .as_ref()
            .and_then(|host| host.network_mode.clone());
        let Some(mode) = mode.filter(|mode| network::serves(mode, internet)) else {
            return Ok(());
        };
        if self.is_own_network(&mode).await? {
            asked.network_mode = Some(mode);
        }
        Ok(())
    }

    /// Removes a container that isn't limited as asked, or whose image brings volumes.
    async fn check(
        &self,
        container_id: &str,
        body: &ContainerCreateBody,
        held: &ContainerInspectResponse,
    ) -> Result<(), RuntimeError> {
        let Err(refusal) = profile::check(body, held) else {
            return Ok(());
        };
        tracing::error!(container.id = short(container_id), error = %refusal, "a container isn't limited as asked");
        self.remove_with_network(container_id).await?;
        Err(refusal)
    }
}

fn user(image: &ImageInspect) -> Option<&str> {
    image
        .config
        .as_ref()
        .and_then(|config| config.user.as_deref())
}
