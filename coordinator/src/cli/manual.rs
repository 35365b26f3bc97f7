//! What the package brings besides the program: completions and manual pages, written from the command line's own definition.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::Cli;

/// A shell's completion script.
pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let name = "ramarket-coordinator";
    clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
    Ok(String::from_utf8(script)?)
}

/// Writes a page for the program and one for each of its commands.
pub(super) fn pages(folder: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("the pages can't be written to {}", folder.display()))
}
