//! A file as the rules see it: its text, what it names, and where in the house it lies.

use super::{
    imports::{Named, module_of, named},
    source::Source,
};

/// Files of a slice that only decide: no database, no clock, no log.
const PURE: [&str; 6] = [
    "model",
    "pricing",
    "placement",
    "liveness",
    "rate",
    "expire",
];

/// Where offenders stand: a line, from 1, and what was found there.
pub(super) type Offenders = Vec<(usize, String)>;

/// A file to look at.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the root of the repository, with `/`.
    pub(super) path: String,
    /// The file, cut up; only text is set when it isn't Rust.
    pub(super) source: Source,
    names: Vec<Named>,
    /// Where it lies.
    pub(super) place: Place,
}

/// Where a file of the coordinator lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Slice { slice: String, role: Role },
    Http,
    Web,
    Tasks,
    Adapters,
    StoreKit,
    App,
    Rest,
    Elsewhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Pure,
    Store,
    Api,
    Ports,
    Service,
}

impl File {
    /// Reads a file; `path` is relative to the root.
    pub(super) fn new(path: &str, text: &str) -> Self {
        let source = Source::read(if is_rust(path) { text } else { "" });
        let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
        let names = if is_test(path) {
            Vec::new()
        } else {
            named(&source, &module_of(inside))
        };
        Self {
            path: path.to_owned(),
            place: place_of(path),
            names,
            source: Source {
                text: text.to_owned(),
                ..source
            },
        }
    }

    /// The paths named that are `bad`.
    pub(super) fn naming(&self, bad: impl Fn(&Named) -> bool) -> Offenders {
        let found = self.names.iter().filter(|name| bad(name));
        found.map(|name| (name.line, name.text())).collect()
    }

    /// Where code (not text, not comments) contains `what`.
    pub(super) fn saying(&self, code: &str, what: &str) -> Offenders {
        let found = code.match_indices(what);
        found
            .map(|(at, _)| (self.source.line_of(at), what.to_owned()))
            .collect()
    }

    /// Its role in its slice.
    pub(super) fn role(&self) -> Option<Role> {
        match &self.place {
            Place::Slice { role, .. } => Some(*role),
            _ => None,
        }
    }
}

/// Whether a file is Rust.
pub(super) fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Whether a file is one of the programs' own.
pub(super) fn is_product(path: &str) -> bool {
    is_rust(path)
        && [
            "coordinator/src/",
            "node-agent/src/",
            "shared/src/",
            "cli/src/",
        ]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Whether the whole file is compiled for tests only.
pub(super) fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || matches!(path.rsplit('/').next(), Some("tests.rs" | "suite.rs"))
}

fn place_of(path: &str) -> Place {
    let Some(inside) = path.strip_prefix("coordinator/src/") else {
        return Place::Elsewhere;
    };
    let parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    match parts.as_slice() {
        ["domain", "mod"] => Place::Rest,
        ["domain", slice, rest @ ..] => Place::Slice {
            slice: (*slice).to_owned(),
            role: match rest.first().copied().unwrap_or("mod") {
                "store" => Role::Store,
                "api" | "cookies" => Role::Api,
                "ports" => Role::Ports,
                file if PURE.contains(&file) => Role::Pure,
                _ => Role::Service,
            },
        },
        ["http", ..] => Place::Http,
        ["web", ..] => Place::Web,
        ["tasks", ..] => Place::Tasks,
        ["adapters", ..] => Place::Adapters,
        ["store", ..] => Place::StoreKit,
        ["app", ..] => Place::App,
        _ => Place::Rest,
    }
}
