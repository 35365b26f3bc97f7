//! Manifests of registries: read, chosen from, refused.

use serde_json::{Value, json};

use super::*;

fn digest(digit: char) -> Digest {
    let text = format!("sha256:{}", digit.to_string().repeat(64));
    text.parse().expect("a digest")
}

fn here() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
    }
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest('c'), "size": 10},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest('1'), "size": 100},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest('2'), "size": 200},
        ],
    })
}

fn entry(architecture: &str, digit: char) -> Value {
    json!({"mediaType": "x", "digest": digest(digit), "size": 1, "platform": {"os": "linux", "architecture": architecture}})
}

fn read_json(value: &Value) -> Result<Kept, Unfit> {
    read(&serde_json::to_vec(value).expect("JSON"))
}

#[test]
fn an_image_is_summed() {
    let Ok(Kept::Image(image)) = read_json(&manifest()) else {
        panic!("no image");
    };
    assert_eq!((image.layers, image.bytes), (2, 310));
    assert_eq!(image.config, digest('c'));
}

#[test]
fn an_index_gives_the_entry_of_the_platform() {
    let index = json!({"schemaVersion": 2, "manifests": [
        entry("arm64", '1'), entry("amd64", '2'), {"digest": digest('3'), "size": 1},
        {"digest": digest('4'), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]});
    let Ok(Kept::Index(entries)) = read_json(&index) else {
        panic!("no index");
    };
    assert_eq!(choose(&entries, &here()), Ok(digest('2')));
    let other = Platform {
        architecture: "riscv64".to_owned(),
        ..here()
    };
    let none = choose(&entries, &other);
    assert_eq!(
        none,
        Err(Unfit::Platform("linux/arm64, linux/amd64".to_owned()))
    );
}

#[test]
fn what_could_be_read_in_two_ways_or_comes_from_elsewhere_is_refused() {
    let with = |key: &str, value: Value| {
        let mut changed = manifest();
        changed[key] = value;
        changed
    };
    let layer = |extra: Value| {
        let mut layer = json!({"mediaType": "x", "digest": digest('1'), "size": 1});
        for (key, value) in extra.as_object().expect("an object") {
            layer[key] = value.clone();
        }
        json!([layer])
    };
    for bad in [
        with("manifests", json!([entry("amd64", '1')])),
        with(
            "mediaType",
            json!("application/vnd.oci.image.index.v1+json"),
        ),
        with("schemaVersion", json!(1)),
        with(
            "layers",
            layer(json!({"urls": ["https://elsewhere.example/x"]})),
        ),
        with(
            "layers",
            layer(
                json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}),
            ),
        ),
        with("layers", layer(json!({"size": -1}))),
        with("layers", layer(json!({"digest": "sha256:1"}))),
        with(
            "layers",
            json!(vec![json!({"digest": digest('1'), "size": 1}); 128]),
        ),
        with("config", Value::Null),
        json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "manifests": []}),
        json!([]),
    ] {
        assert!(matches!(read_json(&bad), Err(Unfit::Odd(_))), "{bad}");
    }
}

#[test]
fn a_configuration_tells_its_platform() {
    let config = json!({"os": "linux", "architecture": "amd64", "config": {}}).to_string();
    assert_eq!(check_config(config.as_bytes(), &here()), Ok(()));
    let foreign = json!({"os": "windows", "architecture": "amd64"}).to_string();
    let told = Err(Unfit::Platform("windows/amd64".to_owned()));
    assert_eq!(check_config(foreign.as_bytes(), &here()), told);
    assert!(check_config(b"[", &here()).is_err());
}
