//! Holds the house rules: sizes, module docs, names, who may import whom, log voice (`ARCHITECTURE.md`, `CONTRIBUTING.md`).
//!
//! The rules are a table in `rules`; `samples` shows of each that it can fail.

mod files;
mod imports;
mod rules;
#[cfg(test)]
mod samples;
mod source;
mod voice;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use files::File;
use rules::RULES;

/// Folders that are made, not written.
const MADE: [&str; 5] = ["target", "var", "node_modules", ".venv", ".git"];
/// Endings of the files that people write.
const WRITTEN: [&str; 11] = [
    "rs", "toml", "md", "sh", "sql", "service", "conf", "json", "mjs", "js", "html",
];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut list = String::new();
    for path in &paths {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let relative = path.strip_prefix(&root).unwrap();
        let file = File::new(relative.to_str().unwrap(), &text);
        for rule in RULES {
            for (line, what) in (rule.find)(&file) {
                writeln!(
                    list,
                    "{}:{line}: [{}] {what}: {}",
                    file.path, rule.name, rule.says
                )
                .unwrap();
            }
        }
    }
    assert!(
        paths.len() > 30,
        "found only {} files to look at",
        paths.len()
    );
    assert!(list.is_empty(), "house rules are broken here:\n{list}");
}

/// The written files below `folder`, in order.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut entries = entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        if path.is_symlink() || MADE.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else if WRITTEN.contains(&ending) || matches!(name, "Makefile" | "run") {
            paths.push(path);
        }
    }
}
