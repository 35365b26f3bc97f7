//! The system calls that a rental may make.
//!
//! # Invariants
//! - A list of what is allowed; anything else answers EPERM. Not on it: whatever makes a namespace, mounts, loads code into the kernel or
//!   reads of other processes' kernel objects, and what escapes were made of lately (`io_uring`, `userfaultfd`, `bpf`, `perf_event_open`,
//!   keys, `open_by_handle_at`).
//! - Sockets are made of four families: unix, IPv4, IPv6, netlink.
//! - 64-bit programs only on x86: a 32-bit one makes sockets by `socketcall`, whose arguments lie in memory, and libseccomp lets
//!   it pass whatever family was listed. It ends by SIGSYS.

use std::sync::OnceLock;

/// As it is kept: with comments, for readers.
pub const SOURCE: &str = include_str!("seccomp.json");

/// The profile as the engine's API takes it, without comments; the same text each time.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| compact(SOURCE).unwrap_or_else(|| SOURCE.to_owned()))
}

fn compact(source: &str) -> Option<String> {
    let mut profile: serde_json::Value = serde_json::from_str(source).ok()?;
    for rule in profile.get_mut("syscalls")?.as_array_mut()? {
        rule.as_object_mut()?.remove("comment");
    }
    serde_json::to_string(&profile).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn rules() -> Vec<Value> {
        let profile: Value = serde_json::from_str(text()).expect("JSON");
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        profile["syscalls"].as_array().expect("a list").clone()
    }

    fn names(rule: &Value) -> impl Iterator<Item = &str> {
        rule["names"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|name| name.as_str().expect("text"))
    }

    #[test]
    fn what_escapes_are_made_of_is_not_on_the_list() {
        let rules = rules();
        let listed: BTreeSet<&str> = rules
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
            .flat_map(names)
            .collect();
        assert!(listed.len() > 300, "{}", listed.len());
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "open_by_handle_at",
            "unshare",
            "setns",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsmount",
            "mount_setattr",
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
            "swapon",
            "swapoff",
            "acct",
            "quotactl",
            "iopl",
            "ioperm",
            "settimeofday",
            "clock_settime",
            "sethostname",
            "syslog",
            "fanotify_init",
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "move_pages",
            "clone3",
            "socketcall",
            "lookup_dcookie",
            "nfsservctl",
            "uselib",
            "vhangup",
            "mbind",
            "set_mempolicy",
        ] {
            assert!(!listed.contains(name), "{name} is allowed");
        }
    }

    #[test]
    fn the_calls_that_need_a_look_at_their_arguments_have_one() {
        for rule in rules() {
            let with_arguments = rule["args"].as_array().is_some_and(|args| !args.is_empty());
            for name in
                names(&rule).filter(|name| ["socket", "clone", "personality"].contains(name))
            {
                assert!(with_arguments, "{name} is allowed whatever it is asked");
            }
        }
        let families: Vec<i64> = rules()
            .iter()
            .filter(|rule| names(rule).any(|name| name == "socket"))
            .filter_map(|rule| rule["args"][0]["value"].as_i64())
            .collect();
        // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
        assert_eq!(families, [1, 2, 10, 16]);
        let all = rules();
        let clone = all
            .iter()
            .find(|rule| names(rule).any(|name| name == "clone"))
            .expect("listed");
        // every CLONE_NEW… flag
        assert_eq!(clone["args"][0]["value"], 0x7e02_0000_i64);
        assert_eq!(clone["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        let clone3 = all
            .iter()
            .find(|rule| names(rule).any(|name| name == "clone3"))
            .expect("listed");
        assert_eq!(
            (&clone3["action"], &clone3["errnoRet"]),
            (&"SCMP_ACT_ERRNO".into(), &38.into())
        );
    }

    #[test]
    fn the_text_is_the_source_without_its_comments() {
        assert!(SOURCE.contains("comment") && !text().contains("comment"));
        assert!(text().len() < SOURCE.len() && !text().contains('\n'));
    }
}
