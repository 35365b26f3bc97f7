//! Whom and what a provider's node doesn't serve.

use serde_json::json;

use crate::{
    api::{Api, Request},
    args::market::Blocklists,
    failure::Result,
    output::{self, Column, Form, list_of, text},
};

const FIELDS: [Column; 4] = [
    ("consumers", |r| list_of(r, "/consumers")),
    ("images", |r| list_of(r, "/images")),
    ("registries", |r| list_of(r, "/registries")),
    ("changed", |r| text(r, "/updated_at")),
];

/// Shows the lists of a node, or replaces them whole.
pub(super) async fn blocklists(api: &Api, form: Form, wanted: &Blocklists) -> Result<()> {
    let path = format!("/api/v1/nodes/{}/blocklists", wanted.node);
    let named =
        !(wanted.consumer.is_empty() && wanted.image.is_empty() && wanted.registry.is_empty());
    let request = if named || wanted.clear {
        let body = json!({
            "consumers": wanted.consumer,
            "images": wanted.image,
            "registries": wanted.registry,
        });
        Request::put(path, body)
    } else {
        Request::get(path)
    };
    let lists = api.send(&request).await?.ok()?;
    output::one(form, &lists, &FIELDS)
}
