//! What the kernel says: controllers, open ports.

use std::{collections::BTreeMap, path::Path};

/// Controllers of both versions.
pub(super) fn controllers(root: &Path) -> Vec<String> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let second = text("sys/fs/cgroup/cgroup.controllers");
    let mut all: Vec<String> = second.split_ascii_whitespace().map(str::to_owned).collect();
    // name, hierarchy, groups, enabled
    let first = text("proc/cgroups");
    all.extend(first.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, hierarchy) = (fields.next()?, fields.next()?);
        let enabled = fields.nth(1)? == "1";
        (enabled && hierarchy != "0").then(|| name.to_owned())
    }));
    all
}

/// A port on which something listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// Which.
    pub port: u16,
    /// Whether on more than this machine's loopback.
    pub from_outside: bool,
}

/// Every port on which something listens, once.
pub(super) fn listening(root: &Path) -> Vec<Listening> {
    /// `TCP_LISTEN`
    const LISTENS: &str = "0A";
    let mut all = BTreeMap::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = std::fs::read_to_string(root.join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else {
                continue;
            };
            let Some((address, port)) = local.rsplit_once(':') else {
                continue;
            };
            if let (LISTENS, Ok(port)) = (state, u16::from_str_radix(port, 16)) {
                *all.entry(port).or_insert(false) |= !is_loopback(address);
            }
        }
    }
    all.into_iter()
        .map(|(port, from_outside)| Listening { port, from_outside })
        .collect()
}

/// Whether an address is the loopback's: words of 32 bits as this machine writes numbers.
fn is_loopback(address: &str) -> bool {
    let last = address.get(address.len().saturating_sub(8)..).unwrap_or("");
    let number = u32::from_str_radix(last, 16).map(u32::to_ne_bytes);
    match (address.len(), number) {
        (8, Ok([127, ..])) => true,
        // ::1, and 127.0.0.0/8 as IPv6 writes it
        (32, Ok([0, 0, 0, 1])) => address.starts_with("000000000000000000000000"),
        (32, Ok([127, ..])) => address.starts_with("0000000000000000FFFF0000"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn ports_and_controllers_are_found() {
        let dir = TempDir::new();
        let root = dir.path();
        std::fs::create_dir_all(root.join("proc/net")).expect("folder");
        std::fs::create_dir_all(root.join("sys/fs/cgroup")).expect("folder");
        let header = "  sl  local_address rem_address   st tx_queue\n";
        // 2375 listens, 2376 is a connection's own end, 443 and 53 listen on the loopback, 443 beside it on all addresses
        let lines = "   0: 00000000:0947 00000000:0000 0A 0\n   1: 0100007F:0948 0100007F:1F90 01 0\n   2: 0100007F:01BB 00000000:0000 0A 0\n   3: 3500007F:0035 00000000:0000 0A 0\n";
        std::fs::write(root.join("proc/net/tcp"), format!("{header}{lines}")).expect("written");
        let lines = "   0: 00000000000000000000000000000000:01BB 0:0 0A 0\n   1: 00000000000000000000000001000000:0277 0:0 0A 0\n   2: 0000000000000000FFFF00000100007F:0278 0:0 0A 0\n";
        std::fs::write(root.join("proc/net/tcp6"), format!("{header}{lines}")).expect("written");
        let found = listening(root);
        let found: Vec<_> = found.iter().map(|it| (it.port, it.from_outside)).collect();
        assert_eq!(
            found,
            [
                (53, false),
                (443, true),
                (631, false),
                (632, false),
                (2_375, true)
            ]
        );
        let first =
            "#subsys_name hierarchy num_cgroups enabled\ncpu 3 1 1\nmemory 0 1 1\npids 5 1 0\n";
        std::fs::write(root.join("proc/cgroups"), first).expect("written");
        assert_eq!(controllers(root), ["cpu"]);
        let second = root.join("sys/fs/cgroup/cgroup.controllers");
        std::fs::write(second, "cpuset cpu memory pids\n").expect("written");
        assert!(controllers(root).contains(&"memory".to_owned()));
    }
}
