//! Classes by what a machine has, and what is said of versions that are missed.

use super::*;

fn modern() -> Seen {
    Seen {
        docker: "28.3.3".to_owned(),
        containerd: "v1.7.29".to_owned(),
        runc: "1.3.3".to_owned(),
        kernel: "6.1.0-44-amd64".to_owned(),
        runtimes: vec!["io.containerd.runc.v2".to_owned(), "runc".to_owned()],
        kvm: true,
        kata_shim: false,
        seccomp: true,
        userns_remap: true,
        confined: true,
    }
}

fn with(change: fn(&mut Seen)) -> Decision {
    let mut seen = modern();
    change(&mut seen);
    decide(&seen)
}

/// A change to a modern machine, and the class and runtime that it has then.
type Case = (fn(&mut Seen), IsolationClass, Option<&'static str>);

#[test]
fn the_strongest_class_that_works_is_taken() {
    let table: [Case; 9] = [
        (|_| {}, IsolationClass::SharedKernel, Some("runc")),
        (|s| s.runtimes.clear(), IsolationClass::SharedKernel, None),
        (
            |s| s.runtimes.push("runsc".into()),
            IsolationClass::Sandbox,
            Some("runsc"),
        ),
        (
            |s| s.runtimes.push("sysbox-runc".into()),
            IsolationClass::SharedKernel,
            Some("runc"),
        ),
        (
            |s| s.runtimes.push("kata-qemu".into()),
            IsolationClass::Vm,
            Some("kata-qemu"),
        ),
        (|s| s.kata_shim = true, IsolationClass::Vm, Some(KATA_SHIM)),
        (
            |s| (s.kata_shim, s.docker) = (true, "20.10.24".into()),
            IsolationClass::SharedKernel,
            Some("runc"),
        ),
        (
            |s| (s.kata_shim, s.kvm) = (true, false),
            IsolationClass::SharedKernel,
            Some("runc"),
        ),
        (
            |s| {
                s.kata_shim = true;
                s.runtimes.push("runsc".into());
            },
            IsolationClass::Vm,
            Some(KATA_SHIM),
        ),
    ];
    for (number, (change, class, runtime)) in table.into_iter().enumerate() {
        let decision = with(change);
        assert_eq!(
            (decision.class, decision.runtime.as_deref()),
            (class, runtime),
            "case {number}"
        );
    }
}

#[test]
fn what_is_missed_is_said_with_its_mend() {
    let status = |decision: &Decision, check: &str| {
        decision
            .findings
            .iter()
            .find(|finding| finding.check == check)
            .map(|finding| finding.status)
    };
    let well = with(|_| {});
    for finding in well
        .findings
        .iter()
        .filter(|finding| finding.check != "isolation_class")
    {
        assert_eq!(finding.status, FindingStatus::Ok, "{finding:?}");
    }
    let old = with(|s| {
        s.docker = "20.10.24+dfsg1".into();
        s.containerd = "1.6.20~ds1".into();
        s.runc = "1.1.5+ds1-1+deb12u1".into();
        s.kernel = "5.10.0-9-amd64".into();
        (s.userns_remap, s.confined) = (false, false);
    });
    for check in [
        "docker_version",
        "containerd_version",
        "runc_version",
        "kernel_version",
        "userns_remap",
        "kernel_confinement",
    ] {
        assert_eq!(status(&old, check), Some(FindingStatus::Warning), "{check}");
    }
    assert!(
        old.findings
            .iter()
            .all(|finding| finding.status == FindingStatus::Ok || !finding.mend.is_empty())
    );
    assert_eq!(
        status(&with(|s| s.seccomp = false), "seccomp"),
        Some(FindingStatus::Failed)
    );
    assert_eq!(
        status(&with(|s| s.runc.clear()), "runc_version"),
        Some(FindingStatus::Warning)
    );
    // nobody shares the kernel there
    assert_eq!(
        status(&with(|s| s.runtimes.push("runsc".into())), "userns_remap"),
        None
    );
}

#[test]
fn floors_are_those_of_each_line() {
    let runc = FLOORS[2].floors;
    for (text, good) in [
        ("1.1.5", false),
        ("1.2.7", false),
        ("1.2.8", true),
        ("1.2.10", true),
        ("1.3.2", false),
        ("1.3.3", true),
        ("1.4.0-rc.1", true),
        ("2.0.0", true),
    ] {
        assert_eq!(
            meets(parsed(text).expect("a version"), runc),
            good,
            "{text}"
        );
    }
    let docker = FLOORS[0].floors;
    for (text, good) in [
        ("25.0.12", false),
        ("25.0.13", true),
        ("27.5.1", false),
        ("28.3.2", false),
        ("28.3.3", true),
        ("29.0.0", true),
    ] {
        assert_eq!(
            meets(parsed(text).expect("a version"), docker),
            good,
            "{text}"
        );
    }
    for text in ["", "dev", "1", "x.y.z"] {
        assert_eq!(parsed(text), None, "{text}");
    }
}
