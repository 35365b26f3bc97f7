//! An image that holds this very program and the libraries that it runs with: what the probe's containers are made of.
//!
//! # Invariants
//! - Nothing is fetched: the files are those that this process was loaded from.
//! - One image per build of the program, by the digest of what is in it; images of other builds are removed when it is made.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use futures_util::TryStreamExt as _;

use super::{
    DockerRuntime,
    archive::{Bundle, Packed},
    engine::is_status,
};

/// The image's name, without its tag.
const REPOSITORY: &str = "ramarket-isolation-probe";

/// An image that is there.
#[derive(Debug)]
pub(super) struct ProbeImage {
    pub(super) reference: String,
    /// How the program is started in it; its arguments follow.
    pub(super) command: Vec<String>,
}

impl DockerRuntime {
    /// The image, made if it isn't there.
    pub(super) async fn probe_image(&self) -> anyhow::Result<ProbeImage> {
        let (tag, Packed { archive, command }) = tokio::task::spawn_blocking(pack).await??;
        let reference = format!("{REPOSITORY}:{tag}");
        let client = self.engine.client().await?;
        match client.inspect_image(&reference).await {
            Ok(_) => return Ok(ProbeImage { reference, command }),
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return Err(error.into()),
        }
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_full(archive.into());
        client
            .create_image(Some(options), Some(body), None)
            .try_collect::<Vec<_>>()
            .await?;
        self.remove_others(Some(&reference)).await?;
        Ok(ProbeImage { reference, command })
    }

    /// Removes each of them.
    pub(super) async fn remove_probe_images(&self) -> anyhow::Result<()> {
        self.remove_others(None).await
    }

    async fn remove_others(&self, kept: Option<&str>) -> anyhow::Result<()> {
        let client = self.engine.client().await?;
        let options = ListImagesOptions {
            filters: Some(HashMap::from([(
                "reference".to_owned(),
                vec![REPOSITORY.to_owned()],
            )])),
            ..ListImagesOptions::default()
        };
        for image in client.list_images(Some(options)).await? {
            for tag in image
                .repo_tags
                .into_iter()
                .filter(|tag| Some(tag.as_str()) != kept)
            {
                if let Err(error) = client
                    .remove_image(&tag, None::<RemoveImageOptions>, None)
                    .await
                {
                    // another agent of this machine may be using it
                    tracing::debug!(image = tag, %error, "a probe image stays");
                }
            }
        }
        Ok(())
    }
}

/// This program.
fn pack() -> anyhow::Result<(String, Packed)> {
    let maps = std::fs::read_to_string("/proc/self/maps")
        .context("what this program was loaded from isn't known")?;
    let bundle = Bundle::read(Path::new("/proc/self/exe"), &maps)?;
    Ok((bundle.digest(), bundle.pack("", "probe")?))
}
