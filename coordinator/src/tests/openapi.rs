//! The document of the API is part of the repository: a change of the API shows in its difference.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::router;

/// What must be there, whatever else is.
const ROUTES: [&str; 50] = [
    "POST /auth/signup",
    "POST /auth/login",
    "POST /auth/logout",
    "POST /auth/refresh",
    "GET /auth/me",
    "GET /offers",
    "POST /offers",
    "GET /offers/{id}",
    "PATCH /offers/{id}",
    "DELETE /offers/{id}",
    "GET /market/summary",
    "POST /payments/quote",
    "POST /payments/authorize",
    "POST /payments/complete",
    "POST /payments/settle",
    "GET /payments/{id}",
    "POST /balance/topups",
    "GET /balance",
    "POST /rentals",
    "GET /rentals",
    "GET /rentals/{id}",
    "GET /auth/wallet/challenge",
    "POST /rentals/{id}/token",
    "POST /rentals/{id}/extend",
    "POST /rentals/{id}/stop",
    "DELETE /rentals/{id}",
    "GET /rentals/{id}/events",
    "GET /rentals/{id}/usage",
    "GET /rentals/{id}/receipts",
    "POST /nodes/enrollment-tokens",
    "POST /nodes/enroll",
    "GET /nodes",
    "GET /nodes/{id}",
    "PATCH /nodes/{id}",
    "DELETE /nodes/{id}",
    "POST /nodes/{id}/heartbeat",
    "GET /nodes/{id}/link",
    "POST /nodes/{id}/cordon",
    "POST /nodes/{id}/uncordon",
    "POST /nodes/{id}/drain",
    "PUT /nodes/{id}/maintenance",
    "GET /events",
    "GET /admin/audit",
    "GET /kyc",
    "POST /kyc",
    "GET /admin/kyc",
    "POST /admin/kyc/{id}/decision",
    "GET /admin/kyc/{id}/documents/{document_id}",
    "POST /kyc/webhook/{provider}",
    "POST /cron/metering",
];

fn document() -> Value {
    router::openapi()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            if operation.is_object() {
                found.push((format!("{} {path}", method.to_uppercase()), operation));
            }
        }
    }
    found
}

#[test]
fn the_document_in_the_repository_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let kept = std::fs::read_to_string(&path).expect("docs/openapi.json is there: make gen");
    let made = serde_json::to_string_pretty(&document()).expect("JSON");
    assert!(
        kept.trim_end() == made.trim_end(),
        "the API changed and docs/openapi.json didn't: run `make gen`, read the difference, commit it"
    );
}

#[test]
fn every_promised_route_is_there() {
    let document = document();
    let there: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let missing: Vec<String> = ROUTES
        .map(|route| route.replacen(" /", " /api/v1/", 1))
        .into_iter()
        .filter(|route| !there.contains(route))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {there:?}");
}

#[test]
fn every_operation_has_a_name_its_errors_and_says_who_may() {
    let document = document();
    let mut names = BTreeSet::new();
    for (route, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap_or_default();
        assert!(
            !name.is_empty() && names.insert(name),
            "{route}: operationId {name:?}"
        );
        assert!(
            operation["security"].is_array(),
            "{route} says nothing of security"
        );
        for status in ["400", "401", "404", "422", "429", "500", "503"] {
            let answer = &operation["responses"][status];
            assert!(
                answer.is_object(),
                "{route} doesn't say what {status} means"
            );
        }
        illustrated(&route, operation);
    }
}

/// Every JSON body has an example, every error its codes.
fn illustrated(route: &str, operation: &Value) {
    let responses = operation["responses"].as_object().expect("responses");
    let bodies = responses.values().chain([&operation["requestBody"]]);
    for content in bodies.filter_map(|body| body["content"].as_object()) {
        for (media, body) in content {
            let examples = body["examples"].as_object();
            let shown = !body["example"].is_null() || examples.is_some_and(|all| !all.is_empty());
            assert!(
                shown || !media.contains("json"),
                "{route}: {media} has no example"
            );
        }
    }
    for (status, response) in responses
        .iter()
        .filter(|(status, _)| status.as_str() >= "400")
    {
        let problem = &response["content"]["application/problem+json"];
        let is_shared = response["$ref"].is_string();
        assert!(
            is_shared || problem.is_object() || status == "402",
            "{route}: {status}"
        );
    }
}
