//! The document of the API, held against requests: which parameters an operation has in its query, and whether it takes a body.
//!
//! # Invariants
//! - The document is the only list: a parameter that isn't in it is refused, whatever a handler reads.

use std::collections::{BTreeSet, HashMap};

use axum::http::Method;
use serde_json::Value;

use crate::error::{Error, Result};

/// The extension that says of an operation that its JSON holds files, so that its handler bounds it.
pub const FILES_IN_JSON: &str = "x-files-in-json";
/// What the document says of an operation to which somebody else's program leads, who may add parameters.
const OPEN_QUERY: &str = "x-open-query";

/// The operations of a document.
#[derive(Debug, Default)]
pub struct Contract {
    operations: HashMap<String, HashMap<Method, Operation>>,
}

/// What is held against a request.
#[derive(Debug, Default)]
pub struct Operation {
    query: BTreeSet<String>,
    /// Others may add parameters of their own: see [`OPEN_QUERY`].
    open_query: bool,
    has_body: bool,
    takes_files: bool,
}

impl Contract {
    /// Reads a document.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let mut operations: HashMap<String, HashMap<Method, Operation>> = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                    let of_path = operations.entry(path.clone()).or_default();
                    of_path.insert(method, Operation::of(operation));
                }
            }
        }
        Self { operations }
    }

    /// The operation of a matched route; `HEAD` is asked as `GET`.
    #[must_use]
    pub fn operation(&self, method: &Method, route: &str) -> Option<&Operation> {
        let of_path = self.operations.get(route)?;
        of_path.get(method).or_else(|| {
            (method == Method::HEAD)
                .then(|| of_path.get(&Method::GET))
                .flatten()
        })
    }
}

impl Operation {
    fn of(operation: &Value) -> Self {
        let query = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
            .collect();
        let content = operation["requestBody"]["content"].as_object();
        Self {
            query,
            open_query: operation[OPEN_QUERY] == true,
            has_body: content.is_some(),
            takes_files: content
                .into_iter()
                .flatten()
                .any(|(media, _)| media != "application/json")
                || operation[FILES_IN_JSON] == Value::Bool(true),
        }
    }

    /// Whether its body is other than JSON, or JSON with files in it: its handler bounds it.
    #[must_use]
    pub const fn takes_files(&self) -> bool {
        self.takes_files
    }

    /// Refuses parameters that the operation doesn't have.
    ///
    /// # Errors
    /// 400 `query`.
    pub fn check_query(&self, query: Option<&str>) -> Result<()> {
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            if !self.open_query && !self.query.contains(name) {
                let known: Vec<&str> = self.query.iter().map(String::as_str).collect();
                let known = if known.is_empty() {
                    "it takes none".to_owned()
                } else {
                    format!("it takes {}", known.join(", "))
                };
                return Err(Error::bad_request(
                    "query",
                    format!(
                        "the query string has a parameter that this operation doesn't know; {known}"
                    ),
                ));
            }
            if pair.contains("%00") {
                return Err(Error::bad_request("query", "text can't contain NUL"));
            }
        }
        Ok(())
    }

    /// Refuses a body where none is taken; an empty object says nothing and passes.
    ///
    /// # Errors
    /// 400 `unexpected_body`.
    pub fn check_body(&self, body: &[u8]) -> Result<()> {
        if self.has_body || body.is_empty() || body.trim_ascii() == b"{}" {
            return Ok(());
        }
        Err(Error::bad_request(
            "unexpected_body",
            "this operation takes no body: leave it out",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_document_lists_passes_and_nothing_else() {
        let contract = Contract::of(&crate::router::openapi());
        let list = contract
            .operation(&Method::HEAD, "/api/v1/offers")
            .expect("as GET");
        assert!(list.check_query(Some("ram_gib_min=1&limit=2")).is_ok());
        assert!(list.check_query(None).is_ok());
        for odd in ["ram=1", "limit=1&x", "%6cimit=1", "=1", "region=a%00"] {
            assert!(list.check_query(Some(odd)).is_err(), "{odd}");
        }
        let stop = contract
            .operation(&Method::POST, "/api/v1/rentals/{id}/stop")
            .expect("there");
        assert!(stop.check_query(Some("force=1")).is_err());
        assert!(stop.check_body(b"").is_ok() && stop.check_body(b" {} ").is_ok());
        assert!(stop.check_body(b"{\"force\":true}").is_err());
        assert!(contract.operation(&Method::PUT, "/api/v1/offers").is_none());
    }
}
