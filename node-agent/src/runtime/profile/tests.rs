//! Each field that limits a tenant, and each way in which an engine could ignore one.

use serde_json::json;
use shared::{container::RawSpec, id::Ids, wire::desired::Wanted};

use super::*;

fn v1() -> Ground {
    Ground {
        cgroup_v1: true,
        open_files_limit: 20_000,
        locked_bytes_limit: 65_536,
        disk: Some("/dev/vda".to_owned()),
        ..Ground::default()
    }
}

fn v2() -> Ground {
    Ground {
        open_files_limit: 1 << 20,
        locked_bytes_limit: i64::MAX,
        systemd_cgroups: true,
        apparmor: true,
        ..Ground::default()
    }
}

/// A body for a root image with a network.
fn body_on(rental: &DesiredRental, ground: &Ground) -> ContainerCreateBody {
    let dns = ["1.1.1.1".to_owned()];
    let cage = Cage {
        scope: "nod_x",
        ground,
        root_image: true,
        network: "ram-0123abcd",
        runtime: None,
        dns: &dns,
        means: None,
        root_bytes: 0,
    };
    create_body(rental, &cage)
}

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
        internet: true,
        isolation: None,
        image: None,
        private_image: false,
    }
}

fn host_of(ram_bytes: i64, cpu_millis: i64, ground: &Ground) -> HostConfig {
    let body = body_on(&rental(ram_bytes, cpu_millis), ground);
    body.host_config.expect("always set")
}

#[test]
fn the_whole_host_configuration_is_as_designed() {
    let held = serde_json::to_value(host_of(256 << 20, 1_500, &v1())).expect("json");
    let disk = |rate: i64| json!([{"Path": "/dev/vda", "Rate": rate}]);
    let expected = json!({
        "Memory": 268_435_456, "MemorySwap": 268_435_456, "MemorySwappiness": 0,
        "MemoryReservation": 241_591_905,
        "NanoCpus": 1_500_000_000, "PidsLimit": 512 + 512 * 2, "ShmSize": 67_108_864,
        "Tmpfs": {"/tmp": "rw,nosuid,nodev,exec,size=67108864"},
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "memlock", "Soft": 65_536, "Hard": 65_536},
            {"Name": "nofile", "Soft": 20_000, "Hard": 20_000},
        ],
        "BlkioDeviceReadBps": disk(200 << 20), "BlkioDeviceWriteBps": disk(200 << 20),
        "BlkioDeviceReadIOps": disk(5_000), "BlkioDeviceWriteIOps": disk(5_000),
        "OomKillDisable": false, "OomScoreAdj": 500, "CgroupParent": "/ramarket",
        "Privileged": false, "CapDrop": ["ALL"],
        "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"],
        "SecurityOpt": ["no-new-privileges:true", format!("seccomp={}", seccomp::text())],
        "NetworkMode": "ram-0123abcd", "Dns": ["1.1.1.1"],
        "IpcMode": "private", "CgroupnsMode": "private", "PublishAllPorts": false,
        "LogConfig": {"Type": "local", "Config": {
            "max-size": "10m", "max-file": "3", "mode": "non-blocking", "max-buffer-size": "4m",
        }},
        "RestartPolicy": {"Name": "no"}, "AutoRemove": false, "Init": true,
    });
    // equality of the whole: a field added by accident, such as a bind, fails here
    assert_eq!(held, expected);
}

#[test]
fn who_the_image_runs_as_decides_capabilities() {
    for root in [
        None,
        Some(""),
        Some("0"),
        Some("root"),
        Some("0:0"),
        Some("root:wheel"),
    ] {
        assert!(starts_as_root(root), "{root:?}");
    }
    for other in ["1000", "nobody", "65534:65534", "00", "app:root"] {
        assert!(!starts_as_root(Some(other)), "{other}");
    }
    let ground = v1();
    let cage = Cage {
        scope: "nod_x",
        ground: &ground,
        root_image: false,
        network: NO_NETWORK,
        runtime: Some("runsc"),
        dns: &["1.1.1.1".to_owned()],
        means: None,
        root_bytes: 0,
    };
    let host = create_body(&rental(64 << 20, 10), &cage)
        .host_config
        .expect("always set");
    assert_eq!(host.cap_add, None);
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    // nothing to ask without a network
    assert_eq!(
        (host.dns, host.network_mode.as_deref()),
        (None, Some("none"))
    );
    assert_eq!(host.runtime.as_deref(), Some("runsc"));
}

#[test]
fn what_is_outside_the_host_configuration_is_as_designed() {
    let rental = rental(64 << 20, 10);
    let mut body = body_on(&rental, &v1());
    body.host_config = None;
    let expected = json!({
        "Image": "docker.io/library/busybox:latest", "Cmd": ["sleep", "9"], "Env": ["A=b=c"],
        "Labels": {
            "ramarket.rental": rental.rental_id, "ramarket.lease": rental.lease_id,
            "ramarket.spec_sha256": rental.spec.sha256_hex(), "ramarket.node": "nod_x",
            "ramarket.gpus": "", "ramarket.disk_bytes": "", "ramarket.probe": "",
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
    assert_eq!(body_on(&rental, &v1()).cmd, None);
}

#[test]
fn limits_follow_the_resources_and_the_host() {
    for (cpu_millis, pids) in [(10, 1_024), (1_000, 1_024), (1_001, 1_536), (64_000, 8_192)] {
        assert_eq!(host_of(1 << 30, cpu_millis, &v1()).pids_limit, Some(pids));
    }
    assert_eq!(host_of(64 << 30, 1_000, &v1()).shm_size, Some(1 << 30));
    let v2 = host_of(1 << 30, 1_000, &v2());
    assert_eq!(v2.memory_swappiness, None);
    assert_eq!(v2.ulimits.expect("set")[2].hard, Some(65_536));
    assert_eq!(v2.cgroup_parent.as_deref(), Some("ramarket.slice"));
    assert_eq!(v2.blkio_device_read_bps, None);
    assert_eq!(
        v2.security_opt.expect("set").last().map(String::as_str),
        Some("apparmor=docker-default")
    );
}

#[test]
fn what_cant_be_enforced_is_refused() {
    let good = rental(1 << 20, 10).resources;
    let of = |resources: Resources, gpus: &[&str]| DesiredRental {
        resources,
        gpus: gpus.iter().map(|&uuid| uuid.to_owned()).collect(),
        ..rental(1 << 20, 10)
    };
    let gpus = |gpu_count| Resources { gpu_count, ..good };
    assert_eq!(check_supported(&of(good, &[])), Ok(()));
    assert_eq!(
        check_supported(&of(gpus(2), &["GPU-a-1", "GPU-b-2"])),
        Ok(())
    );
    for (count, named) in [
        (1, &[] as &[&str]),
        (1, &["all"]),
        (1, &["0"]),
        (1, &["GPU-"]),
        (1, &["GPU-a,GPU-b"]),
        (1, &["MIG-a"]),
        (2, &["GPU-a", "GPU-a"]),
        (2, &["GPU-a"]),
        (0, &["GPU-a"]),
    ] {
        let refusal = check_supported(&of(gpus(count), named)).expect_err("not these");
        assert!(refusal.to_string().contains("GPUs"), "{named:?}: {refusal}");
    }
    for bad in [
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
        let refusal = check_supported(&of(bad, &[])).expect_err("not enforced");
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

#[test]
fn gpus_are_asked_for_by_uuid_and_named_by_the_engine_alone() {
    let plain = body_on(&rental(64 << 20, 100), &v2());
    let host = plain.host_config.expect("set");
    assert_eq!(host.device_requests, None);
    assert_eq!(plain.labels.expect("set")[LABEL_GPUS], "");

    let uuids = ["GPU-a-1".to_owned(), "GPU-b-2".to_owned()];
    let spec = RawSpec {
        image: "busybox:latest".to_owned(),
        env: [
            ("NVIDIA_VISIBLE_DEVICES", "all"),
            ("LD_PRELOAD", "/x.so"),
            ("A", "b"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..RawSpec::default()
    };
    let body = body_on(
        &DesiredRental {
            gpus: uuids.to_vec(),
            spec: spec.try_into().expect("valid"),
            ..rental(64 << 20, 100)
        },
        &v2(),
    );
    let env = body.env.expect("set");
    assert!(env.contains(&"A=b".to_owned()));
    assert!(
        env.contains(&"NVIDIA_VISIBLE_DEVICES".to_owned()),
        "taken from the image too"
    );
    assert!(
        !env.iter()
            .any(|entry| entry.starts_with("NVIDIA") && entry.contains('='))
    );
    assert!(!env.iter().any(|entry| entry.starts_with("LD_PRELOAD=")));
    assert_eq!(body.labels.expect("set")[LABEL_GPUS], "GPU-a-1,GPU-b-2");
    let host = body.host_config.expect("set");
    let request = &host.device_requests.expect("asked for")[0];
    assert_eq!(request.device_ids.as_deref(), Some(&uuids[..]));
    assert_eq!(
        (request.count, request.driver.as_deref()),
        (None, Some("nvidia"))
    );
    let locked = host.ulimits.expect("set");
    let locked = locked
        .iter()
        .find(|limit| limit.name.as_deref() == Some("memlock"));
    assert_eq!(locked.and_then(|limit| limit.hard), Some(64 << 20));
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
    host["RestartPolicy"] = json!({"Name": "no", "MaximumRetryCount": 0});
    let by_itself = json!({
        "Binds": null, "Devices": [], "PidMode": "", "UsernsMode": "", "ConsoleSize": [0, 0], "Runtime": "runc", "Isolation": "",
        "MaskedPaths": ["/proc/asound", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    for (field, value) in by_itself.as_object().expect("an object") {
        host[field] = value.clone();
    }
    json!({"Id": "abc", "HostConfig": host, "Mounts": [], "Config": {
        "Healthcheck": {"Test": ["NONE"]}, "Labels": body.labels,
    }})
}

fn verdict(body: &ContainerCreateBody, answer: &serde_json::Value) -> Result<(), RuntimeError> {
    let answer = serde_json::from_value(answer.clone()).expect("Docker's form");
    check(body, &answer)
}

#[test]
fn an_engine_that_ignores_a_limit_is_found_out() {
    let body = body_on(&rental(256 << 20, 1_000), &v1());
    assert_eq!(verdict(&body, &held(&body)), Ok(()));
    let cases = [
        ("Privileged", json!(true)),
        ("MemorySwap", json!(-1)),
        ("NetworkMode", json!("default")),
        ("CapAdd", json!(["CAP_SYS_ADMIN"])),
        (
            "SecurityOpt",
            json!(["no-new-privileges:true", "seccomp=unconfined"]),
        ),
        ("IpcMode", json!("shareable")),
        ("CgroupnsMode", json!("host")),
        ("PidMode", json!("host")),
        ("UTSMode", json!("host")),
        ("UsernsMode", json!("host")),
        ("RestartPolicy", json!({"Name": "always"})),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("OomKillDisable", json!(true)),
        ("Binds", json!(["/:/host"])),
        ("VolumesFrom", json!(["other"])),
        ("GroupAdd", json!(["docker"])),
        ("ExtraHosts", json!(["a:1.2.3.4"])),
        ("Sysctls", json!({"net.ipv4.ip_forward": "1"})),
        ("DeviceCgroupRules", json!(["a *:* rwm"])),
        ("DeviceRequests", json!([{"Count": -1}])),
        ("PortBindings", json!({"80/tcp": [{"HostPort": "80"}]})),
        ("PublishAllPorts", json!(true)),
        ("Devices", json!([{"PathOnHost": "/dev/kvm"}])),
        ("Dns", json!(["192.168.1.1"])),
        ("Tmpfs", json!({"/tmp": "rw"})),
        ("Ulimits", json!([{"Name": "core", "Soft": 0, "Hard": 0}])),
        ("MaskedPaths", json!([])),
        ("ReadonlyPaths", json!(["/proc/bus"])),
    ];
    for (field, value) in cases {
        let mut answer = held(&body);
        answer["HostConfig"][field] = value;
        assert!(verdict(&body, &answer).is_err(), "{field} isn't checked");
    }
}

#[test]
fn every_field_that_was_asked_for_must_be_held() {
    let body = body_on(&rental(256 << 20, 1_000), &v1());
    let asked = serde_json::to_value(&body.host_config).expect("json");
    let set = asked
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(_, value)| {
            // what asks for nothing is held by holding nothing
            !value.is_null() && **value != json!(false) && **value != json!(0)
        });
    let mut checked = 0;
    for (field, _) in set {
        let mut answer = held(&body);
        answer["HostConfig"]
            .as_object_mut()
            .expect("an object")
            .remove(field);
        let refusal = verdict(&body, &answer).expect_err(field);
        assert!(refusal.to_string().contains(field.as_str()), "{refusal}");
        checked += 1;
    }
    assert!(checked >= 24, "{checked}");
}

#[test]
fn what_comes_with_the_image_is_found_out() {
    let body = body_on(&rental(256 << 20, 1_000), &v1());
    let mut mounted = held(&body);
    mounted["Mounts"] = json!([{"Type": "volume", "Name": "x"}]);
    assert!(verdict(&body, &mounted).is_err(), "mounts aren't checked");
    let mut sick = held(&body);
    sick["Config"]["Healthcheck"]["Test"] = json!(["CMD", "true"]);
    assert!(
        verdict(&body, &sick).is_err(),
        "health checks aren't checked"
    );
}

#[test]
fn labels_are_the_nodes_and_none_of_them_the_images() {
    let body = body_on(&rental(256 << 20, 1_000), &v1());
    let asked = body.labels.as_ref().expect("set");
    // whatever this program reads is set: Docker takes from the image what the request leaves out
    for name in [LABEL_DISK, LABEL_GPUS, LABEL_PROBE] {
        assert_eq!(asked[name], "", "{name}");
        let mut other = held(&body);
        other["Config"]["Labels"][name] = json!("9000000000000000000");
        let refusal = verdict(&body, &other).expect_err(name);
        assert!(refusal.to_string().contains(name), "{refusal}");
        // a container of before that had none
        let mut before = held(&body);
        let labels = before["Config"]["Labels"].as_object_mut();
        labels.expect("an object").remove(name);
        assert_eq!(verdict(&body, &before), Ok(()), "{name}");
    }
    for name in [LABEL_RENTAL, LABEL_LEASE, LABEL_SPEC, LABEL_NODE] {
        let mut other = held(&body);
        other["Config"]["Labels"][name] = json!("x");
        assert!(verdict(&body, &other).is_err(), "{name}");
    }
    let mut images = held(&body);
    images["Config"]["Labels"]["maintainer"] = json!("x");
    assert_eq!(verdict(&body, &images), Ok(()));
    // like ours, and read by nobody
    images["Config"]["Labels"]["ramarket.image"] = json!("x");
    assert_eq!(verdict(&body, &images), Ok(()));
}
