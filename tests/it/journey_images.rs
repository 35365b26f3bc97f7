//! Images from a real registry with credentials: what was quoted runs, whatever its tag means by then; what can't run is refused before
//! it is paid; a pull that nobody wants any more ends.

use serde_json::{Value, json};
use shared::image::Digest;
use system_tests::{
    market::Store,
    payer::{Payer, send},
    registry::{Image, PASSWORD, Registry, USER},
    stage::Stage,
    wait,
};

/// A market that asks the registry, and a node.
async fn stage(registries: &[&str], more: &[(&str, &str)]) -> Stage {
    let listed: Vec<String> = registries
        .iter()
        .map(|name| format!("http://{name}"))
        .collect();
    let listed = listed.join(",");
    let settings = [
        ("images.resolve", "always"),
        ("images.private_registries", &listed),
        ("log.level", "debug"),
    ];
    Stage::with(Store::Sqlite, &[&settings[..], more].concat()).await
}

fn order(stage: &Stage, image: &str, auth: bool) -> Value {
    let mut order = stage.order(&["sleep", "600"], 600);
    order["image"] = json!(image);
    if auth {
        order["registry_auth"] = json!({"username": USER, "password": PASSWORD});
    }
    order
}

/// Removes what a test left on the engine that others use.
fn forget(registry: &str, digests: &[&Digest]) {
    for digest in digests {
        docker(&["rmi", "-f", &format!("{registry}/it/x@{digest}")]);
        let own = docker(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            "reference=ramarket.local/cache/*",
        ]);
        for tag in own.lines().filter(|tag| tag.ends_with(digest.hex())) {
            docker(&["rmi", "-f", tag]);
        }
    }
}

fn docker(arguments: &[&str]) -> String {
    let ran = std::process::Command::new("docker")
        .args(arguments)
        .output();
    String::from_utf8(ran.expect("docker runs").stdout).expect("text")
}

/// Whether the engine has an image of this digest.
fn is_here(registry: &str, digest: &Digest) -> bool {
    let name = format!("{registry}/it/x@{digest}");
    !docker(&["image", "inspect", "--format", "{{.Id}}", &name])
        .trim()
        .is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_runs_as_it_was_quoted_though_its_tag_moved() {
    let registry = Registry::start().await;
    let name = registry.name();
    let stage = stage(&[&name], &[]).await;
    let (first, second) = (Image::busybox(100_000), Image::busybox(100_001));
    let quoted = registry.push("it/x", "1", &first).await;
    let (api, payer) = (stage.market.api(), Payer::new());
    let wanted = order(&stage, &format!("{name}/it/x:1"), true);
    let asked = api.post("/rentals", &wanted).await;
    let told = &asked.body["image"];
    assert_eq!(told["digest"], json!(quoted), "{asked:?}");
    assert_eq!(told["layers"], 2);
    let signed = payer.sign(&asked);

    let moved = registry.push("it/x", "1", &second).await;
    assert_ne!(moved, quoted);
    let rented = send(&api, "/rentals", &wanted, &signed).await.is(201);
    assert_eq!(rented["image_digest"], json!(quoted), "{rented}");
    let id = rented["id"].as_str().expect("an id").to_owned();
    let api = api.bearing(rented["rental_token"].as_str().expect("a token"));
    let view = wait::until("it runs", || async {
        let view = api.get(&format!("/rentals/{id}")).await.is(200);
        assert_ne!(view["state"], "ended", "{view}");
        (view["state"] == "running").then_some(view)
    })
    .await;
    assert_eq!(view["image_digest"], json!(quoted), "{view}");
    assert!(is_here(&name, &quoted) && !is_here(&name, &moved));

    // the node tells what it has, and how fast it came is what the next one is told
    let cached = wait::until("the image is told of", || async {
        let node = stage.node.view().await;
        let images = node["inventory"]["images"].clone();
        let cached = images["cached"].as_array().expect("a list").clone();
        cached.contains(&json!(quoted)).then_some(images)
    })
    .await;
    assert_eq!(cached["platform"]["os"], "linux");
    let again = order(&stage, &format!("{name}/it/x@{quoted}"), true);
    let again = stage.market.api().post("/rentals", &again).await;
    assert_eq!(
        again.body["image"]["estimated_start_seconds"], 0,
        "{again:?}"
    );

    api.post(&format!("/rentals/{id}/stop"), &Value::Null)
        .await
        .is(200);
    stage.until_no_container_is_left().await;
    for (place, text) in [
        ("the coordinator's log", stage.market.log()),
        ("the agent's log", stage.node.log()),
        ("the helper's log", stage.node.helper_log()),
        ("the rental", view.to_string()),
        ("the problem", asked.body.to_string()),
    ] {
        assert!(!text.contains(PASSWORD), "the password is in {place}");
    }
    for folder in [stage.market.folder().to_owned(), stage.node.data_dir()] {
        for file in files(&folder) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let held = bytes
                .windows(PASSWORD.len())
                .any(|part| part == PASSWORD.as_bytes());
            assert!(!held, "the password is in {}", file.display());
        }
    }
    forget(&name, &[&quoted, &moved]);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_its_reason_before_it_is_paid() {
    let registry = Registry::start().await;
    let name = registry.name();
    let stage = stage(&[&name], &[("images.size_mib_max", "8")]).await;
    let small = Image::busybox(1_000);
    registry.push("it/x", "small", &small).await;
    registry
        .push("it/x", "large", &Image::busybox(9 << 20))
        .await;
    let foreign = Image {
        architecture: "riscv64".to_owned(),
        ..small.clone()
    };
    registry.push("it/x", "foreign", &foreign).await;
    let many = Image {
        layers: vec![small.layers[1].clone(); 130],
        ..small
    };
    registry.push("it/x", "many", &many).await;
    let api = stage.market.api();
    let image = |tag: &str| format!("{name}/it/x:{tag}");
    let code = |answer: &system_tests::api::Answer| {
        (
            answer.status,
            answer.body["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (tag, wanted) in [
        ("large", (409, "image_too_large")),
        ("foreign", (409, "image_not_for_platform")),
        ("many", (409, "image_not_supported")),
        ("absent", (409, "image_not_found")),
    ] {
        let answer = api
            .post("/rentals", &order(&stage, &image(tag), true))
            .await;
        assert_eq!(
            code(&answer),
            (wanted.0, wanted.1.to_owned()),
            "{tag}: {answer:?}"
        );
    }
    let open = api
        .post("/rentals", &order(&stage, &image("small"), false))
        .await;
    assert_eq!(code(&open), (409, "image_not_found".to_owned()));
    let mut wrong = order(&stage, &image("small"), true);
    wrong["registry_auth"]["password"] = json!("not the password");
    let wrong = api.post("/rentals", &wrong).await;
    assert_eq!(code(&wrong), (409, "registry_auth_refused".to_owned()));
    assert!(!wrong.body.to_string().contains("not the password"));
    for malformed in ["UPPER/case", "a b", "x@sha256:12", "h.io:99999/x", "x:1:2"] {
        let answer = api.post("/rentals", &order(&stage, malformed, false)).await;
        assert_eq!(code(&answer), (422, "invalid".to_owned()), "{malformed}");
    }
    // inside, and on nobody's list: not called by the market, nor ever by the node
    let inside = api
        .post("/rentals", &order(&stage, "192.168.7.7:5000/x:1", false))
        .await;
    assert_eq!(
        code(&inside),
        (409, "registry_not_allowed".to_owned()),
        "{inside:?}"
    );
    let fine = api
        .post("/rentals", &order(&stage, &image("small"), true))
        .await;
    assert_eq!(fine.status, 402, "{fine:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_ends_with_the_rental_that_wanted_it() {
    let registry = Registry::start().await;
    let slow = registry.slow_line().await;
    let stage = stage(&[&slow], &[]).await;
    let digest = registry.push("it/x", "1", &Image::busybox(64 << 20)).await;
    let wanted = order(&stage, &format!("{slow}/it/x:1"), true);
    let rented = Payer::new().rent(&stage.market.api(), &wanted).await;
    let seen = wait::until("some of it came", || async {
        let view = rented.view().await;
        assert_ne!(view["state"], "running", "it came too fast to be watched");
        assert_ne!(view["state"], "ended", "{view}");
        let done = view["phase"]["done_bytes"].as_i64().unwrap_or_default();
        (view["state"] == "pulling" && done > 0).then_some(view)
    })
    .await;
    let total = seen["phase"]["total_bytes"].as_i64().expect("a figure");
    assert!(total > 0, "{seen}");
    rented.stop().await;
    let ended = rented.until("ended").await;
    assert_eq!(ended["reason"], "stopped", "{ended}");
    let settled = rented.until_settled().await;
    assert_eq!(settled["cost_so_far"]["amount"], "0.000000", "{settled}");
    assert!(!is_here(&slow, &digest));
    forget(&slow, &[&digest]);
}
