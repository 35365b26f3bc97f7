//! For each rule a small file that breaks it and one that keeps it: a rule that can't fail proves nothing.

use super::{files::File, rules::RULES};

/// What `rule` finds in a file.
fn found(rule: &str, path: &str, text: &str) -> Vec<(usize, String)> {
    let rule = RULES.iter().find(|known| known.name == rule);
    let rule = rule.unwrap_or_else(|| panic!("no such rule"));
    (rule.find)(&File::new(path, text))
}

fn breaks(rule: &str, path: &str, text: &str) {
    let offenders = found(rule, path, text);
    assert!(!offenders.is_empty(), "{rule} is broken by {path}:\n{text}");
}

fn keeps(rule: &str, path: &str, text: &str) {
    let offenders = found(rule, path, text);
    assert!(
        offenders.is_empty(),
        "{rule} is kept by {path}:\n{text}\n{offenders:?}"
    );
}

macro_rules! samples {
    ($($rule:ident: $($path:literal $breaks_or_keeps:ident $text:expr;)+)+) => {
        $(
            #[test]
            fn $rule() {
                let rule = stringify!($rule);
                $($breaks_or_keeps(rule, $path, &$text);)+
            }
        )+

        #[test]
        fn every_rule_has_a_sample() {
            let sampled = [$(stringify!($rule)),+];
            let rules: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
            assert_eq!(rules, sampled);
        }
    };
}

samples! {
    file_size:
        "coordinator/src/a.rs" breaks "\n".repeat(401);
        "coordinator/src/a.rs" keeps "\n".repeat(400);
    function_size:
        "cli/src/a.rs" breaks format!("fn f() {{{}}}", "\n".repeat(70));
        "cli/src/a.rs" keeps format!("fn f() {{{}}}", "\n".repeat(69));
    module_doc:
        "tests/it/a.rs" breaks "use a;\n";
        "tests/it/a.rs" keeps "//! What lives here.\n";
        "shared/src/a.rs" breaks "//! wip\n";
        "shared/src/a.rs" keeps "//! What lives here.\n";
    file_name:
        "shared/src/utils.rs" breaks "";
        "shared/src/wire/mod.rs" keeps "";
    pure_files:
        "coordinator/src/domain/nodes/model.rs" breaks "use tokio::time;";
        "coordinator/src/domain/nodes/model.rs" keeps "use shared::id::NodeId;";
        "coordinator/src/domain/nodes/liveness.rs" breaks "fn f(t: &mut dyn crate::store::Tx) {}";
        "coordinator/src/domain/nodes/liveness.rs" keeps "use super::model::Node;";
        "coordinator/src/domain/offers/pricing.rs" breaks "use super::store;";
        "coordinator/src/domain/offers/pricing.rs" keeps "use std::cmp::max;";
    slice_stores:
        "coordinator/src/domain/nodes/store.rs" breaks "use crate::domain::auth::store::find;";
        "coordinator/src/domain/nodes/store.rs" keeps "use crate::{store::{Row, Tx}, domain::nodes::store::x};";
        "coordinator/src/domain/nodes/store/read.rs" breaks "fn f() { axum::x() }";
        "coordinator/src/domain/nodes/store/read.rs" keeps "use super::super::model;";
    sync_stores:
        "coordinator/src/domain/nodes/store.rs" breaks "async fn f() {}";
        "coordinator/src/domain/nodes/store.rs" keeps "// async fn\nfn f() {}";
    services:
        "coordinator/src/domain/nodes/mod.rs" breaks "use crate::domain::{auth, auth::store};";
        "coordinator/src/domain/nodes/mod.rs" keeps "mod store; use store::find; use crate::domain::auth;";
        "coordinator/src/domain/nodes/enroll.rs" breaks "use crate::domain::ledger;\nfn f() { ledger::store::x() }";
        "coordinator/src/domain/nodes/enroll.rs" keeps "use super::store;";
        "coordinator/src/domain/payments/ports.rs" breaks "use super::store;";
        "coordinator/src/domain/payments/ports.rs" keeps "use super::model;";
        "coordinator/src/domain/nodes/mod.rs" breaks "use axum::Json;";
        "coordinator/src/domain/nodes/mod.rs" keeps "#[cfg(test)] mod tests { use axum::Json; }";
    slice_order:
        "coordinator/src/domain/nodes/mod.rs" breaks "use super::rentals::model::Rental;";
        "coordinator/src/domain/nodes/mod.rs" keeps "use super::ledger::post;";
        "coordinator/src/domain/auth/api.rs" breaks "use crate::domain::nodes;";
        "coordinator/src/domain/events/api.rs" keeps "use crate::domain::auth;";
        "coordinator/src/domain/events/mod.rs" breaks "use crate::domain::auth;";
        "coordinator/src/domain/auth/api.rs" breaks "fn f() { super::super::nodes::x() }";
        "coordinator/src/domain/auth/api.rs" keeps "use crate::domain::events;";
        "coordinator/src/domain/coupons/mod.rs" breaks "";
        "coordinator/src/domain/mod.rs" keeps "";
    edges:
        "coordinator/src/domain/nodes/api.rs" breaks "use super::store;";
        "coordinator/src/domain/nodes/api.rs" keeps "use super::enroll;";
        "coordinator/src/domain/nodes/api.rs" breaks "fn f() { tx.query(SQL, &[]) }";
        "coordinator/src/domain/nodes/api.rs" keeps "fn f() { super::enroll(tx) }";
        "coordinator/src/tasks/expiry.rs" breaks "use crate::domain::rentals::store::due;";
        "coordinator/src/tasks/expiry.rs" keeps "use crate::domain::rentals;";
        "coordinator/src/web/pages/home.rs" breaks "fn f() { tx.execute(SQL, &[]) }";
        "coordinator/src/web/pages/home.rs" keeps "use crate::store::Db;";
    tasks_without_http:
        "coordinator/src/tasks/expiry.rs" breaks "use axum::Router;";
        "coordinator/src/tasks/expiry.rs" keeps "use tokio::time;";
    http_kit:
        "coordinator/src/http/extract.rs" breaks "use crate::domain::nodes;";
        "coordinator/src/http/extract.rs" keeps "use crate::domain::auth;";
    store_kit:
        "coordinator/src/store/sqlite.rs" breaks "use crate::domain::ledger;";
        "coordinator/src/store/sqlite.rs" keeps "use crate::error::Error;";
    adapters:
        "coordinator/src/adapters/facilitator_http.rs" breaks "use crate::store::Db;";
        "coordinator/src/adapters/facilitator_http.rs" keeps "use crate::domain::payments::ports::Facilitator;";
        "coordinator/src/adapters/facilitator_http.rs" breaks "use crate::domain::ledger;";
        "coordinator/src/adapters/facilitator_http.rs" keeps "use crate::domain::payments::{Terms, model::Payer};";
    adapters_are_chosen_once:
        "coordinator/src/serve.rs" breaks "use crate::adapters::facilitator_sandbox;";
        "coordinator/src/serve.rs" keeps "use crate::app::App;";
    crates:
        "shared/src/wire/mod.rs" breaks "use tokio::sync;";
        "shared/src/wire/mod.rs" keeps "use serde::Serialize;";
        "node-agent/src/lib.rs" breaks "use coordinator::x;";
        "node-agent/src/lib.rs" keeps "use shared::wire;";
        "coordinator/src/lib.rs" breaks "use node_agent::x;";
        "coordinator/src/lib.rs" keeps "use shared::wire;";
        "cli/src/main.rs" breaks "fn f() { coordinator::x() }";
        "cli/src/main.rs" keeps "use shared::wire;";
    no_ignored_tests:
        "tests/it/a.rs" breaks "#[ignore = \"slow\"]\nfn t() {}";
        "tests/it/a.rs" keeps "// #[ignore]\nfn t() {}";
    no_allow:
        "cli/src/main.rs" breaks "#[allow(dead_code)] fn f() {}";
        "cli/src/main.rs" keeps "#[expect(dead_code, reason = \"x\")] fn f() {}";
        "cli/src/main.rs" breaks "#![allow(dead_code)]";
        "cli/src/main.rs" keeps "";
    no_todo:
        "cli/src/main.rs" breaks "fn f() { todo!() }";
        "cli/src/main.rs" keeps "fn f() { \"todo!()\" }";
        "cli/src/main.rs" breaks "fn f() { unimplemented!() }";
        "cli/src/main.rs" keeps "";
    no_sleep_in_tests:
        "tests/it/a.rs" breaks "fn f() { std::thread::sleep(x) }";
        "tests/it/a.rs" keeps "fn f() { clock.advance(x) }";
        "coordinator/src/store/tests.rs" breaks "fn f() { tokio::time::sleep(x).await }";
        "coordinator/src/store/tests.rs" keeps "";
    log_voice:
        "cli/src/main.rs" breaks "fn f() { info!(rental.id = %id, kind = \"X\", \"Rental started\") }";
        "cli/src/main.rs" keeps "fn f() { info!(rental.id = %id, kind = \"X\", \"rental started\") }";
        "cli/src/main.rs" breaks "fn f() { tracing::warn!(\"went wrong.\") }";
        "cli/src/main.rs" keeps "fn f() { tracing::warn!(error = g(\"A.\"), \"SQLite {x} went wrong\") }";
    stands_alone:
        "docs/a.md" breaks concat!("see /wor", "k/notes");
        "docs/a.md" keeps "see ~/work/notes and net/work/x";
        "cli/src/main.rs" breaks concat!("// from crates", ".io");
        "cli/src/main.rs" keeps "// from the registry";
}
