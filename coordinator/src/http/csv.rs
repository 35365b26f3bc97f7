//! Answers as CSV (RFC 4180): who wants them, and cells that no spreadsheet takes for a formula.
//!
//! # Invariants
//! - A text that begins as a formula does (`=`, `+`, `-`, `@`, tab, return) gets an apostrophe before it; numbers of ours stay numbers.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use crate::error::{Error, Result};

/// In which form somebody wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Json,
    /// CSV.
    Csv,
}

impl Form {
    /// As `?format=` says, else as the first of `Accept` that is one of both; JSON if nothing is said.
    ///
    /// # Errors
    /// 400 `format` for another one.
    pub fn wanted(format: Option<&str>, headers: &HeaderMap) -> Result<Self> {
        match format {
            Some("csv") => return Ok(Self::Csv),
            Some("json") => return Ok(Self::Json),
            Some(_) => return Err(Error::bad_request("format", "format is json or csv")),
            None => {}
        }
        let accepted = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok());
        let mut media = accepted
            .into_iter()
            .flat_map(|text| text.split(','))
            .filter_map(|one| one.split(';').next())
            .map(str::trim);
        let first = media.find(|media| ["text/csv", "application/json", "*/*"].contains(media));
        Ok(if first == Some("text/csv") {
            Self::Csv
        } else {
            Self::Json
        })
    }
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A number of ours, sign included.
    Number(String),
    /// Anything else.
    Text(String),
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number.
    pub fn number(number: &dyn std::fmt::Display) -> Self {
        Self::Number(number.to_string())
    }
}

/// A row with its end.
#[must_use]
pub fn row(cells: &[Cell]) -> String {
    let cells: Vec<String> = cells.iter().map(written).collect();
    format!("{}\r\n", cells.join(","))
}

fn written(cell: &Cell) -> String {
    let text = match cell {
        Cell::Number(number) => return number.clone(),
        Cell::Text(text) => text,
    };
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.clone()
    };
    if guarded.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

/// An answer of CSV, to be saved as `name`.
///
/// # Errors
/// Internal: the name can't stand in a header.
pub fn answer(name: &str, body: axum::body::Body) -> Result<Response> {
    let saved = format!("attachment; filename=\"{name}\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&saved).map_err(Error::internal)?,
        ),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_every_cell_is_one() {
        let text = |text: &str| row(&[Cell::text(text)]);
        for (cell, written) in [
            ("plain", "plain\r\n"),
            ("=1+1", "'=1+1\r\n"),
            ("+1", "'+1\r\n"),
            ("-1", "'-1\r\n"),
            ("@SUM(A1)", "'@SUM(A1)\r\n"),
            ("\tx", "'\tx\r\n"),
            ("\r=1", "\"'\r=1\"\r\n"),
            (
                "=HYPERLINK(\"http://x\",\"y\")",
                "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\"\r\n",
            ),
            ("a,b", "\"a,b\"\r\n"),
            ("a\nb", "\"a\nb\"\r\n"),
        ] {
            assert_eq!(text(cell), written);
        }
        assert_eq!(row(&[Cell::number(&"-0.5"), Cell::text("")]), "-0.5,\r\n");
    }

    #[test]
    fn the_query_goes_before_the_header() {
        let headers = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            headers
        };
        for (format, accept, wanted) in [
            (None, "*/*", Form::Json),
            (None, "text/csv", Form::Csv),
            (None, "text/csv;q=0.9, application/json", Form::Csv),
            (None, "text/html, application/json, text/csv", Form::Json),
            (Some("json"), "text/csv", Form::Json),
            (Some("csv"), "application/json", Form::Csv),
        ] {
            let came = Form::wanted(format, &headers(accept)).expect("a form");
            assert_eq!(came, wanted, "{format:?} {accept}");
        }
        assert!(Form::wanted(Some("xml"), &HeaderMap::new()).is_err());
    }
}
