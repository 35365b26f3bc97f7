//! The house rules, as a table: each has a name, what it says, and how it finds the offenders of one file.
//!
//! A new slice goes into [`SLICES`], a new pure file into `files::PURE`; everything else follows from where a file lies.

use super::{
    files::{File, Offenders, Place, Role, is_product, is_rust, is_test},
    imports::Named,
    voice::{log_voice, stands_alone},
};

/// The slices of the market, in order: a slice may use only those before it.
const SLICES: [&str; 30] = [
    "access",
    "events",
    "audit",
    "settings",
    "mail",
    "auth",
    "apikeys",
    "device_login",
    "sshkeys",
    "kyc",
    "oidc",
    "webhooks",
    "ledger",
    "earnings",
    "nodes",
    "images",
    "offers",
    "rates",
    "payments",
    "wallets",
    "rentals",
    "metering",
    "disputes",
    "settlement",
    "payouts",
    "invoices",
    "gateway",
    "agentlink",
    "analytics",
    "admin",
];
/// Names that say nothing about what a file is about.
const EMPTY_NAMES: [&str; 8] = [
    "utils", "util", "helpers", "helper", "manager", "common", "misc", "stuff",
];
/// The one file of the tests that may sleep: it waits until a condition holds.
const WAITS: &str = "tests/src/wait.rs";
/// The adapter that is a ledger of play money itself, and so keeps it in the database.
const PLAY_MONEY: &str = "coordinator/src/adapters/facilitator_sandbox";
/// What `shared` doesn't know, the one first that its link does.
const NOT_IN_SHARED: [&str; 6] = [
    "tokio",
    "rusqlite",
    "tokio_postgres",
    "axum",
    "coordinator",
    "node_agent",
];
const LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// `crate::domain::<slice>::store…`
fn is_slice_store(name: &Named) -> bool {
    name.starts_with(&["crate", "domain"]) && name.segments.get(3).is_some_and(|s| s == "store")
}

fn is_outside(name: &Named, roots: &[&str]) -> bool {
    roots.contains(&name.segments[0].as_str())
}

/// One rule.
pub(super) struct Rule {
    /// Its short name, for the list of offenders and for its test.
    pub(super) name: &'static str,
    /// What to do instead.
    pub(super) says: &'static str,
    /// Finds the offenders of one file.
    pub(super) find: fn(&File) -> Offenders,
}

/// Every rule of the house.
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "file_size",
        says: "a file has at most 400 lines: split it by what its parts are about",
        find: |file| {
            let lines = file.source.text.lines().count();
            let long = is_product(&file.path) && !is_test(&file.path) && lines > LINES_MAX;
            long.then(|| (lines, format!("{lines} lines")))
                .into_iter()
                .collect()
        },
    },
    Rule {
        name: "function_size",
        says: "a function has at most 70 lines: name its steps",
        find: |file| {
            let looked_at =
                (is_product(&file.path) && !is_test(&file.path)).then(|| file.source.functions());
            looked_at
                .into_iter()
                .flatten()
                .filter(|function| function.lines > FUNCTION_LINES_MAX)
                .map(|f| (f.line, format!("fn {} has {} lines", f.name, f.lines)))
                .collect()
        },
    },
    Rule {
        name: "module_doc",
        says: "a file opens with `//!` and at least one sentence: what lives here, what always holds",
        find: |file| {
            let first = file.source.text.lines().next().unwrap_or_default();
            let sentence = first
                .strip_prefix("//!")
                .is_some_and(|doc| doc.split_whitespace().count() > 2 || doc.ends_with('.'));
            let bad = is_rust(&file.path) && !sentence;
            bad.then(|| (1, first.to_owned())).into_iter().collect()
        },
    },
    Rule {
        name: "file_name",
        says: "a file is named by what it is about, never utils, helpers, manager, common",
        find: |file| {
            let mut parts = file.path.trim_end_matches(".rs").split('/');
            let bad = is_rust(&file.path).then(|| parts.find(|part| EMPTY_NAMES.contains(part)));
            bad.flatten()
                .map(|part| (1, part.to_owned()))
                .into_iter()
                .collect()
        },
    },
    Rule {
        name: "pure_files",
        says: "a model or a decision knows only values: no store, tokio, axum, tracing or HTTP",
        find: |file| match file.role() {
            Some(Role::Pure) => file.naming(|name| {
                is_outside(
                    name,
                    &[
                        "tokio",
                        "axum",
                        "tracing",
                        "rusqlite",
                        "tokio_postgres",
                        "reqwest",
                    ],
                ) || is_slice_store(name)
                    || ["store", "http", "app", "adapters", "tasks"]
                        .iter()
                        .any(|part| name.starts_with(&["crate", part]))
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "slice_stores",
        says: "a slice's store.rs is SQL of that slice: nobody else's store, no HTTP",
        find: |file| match &file.place {
            Place::Slice {
                slice,
                role: Role::Store,
            } => file.naming(|name| {
                is_outside(name, &["axum", "tokio", "reqwest"])
                    || name.starts_with(&["crate", "http"])
                    || (is_slice_store(name) && name.segments[2] != *slice)
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "sync_stores",
        says: "a transaction body is synchronous: nothing in a store.rs is async",
        find: |file| match file.role() {
            Some(Role::Store) => {
                let shipped = &file.source.shipped;
                let mut found = file.saying(shipped, "async fn");
                found.extend(file.saying(shipped, ".await"));
                found
            }
            _ => Vec::new(),
        },
    },
    Rule {
        name: "services",
        says: "a service knows no HTTP, no adapter and no other slice's store: call the other slice's service",
        find: |file| match &file.place {
            Place::Slice {
                slice,
                role: role @ (Role::Service | Role::Ports),
            } => file.naming(|name| {
                is_outside(name, &["axum"])
                    || name.starts_with(&["crate", "http"])
                    || (is_slice_store(name)
                        && (name.segments[2] != *slice || *role == Role::Ports))
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "slice_order",
        says: "a slice uses only those before it (see SLICES); what must flow the other way is an event",
        find: |file| {
            let Place::Slice { slice, role } = &file.place else {
                return Vec::new();
            };
            let Some(own) = SLICES.iter().position(|name| name == slice) else {
                return vec![(1, format!("slice {slice} has no place in SLICES"))];
            };
            file.naming(|name| {
                let other = name.segments.get(2);
                name.starts_with(&["crate", "domain"])
                    && other.is_some_and(|other| !SLICES[..=own].contains(&other.as_str()))
                    // whoever is asked by people has to know who they are
                    && !(*role == Role::Api && other.is_some_and(|other| other == "auth"))
            })
        },
    },
    Rule {
        name: "edges",
        says: "an api, a page or a task calls services: no store.rs, no statements of its own",
        find: |file| match (&file.place, file.role()) {
            (Place::Web | Place::Tasks, _) | (_, Some(Role::Api)) => {
                let mut found = file.naming(is_slice_store);
                found.extend(file.saying(&file.source.shipped, "tx.query("));
                found.extend(file.saying(&file.source.shipped, "tx.execute("));
                found
            }
            _ => Vec::new(),
        },
    },
    Rule {
        name: "tasks_without_http",
        says: "a task is driven by time and events, not by requests: no axum",
        find: |file| match file.place {
            Place::Tasks => file.naming(|name| is_outside(name, &["axum"])),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "http_kit",
        says: "the HTTP kit knows no slice but those that say who asks and what they may: auth, apikeys, wallets, access",
        find: |file| match file.place {
            Place::Http => file.naming(|name| {
                let slice = name.segments.get(2);
                let askers = ["access", "auth", "apikeys", "wallets"];
                let asks = |slice: &String| askers.contains(&slice.as_str());
                name.starts_with(&["crate", "domain"]) && slice.is_some_and(|slice| !asks(slice))
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "store_kit",
        says: "the store knows no slice and no HTTP",
        find: |file| match file.place {
            Place::StoreKit => file.naming(|name| {
                name.starts_with(&["crate", "domain"])
                    || name.starts_with(&["crate", "http"])
                    || is_outside(name, &["axum"])
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "adapters",
        says: "an adapter knows ports and models: no store, no service (the sandbox keeps its play money in the store)",
        find: |file| match file.place {
            Place::Adapters if !file.path.starts_with(PLAY_MONEY) => file.naming(|name| {
                let part = name.segments.get(3).map(String::as_str);
                let is_type = part.is_some_and(|part| part.starts_with(char::is_uppercase));
                name.starts_with(&["crate", "store"])
                    || (name.starts_with(&["crate", "domain"])
                        && !is_type
                        && !matches!(part, Some("ports" | "model")))
            }),
            _ => Vec::new(),
        },
    },
    Rule {
        name: "adapters_are_chosen_once",
        says: "only app.rs names adapters",
        find: |file| match file.place {
            Place::App | Place::Adapters | Place::Elsewhere => Vec::new(),
            _ => file.naming(|name| name.starts_with(&["crate", "adapters"])),
        },
    },
    Rule {
        name: "crates",
        says: "coordinator, agent and client meet only in shared, which has no tokio (but for link/), no SQL and no web framework",
        find: |file| {
            let banned: &[&str] = match file.path.split('/').next() {
                // the link is what both ends do with tokio
                Some("shared") if file.path.starts_with("shared/src/link/") => &NOT_IN_SHARED[1..],
                Some("shared") => &NOT_IN_SHARED,
                Some("coordinator") => &["node_agent"],
                Some("node-agent") => &["coordinator"],
                Some("cli") => &["coordinator", "node_agent"],
                _ => &[],
            };
            file.naming(|name| is_product(&file.path) && is_outside(name, banned))
        },
    },
    Rule {
        name: "no_ignored_tests",
        says: "a test that needs something says so by its name; none is ignored",
        find: |file| file.saying(&file.source.code, "#[ignore"),
    },
    Rule {
        name: "no_allow",
        says: "#[expect(…, reason = \"…\")] instead of #[allow]",
        find: |file| {
            let mut found = file.saying(&file.source.code, "#[allow(");
            found.extend(file.saying(&file.source.code, "#![allow("));
            found
        },
    },
    Rule {
        name: "no_todo",
        says: "what isn't built is refused with an error, not with a panic",
        find: |file| {
            let mut found = file.saying(&file.source.code, "todo!(");
            found.extend(file.saying(&file.source.code, "unimplemented!("));
            found
        },
    },
    Rule {
        name: "no_sleep_in_tests",
        says: "a test waits until a condition holds (tests/src/wait.rs) or advances the clock; it never sleeps",
        find: |file| {
            if !is_test(&file.path) || file.path == WAITS {
                return Vec::new();
            }
            let mut found = file.saying(&file.source.code, "thread::sleep(");
            found.extend(file.saying(&file.source.code, "time::sleep("));
            found
        },
    },
    Rule {
        name: "log_voice",
        says: "a log line starts in lower case and has no full stop at its end",
        find: log_voice,
    },
    Rule {
        name: "stands_alone",
        says: "the repository names no path of one machine, no notes beside it and no registry's host",
        find: stands_alone,
    },
];
