//! The tools and what they take, as JSON schemas.

use serde_json::{Map, Value, json};

/// Every tool.
pub(super) fn list() -> Vec<Value> {
    vec![
        tool(
            "search",
            "Find offers of machines, cheapest RAM first. Costs nothing.",
            &search(),
            &[],
            true,
        ),
        tool(
            "quote",
            "What a rental would cost for its whole duration, as price, and per hour. Costs nothing; reserves nothing.",
            &order(),
            &["ram", "duration"],
            true,
        ),
        tool(
            "rent",
            "Rent, pay within this server's spending limit, and wait for it to run. Of an image's loading nothing is billed. Answers the \
             rental; if it isn't running yet, ask status.",
            &rent(),
            &["image", "ram", "duration"],
            false,
        ),
        tool(
            "status",
            "A rental's state, cost and how long it is paid for; without rental_id, all rentals.",
            &json!({"rental_id": rental_id()}),
            &[],
            true,
        ),
        tool(
            "exec",
            "Run a command in a running rental and return its exit code and outputs. Not a shell: for one, run sh with -c.",
            &json!({
                "rental_id": rental_id(),
                "command": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 256,
                    "description": "The program and its arguments, as [\"sh\", \"-c\", \"uname -a\"]"},
                "stdin": {"type": "string", "maxLength": 65536, "description": "What it reads; nothing unless given"},
                "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": 3600, "default": 50,
                    "description": "After this it is killed"},
            }),
            &["rental_id", "command"],
            false,
        ),
        tool(
            "stop",
            "Stop a rental for good; what was paid and isn't used is refunded.",
            &json!({"rental_id": rental_id()}),
            &["rental_id"],
            false,
        ),
    ]
}

/// Whether there is such a tool.
pub(super) fn is_known(name: &str) -> bool {
    list().iter().any(|tool| tool["name"] == name)
}

/// The names that a tool takes.
pub(super) fn properties(name: &str) -> Option<Map<String, Value>> {
    let tool = list().into_iter().find(|tool| tool["name"] == name)?;
    tool["inputSchema"]["properties"].as_object().cloned()
}

fn tool(name: &str, about: &str, properties: &Value, required: &[&str], reads: bool) -> Value {
    json!({
        "name": name,
        "description": about,
        "inputSchema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        },
        "annotations": {"readOnlyHint": reads, "destructiveHint": name == "stop", "openWorldHint": true},
    })
}

fn rental_id() -> Value {
    json!({"type": "string", "pattern": "^rnt_[0-9a-f]{32}$", "description": "The rental's id"})
}

fn size(about: &str) -> Value {
    json!({"type": "string", "description": about, "examples": ["256MiB", "1.5GiB"]})
}

fn text(about: &str) -> Value {
    json!({"type": "string", "maxLength": 200, "description": about})
}

fn price_max() -> Value {
    json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,6})?$",
        "description": "At most this price for a GiB of RAM for an hour"})
}

fn gpus() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 64, "description": "Whole GPUs"})
}

fn search() -> Value {
    json!({
        "ram": size("At least this much RAM, with its unit"),
        "cpu": text("At least this many processors, as 2, 0.5 or 500m"),
        "gpus": gpus(),
        "gpu_model": text("A GPU whose model has this in its name, as H100"),
        "disk": size("At least this much disk"),
        "region": text("Only in this region"),
        "price_max": price_max(),
        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10, "description": "At most so many offers"},
    })
}

fn order() -> Value {
    json!({
        "ram": size("RAM, with its unit"),
        "cpu": {"type": "string", "default": "0.5", "description": "Processors, as 2, 0.5 or 500m"},
        "gpus": gpus(),
        "gpu_model": text("Without offer_id: a GPU whose model has this in its name"),
        "disk": size("A disk of its own, at /data"),
        "duration": {"type": "string", "description": "For how long", "examples": ["10m", "1h30m"]},
        "offer_id": {"type": "string", "pattern": "^ofr_[0-9a-f]{32}$",
            "description": "Of this offer; without it, of the cheapest that has room"},
        "region": text("Without offer_id: only in this region"),
        "price_max": price_max(),
    })
}

fn rent() -> Value {
    let mut all = order();
    let more = json!({
        "image": {"type": "string", "maxLength": 512, "description": "The container image", "examples": ["busybox:latest"]},
        "command": {"type": "array", "items": {"type": "string"}, "maxItems": 256,
            "description": "Replaces the image's command, as [\"sleep\", \"600\"]"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Environment variables"},
        "wait_seconds": {"type": "integer", "minimum": 0, "maximum": 600, "default": 45,
            "description": "Wait at most this long for it to run"},
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    all
}
