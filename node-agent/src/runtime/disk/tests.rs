//! The decisions about disks, case by case.

use super::*;

const GIB: i64 = 1 << 30;

fn facts(driver: &str, backing: &str, took_size: bool, no_loopback: Option<&str>) -> Facts {
    Facts {
        driver: driver.to_owned(),
        backing: backing.to_owned(),
        took_size,
        no_loopback: no_loopback.map(str::to_owned),
    }
}

fn space(total_gib: i64, free_gib: i64) -> Space {
    Space {
        total_bytes: total_gib * GIB,
        free_bytes: free_gib * GIB,
        total_inodes: 1_000_000,
        free_inodes: 900_000,
    }
}

fn settings() -> Settings {
    Settings::new(PathBuf::from("/nowhere"))
}

#[test]
fn the_best_means_that_the_machine_has_is_taken() {
    use QuotaMeans::{Engine, Loopback, Policed};
    for (means, facts) in [
        (Engine, facts("overlay2", "xfs", true, None)),
        (Engine, facts("btrfs", "", true, Some("no device"))),
        (Engine, facts("zfs", "zfs", true, None)),
        // without pquota
        (Loopback, facts("overlay2", "xfs", false, None)),
        // nothing that could have taken it was tried, whatever was said
        (Loopback, facts("overlay2", "extfs", true, None)),
        (Loopback, facts("vfs", "extfs", false, None)),
        (
            Policed,
            facts("overlay2", "extfs", false, Some("no device")),
        ),
        (Policed, facts("overlay2", "xfs", false, Some("no device"))),
    ] {
        assert_eq!(facts.decide(), means, "{facts:?}");
    }
}

#[test]
fn what_is_promised_is_what_is_there_above_the_floor() {
    let mut settings = settings();
    // a tenth and 5 GiB stay free
    assert_eq!(total(&space(100, 40), &settings, 0, 0), 25 * GIB);
    // what live ones hold isn't free any more, and counts
    assert_eq!(total(&space(100, 30), &settings, 10 * GIB, 0), 25 * GIB);
    // what is kept isn't free either, and doesn't
    assert_eq!(total(&space(100, 30), &settings, 0, 10 * GIB), 15 * GIB);
    settings.total_bytes = 20 * GIB;
    assert_eq!(total(&space(100, 40), &settings, 0, 0), 20 * GIB);
    assert_eq!(total(&space(100, 37), &settings, 0, 3 * GIB), 17 * GIB);
    settings.floor_bytes = 36 * GIB;
    assert_eq!(total(&space(100, 40), &settings, 0, 0), 4 * GIB);
    // less than the floor: nothing new, and what is held stays held
    assert_eq!(total(&space(100, 10), &settings, 0, 0), 0);
    assert_eq!(total(&space(100, 10), &settings, GIB + 1, 5 * GIB), GIB + 1);
}

#[test]
fn a_full_disk_is_full_until_there_is_a_fifth_more() {
    let mut settings = settings();
    settings.floor_bytes = 40 * GIB;
    assert_eq!(space(100, 10).shortage(&settings, false), None);
    let why = space(100, 9).shortage(&settings, false).expect("full");
    assert!(why.contains("9216 MiB are free"), "{why}");
    assert!(space(100, 11).shortage(&settings, true).is_some());
    assert_eq!(space(100, 12).shortage(&settings, true), None);
    let mut files = space(100, 50);
    files.free_inodes = 10_000;
    assert!(files.shortage(&settings, false).is_some());
    // btrfs counts none
    (files.total_inodes, files.free_inodes) = (0, 0);
    assert_eq!(files.shortage(&settings, false), None);
}

#[test]
fn what_is_written_beside_a_disk_is_bounded_whatever_the_means() {
    let settings = settings();
    let beside = settings.writable(Some(QuotaMeans::Loopback), 50 * GIB);
    assert_eq!((beside.bytes, beside.inodes), (10 * GIB, 327_680));
    let whole = settings.writable(Some(QuotaMeans::Policed), 50 * GIB);
    assert_eq!(whole.bytes, 60 * GIB);
    let mut small = settings;
    small.writable_bytes = 1 << 20;
    assert_eq!(small.writable(None, 0).inodes, 16 << 10);
    small.check().expect("allowed");
    small.grace_s = u32::MAX;
    small.check().expect_err("too long");
}
