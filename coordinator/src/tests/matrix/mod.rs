//! Every operation × every kind of caller: what each is answered, on real objects. An operation without a row fails, and so does
//! a route that the document lacks.

mod rows;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Router,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    routing::get,
};
use serde_json::Value;

use self::{
    rows::{ROWS, Row},
    world::{As, CALLERS, World},
};
use crate::{
    http::{
        codes,
        gate::{Gate, guard},
    },
    router,
    testing::{TestApp, request},
};

/// Operation id → (method, path), from the document.
fn operations() -> BTreeMap<String, (Method, String)> {
    let document = serde_json::to_value(router::openapi()).expect("json");
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let id = operation["operationId"].as_str().expect("an id");
            found.insert(id.to_owned(), (method, path.clone()));
        }
    }
    found
}

#[test]
fn each_operation_has_one_row() {
    let there: BTreeSet<String> = operations().into_keys().collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.operation.to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len(), "an operation has two rows");
    assert_eq!(there, rows, "add a row to tests/matrix/rows.rs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered_as_the_matrix_says() {
    let mut world = World::open().await;
    let operations = operations();
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for row in ROWS {
        let (method, path) = &operations[row.operation];
        let wallet = [(As::Wallet, of_wallet(row))];
        for (caller, expected) in CALLERS.into_iter().zip(row.answers).chain(wallet) {
            let (status, code) = world.ask(row, method, path, caller).await;
            cells += 1;
            if let Some(code) = code
                && !codes::of(row.operation, status).any(|(listed, _)| listed == code)
            {
                wrong.push(format!(
                    "{}: {status} {code} isn't listed in http/codes",
                    row.operation
                ));
            }
            if status != expected {
                wrong.push(format!(
                    "{}: {caller:?} got {status}, not {expected}",
                    row.operation
                ));
            }
        }
    }
    let columns = CALLERS.len() + 1;
    assert_eq!(cells, operations.len() * columns, "every cell is run");
    assert!(
        wrong.is_empty(),
        "{} of {cells} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    world.close().await;
}

/// What a wallet is answered that paid for the rental of the world, which belongs to an account: what everybody is, and of rentals that
/// there is none. By the table, since a column that says little else would hide what it says.
fn of_wallet(row: &Row) -> u16 {
    use crate::domain::access::{Caller, line};
    let callers = line(row.operation).expect("a line").callers;
    let reaches = ["rental_logs", "rental_exec", "rental_port", "rental_files"];
    let of_an_account = ["get_payment", "complete_payment"].contains(&row.operation)
        || reaches.contains(&row.operation);
    if callers.contains(&Caller::Anyone) && !of_an_account {
        // as the holder of a rental's token, who is no account either
        row.answers[9]
    } else if row.operation == "list_rentals" {
        200
    } else if of_an_account || callers.contains(&Caller::Wallet) {
        404
    } else {
        403
    }
}

/// What a row promises fits what it is about: nobody who isn't named gets in.
#[test]
fn the_matrix_lets_nobody_in_by_mistake() {
    let admin_only = ROWS.iter().filter(|row| {
        let line = crate::domain::access::line(row.operation).expect("a line");
        line.callers == [crate::domain::access::Caller::Admin]
    });
    for row in admin_only {
        for (caller, answer) in CALLERS.into_iter().zip(row.answers) {
            let refused = [401, 403].contains(&answer);
            assert!(
                refused || caller == world::As::Admin,
                "{}: {caller:?}",
                row.operation
            );
        }
    }
}

/// The router's own list of its paths: axum shows it, though it hands it out to nobody.
fn served_paths(router: &Router) -> BTreeSet<String> {
    let shown = format!("{router:?}");
    let parts = shown.split('"').skip(1).step_by(2);
    parts
        .filter(|text| text.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_router_serves_nothing_that_the_document_lacks() {
    let test = TestApp::new().await;
    let served = served_paths(&router::router(&test.app));
    let described: BTreeSet<String> = operations().into_values().map(|(_, path)| path).collect();
    assert!(described.is_subset(&served), "the list is read right");
    let other: Vec<&String> = served
        .difference(&described)
        .filter(|path| path.starts_with("/api/"))
        .filter(|path| *path != "/api/openapi.json" && !path.starts_with("/api/docs"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
    // nor another method of a path that is described
    for path in &described {
        let known = operations();
        for method in [
            Method::GET,
            Method::PUT,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ] {
            if known.values().any(|(m, p)| *m == method && p == path) {
                continue;
            }
            let answer = test
                .send(request(
                    method.as_str(),
                    &path.replace("{", "").replace("}", ""),
                    "",
                    &Value::Null,
                ))
                .await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_route_that_was_slipped_in_is_refused() {
    use tower::ServiceExt as _;
    let test = TestApp::new().await;
    let (_, document) = router::api().split_for_parts();
    let gate = std::sync::Arc::new(Gate::new(&document));
    let state = (std::sync::Arc::clone(&test.app), gate);
    let router = Router::new()
        .route("/api/v1/slipped-in", get(async || "secret"))
        .route("/elsewhere", get(async || "a page"))
        .layer(from_fn_with_state(state, guard));
    let ask = async |path: &str| {
        let request = request("GET", path, "", &Value::Null);
        router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer")
            .status()
    };
    assert_eq!(ask("/api/v1/slipped-in").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("/elsewhere").await, StatusCode::OK);
}

/// A row's body with the names of objects replaced by their ids.
fn body_of(row: &Row, names: &BTreeMap<&'static str, String>) -> Value {
    if row.body.is_empty() {
        return Value::Null;
    }
    let mut text = row.body.to_owned();
    for (name, id) in names {
        text = text.replace(&format!("<{name}>"), id);
    }
    assert!(!text.contains('<'), "{}: {text}", row.operation);
    serde_json::from_str(&text).expect("a row's body is JSON")
}
