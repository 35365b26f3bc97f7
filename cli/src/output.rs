//! What a command prints: the market's JSON, ids, or a table; messages go to stderr.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// In which form results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// The market's JSON.
    Json,
    /// Ids, one a line.
    Ids,
}

/// A column of a table: its title and how a cell is made.
pub type Column = (&'static str, fn(&Value) -> String);

/// Prints a list: a table, a JSON array, or the items' ids.
pub fn list(form: Form, items: &[Value], columns: &[Column]) -> Result<()> {
    match form {
        Form::Json => json(&Value::from(items.to_vec())),
        Form::Ids => lines(
            &items
                .iter()
                .map(|item| text(item, "/id"))
                .collect::<Vec<_>>(),
        ),
        Form::Text => table(items, columns),
    }
}

/// Prints one thing: its fields below each other, its JSON, or its id.
pub fn one(form: Form, item: &Value, fields: &[Column]) -> Result<()> {
    match form {
        Form::Json => json(item),
        Form::Ids => lines(&[text(item, "/id")]),
        Form::Text => {
            let width = fields
                .iter()
                .map(|(title, _)| title.len())
                .max()
                .unwrap_or(0);
            let shown: Vec<String> = fields
                .iter()
                .map(|(title, cell)| format!("{title:width$}  {}", plain(&cell(item))))
                .collect();
            lines(&shown)
        }
    }
}

/// Prints a line for each text.
pub fn lines(texts: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = texts
        .iter()
        .try_for_each(|text| writeln!(out, "{text}"))
        .and_then(|()| out.flush());
    match written {
        // whoever read it has seen enough: `ramarket offers | head -1`
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => {
            other.map_err(|error| Failure::failed(format!("stdout can't be written: {error}")))
        }
    }
}

/// Tells something that isn't the result.
pub fn tell(message: &str) {
    // nobody left to tell: the exit code still says how it went
    drop(writeln!(std::io::stderr().lock(), "{}", plain(message)));
}

/// Tells what went wrong.
pub fn complain(message: &str) {
    tell(&format!("error: {message}"));
}

/// The text, number or truth value at a JSON pointer; `-` if there is none.
pub fn text(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        Some(Value::String(text)) => plain(text),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => "-".to_owned(),
    }
}

/// The texts of the list at a JSON pointer, with commas between them; `-` if there are none.
pub fn list_of(item: &Value, pointer: &str) -> String {
    let texts = item.pointer(pointer).and_then(Value::as_array);
    let texts: Vec<String> = texts
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(plain)
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(", ")
    }
}

/// The integer at a JSON pointer, shown by `show`; `-` if there is none.
pub fn number(item: &Value, pointer: &str, show: fn(i64) -> String) -> String {
    let value = item.pointer(pointer).and_then(Value::as_i64);
    value.map_or_else(|| "-".to_owned(), show)
}

/// Money at a JSON pointer: `0.005000 USDC`, or a bare decimal.
pub fn money(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        Some(Value::Object(money)) => {
            let part = |name: &str| money.get(name).and_then(Value::as_str).unwrap_or("?");
            plain(&format!("{} {}", part("amount"), part("currency")))
        }
        _ => text(item, pointer),
    }
}

fn json(value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("can't be shown as JSON: {error}")))?;
    lines(&[text])
}

/// Prints a value as one line of JSON: for what has no end.
pub fn json_line(value: &Value) -> Result<()> {
    lines(&[value.to_string()])
}

fn table(items: &[Value], columns: &[Column]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(title, _)| *title));
    table.add_rows(items.iter().map(|item| {
        columns
            .iter()
            .map(|(_, cell)| cell(item))
            .collect::<Vec<_>>()
    }));
    if items.is_empty() {
        tell("nothing found");
        return Ok(());
    }
    if std::io::stdout().is_terminal() {
        return lines(
            &table
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect::<Vec<_>>(),
        );
    }
    // for programs without --json: tabs, no padding, no title
    let rows = items.iter().map(|item| {
        let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(item)).collect();
        cells.join("\t")
    });
    lines(&rows.collect::<Vec<_>>())
}

/// Without control characters: what others wrote must not steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_plain_and_never_missing() {
        let item = json!({"a": "x\u{1b}[31m\ny", "n": 5, "b": true, "m": {"amount": "1.5", "currency": "USDC"}, "z": null});
        assert_eq!(text(&item, "/a"), "x [31m y");
        assert_eq!(
            (text(&item, "/n"), text(&item, "/b")),
            ("5".into(), "true".into())
        );
        assert_eq!(
            (text(&item, "/z"), text(&item, "/q")),
            ("-".into(), "-".into())
        );
        assert_eq!(money(&item, "/m"), "1.5 USDC");
        assert_eq!(number(&item, "/n", |n| format!("<{n}>")), "<5>");
    }
}
