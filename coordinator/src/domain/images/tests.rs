//! What is sold, on a registry in memory.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;

/// A registry that keeps what it was given, by tag or digest.
#[derive(Debug, Default)]
struct Memory {
    kept: HashMap<String, Vec<u8>>,
    away: bool,
    asked: Mutex<usize>,
}

impl Memory {
    fn put(&mut self, tag: Option<&str>, document: &Value) -> Digest {
        let bytes = serde_json::to_vec(document).expect("JSON");
        let digest = Digest::of(&bytes);
        self.kept.insert(digest.to_string(), bytes.clone());
        if let Some(tag) = tag {
            self.kept.insert(tag.to_owned(), bytes);
        }
        digest
    }

    fn image(&mut self, tag: Option<&str>, architecture: &str, layers: &[i64]) -> Digest {
        let config = json!({"os": "linux", "architecture": architecture});
        let config = self.put(None, &config);
        let layers = layers.iter().map(
            |size| json!({"mediaType": "layer", "digest": Digest::of(&size.to_be_bytes()), "size": size}),
        );
        let layers: Vec<Value> = layers.collect();
        let manifest =
            json!({"schemaVersion": 2, "config": {"digest": config, "size": 7}, "layers": layers});
        self.put(tag, &manifest)
    }

    fn give(&self, which: &str) -> std::result::Result<Document, Refusal> {
        *self.asked.lock().expect("not poisoned") += 1;
        if self.away {
            return Err(Refusal::Unavailable("no answer".to_owned()));
        }
        let bytes = self.kept.get(which).ok_or(Refusal::NotFound)?;
        Ok(Document {
            digest: Digest::of(bytes),
            bytes: bytes.clone(),
        })
    }
}

#[async_trait]
impl Registry for Memory {
    async fn manifest(
        &self,
        image: &ImageRef,
        _access: &mut Access,
    ) -> std::result::Result<Document, Refusal> {
        let digest = image.digest().map(ToString::to_string);
        self.give(&digest.unwrap_or_else(|| image.tag().unwrap_or_default().to_owned()))
    }

    async fn blob(
        &self,
        _image: &ImageRef,
        digest: &Digest,
        _access: &mut Access,
    ) -> std::result::Result<Document, Refusal> {
        self.give(digest.as_str())
    }
}

fn wanted(image: &str) -> Wanted {
    Wanted {
        image: image.parse().expect("a reference"),
        auth: None,
        platform: Some(Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        }),
    }
}

fn settings(resolve: Resolve) -> ImagesConfig {
    ImagesConfig {
        resolve,
        ..ImagesConfig::default()
    }
}

async fn code(images: &Images, image: &str) -> &'static str {
    let refused = images.pin(&wanted(image)).await;
    refused.expect_err("refused").code()
}

#[tokio::test]
async fn a_tag_is_pinned_to_the_manifest_of_the_nodes_platform() {
    let mut registry = Memory::default();
    let own = registry.image(None, "amd64", &[100, 200]);
    let other = registry.image(None, "arm64", &[1]);
    let entry = |digest: &Digest, architecture: &str| json!({"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": architecture}});
    let index =
        json!({"schemaVersion": 2, "manifests": [entry(&other, "arm64"), entry(&own, "amd64")]});
    let whole = registry.put(Some("many"), &index);
    let single = registry.image(Some("one"), "amd64", &[5]);
    registry.image(Some("foreign"), "arm64", &[5]);
    let images = Images::new(&settings(Resolve::Always), Arc::new(registry));
    let pinned = images
        .pin(&wanted("h.io/x:many"))
        .await
        .expect("found")
        .expect("pinned");
    assert_eq!(
        (&pinned.digest, pinned.layers, pinned.bytes),
        (&own, 2, 307)
    );
    let by_digest = images.pin(&wanted(&format!("h.io/x@{whole}"))).await;
    assert_eq!(by_digest.expect("found"), Some(pinned));
    let one = images.pin(&wanted("h.io/x:one")).await.expect("found");
    assert_eq!(one.expect("pinned").digest, single);
    assert_eq!(
        code(&images, "h.io/x:foreign").await,
        "image_not_for_platform"
    );
    assert_eq!(
        code(&images, &format!("h.io/x@{other}")).await,
        "image_not_for_platform"
    );
    assert_eq!(code(&images, "h.io/x:none").await, "image_not_found");
}

#[tokio::test]
async fn what_the_operator_forbids_is_refused_before_or_after_it_is_looked_up() {
    let mut registry = Memory::default();
    let banned = registry.image(Some("banned"), "amd64", &[1]);
    registry.image(Some("many"), "amd64", &[1; 6]);
    registry.image(Some("large"), "amd64", &[2 << 20]);
    let registry = Arc::new(registry);
    let config = ImagesConfig {
        registries: vec!["h.io".parse().expect("a pattern")],
        denied: ["h.io/evil/*", banned.as_str()]
            .map(|text| text.parse().expect("a pattern"))
            .to_vec(),
        layers_max: 5,
        size_mib_max: 1,
        ..settings(Resolve::Always)
    };
    let images = Images::new(&config, Arc::clone(&registry) as Arc<dyn Registry>);
    assert_eq!(
        code(&images, "192.168.1.1:5000/x").await,
        "registry_not_allowed"
    );
    assert_eq!(
        code(&images, "h.io/evil/x:banned").await,
        "image_not_allowed"
    );
    assert_eq!(*registry.asked.lock().expect("not poisoned"), 0);
    assert_eq!(code(&images, "h.io/x:banned").await, "image_not_allowed");
    assert_eq!(code(&images, "h.io/x:many").await, "image_too_large");
    assert_eq!(code(&images, "h.io/x:large").await, "image_too_large");
}

#[tokio::test]
async fn a_registry_that_is_away_stops_only_markets_that_sell_nothing_unknown() {
    let away = || {
        Arc::new(Memory {
            away: true,
            ..Memory::default()
        })
    };
    let images = Images::new(&settings(Resolve::IfReachable), away());
    assert_eq!(images.pin(&wanted("x")).await.expect("sold"), None);
    let images = Images::new(&settings(Resolve::Always), away());
    assert_eq!(code(&images, "x").await, "registry_unavailable");
    let never = Arc::new(Memory::default());
    let images = Images::new(
        &settings(Resolve::Never),
        Arc::clone(&never) as Arc<dyn Registry>,
    );
    assert_eq!(images.pin(&wanted("x")).await.expect("sold"), None);
    assert_eq!(*never.asked.lock().expect("not poisoned"), 0);
}
