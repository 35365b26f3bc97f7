//! Whether a container is what was asked for: every field of its host configuration and each of our labels, compared.
//!
//! # Invariants
//! - A field that was asked for must be held as asked; one that wasn't must be empty. A field that a later version of this program
//!   knows is covered without a line here, and one that the engine fills by itself must be named in [`ENGINES_OWN`].
//! - Order and spelling that mean nothing (capabilities with and without their prefix, limits in any order) don't count.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, Mount, MountPoint,
};
use serde_json::{Map, Value};

use super::{RuntimeError, code, label};

/// Fields that the engine fills when nothing is asked, and what they hold is looked at below or is of no consequence.
const ENGINES_OWN: [&str; 3] = ["MaskedPaths", "ReadonlyPaths", "Runtime"];
/// Hidden from every container.
const MASKED: [&str; 4] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/sys/firmware",
];
/// Not to be written by any container.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Compares what Docker says of a container with the body that it was to be created from.
///
/// # Errors
/// A refusal that names the first limit that isn't in force.
pub fn check(
    asked: &ContainerCreateBody,
    held: &ContainerInspectResponse,
) -> Result<(), RuntimeError> {
    let volumes = held.config.as_ref().and_then(|c| c.volumes.as_ref());
    if volumes.is_some_and(|volumes| !volumes.is_empty()) {
        // the request names none, so they are the image's
        return Err(RuntimeError::refused(
            code::IMAGE_NOT_SUPPORTED,
            "the image declares volumes, which would escape the rental's limits; use an image without VOLUME",
        ));
    }
    match first_difference(asked, held) {
        None => Ok(()),
        Some(what) => Err(RuntimeError::refused(
            code::CREATE_FAILED,
            format!(
                "this node's container engine didn't enforce {what}; the container wasn't started"
            ),
        )),
    }
}

type Labels = HashMap<String, String>;

fn labels_of(held: &ContainerInspectResponse) -> Option<&Labels> {
    held.config.as_ref()?.labels.as_ref()
}

/// A label that isn't held as asked. One that is missing is as an empty one: containers of before lack those.
fn other_label<'a>(
    asked: &'a ContainerCreateBody,
    held: &ContainerInspectResponse,
) -> Option<&'a String> {
    let held = labels_of(held);
    let is_held = |name: &str, value: &str| {
        let held = held.and_then(|held| label(held, name));
        held.unwrap_or_default() == value
    };
    let mut asked = asked.labels.iter().flatten();
    let other = asked.find(|(name, value)| !is_held(name, value));
    other.map(|(name, _)| name)
}

fn first_difference(
    asked: &ContainerCreateBody,
    held: &ContainerInspectResponse,
) -> Option<String> {
    let (Some(asked_host), Some(host)) = (asked.host_config.as_ref(), held.host_config.as_ref())
    else {
        return Some("any limit".to_owned());
    };
    let mounts = held.mounts.as_deref().unwrap_or_default();
    if !are_asked(mounts, asked_host.mounts.as_deref().unwrap_or_default()) {
        return Some("that it holds nothing of the host but its disk".to_owned());
    }
    if !paths_hold(host) {
        return Some("that parts of /proc are hidden and read-only".to_owned());
    }
    if let Some(name) = other_label(asked, held) {
        return Some(format!("its label {name}"));
    }
    let health = |config: Option<&Vec<String>>| {
        config.and_then(|test| test.first()).map(String::as_str) == Some("NONE")
    };
    let test = held
        .config
        .as_ref()
        .and_then(|c| c.healthcheck.as_ref())
        .and_then(|h| h.test.as_ref());
    if !health(test) {
        return Some("that it has no health check".to_owned());
    }
    let (asked, host) = (canonical(asked_host), canonical(host));
    let differs = |field: &&String| asked.get(*field) != host.get(*field);
    let own =
        |field: &&String| ENGINES_OWN.contains(&field.as_str()) && !asked.contains_key(*field);
    asked
        .keys()
        .chain(host.keys())
        .filter(|field| !own(field))
        .find(differs)
        .map(|field| format!("its {field}"))
}

/// Whether what is mounted is what was asked for, one for one: volumes of the engine's own driver.
fn are_asked(held: &[MountPoint], asked: &[Mount]) -> bool {
    held.len() == asked.len()
        && held.iter().zip(asked).all(|(held, asked)| {
            held.typ.as_deref() == Some("volume")
                && held.name.is_some()
                && held.name == asked.source
                && held.destination == asked.target
                && held.driver.as_deref() == Some("local")
                && held.rw == Some(true)
        })
}

fn paths_hold(host: &HostConfig) -> bool {
    let all = |held: Option<&Vec<String>>, wanted: &[&str]| {
        wanted
            .iter()
            .all(|path| held.is_some_and(|held| held.iter().any(|held| held == path)))
    };
    all(host.masked_paths.as_ref(), &MASKED) && all(host.readonly_paths.as_ref(), &READ_ONLY)
}

/// The fields that hold something, in one spelling.
fn canonical(host: &HostConfig) -> Map<String, Value> {
    let Ok(Value::Object(fields)) = serde_json::to_value(host) else {
        return Map::new();
    };
    fields
        .into_iter()
        .map(|(field, value)| {
            let value = match field.as_str() {
                "CapAdd" | "CapDrop" => capabilities(value),
                "Ulimits" | "SecurityOpt" => sorted(value),
                _ => value,
            };
            (field, without_empty(value))
        })
        .filter(|(_, value)| !is_empty(value))
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// Docker writes zeros for what wasn't asked, such as the retries of a restart policy.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !is_empty(value))
                .map(|(name, value)| (name, without_empty(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        other => other,
    }
}

fn sorted(value: Value) -> Value {
    let Value::Array(mut items) = value else {
        return value;
    };
    items.sort_by_key(Value::to_string);
    Value::Array(items)
}

/// Sorted names without the prefix, which Docker adds in some versions.
fn capabilities(value: Value) -> Value {
    let Value::Array(names) = value else {
        return value;
    };
    let bare = |name: Value| match name {
        Value::String(name) => Value::String(name.strip_prefix("CAP_").unwrap_or(&name).to_owned()),
        other => other,
    };
    sorted(Value::Array(names.into_iter().map(bare).collect()))
}
