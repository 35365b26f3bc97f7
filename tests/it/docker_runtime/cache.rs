//! Images that were fetched for rentals: by digest with credentials, kept while there is room, removed in the order of their last use.

use node_agent::runtime::{
    ContainerRuntime as _, Created, Fetch, RuntimeError, code, docker::DockerRuntime,
};
use shared::{
    image::{Digest, RegistryAuth, rules::PinnedImage},
    wire::desired::DesiredRental,
};
use system_tests::registry::{Image, PASSWORD, Registry, USER};

use super::node::{Node, images};

fn fetch(registry: &Registry, tag: &str) -> Fetch {
    let auth = RegistryAuth::new(USER.to_owned(), PASSWORD.to_owned());
    Fetch {
        reference: format!("{}/it/lru:{tag}", registry.name()),
        pinned: None,
        auth: Some(auth.expect("fine")),
    }
}

fn by_digest(registry: &Registry, digest: &Digest) -> String {
    format!("{}/it/lru@{digest}", registry.name())
}

fn rental(node: &Node, image: &str) -> DesiredRental {
    node.rental(image, &["sleep", "600"])
}

/// Makes a container of an image that is there.
async fn container(runtime: &DockerRuntime, rental: &DesiredRental) -> String {
    match runtime.create(rental).await.expect("created") {
        Created::Fresh(id) => id,
        other => panic!("{other:?}"),
    }
}

fn refused(result: Result<Digest, RuntimeError>) -> &'static str {
    match result.expect_err("refused") {
        RuntimeError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_longest_ago_goes_and_nothing_that_is_used_or_somebody_elses() {
    let node = Node::new("lru");
    let registry = Registry::start().await;
    let mut settings = images();
    settings.fresh_ms = 0;
    let host = node.engine().host();
    let runtime = |settings| {
        let runtime = DockerRuntime::new(Some(&host), node.scope().to_owned());
        runtime.expect("a unix socket").with_images(settings)
    };
    let first = runtime(settings.clone());
    let mut digests = Vec::new();
    for (at, tag) in ["used", "touched", "oldest", "kept"]
        .into_iter()
        .enumerate()
    {
        let bytes = 200_000 + u64::try_from(at).expect("small");
        let pushed = registry.push("it/lru", tag, &Image::busybox(bytes)).await;
        let fetched = first
            .pull(&fetch(&registry, tag), &|_| {})
            .await
            .expect("fetched");
        assert_eq!(fetched, pushed, "{tag}");
        digests.push(pushed);
    }
    let name = |at: usize| by_digest(&registry, &digests[at]);
    let told = first.facts().await.expect("facts").images;
    assert_eq!(told.cached.len(), 4);
    // in use; used a moment ago; and one that the machine's owner has a name of their own for
    let in_use = container(&first, &rental(&node, &name(0))).await;
    let touched = container(&first, &rental(&node, &name(1))).await;
    first.remove(&touched).await.expect("removed");
    let own = format!("{}/provider/own:1", registry.name());
    node.engine().docker(&["tag", &name(3), &own]);

    // room for one image less than are idle
    let size = node
        .engine()
        .docker(&["image", "inspect", "--format", "{{.Size}}", &name(2)]);
    settings.cache_max_bytes = size.parse::<i64>().expect("a figure") * 5 / 2;
    let second = runtime(settings.clone());
    second.sweep_images().await.expect("swept");
    let there = |at: usize| {
        let list = node
            .engine()
            .docker(&["images", "--digests", "--format", "{{.Digest}}"]);
        list.lines().any(|line| line == digests[at].as_str())
    };
    assert_eq!([0, 1, 2, 3].map(there), [true, true, false, true]);
    let told = second.facts().await.expect("facts").images;
    assert!(told.cached.contains(&digests[1]) && !told.cached.contains(&digests[2]));

    settings.cache_max_bytes = 0;
    let third = runtime(settings);
    third.sweep_images().await.expect("swept");
    // what the owner named stays, though it isn't ours any more
    assert_eq!([0, 1, 2, 3].map(there), [true, false, false, true]);
    let told = third.facts().await.expect("facts").images;
    assert_eq!(told.cached, [digests[0].clone()]);
    third.remove(&in_use).await.expect("removed");
    third.sweep_images().await.expect("swept");
    assert_eq!([0, 3].map(there), [false, true]);
    node.engine().docker(&["rmi", &own]);
    node.engine().docker(&["rmi", &name(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_fetches_nothing_that_its_owner_does_not_allow() {
    let node = Node::new("rules");
    let registry = Registry::start().await;
    let pushed = registry.push("it/lru", "1", &Image::busybox(1 << 20)).await;
    let foreign = Image {
        architecture: "riscv64".to_owned(),
        ..Image::busybox(10)
    };
    registry.push("it/lru", "foreign", &foreign).await;
    let host = node.engine().host();
    let pull = async |change: &dyn Fn(&mut node_agent::runtime::cache::Settings),
                      wanted: &Fetch| {
        let mut settings = images();
        change(&mut settings);
        let runtime = DockerRuntime::new(Some(&host), node.scope().to_owned());
        let runtime = runtime.expect("a unix socket").with_images(settings);
        runtime.pull(wanted, &|_| {}).await
    };
    let wanted = fetch(&registry, "1");
    let pattern = |text: &str| text.parse().expect("a pattern");
    let code_of = |result| refused(result);
    let nowhere = pull(&|it| it.rules.registries.clear(), &wanted).await;
    assert_eq!(code_of(nowhere), code::IMAGE_NOT_ALLOWED);
    let denied = pull(
        &|it| it.rules.denied = vec![pattern(pushed.as_str())],
        &wanted,
    )
    .await;
    assert_eq!(code_of(denied), code::IMAGE_NOT_ALLOWED);
    let other = pull(&|it| it.rules.allowed = vec![pattern("ghcr.io/*")], &wanted).await;
    assert_eq!(code_of(other), code::IMAGE_NOT_ALLOWED);
    // nobody said how large it is: it is found out while it comes
    let layers = pull(&|it| it.rules.layers_max = 1, &wanted).await;
    assert_eq!(code_of(layers), code::IMAGE_TOO_LARGE);
    let bytes = pull(&|it| it.rules.bytes_max = 500_000, &wanted).await;
    assert_eq!(code_of(bytes), code::IMAGE_TOO_LARGE);
    let full = pull(&|it| it.free_floor_bytes = i64::MAX / 2, &wanted).await;
    assert_eq!(code_of(full), code::IMAGE_PULL_FAILED);
    let quoted = Fetch {
        pinned: Some(PinnedImage {
            digest: pushed.clone(),
            layers: 2,
            bytes: 600_000,
        }),
        ..wanted.clone()
    };
    let quoted = pull(&|it| it.rules.bytes_max = 500_000, &quoted).await;
    assert_eq!(code_of(quoted), code::IMAGE_TOO_LARGE);
    let foreign = pull(&|_| {}, &fetch(&registry, "foreign")).await;
    assert_eq!(code_of(foreign), code::IMAGE_NOT_SUPPORTED);
    let open = Fetch {
        auth: None,
        ..wanted.clone()
    };
    assert_eq!(code_of(pull(&|_| {}, &open).await), code::IMAGE_NOT_FOUND);
    let list = node
        .engine()
        .docker(&["images", "--digests", "--format", "{{.Digest}}"]);
    assert!(!list.contains(pushed.as_str()), "nothing of it is here");
    pull(&|_| {}, &wanted).await.expect("allowed");
    node.forget_images(&[by_digest(&registry, &pushed)]);
}
