//! References and rules: what is understood, what is refused, and that nothing gets through changed.

use proptest::prelude::*;

use super::{
    rules::{Broken, ImageRules, NodeImages, Pattern, PinnedImage, check_image_pattern},
    *,
};
use crate::tests::mangled::{cases, mangled_text};

fn parsed(text: &str) -> ImageRef {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

#[test]
fn short_names_are_docker_hubs() {
    for text in [
        "busybox",
        "busybox:latest",
        "library/busybox",
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
        "index.docker.io/busybox",
        "registry-1.docker.io/library/busybox",
    ] {
        assert_eq!(
            parsed(text).canonical(),
            "docker.io/library/busybox:latest",
            "{text}"
        );
    }
    assert_eq!(parsed("owner/x:1").canonical(), "docker.io/owner/x:1");
}

#[test]
fn parts_are_told_apart() {
    let digest = digest("a");
    for (text, canonical) in [
        ("localhost/x".to_owned(), "localhost/x:latest".to_owned()),
        (
            "localhost:5000/x".to_owned(),
            "localhost:5000/x:latest".to_owned(),
        ),
        (
            "127.0.0.1:5000/a/b:1".to_owned(),
            "127.0.0.1:5000/a/b:1".to_owned(),
        ),
        (
            "ghcr.io/o/n_a__b-c.d:V1.0-x_".to_owned(),
            "ghcr.io/o/n_a__b-c.d:V1.0-x_".to_owned(),
        ),
        (
            format!("x@{digest}"),
            format!("docker.io/library/x@{digest}"),
        ),
        // the digest says it all
        (
            format!("h.io/a/x:tag@{digest}"),
            format!("h.io/a/x@{digest}"),
        ),
        // what has a port is a name and a tag, unless a path follows
        ("x:5000".to_owned(), "docker.io/library/x:5000".to_owned()),
    ] {
        assert_eq!(parsed(&text).canonical(), canonical, "{text}");
    }
    let image = parsed("h.io:1/a:2");
    let pinned = image.at(&digest.parse().expect("a digest"));
    assert_eq!(pinned.to_string(), format!("h.io:1/a@{digest}"));
    assert_eq!((pinned.tag(), image.tag()), (None, Some("2")));
}

#[test]
fn what_surprises_is_refused() {
    let digest = digest("a");
    for text in [
        "",
        "Busybox",
        "GHCR.io/a/b",
        "a b",
        "a//b",
        "/a",
        "a/",
        "a/../b",
        "-x",
        "x-",
        "a..b",
        "a___b",
        "a._b",
        "x:",
        "x:-1",
        "x:1:2",
        "h.io:0/x",
        "h.io:05/x",
        "h.io:65536/x",
        "h.io:/x",
        "h.io:1:2/x",
        "h..io/x",
        "-h.io/x",
        "[::1]:5000/x",
        "user@h.io/x",
        "https://h.io/x",
        "h.io/x?y",
        "x@sha256:1",
        "x@sha512:00",
        &format!("x@{}", digest.to_uppercase()),
        &format!("x@{digest}@{digest}"),
        &format!("@{digest}"),
        &digest,
        &"a".repeat(64),
        &format!("x:{}", "t".repeat(129)),
        &"x".repeat(256),
        "é",
        "x\n",
    ] {
        assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn whatever_is_understood_is_read_again_as_the_same(
        text in prop_oneof![
            ".{0,80}",
            "([a-z0-9]{1,5}\\.[a-z]{2,3}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9._-]{1,10})?(@sha256:[0-9a-f]{63,65})?",
            mangled_text(format!("ghcr.io:5000/owner/name:tag@sha256:{}", "0".repeat(64))),
        ],
    ) {
        let Ok(image) = text.parse::<ImageRef>() else { return Ok(()) };
        let again: ImageRef = image.canonical().parse().expect("what was written by us");
        prop_assert_eq!(again.canonical(), image.canonical());
        prop_assert_eq!(again.name(), image.name());
        // no way of writing it leaves the registry open, so engines never take it for an id
        prop_assert!(image.canonical().contains('/') && !image.registry().is_empty());
        prop_assert!(image.canonical().bytes().all(|b| b.is_ascii_graphic()));
    }

    #[test]
    fn a_pattern_means_what_its_expression_does(text in "[ab]{0,6}", pattern in "[ab*]{1,5}") {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => {
                    slow(rest, text) || text.split_first().is_some_and(|(_, more)| slow(pattern, more))
                }
                (Some((p, rest)), Some((t, more))) => p == t && slow(rest, more),
                _ => false,
            }
        }
        let parsed: Pattern = pattern.parse().expect("a pattern");
        prop_assert_eq!(parsed.matches(&text), slow(pattern.as_bytes(), text.as_bytes()));
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| text.parse().expect("a pattern"))
        .collect()
}

#[test]
fn rules_decide_by_registry_name_and_digest() {
    let (one, two) = (digest("1"), digest("2"));
    let rules = ImageRules {
        denied: patterns(&["docker.io/evil/*", &one]),
        ..ImageRules::default()
    };
    let seen: Digest = one.parse().expect("a digest");
    assert_eq!(rules.admit(&parsed("busybox"), None), Ok(()));
    assert_eq!(
        rules.admit(&parsed("x.dkr.ecr.eu.amazonaws.com/a"), None),
        Ok(())
    );
    let lan = rules.admit(&parsed("192.168.1.1:5000/x"), None);
    assert_eq!(lan, Err(Broken::Registry("192.168.1.1:5000".to_owned())));
    // a port, or more behind the name, is another registry
    assert!(rules.admit(&parsed("ghcr.io:444/x"), None).is_err());
    assert!(rules.admit(&parsed("ghcr.io.evil.net/x"), None).is_err());
    for (image, known) in [
        ("evil/miner", None),
        ("index.docker.io/evil/miner:2", None),
        (&*format!("busybox@{one}"), None),
        ("busybox", Some(&seen)),
    ] {
        let broken = rules.admit(&parsed(image), known);
        assert!(matches!(broken, Err(Broken::Image(_))), "{image}");
    }
    let only = ImageRules {
        allowed: patterns(&["ghcr.io/us/*", &two]),
        ..ImageRules::default()
    };
    assert_eq!(only.admit(&parsed("ghcr.io/us/x"), None), Ok(()));
    // which image a tag means isn't known yet
    assert_eq!(only.admit(&parsed("busybox"), None), Ok(()));
    assert!(only.admit(&parsed("busybox"), Some(&seen)).is_err());
}

#[test]
fn sizes_and_lists_have_bounds() {
    let rules = ImageRules {
        layers_max: 3,
        bytes_max: 10,
        ..ImageRules::default()
    };
    assert_eq!(rules.admit_size(3, 10), Ok(()));
    assert!(rules.admit_size(4, 10).is_err() && rules.admit_size(3, 11).is_err());
    assert_eq!(rules.check(), Ok(()));
    for bad in [
        ImageRules {
            layers_max: 128,
            ..rules.clone()
        },
        ImageRules {
            bytes_max: 0,
            ..rules.clone()
        },
        ImageRules {
            denied: patterns(&["busybox"]),
            ..rules.clone()
        },
        ImageRules {
            registries: vec![patterns(&["*"]).remove(0); 65],
            ..rules.clone()
        },
    ] {
        assert!(bad.check().is_err());
    }
    assert!(check_image_pattern(&patterns(&["sha256:12"])[0]).is_err());
    for bad in ["", "A", "a b", "a@b"] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad}");
    }
}

#[test]
fn a_start_is_estimated_from_cache_and_speed() {
    let image = PinnedImage {
        digest: digest("1").parse().expect("a digest"),
        layers: 1,
        bytes: 3_000,
    };
    let mut node = NodeImages {
        platform: Platform::here(),
        rules: ImageRules::default(),
        cached: Vec::new(),
        pull_bytes_per_s: None,
    };
    assert_eq!(node.estimated_pull_ms(&image), None);
    node.pull_bytes_per_s = Some(1_000);
    assert_eq!(node.estimated_pull_ms(&image), Some(3_000));
    node.cached.push(image.digest.clone());
    assert_eq!(node.estimated_pull_ms(&image), Some(0));
}

#[test]
fn credentials_show_nothing_and_are_bounded() {
    let auth = RegistryAuth::new("ada".to_owned(), "hush-hush".to_owned()).expect("fine");
    assert!(!format!("{auth:?}").contains("hush"));
    let json = serde_json::to_string(&auth).expect("JSON");
    assert_eq!(
        serde_json::from_str::<RegistryAuth>(&json).expect("read"),
        auth
    );
    for (name, password) in [
        ("", "x"),
        ("x", ""),
        ("a:b", "x"),
        ("a\n", "x"),
        ("a", "x\0"),
    ] {
        assert!(RegistryAuth::new(name.to_owned(), password.to_owned()).is_err());
    }
    assert!(RegistryAuth::new("a".to_owned(), "x".repeat(9_000)).is_err());
}
