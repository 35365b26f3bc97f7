//! An image that holds this very program and the libraries that it runs with: what the probe's containers are made of.
//!
//! # Invariants
//! - Nothing is fetched: the files are those that this process was loaded from.
//! - One image per build of the program, by the digest of what is in it; images of other builds are removed when it is made.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use futures_util::TryStreamExt as _;

use super::{DockerRuntime, engine::is_status};

/// The image's name, without its tag.
const REPOSITORY: &str = "ramarket-isolation-probe";
const BLOCK: usize = 512;

/// An image that is there.
#[derive(Debug)]
pub(super) struct ProbeImage {
    pub(super) reference: String,
    /// How the program is started in it; its arguments follow.
    pub(super) command: Vec<String>,
}

impl DockerRuntime {
    /// The image, made if it isn't there.
    pub(super) async fn probe_image(&self) -> anyhow::Result<ProbeImage> {
        let (archive, command) = tokio::task::spawn_blocking(pack).await??;
        let digest = ring::digest::digest(&ring::digest::SHA256, &archive);
        let tag: String = hex::encode(digest).chars().take(16).collect();
        let reference = format!("{REPOSITORY}:{tag}");
        let client = self.engine.client().await?;
        match client.inspect_image(&reference).await {
            Ok(_) => return Ok(ProbeImage { reference, command }),
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return Err(error.into()),
        }
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_full(archive.into());
        client
            .create_image(Some(options), Some(body), None)
            .try_collect::<Vec<_>>()
            .await?;
        self.remove_others(Some(&reference)).await?;
        Ok(ProbeImage { reference, command })
    }

    /// Removes each of them.
    pub(super) async fn remove_probe_images(&self) -> anyhow::Result<()> {
        self.remove_others(None).await
    }

    async fn remove_others(&self, kept: Option<&str>) -> anyhow::Result<()> {
        let client = self.engine.client().await?;
        let options = ListImagesOptions {
            filters: Some(HashMap::from([(
                "reference".to_owned(),
                vec![REPOSITORY.to_owned()],
            )])),
            ..ListImagesOptions::default()
        };
        for image in client.list_images(Some(options)).await? {
            for tag in image
                .repo_tags
                .into_iter()
                .filter(|tag| Some(tag.as_str()) != kept)
            {
                if let Err(error) = client
                    .remove_image(&tag, None::<RemoveImageOptions>, None)
                    .await
                {
                    // another agent of this machine may be using it
                    tracing::debug!(image = tag, %error, "a probe image stays");
                }
            }
        }
        Ok(())
    }
}

/// The archive, and how the program is started from it.
fn pack() -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let maps = std::fs::read_to_string("/proc/self/maps")
        .context("what this program was loaded from isn't known")?;
    let libraries = libraries(&maps);
    let mut archive = Vec::new();
    append(
        &mut archive,
        "probe",
        &std::fs::read("/proc/self/exe").context("this program can't be read")?,
    )?;
    let mut command = vec!["/probe".to_owned()];
    for path in &libraries {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a library's name")?;
        let content =
            std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
        append(&mut archive, &format!("lib/{name}"), &content)?;
        if name.starts_with("ld-") {
            let loader = [
                format!("/lib/{name}"),
                "--library-path".to_owned(),
                "/lib".to_owned(),
            ];
            command = loader.into_iter().chain(["/probe".to_owned()]).collect();
        }
    }
    archive.extend([0; 2 * BLOCK]);
    Ok((archive, command))
}

/// Shared objects among the files that a process is mapped from; none of a static program.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .map(Path::new)
        .filter(|path| path.is_absolute())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.contains(".so"))
        })
        .map(Path::to_path_buf)
        .collect()
}

/// Adds a file that everybody may run, in the form of POSIX's `ustar`.
fn append(archive: &mut Vec<u8>, name: &str, content: &[u8]) -> anyhow::Result<()> {
    ensure!(name.len() < 100, "a library's name is too long: {name}");
    let mut header = [0_u8; BLOCK];
    let size = format!("{:011o}", content.len());
    let fields: [(usize, &[u8]); 9] = [
        (0, name.as_bytes()),
        (100, b"0000755"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, size.as_bytes()),
        // the same time always: the digest stands for the content
        (136, b"00000000000"),
        // the sum is counted with blanks in its own place
        (148, b"        "),
        (156, b"0"),
        (257, b"ustar\x0000"),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text);
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_are_those_that_are_mapped() {
        let maps = "7f0 r-xp 0 08:01 9 /usr/lib/x86_64-linux-gnu/libc.so.6\n7f1 r--p 0 08:01 9 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
            7f2 r-xp 0 08:01 8 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n7f3 rw-p 0 00:00 0 [heap]\n\
            7f4 r-xp 0 08:01 7 /usr/bin/ramarket-helper\n7f5 rw-p 0 00:00 0\n";
        let found: Vec<_> = libraries(maps).into_iter().collect();
        let folder = Path::new("/usr/lib/x86_64-linux-gnu");
        assert_eq!(
            found,
            [
                folder.join("ld-linux-x86-64.so.2"),
                folder.join("libc.so.6")
            ]
        );
    }

    #[test]
    fn the_archive_is_one_that_tar_reads() {
        let mut archive = Vec::new();
        append(&mut archive, "probe", b"program").expect("packed");
        append(&mut archive, "lib/libc.so.6", &[7; 513]).expect("packed");
        archive.extend([0; 2 * BLOCK]);
        assert_eq!(archive.len(), (1 + 1 + 1 + 2 + 2) * BLOCK);
        let dir = crate::testing::TempDir::new();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, &archive).expect("written");
        let listed = std::process::Command::new("tar")
            .arg("-tvf")
            .arg(&path)
            .output()
            .expect("tar runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 2, "{listed}");
        assert!(
            lines[0].starts_with("-rwxr-xr-x 0/0") && lines[0].ends_with(" probe"),
            "{listed}"
        );
        assert!(
            lines[1].contains(" 513 ") && lines[1].ends_with(" lib/libc.so.6"),
            "{listed}"
        );
        assert!(append(&mut archive, &"x".repeat(100), b"").is_err());
    }
}
