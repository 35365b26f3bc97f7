//! What an operator sees: log, metrics, health.
//!
//! # Invariants
//! - The log goes to standard error; no secret and no body is ever in it.

pub mod health;
pub mod metrics;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

/// Starts the log of this process.
///
/// # Errors
/// It was started before, or the filter can't be read.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.level).context("setting log.level")?;
    let to_terminal = std::io::stderr().is_terminal();
    let pretty = match config.format {
        LogFormat::Auto => to_terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if pretty {
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(to_terminal);
        registry.with(lines).try_init()
    } else {
        let lines = fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr);
        registry.with(lines).try_init()
    }
    .context("start the log")
}
