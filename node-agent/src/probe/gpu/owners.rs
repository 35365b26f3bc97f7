//! Whose processes use a GPU: NVML knows process ids, the kernel knows which container each is in.

use std::path::Path;

/// Bytes of a `/proc/<pid>/cgroup` that are looked at.
const CGROUP_BYTES_MAX: usize = 4_096;

/// The container that a process runs in, by Docker's id; `None` for one of the host, or one that is gone.
pub(super) fn container_of(root: &Path, pid: u32) -> Option<String> {
    let file = root.join(format!("proc/{pid}/cgroup"));
    let text = std::fs::read_to_string(file).ok()?;
    container_in(text.get(..CGROUP_BYTES_MAX).unwrap_or(&text))
}

/// The first name of 64 hexadecimal digits: `…/docker/<id>` or `…/docker-<id>.scope`.
fn container_in(cgroups: &str) -> Option<String> {
    cgroups
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_read_from_both_hierarchies() {
        let id = "3f".repeat(32);
        for text in [
            format!("12:memory:/docker/{id}\n0::/\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/ramarket.slice/docker-{id}.scope/inner\n"),
        ] {
            assert_eq!(container_in(&text).as_deref(), Some(id.as_str()), "{text}");
        }
        assert_eq!(container_in("0::/user.slice/user-0.slice\n"), None);
    }
}
