//! Which run of the kernel this is: `CLOCK_BOOTTIME` readings of two runs can't be compared.

use std::path::Path;

use anyhow::Context as _;

/// The kernel's boot id: 32 hex digits without dashes.
///
/// # Errors
/// `/proc` can't be read, or holds something else.
pub fn id() -> anyhow::Result<String> {
    read(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the kernel's boot id can't be read from {}", path.display()))?;
    let id: String = text.trim().chars().filter(|c| *c != '-').collect();
    anyhow::ensure!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{} doesn't hold a boot id",
        path.display()
    );
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_boot_id_is_the_kernels_and_anything_else_is_refused() {
        let id = id().expect("boot id");
        assert_eq!(id.len(), 32);
        let dir = TempDir::new();
        let path = dir.path().join("boot_id");
        std::fs::write(&path, "not a boot id\n").expect("written");
        assert!(read(&path).is_err());
    }
}
