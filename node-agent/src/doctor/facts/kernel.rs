//! What the kernel says: controllers, open ports.

use std::path::Path;

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

/// Which of these ports something listens on, on any address.
pub(super) fn listening(root: &Path, ports: &[u16]) -> Vec<u16> {
    /// `TCP_LISTEN`
    const LISTENS: &str = "0A";
    let mut open = Vec::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = std::fs::read_to_string(root.join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else {
                continue;
            };
            let port = local
                .rsplit_once(':')
                .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            let wanted = port.filter(|port| state == LISTENS && ports.contains(port));
            open.extend(wanted.filter(|port| !open.contains(port)));
        }
    }
    open
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
        // 2375 listens, 2376 is a connection's own end, 443 listens
        let lines = "   0: 00000000:0947 00000000:0000 0A 0\n   1: 0100007F:0948 0100007F:1F90 01 0\n   2: 00000000:01BB 00000000:0000 0A 0\n";
        std::fs::write(root.join("proc/net/tcp"), format!("{header}{lines}")).expect("written");
        assert_eq!(listening(root, &[2_375, 2_376]), [2_375]);
        let first =
            "#subsys_name hierarchy num_cgroups enabled\ncpu 3 1 1\nmemory 0 1 1\npids 5 1 0\n";
        std::fs::write(root.join("proc/cgroups"), first).expect("written");
        assert_eq!(controllers(root), ["cpu"]);
        let second = root.join("sys/fs/cgroup/cgroup.controllers");
        std::fs::write(second, "cpuset cpu memory pids\n").expect("written");
        assert!(controllers(root).contains(&"memory".to_owned()));
    }
}
