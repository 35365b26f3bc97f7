//! Folders that lie still, and folders that change while they are looked at.

use super::*;
use crate::testing::TempDir;

const LARGE: Writable = Writable {
    bytes: 1 << 30,
    inodes: 10_000,
};

#[test]
fn blocks_and_names_are_counted_and_links_not_followed() {
    let dir = TempDir::new();
    let inner = dir.path().join("a/b");
    std::fs::create_dir_all(&inner).expect("made");
    std::fs::write(inner.join("c"), vec![1; 100_000]).expect("written");
    std::os::unix::fs::symlink("/usr", dir.path().join("out")).expect("linked");
    let usage = count(dir.path(), &LARGE).expect("counted");
    assert_eq!(usage.inodes, 4);
    assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    assert_eq!(usage.beyond(&LARGE), None);
    // a file that only says that it is large takes nothing
    let sparse = std::fs::File::create(inner.join("sparse")).expect("made");
    sparse.set_len(1 << 40).expect("set");
    assert!(count(dir.path(), &LARGE).expect("counted").bytes < 200_000);
}

#[test]
fn an_idle_disk_is_seldom_looked_at() {
    let at = |free_mib: i64, free_inodes: i64, boot_ms: i64| Looked {
        space: Space {
            free_bytes: free_mib << 20,
            free_inodes,
            ..Space::default()
        },
        boot_ms,
    };
    let last = Some(at(1_000, 50_000, 0));
    assert!(is_due(None, at(1_000, 50_000, 0)));
    assert!(!is_due(last, at(950, 49_000, 10_000)));
    assert!(is_due(last, at(936, 50_000, 10_000)), "64 MiB");
    assert!(is_due(last, at(1_000, 45_904, 10_000)), "4096 files");
    assert!(is_due(last, at(1_000, 50_000, 300_000)), "anyway");
}

#[test]
fn counting_stops_at_the_limit() {
    let dir = TempDir::new();
    for name in 0..50 {
        std::fs::write(dir.path().join(name.to_string()), "").expect("written");
    }
    let few = Writable {
        inodes: 10,
        ..LARGE
    };
    let usage = count(dir.path(), &few).expect("counted");
    assert_eq!(usage.inodes, 11);
    assert!(usage.beyond(&few).expect("beyond").contains("10 files"));
    std::fs::write(dir.path().join("large"), vec![1; 1 << 20]).expect("written");
    let little = Writable {
        bytes: 1 << 19,
        ..LARGE
    };
    let usage = count(dir.path(), &little).expect("counted");
    assert!(usage.beyond(&little).is_some());
}

#[test]
fn what_lies_too_deep_is_noticed_and_a_long_path_is_not_too_deep() {
    let dir = TempDir::new();
    let mode = Mode::RWXU;
    let flags = OFlags::DIRECTORY;
    let name = "d".repeat(200);
    let mut at = openat(CWD, dir.path(), flags, Mode::empty()).expect("opened");
    let mut deeper = |times: usize| {
        for _ in 0..times {
            rustix::fs::mkdirat(&at, name.as_str(), mode).expect("made");
            at = openat(&at, name.as_str(), flags, Mode::empty()).expect("opened");
        }
    };
    deeper(30);
    let usage = count(dir.path(), &LARGE).expect("counted");
    assert_eq!((usage.inodes, usage.beyond(&LARGE)), (30, None));
    deeper(DEPTH_MAX - 30);
    let usage = count(dir.path(), &LARGE).expect("counted");
    assert!(
        usage.too_deep && usage.beyond(&LARGE).is_some(),
        "{usage:?}"
    );
}

/// A folder with 100 kB in `a`, and a look that has listed it and no more.
fn listed(dir: &TempDir) -> Look<'static> {
    std::fs::create_dir_all(dir.path().join("a")).expect("made");
    std::fs::write(dir.path().join("a/large"), vec![1; 100_000]).expect("written");
    Look::begin(dir.path(), &LARGE).expect("begun")
}

#[test]
fn a_folder_that_is_renamed_meanwhile_is_counted_and_a_link_in_its_place_not_followed() {
    let dir = TempDir::new();
    let mut look = listed(&dir);
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).expect("renamed");
    std::os::unix::fs::symlink("/usr", dir.path().join("a")).expect("linked");
    while look.step().expect("looked") {}
    assert!(!look.lost, "it was found");
    // with the link
    assert_eq!((look.usage.inodes, look.usage.beyond(&LARGE)), (3, None));
    assert!(
        (100_000..200_000).contains(&look.usage.bytes),
        "{:?}",
        look.usage
    );
}

#[test]
fn what_goes_on_to_elsewhere_makes_another_look_and_what_never_lies_still_is_beyond() {
    let dir = TempDir::new();
    let mut look = listed(&dir);
    let elsewhere = TempDir::new();
    let away = elsewhere.path().join("a");
    std::fs::rename(dir.path().join("a"), &away).expect("renamed");
    while look.step().expect("looked") {}
    assert!(look.lost && !look.usage.restless, "{:?}", look.usage);
    assert_eq!(count(dir.path(), &LARGE).expect("counted").inodes, 0);

    let (mut name, mut next) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::rename(&away, &name).expect("renamed");
    let mut look = Look::begin(dir.path(), &LARGE).expect("begun");
    loop {
        std::fs::rename(&name, &next).expect("renamed");
        std::mem::swap(&mut name, &mut next);
        if !look.step().expect("looked") {
            break;
        }
    }
    assert!(look.usage.restless, "{:?}", look.usage);
    assert!(look.usage.beyond(&LARGE).is_some());
}

#[test]
fn single_files_are_counted_by_their_blocks() {
    let dir = TempDir::new();
    let file = dir.path().join("hosts");
    std::fs::write(&file, vec![1; 100_000]).expect("written");
    let files = [file, dir.path().join("none")];
    let bytes = count_files(&files).expect("counted");
    assert!((100_000..200_000).contains(&bytes), "{bytes}");
    let within = [files[0].join("x")];
    count_files(&within).expect_err("a file isn't a folder");
}
