//! A program with the libraries that it runs with, as an archive that a container can be given.
//!
//! # Invariants
//! - Equal files make equal archives, byte by byte: a digest stands for what is in one.
//! - The program comes last: where it is whole, so is all else.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

const BLOCK: usize = 512;
/// A file's kind in an archive.
const FILE: u8 = b'0';
const FOLDER: u8 = b'5';

/// A program, read.
#[derive(Debug)]
pub(super) struct Bundle {
    program: Vec<u8>,
    /// By name; of a static program, none.
    libraries: Vec<(String, Vec<u8>)>,
}

/// A [`Bundle`] for a folder.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) archive: Vec<u8>,
    /// How the program is started; its arguments follow.
    pub(super) command: Vec<String>,
}

impl Bundle {
    /// The program at `path`, which as a process is mapped as `maps` says (`/proc/PID/maps`).
    pub(super) fn read(path: &Path, maps: &str) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))
        };
        let libraries = libraries(maps).into_iter().map(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            Ok((name.context("a library's name")?.to_owned(), read(&path)?))
        });
        Ok(Self {
            program: read(path)?,
            libraries: libraries.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Bytes of the program itself.
    pub(super) fn program_bytes(&self) -> usize {
        self.program.len()
    }

    /// What stands for its content: 16 hexadecimal digits.
    pub(super) fn digest(&self) -> String {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let program = [("", &self.program)].into_iter();
        let libraries = self
            .libraries
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes));
        for (name, bytes) in program.chain(libraries) {
            digest.update(&name.len().to_be_bytes());
            digest.update(name.as_bytes());
            digest.update(&bytes.len().to_be_bytes());
            digest.update(bytes);
        }
        hex::encode(digest.finish()).chars().take(16).collect()
    }

    /// For a folder (a path from the root on, without a slash at its ends; empty for the root itself), under `name` there.
    pub(super) fn pack(&self, folder: &str, name: &str) -> anyhow::Result<Packed> {
        let under = |name: &str| match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        };
        let mut archive = Vec::new();
        if !folder.is_empty() {
            append(&mut archive, FOLDER, &format!("{folder}/"), b"")?;
        }
        append(&mut archive, FOLDER, &under("lib/"), b"")?;
        let program = format!("/{}", under(name));
        let mut command = vec![program.clone()];
        for (name, content) in &self.libraries {
            append(&mut archive, FILE, &under(&format!("lib/{name}")), content)?;
            if name.starts_with("ld-") {
                let folder = under("lib");
                command = vec![
                    format!("/{folder}/{name}"),
                    "--library-path".to_owned(),
                    format!("/{folder}"),
                    program.clone(),
                ];
            }
        }
        append(&mut archive, FILE, &under(name), &self.program)?;
        archive.extend([0; 2 * BLOCK]);
        Ok(Packed { archive, command })
    }
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

/// Adds what everybody may run or enter, in the form of POSIX's `ustar`.
fn append(archive: &mut Vec<u8>, kind: u8, name: &str, content: &[u8]) -> anyhow::Result<()> {
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
        (156, &[kind]),
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
        let bundle = Bundle {
            program: b"program".to_vec(),
            libraries: vec![
                ("ld-x.so.2".to_owned(), vec![7; 513]),
                ("libc.so.6".to_owned(), vec![8]),
            ],
        };
        let packed = bundle.pack(".folder", "probe").expect("packed");
        assert_eq!(
            packed.archive.len(),
            (2 + 1 + 2 + 1 + 1 + 1 + 1 + 2) * BLOCK
        );
        assert_eq!(
            packed.command,
            [
                "/.folder/lib/ld-x.so.2",
                "--library-path",
                "/.folder/lib",
                "/.folder/probe"
            ]
        );
        let dir = crate::testing::TempDir::new();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, &packed.archive).expect("written");
        let listed = std::process::Command::new("tar")
            .arg("-tvf")
            .arg(&path)
            .output()
            .expect("tar runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 5, "{listed}");
        assert!(
            lines[0].starts_with("drwxr-xr-x 0/0") && lines[0].ends_with(" .folder/"),
            "{listed}"
        );
        assert!(
            lines[2].contains(" 513 ") && lines[2].ends_with(" .folder/lib/ld-x.so.2"),
            "{listed}"
        );
        assert!(
            lines[4].starts_with("-rwxr-xr-x 0/0") && lines[4].ends_with(" .folder/probe"),
            "{listed}"
        );
        let at_root = bundle.pack("", "probe").expect("packed");
        assert_eq!(at_root.command[0], "/lib/ld-x.so.2");
        assert!(bundle.pack("", &"x".repeat(100)).is_err());
        let other = Bundle {
            program: b"prograM".to_vec(),
            ..bundle
        };
        assert_eq!(other.digest().len(), 16);
    }
}
