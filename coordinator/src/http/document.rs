//! What the code can't say in an attribute: examples of every body, made from the schemas' own examples, and the problem
//! codes behind every status.
//!
//! # Invariants
//! - An example is made of the schema that it illustrates, so it can't drift away from it.
//! - An error that every operation may answer is written once, and referred to.
//! - A status that an operation can't answer isn't in its list.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::codes;

/// Schemas within schemas that are followed.
const DEPTH_MAX: usize = 12;

/// The document with examples and problem codes.
///
/// # Errors
/// It can't be written as JSON.
pub fn complete(document: &OpenApi) -> serde_json::Result<Value> {
    let mut tree = serde_json::to_value(document)?;
    let schemas = tree["components"]["schemas"].clone();
    let mut shared = Map::new();
    let paths = tree["paths"].as_object_mut();
    for item in paths.into_iter().flat_map(|paths| paths.values_mut()) {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if operation.get("responses").is_some() {
                complete_operation(operation, &schemas, &mut shared);
            }
        }
    }
    tree["components"]["responses"] = Value::Object(shared);
    Ok(tree)
}

fn complete_operation(operation: &mut Value, schemas: &Value, shared: &mut Map<String, Value>) {
    let has_body = operation.get("requestBody").is_some();
    let is_edit = operation["parameters"]
        .as_array()
        .is_some_and(|all| all.iter().any(|parameter| parameter["name"] == "If-Match"));
    if has_body {
        illustrate(&mut operation["requestBody"]["content"], schemas);
    }
    let id = operation["operationId"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    responses.retain(|status, _| match status.as_str() {
        "408" | "413" | "415" => has_body,
        "412" => is_edit,
        _ => true,
    });
    for (status, response) in responses {
        let content = &mut response["content"];
        if content.get("application/problem+json").is_some() {
            let (own, any) = (problems(&id, status), problems("", status));
            let is_shared = own == any;
            content["application/problem+json"]["examples"] = own;
            if is_shared {
                let name = format!("Problem{status}");
                let reference = json!({ "$ref": format!("#/components/responses/{name}") });
                shared.insert(name, std::mem::replace(response, reference));
            }
        } else if content.is_object() {
            illustrate(content, schemas);
        } else if let Some(response) = response.as_object_mut() {
            response.remove("content");
        }
    }
}

/// An example for each JSON body that has none.
fn illustrate(content: &mut Value, schemas: &Value) {
    let Some(media) = content.get_mut("application/json") else {
        return;
    };
    if media.get("example").is_none() && media.get("examples").is_none() {
        media["example"] = example(&media["schema"], "", schemas, DEPTH_MAX);
    }
}

fn problems(operation: &str, status: &str) -> Value {
    let number: u16 = status.parse().unwrap_or_default();
    let examples = codes::of(operation, number).map(|(code, detail)| {
        let value = json!({
            "type": format!("/docs/problems#{code}"),
            "title": codes::title(number),
            "status": number,
            "detail": detail,
            "code": code,
            "request_id": "4f0c2a9be6d1437f8b5f9c1e7a3d2b60",
        });
        (code.to_owned(), json!({ "value": value }))
    });
    Value::Object(examples.collect())
}

/// A value of `schema`; `name` is the property that holds it.
fn example(schema: &Value, name: &str, schemas: &Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    let inner = |schema: &Value| example(schema, name, schemas, depth - 1);
    if let Some(known) = schema.get("example").or_else(|| schema["examples"].get(0)) {
        return known.clone();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let kind = reference.rsplit('/').next().unwrap_or_default();
        let own_id = (kind.to_owned(), &schemas[kind]);
        return with_id(example(own_id.1, kind, schemas, depth - 1), &own_id.0);
    }
    if let Some(first) = schema["enum"].get(0).or_else(|| schema.get("default")) {
        return first.clone();
    }
    for choice in ["oneOf", "anyOf"] {
        let options = schema[choice].as_array().into_iter().flatten();
        let mut real = options.filter(|option| option["type"] != "null");
        if let Some(first) = real.next() {
            return inner(first);
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts.iter().map(inner) {
            whole.extend(part.as_object().cloned().unwrap_or_default());
        }
        return Value::Object(whole);
    }
    match kind_of(schema) {
        "object" => object(schema, schemas, depth),
        "array" => json!([example(&schema["items"], name, schemas, depth - 1)]),
        "integer" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "number" => json!(1.5),
        "boolean" => json!(false),
        "string" => text(schema, name),
        _ => json!({}),
    }
}

/// What is required, and what has an example of its own: options that nobody illustrates are left out.
fn object(schema: &Value, schemas: &Value, depth: usize) -> Value {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let shown = properties
        .filter(|(name, property)| is_required(name) || property.get("example").is_some());
    shown
        .map(|(name, property)| (name.clone(), example(property, name, schemas, depth - 1)))
        .collect::<Map<_, _>>()
        .into()
}

fn kind_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or_default(),
        _ => "",
    }
}

const UUID: &str = "0192f0c1a2b37c4d8e5f60718293a4b5";

fn text(schema: &Value, name: &str) -> Value {
    if schema["format"] == "date-time" {
        return json!("2026-11-22T12:00:00Z");
    }
    let prefix = match name {
        "node_id" => "nod",
        "offer_id" => "ofr",
        "rental_id" => "rnt",
        "payment_id" => "pay",
        "quote_id" => "quo",
        "owner" | "user_id" => "usr",
        _ => return json!("text"),
    };
    json!(format!("{prefix}_{UUID}"))
}

/// A view's own id says what it is of.
fn with_id(mut value: Value, kind: &str) -> Value {
    let prefix = match kind.trim_end_matches("View").trim_end_matches("Detail") {
        "Node" => "nod",
        "Offer" => "ofr",
        "Rental" => "rnt",
        "Payment" => "pay",
        "Quote" => "quo",
        _ => return value,
    };
    if value.get("id").is_some_and(|id| id == "text") {
        value["id"] = json!(format!("{prefix}_{UUID}"));
    }
    value
}
