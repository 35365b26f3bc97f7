//! What the package brings besides the programs: completions and manual pages, written from the command lines' own definitions.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;

/// A shell's completion script.
///
/// # Errors
/// It isn't text.
pub(crate) fn completions(
    command: &mut Command,
    shell: clap_complete::Shell,
) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, command, name, &mut script);
    Ok(String::from_utf8(script)?)
}

/// Writes a page for a program and one for each of its commands.
///
/// # Errors
/// The folder can't be written to.
pub(crate) fn pages(command: Command, folder: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("the pages can't be written to {}", folder.display()))
}

/// Writes the one page of a program of another section of the manual.
///
/// # Errors
/// The folder can't be written to.
pub(crate) fn page(command: Command, section: &str, folder: &Path) -> anyhow::Result<()> {
    let file = folder.join(format!("{}.{section}", command.get_name()));
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .section(section)
        .render(&mut page)?;
    std::fs::write(&file, page).with_context(|| format!("{} can't be written", file.display()))
}
