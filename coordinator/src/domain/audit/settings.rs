//! What the operator set: compared at each start with what was set at the last, and recorded if it is something else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Entry, record, store};
use crate::{config::Config, context::OpCtx, error::Result, store::Tx};

/// `section.key` and its value; secrets are written as `[secret]` by the settings themselves.
type Settings = BTreeMap<String, Value>;

/// Every setting by its name.
fn flat(config: &Config) -> serde_json::Result<Settings> {
    let mut found = Settings::new();
    if let Value::Object(sections) = serde_json::to_value(config)? {
        for (section, value) in sections {
            match value {
                Value::Object(keys) => found.extend(
                    keys.into_iter()
                        .map(|(key, value)| (format!("{section}.{key}"), value)),
                ),
                other => drop(found.insert(section, other)),
            }
        }
    }
    Ok(found)
}

/// Records which settings differ from those of the last start, of the defaults at the first; nothing if none does. That a
/// secret was exchanged for another can't be seen.
///
/// # Errors
/// What the database says.
pub fn note(tx: &mut dyn Tx, ctx: &OpCtx, config: &Config) -> Result<()> {
    let now = flat(config).map_err(crate::error::Error::internal)?;
    let was: Settings = match store::settings(tx)? {
        // what an older or newer version wrote may lack keys
        Some(text) => serde_json::from_str(&text).unwrap_or_default(),
        None => flat(&Config::default()).map_err(crate::error::Error::internal)?,
    };
    let changed = |of: &Settings, to: &Settings| -> Value {
        let differ = of.iter().filter(|(key, value)| to.get(*key) != Some(value));
        differ
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    if now == was {
        return Ok(());
    }
    let text = serde_json::to_string(&now).map_err(crate::error::Error::internal)?;
    store::keep_settings(tx, &text)?;
    let entry = Entry::of("settings.changed", "settings");
    record(
        tx,
        ctx,
        entry.before(changed(&was, &now)).after(changed(&now, &was)),
    )
}
