//! Each field that limits a tenant, and each way in which an engine could ignore one.

use serde_json::json;
use shared::{container::RawSpec, id::Ids, wire::desired::Wanted};

use super::*;

const V1: HostFacts = HostFacts {
    cgroup_v1: true,
    open_files_limit: 20_000,
};
const V2: HostFacts = HostFacts {
    cgroup_v1: false,
    open_files_limit: 1 << 20,
};

fn rental(ram_bytes: i64, cpu_millis: i64) -> DesiredRental {
    let ids = Ids::counting();
    let spec = RawSpec {
        image: "busybox:latest".to_owned(),
        command: vec!["sleep".to_owned(), "9".to_owned()],
        env: [("A".to_owned(), "b=c".to_owned())].into(),
    };
    DesiredRental {
        rental_id: ids.mint(),
        lease_id: ids.mint(),
        wanted: Wanted::Run,
        spec: spec.try_into().expect("valid"),
        resources: Resources {
            ram_bytes,
            cpu_millis,
            gpu_count: 0,
            disk_bytes: 0,
        },
        gpus: Vec::new(),
    }
}

fn host_of(ram_bytes: i64, cpu_millis: i64, host: HostFacts) -> HostConfig {
    let body = create_body(&rental(ram_bytes, cpu_millis), "node", host);
    body.host_config.expect("always set")
}

#[test]
fn the_whole_host_configuration_is_as_designed() {
    let held = serde_json::to_value(host_of(256 << 20, 1_500, V1)).expect("json");
    let expected = json!({
        "Memory": 268_435_456, "MemorySwap": 268_435_456, "MemorySwappiness": 0,
        "NanoCpus": 1_500_000_000, "PidsLimit": 512 + 512 * 2, "ShmSize": 67_108_864,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 20_000, "Hard": 20_000},
        ],
        "OomKillDisable": false, "OomScoreAdj": 500,
        "Privileged": false, "CapDrop": ["ALL"],
        "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "NetworkMode": "none", "IpcMode": "private", "CgroupnsMode": "private",
        "PublishAllPorts": false,
        "LogConfig": {"Type": "local", "Config": {
            "max-size": "10m", "max-file": "3", "mode": "non-blocking", "max-buffer-size": "4m",
        }},
        "RestartPolicy": {"Name": "no"}, "AutoRemove": false, "Init": true,
    });
    // equality of the whole: a field added by accident, such as a bind, fails here
    assert_eq!(held, expected);
}

#[test]
fn what_is_outside_the_host_configuration_is_as_designed() {
    let rental = rental(64 << 20, 10);
    let mut body = create_body(&rental, "nod_x", V1);
    body.host_config = None;
    let expected = json!({
        "Image": "busybox:latest", "Cmd": ["sleep", "9"], "Env": ["A=b=c"],
        "Labels": {
            "ramarket.rental": rental.rental_id, "ramarket.lease": rental.lease_id,
            "ramarket.spec_sha256": rental.spec.sha256_hex(), "ramarket.node": "nod_x",
        },
        "Healthcheck": {"Test": ["NONE"]}, "StopTimeout": 10, "Tty": false, "OpenStdin": false,
    });
    let mut held = serde_json::to_value(body).expect("json");
    let fields = held.as_object_mut().expect("an object");
    fields.retain(|_, value| !value.is_null());
    assert_eq!(held, expected);
    assert_eq!(
        name(rental.rental_id),
        format!("ramarket-{}", rental.rental_id)
    );
}

#[test]
fn an_empty_command_keeps_the_images_own() {
    let mut rental = rental(64 << 20, 10);
    let spec = RawSpec {
        image: "busybox".to_owned(),
        ..RawSpec::default()
    };
    rental.spec = spec.try_into().expect("valid");
    assert_eq!(create_body(&rental, "node", V1).cmd, None);
}

#[test]
fn limits_follow_the_resources_and_the_host() {
    for (cpu_millis, pids) in [(10, 1_024), (1_000, 1_024), (1_001, 1_536), (64_000, 8_192)] {
        assert_eq!(host_of(1 << 30, cpu_millis, V1).pids_limit, Some(pids));
    }
    assert_eq!(host_of(64 << 30, 1_000, V1).shm_size, Some(1 << 30));
    let v2 = host_of(1 << 30, 1_000, V2);
    assert_eq!(v2.memory_swappiness, None);
    assert_eq!(v2.ulimits.expect("set")[1].hard, Some(65_536));
}

#[test]
fn what_cant_be_enforced_is_refused() {
    let good = rental(1 << 20, 10).resources;
    assert_eq!(check_supported(&good), Ok(()));
    for bad in [
        Resources {
            gpu_count: 1,
            ..good
        },
        Resources {
            disk_bytes: 1,
            ..good
        },
        Resources {
            ram_bytes: 0,
            ..good
        },
        Resources {
            cpu_millis: 0,
            ..good
        },
    ] {
        let refusal = check_supported(&bad).expect_err("not enforced");
        assert!(
            matches!(
                refusal,
                RuntimeError::Refused {
                    code: "not_supported",
                    ..
                }
            ),
            "{refusal:?}"
        );
    }
}

/// What Docker 20.10 says of a container that it created as asked.
fn held(body: &ContainerCreateBody) -> serde_json::Value {
    let mut host = serde_json::to_value(&body.host_config).expect("json");
    host["CapAdd"] = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID"
    ]);
    host["Binds"] = json!(null);
    host["Devices"] = json!([]);
    host["PidMode"] = json!("");
    host["UsernsMode"] = json!("");
    json!({"Id": "abc", "HostConfig": host, "Mounts": []})
}

#[test]
fn an_engine_that_ignores_a_limit_is_found_out() {
    let body = create_body(&rental(256 << 20, 1_000), "node", V1);
    let verdict = |answer: &serde_json::Value| {
        let answer = serde_json::from_value(answer.clone()).expect("Docker's form");
        check(&body, &answer)
    };
    assert_eq!(verdict(&held(&body)), Ok(()));
    let cases = [
        ("Privileged", json!(true)),
        ("Memory", json!(0)),
        ("MemorySwap", json!(-1)),
        ("NanoCpus", json!(0)),
        ("PidsLimit", json!(null)),
        ("NetworkMode", json!("default")),
        ("CapDrop", json!([])),
        ("CapAdd", json!(["CAP_SYS_ADMIN"])),
        ("SecurityOpt", json!(null)),
        ("IpcMode", json!("shareable")),
        ("CgroupnsMode", json!("host")),
        ("PidMode", json!("host")),
        ("UsernsMode", json!("host")),
        ("RestartPolicy", json!({"Name": "always"})),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("OomKillDisable", json!(true)),
        ("Binds", json!(["/:/host"])),
        ("Devices", json!([{"PathOnHost": "/dev/kvm"}])),
    ];
    for (field, value) in cases {
        let mut answer = held(&body);
        answer["HostConfig"][field] = value;
        assert!(verdict(&answer).is_err(), "{field} isn't checked");
    }
    let mut mounted = held(&body);
    mounted["Mounts"] = json!([{"Type": "volume", "Name": "x"}]);
    assert!(verdict(&mounted).is_err(), "mounts aren't checked");
}
