//! Each check by facts that are well, and by such that aren't.

use shared::{
    id::Ids,
    resources::{
        Docker, Finding, FindingStatus, Inventory, Isolation, IsolationClass, QuotaMeans,
        RentalDisk, Resources,
    },
    wire::operator::Standing,
};

use super::{
    CHECKS, exit_code,
    facts::{Answered, Enrolled, Facts, FileFact, Helper, Listening, Market, Unit},
    judge, known,
    mend::{self, Mend},
};
use crate::status::Status;

fn inventory() -> Inventory {
    Inventory {
        hostname: "node".into(),
        kernel: "6.1.0".into(),
        os: "Debian".into(),
        ram_total_bytes: 16 << 30,
        cpu_model: "CPU".into(),
        cpu_count: 8,
        disks: Vec::new(),
        gpus: Vec::new(),
        gpu_absent_reason: Some("no NVIDIA driver".into()),
        docker: Some(Docker {
            version: "28.5.1".into(),
            api_version: "1.51".into(),
            runtimes: vec!["runc".into()],
            cgroup_driver: "systemd".into(),
            live_restore: true,
        }),
        docker_absent_reason: None,
        cgroup_version: 2,
        gpus_refused: None,
        images: None,
        shortage: None,
        rental_disk: Some(RentalDisk {
            means: QuotaMeans::Loopback,
            total_bytes: 1 << 40,
        }),
        isolation: Some(Isolation {
            class: IsolationClass::Vm,
            network: true,
            breach: None,
            findings: [
                "docker_version",
                "containerd_version",
                "runc_version",
                "kernel_version",
                "isolation_class",
                "seccomp",
                "firewall",
                "isolation_probe",
            ]
            .map(|name| Finding::new(name, FindingStatus::Ok, "well", ""))
            .into(),
        }),
    }
}

fn listening(port: u16) -> Listening {
    Listening {
        port,
        from_outside: true,
    }
}

fn status() -> Status {
    let text = serde_json::json!({
        "node_id": Ids::counting().mint::<shared::id::NodeId>(), "url": "https://market.example",
        "agent_version": "1", "pid": 7, "at": "2026-01-31T12:00:00Z", "contact": "connected",
        "since": null, "reason": null, "metering_fault": null, "journal_seq": 1, "acked_seq": 1,
        "rentals": [],
    });
    serde_json::from_value(text).expect("a status")
}

/// A machine on which nothing is wrong.
fn well() -> Facts {
    Facts {
        inventory: Ok(inventory()),
        cgroup_version: Some(2),
        controllers: ["cpu", "memory", "pids"].map(str::to_owned).into(),
        ram_available_bytes: Some(12 << 30),
        nvidia_device: false,
        listening: vec![listening(22)],
        files: vec![FileFact {
            path: "/var/lib/ramarket-agent/node.key".into(),
            wanted: 0o600,
            mode: Some(0o600),
        }],
        clock_synced: Some(true),
        enrolled: Enrolled::Yes {
            node_id: "nod_1".into(),
            url: "https://market.example".into(),
        },
        market: Some(Market {
            url: "https://market.example".into(),
            host: "market.example".into(),
            addresses: Ok(vec![[192, 0, 2, 1].into()]),
            answered: Ok(Answered {
                status: 200,
                is_market: true,
                took_ms: 20,
                ahead_ms: Some(1_000),
            }),
        }),
        helper: Helper::There {
            mode: 0o660,
            uid: 0,
        },
        helper_owner: 0,
        agent_runs: true,
        status: Some(status()),
        unit: Some(Unit {
            load: "loaded".into(),
            active: "active".into(),
            enabled: "enabled".into(),
            watchdog_us: 30_000_000,
        }),
    }
}

fn answer(change: impl FnOnce(&mut Answered)) -> impl FnOnce(&mut Facts) {
    |facts| {
        if let Some(Market {
            answered: Ok(answered),
            ..
        }) = &mut facts.market
        {
            change(answered);
        }
    }
}

fn measured(change: impl FnOnce(&mut Inventory)) -> impl FnOnce(&mut Facts) {
    |facts| {
        if let Ok(inventory) = &mut facts.inventory {
            change(inventory);
        }
    }
}

fn told(change: impl FnOnce(&mut Status)) -> impl FnOnce(&mut Facts) {
    |facts| {
        if let Some(status) = &mut facts.status {
            change(status);
        }
    }
}

#[test]
fn a_machine_on_which_nothing_is_wrong_has_only_good_findings() {
    let findings = judge(&well(), &[]);
    assert_eq!(findings.len(), CHECKS.len());
    for (finding, check) in findings.iter().zip(CHECKS) {
        assert_eq!(finding.check, check.name, "what a check finds has its name");
        assert_eq!(finding.status, FindingStatus::Ok, "{finding:?}");
        assert!(!finding.cause.is_empty());
    }
    assert_eq!(exit_code(&findings), 0);
    assert!(mend::of(&well(), &findings).is_empty());
}

type Change = Box<dyn FnOnce(&mut Facts)>;

#[test]
fn what_is_wrong_is_found_by_its_check_with_what_to_do() {
    use FindingStatus::{Failed, Warning};
    let cases: Vec<(&str, FindingStatus, Change)> = vec![
        (
            "helper",
            Failed,
            Box::new(|f| f.helper = Helper::Away("no such file".into())),
        ),
        (
            "helper",
            Failed,
            Box::new(|f| {
                f.helper = Helper::There {
                    mode: 0o666,
                    uid: 0,
                }
            }),
        ),
        (
            "helper",
            Failed,
            Box::new(|f| {
                f.helper = Helper::There {
                    mode: 0o660,
                    uid: 1_000,
                }
            }),
        ),
        ("helper", Warning, Box::new(|f| f.helper = Helper::None)),
        (
            "docker",
            Failed,
            Box::new(measured(|i| {
                i.docker = None;
                i.docker_absent_reason = Some("no Docker engine answers".into());
            })),
        ),
        (
            "docker",
            Failed,
            Box::new(|f| f.inventory = Err("no /proc".into())),
        ),
        (
            "firewall",
            Warning,
            Box::new(measured(|i| i.isolation = None)),
        ),
        (
            "seccomp",
            Failed,
            Box::new(measured(|i| {
                let bad = Finding::new("seccomp", Failed, "no filters", "another kernel");
                if let Some(isolation) = &mut i.isolation {
                    isolation
                        .findings
                        .retain(|finding| finding.check != "seccomp");
                    isolation.findings.push(bad);
                }
            })),
        ),
        (
            "live_restore",
            Warning,
            Box::new(measured(|i| {
                if let Some(docker) = &mut i.docker {
                    docker.live_restore = false;
                }
            })),
        ),
        (
            "docker_over_tcp",
            Failed,
            Box::new(|f| f.listening.push(listening(2_375))),
        ),
        (
            "ports",
            Warning,
            Box::new(|f| f.listening.push(listening(6_379))),
        ),
        ("gpu_toolkit", Failed, Box::new(|f| f.nvidia_device = true)),
        ("cgroups", Failed, Box::new(|f| f.cgroup_version = None)),
        (
            "cgroups",
            Failed,
            Box::new(|f| f.controllers.retain(|name| name != "memory")),
        ),
        (
            "disk_quota",
            Warning,
            Box::new(measured(|i| i.rental_disk = None)),
        ),
        (
            "memory",
            Warning,
            Box::new(told(|s| s.memory_pressure = Some("little is left".into()))),
        ),
        (
            "memory",
            Warning,
            Box::new(|f| {
                f.ram_available_bytes = Some(1 << 30);
                told(|s| s.standing = Some(standing(8 << 30)))(f);
            }),
        ),
        ("files", Failed, Box::new(|f| f.files[0].mode = Some(0o644))),
        (
            "clock_sync",
            Warning,
            Box::new(|f| f.clock_synced = Some(false)),
        ),
        ("clock_sync", Warning, Box::new(|f| f.clock_synced = None)),
        (
            "enrolment",
            Warning,
            Box::new(|f| f.enrolled = Enrolled::No),
        ),
        (
            "enrolment",
            Failed,
            Box::new(|f| f.enrolled = Enrolled::Damaged("it is cut off".into())),
        ),
        ("dns", Warning, Box::new(|f| f.market = None)),
        (
            "dns",
            Failed,
            Box::new(|f| {
                if let Some(market) = &mut f.market {
                    market.addresses = Err("no name server".into());
                }
            }),
        ),
        (
            "coordinator",
            Failed,
            Box::new(|f| {
                if let Some(market) = &mut f.market {
                    market.answered = Err("connection refused".into());
                }
            }),
        ),
        (
            "coordinator",
            Failed,
            Box::new(answer(|a| a.is_market = false)),
        ),
        (
            "coordinator",
            Failed,
            Box::new(told(|s| s.contact = "lost".into())),
        ),
        (
            "clock",
            Warning,
            Box::new(answer(|a| a.ahead_ms = Some(-9_000))),
        ),
        (
            "clock",
            Failed,
            Box::new(answer(|a| a.ahead_ms = Some(61_000))),
        ),
        ("clock", Warning, Box::new(answer(|a| a.ahead_ms = None))),
        (
            "agent",
            Failed,
            Box::new(told(|s| {
                s.metering_fault = Some("the journal is damaged".into());
            })),
        ),
        ("agent", Warning, Box::new(|f| f.agent_runs = false)),
        ("service", Warning, Box::new(|f| f.unit = None)),
        (
            "service",
            Warning,
            Box::new(|f| f.unit = Some(Unit::default())),
        ),
        (
            "service",
            Warning,
            Box::new(|f| {
                if let Some(unit) = &mut f.unit {
                    unit.watchdog_us = 0;
                }
            }),
        ),
        (
            "service",
            Warning,
            Box::new(|f| {
                if let Some(unit) = &mut f.unit {
                    unit.enabled = "disabled".into();
                }
            }),
        ),
    ];
    for (name, status, change) in cases {
        let mut facts = well();
        change(&mut facts);
        let findings = judge(&facts, &[name.to_owned()]);
        assert_eq!(findings.len(), 1, "{name}");
        assert_eq!(findings[0].status, status, "{:?}", findings[0]);
        assert!(!findings[0].mend.is_empty(), "{:?}", findings[0]);
        let code = if status == Failed { 2 } else { 1 };
        assert_eq!(exit_code(&findings), code);
    }
}

fn standing(free_bytes: i64) -> Standing {
    let part = Resources {
        ram_bytes: free_bytes,
        ..Resources::default()
    };
    Standing {
        schedulability: "active".into(),
        drain_deadline: None,
        maintenance: Vec::new(),
        rentable: part,
        free: part,
        rentable_max: part,
        orders_seen: 0,
        outcomes: Vec::new(),
    }
}

#[test]
fn only_what_is_safe_is_mended() {
    let mends = |change: Change| {
        let mut facts = well();
        change(&mut facts);
        let findings = judge(&facts, &[]);
        mend::of(&facts, &findings)
    };
    assert_eq!(
        mends(Box::new(|f| f.files[0].mode = Some(0o644))),
        [Mend::Mode {
            path: "/var/lib/ramarket-agent/node.key".into(),
            mode: 0o600
        }]
    );
    // rights are taken, never given
    assert_eq!(mends(Box::new(|f| f.files[0].mode = Some(0o400))), []);
    assert_eq!(
        mends(Box::new(|f| f.helper = Helper::Away("none".into()))),
        [Mend::Unit {
            verb: "start",
            unit: "ramarket-helper.service"
        }]
    );
    assert_eq!(
        mends(Box::new(|f| {
            f.helper = Helper::Away("none".into());
            f.unit = None;
        })),
        [],
        "there is nobody to ask without systemd"
    );
    assert_eq!(
        mends(Box::new(|f| f.agent_runs = false)),
        [Mend::Unit {
            verb: "start",
            unit: "ramarket-agent.service"
        }]
    );
    assert_eq!(mends(Box::new(|f| f.enrolled = Enrolled::No)), []);
}

#[test]
fn names_of_checks_are_known_and_others_arent() {
    for check in CHECKS {
        assert_eq!(known(check.name).as_deref(), Ok(check.name));
    }
    let said = known("dokcer").expect_err("no such check");
    assert!(said.contains("docker"), "{said}");
    let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len());
}
