//! The systemd units are understood by systemd, and leave no more open than they say.
//!
//! systemd-analyze is needed (Debian: `systemd`); without it these tests fail, because then nothing was shown.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Unit and highest exposure, in tenths (systemd's scale: 0 closed, 100 open).
const UNITS: [(&str, u32); 3] = [
    ("ramarket-coordinator.service", 12),
    ("ramarket-agent.service", 15),
    // root, with the capabilities for firewall and mounts
    ("ramarket-helper.service", 24),
];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd")
        .join(name)
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .output();
    output.unwrap_or_else(|e| panic!("systemd-analyze: {e}; install Debian's package systemd"))
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Verifies a copy of a unit in which the programs, not installed where tests run, are replaced by one that is there.
fn verify(name: &str, text: &str) -> Output {
    let folder = std::env::temp_dir().join(format!("ramarket-units-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let copy = folder.join(name);
    let text = text.replace("/usr/bin/ramarket-", "/usr/bin/env ramarket-");
    fs::write(&copy, text).unwrap_or_else(|e| panic!("{}: {e}", copy.display()));
    let output = analyze(&["verify", "--man=no"], &copy);
    fs::remove_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    output
}

#[test]
fn units_are_understood() {
    for (name, _) in UNITS {
        let output = verify(name, &fs::read_to_string(unit(name)).unwrap());
        assert!(
            output.status.success() && said(&output).is_empty(),
            "{name}: {}",
            said(&output)
        );
    }
}

#[test]
fn a_misspelt_setting_is_noticed() {
    let (name, _) = UNITS[0];
    let text = fs::read_to_string(unit(name)).unwrap();
    let output = verify(name, &text.replace("ProtectHome=", "ProtectHouse="));
    assert!(said(&output).contains("ProtectHouse"), "{}", said(&output));
}

#[test]
fn exposure_stays_below_its_limit() {
    for (name, limit) in UNITS {
        let threshold = format!("--threshold={limit}");
        let exposure = |threshold: &str| {
            analyze(
                &["security", "--offline=yes", "--no-pager", threshold],
                &unit(name),
            )
        };
        let output = exposure(&threshold);
        assert!(
            output.status.success(),
            "{name} is above {limit}/10: {}",
            said(&output)
        );
        assert!(
            !exposure("--threshold=0").status.success(),
            "the threshold of systemd-analyze has no effect on {name}"
        );
    }
}
