//! Holds the house rules: sizes, module docs, names, who may import whom, log voice (`ARCHITECTURE.md`, `CONTRIBUTING.md`).
//!
//! The rules are a table in `rules`; `samples` shows of each that it can fail.

#[cfg(test)]
mod checklist;
mod files;
mod imports;
mod rules;
#[cfg(test)]
mod samples;
mod source;
mod voice;

use std::{
    collections::BTreeMap,
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

/// The document of the API has one place for all schemas: of two types with one name, one would describe both.
#[test]
fn schemas_have_names_of_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for part in ["coordinator/src", "shared/src"] {
        collect(&root.join(part), &mut paths);
    }
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &paths {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for name in schema_names(&text) {
            let places = named.entry(name).or_default();
            places.push(path.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    assert!(named.len() > 50, "found only {} schemas", named.len());
    named.retain(|_, places| places.len() > 1);
    assert!(named.is_empty(), "schemas that share a name: {named:#?}");
}

/// Names of the types that derive `ToSchema`, or that they are given there.
fn schema_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in source.match_indices("ToSchema)]") {
        let rest = source[at..].lines().skip(1);
        let mut given = None;
        for line in rest.map(str::trim) {
            if let Some(name) = line.strip_prefix("#[schema(as = ") {
                given = name.split([')', ',']).next();
            }
            let declared = line
                .split_whitespace()
                .skip_while(|word| !matches!(*word, "struct" | "enum"))
                .nth(1);
            if let Some(declared) = declared.filter(|_| !line.starts_with(['#', '/'])) {
                let plain = declared.split(|c: char| !c.is_alphanumeric()).next();
                names.extend(given.or(plain).map(str::to_owned));
                break;
            }
        }
    }
    names
}

#[test]
fn a_schema_is_known_by_the_name_that_it_is_given() {
    let source = "#[derive(Debug, ToSchema)]\n#[serde(x)]\npub struct Plain {\n}\n\
        #[derive(ToSchema)]\n/// a struct of words\n#[schema(as = Given)]\nstruct Other<T>(T);\n\
        #[derive(Debug)]\nstruct NoSchema;\n#[derive(ToSchema)]\nenum Generic<T> {}\n";
    assert_eq!(schema_names(source), ["Plain", "Given", "Generic"]);
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
