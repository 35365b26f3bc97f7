//! Where settings come from, and how text (a flag, a variable) becomes a value of the setting's type.

use std::path::PathBuf;

use figment::{
    Figment,
    providers::{Format as _, Serialized, Toml},
};
use serde_json::{Map, Value};

use super::{Config, ConfigError, OidcProviderConfig};

/// Prefix of environment variables; levels are parted by two underscores: `RAMARKET_HTTP__LISTEN`.
const PREFIX: &str = "RAMARKET_";

/// Everything that is read, as the process found it.
#[derive(Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that aren't ours are passed over.
    pub env: Vec<(String, String)>,
    /// `section.key` and value of flags.
    pub flags: Vec<(String, String)>,
}

/// Merges the sources: flag > environment > file > default.
pub(super) fn read(sources: &Sources) -> Result<Config, ConfigError> {
    let defaults = serde_json::to_value(Config::default())
        .map_err(|error| ConfigError::Unreadable(error.to_string()))?;
    let mut env = Value::Object(Map::new());
    for (name, value) in &sources.env {
        if let Some(key) = key_of_variable(name, &defaults) {
            put(&mut env, &defaults, &key, value, name)?;
        }
    }
    let mut flags = Value::Object(Map::new());
    for (key, value) in &sources.flags {
        put(&mut flags, &defaults, key, value, key)?;
    }
    let mut figment = Figment::new();
    if let Some(path) = &sources.file {
        figment = figment.merge(Toml::file_exact(path));
    }
    figment
        .merge(Serialized::globals(env))
        .merge(Serialized::globals(flags))
        .extract()
        .map_err(|error| ConfigError::Unreadable(error.to_string()))
}

/// The key that a variable sets. One that names no section of ours belongs to another program of this market.
fn key_of_variable(name: &str, defaults: &Value) -> Option<String> {
    let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
    let known = defaults.get(key.split('.').next()?).is_some();
    (known || key.contains('.')).then_some(key)
}

/// Whether `key` is `oidc.<name>.<one of its keys>`: there is no default of what the operator names.
fn is_of_a_provider(key: &str) -> bool {
    let mut steps = key.split('.');
    let (section, name, field, rest) = (steps.next(), steps.next(), steps.next(), steps.next());
    section == Some("oidc")
        && name.is_some_and(|name| !name.is_empty())
        && field.is_some_and(|field| OidcProviderConfig::KEYS.contains(&field))
        && rest.is_none()
}

/// Puts `text` at `key`, read as the type that the default has there.
fn put(
    tree: &mut Value,
    defaults: &Value,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    let refuse = |why: &str| ConfigError::Unreadable(format!("{origin}: {why}"));
    let default = if is_of_a_provider(key) {
        Some(&Value::Null)
    } else {
        defaults.pointer(&format!("/{}", key.replace('.', "/")))
    };
    let value = match default {
        None | Some(Value::Object(_)) => return Err(refuse("there is no such setting")),
        Some(Value::Number(_)) => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| refuse("write a whole number"))?,
        Some(Value::Array(_)) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect(),
        Some(_) => Value::from(text),
    };
    let mut place = tree;
    for step in key.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[step];
    }
    *place = value;
    Ok(())
}
