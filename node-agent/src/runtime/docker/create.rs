//! From a rental to its container: created in its cage, compared with it, or adopted.
//!
//! # Invariants
//! - A container that isn't caged as asked is removed before it ran an instruction.
//! - The image is looked at first: who its first process runs as decides capabilities.

use std::sync::{Arc, PoisonError};

use bollard::{
    models::{ContainerCreateBody, ContainerInspectResponse, ImageInspect},
    query_parameters::CreateContainerOptions,
};
use shared::wire::desired::DesiredRental;

use super::{DockerRuntime, engine::is_status, short};
use crate::runtime::{
    ContainerRuntime as _, ContainerState, Created, LABEL_LEASE, LABEL_NODE, LABEL_RENTAL,
    LABEL_SPEC, RuntimeError, code, parse,
    profile::{self, Cage, Ground, NO_NETWORK},
};

impl DockerRuntime {
    /// As [`crate::runtime::ContainerRuntime::create`].
    pub(super) async fn make(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        profile::check_supported(&rental.resources)?;
        let Some(body) = self.body(rental, NO_NETWORK).await? else {
            return Ok(Created::NoImage);
        };
        let client = self.engine.client().await?;
        let options = CreateContainerOptions {
            name: Some(profile::name(rental.rental_id)),
            ..CreateContainerOptions::default()
        };
        tracing::debug!(rental.id = %rental.rental_id, "container asked for");
        let created = match client.create_container(Some(options), body.clone()).await {
            Ok(created) => created,
            Err(error) if is_status(&error, 409) => return self.adopt(rental, &body).await,
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
        let Some(image) = self.image(rental.spec.image()).await? else {
            return Ok(None);
        };
        let ground = self.ground().await?;
        let cage = Cage {
            scope: &self.scope,
            ground: &ground,
            root_image: profile::starts_as_root(user(&image)),
            network,
            runtime: None,
            dns: &[],
        };
        Ok(Some(profile::create_body(rental, &cage)))
    }

    /// What host and engine can do; asked once.
    pub(super) async fn ground(&self) -> Result<Arc<Ground>, RuntimeError> {
        let known = self
            .ground
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(ground) = known {
            return Ok(ground);
        }
        let client = self.engine.client().await?;
        let ground = Arc::new(Ground::read(&self.engine.read(client.info()).await?));
        *self.ground.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ground));
        Ok(ground)
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

    /// Adopts the container that holds the rental's name, if it is the rental's own.
    async fn adopt(
        &self,
        rental: &DesiredRental,
        body: &ContainerCreateBody,
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
        if !started {
            self.check(&id, body, &held).await?;
        }
        Ok(if started {
            Created::Started(id)
        } else {
            Created::Fresh(id)
        })
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
        self.remove(container_id).await?;
        Err(refusal)
    }
}

fn user(image: &ImageInspect) -> Option<&str> {
    image
        .config
        .as_ref()
        .and_then(|config| config.user.as_deref())
}
