//! What is remembered between looks, without an engine.

use super::*;

#[test]
fn who_could_not_be_looked_at_is_looked_at_again() {
    let police = Police::default();
    assert!(!police.take_new());
    let failed = Err(RuntimeError::Unavailable("busy".to_owned()));
    for failures in 1..=FAILURES_TOLD {
        police.note_look("a", &failed);
        assert_eq!(police.state().failed.get("a"), Some(&failures));
        assert!(police.take_new() && police.is_new("a"));
    }
    police.note_look("a", &Ok(()));
    assert!(police.state().failed.is_empty() && !police.take_new());
    police.note_look("a", &failed);
    police.forget_all_but(&[]);
    assert!(police.state().failed.is_empty());
}

#[test]
fn files_that_the_engine_mounts_into_it_are_its_own_to_fill() {
    let path = |name: &str| Some(format!("/var/lib/docker/containers/a/{name}"));
    let answer = ContainerInspectResponse {
        hosts_path: path("hosts"),
        hostname_path: path("hostname"),
        resolv_conf_path: Some(String::new()),
        ..ContainerInspectResponse::default()
    };
    let expected = [path("hosts"), path("hostname")].map(Option::unwrap_or_default);
    assert_eq!(engines_files(&answer), expected.map(PathBuf::from));
}
