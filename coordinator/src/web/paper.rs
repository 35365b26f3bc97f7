//! What people print: an invoice, and a month's statement. Complete without JavaScript; black on white on paper.
//!
//! # Invariants
//! - The same as the API shows, by the same services and the same line of the table of access.
//! - Kept by nobody on the way, and known to no search engine.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use shared::money::Amount;

use super::{
    html::{self, alert, escape},
    reader::asks,
};
use crate::{
    app::App,
    domain::invoices::{
        self,
        api::{statements, view::signed},
        exchanged::Exchanged,
        model::{Invoice, Kind, words},
        statement::{self, Month, Statement, StatementLine},
    },
    error::{Error, Kind as ErrorKind},
    http::error::status_of,
};

/// Most transfers on the page of a statement; all of them are in its CSV.
const LINES_MAX: i64 = 500;

/// The pages.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/invoices/{id}", get(invoice))
        .route("/statements/{month}", get(statement_page))
}

async fn invoice(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let read = async {
        let ctx = asks(&app, request, "get_invoice").await?;
        let id = id.parse().map_err(|_| Error::not_found("invoice"))?;
        app.db
            .read("invoice.page", move |tx| invoices::get(tx, &ctx, id))
            .await
    };
    match read.await {
        Ok((invoice, later)) => {
            let title = format!("{} {}", name_of(invoice.kind), invoice.number);
            shown(
                StatusCode::OK,
                &escape(&title),
                &invoice_body(&invoice, &later),
            )
        }
        Err(error) => refused(&error, &format!("/invoices/{id}")),
    }
}

async fn statement_page(
    State(app): State<Arc<App>>,
    Path(month): Path<String>,
    request: Request,
) -> Response {
    let read = async {
        let ctx = asks(&app, request, "get_statement").await?;
        let month = Month::parse(&month)?;
        let statement = statements::read(&app, &ctx, month).await?;
        let lines = app
            .db
            .read("statement.page", move |tx| {
                statement::lines(tx, &ctx, month, None, LINES_MAX)
            })
            .await?;
        let lines: Vec<StatementLine> = lines.into_iter().map(|(_, line)| line).collect();
        Ok((statement, lines))
    };
    match read.await {
        Ok((statement, lines)) => {
            let title = format!("Statement of {}", statement.month);
            shown(StatusCode::OK, &title, &statement_body(&statement, &lines))
        }
        Err(error) => refused(&error, &format!("/statements/{month}")),
    }
}

fn refused(error: &Error, path: &str) -> Response {
    if matches!(error.kind(), ErrorKind::Internal) {
        tracing::error!(%error, "a page of papers failed");
    }
    let mut body = alert(error.detail());
    if error.kind() == ErrorKind::Unauthenticated {
        let next = escape(path);
        body.push_str(&format!(
            "<p><a href=\"/login?next={next}\">Sign in</a></p>\n"
        ));
    }
    shown(status_of(error.kind()), "This can't be shown", &body)
}

fn shown(status: StatusCode, title: &str, body: &str) -> Response {
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            HeaderName::from_static("x-robots-tag"),
            HeaderValue::from_static("noindex"),
        ),
    ];
    let page = html::page(title, &format!("<div class=\"paper\">\n{body}</div>"));
    (status, headers, Html(page)).into_response()
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoice => "Invoice",
        Kind::CreditNote => "Credit note",
    }
}

/// A list of names and what they are; what is empty is left out.
fn facts(rows: &[(&str, String)]) -> String {
    let known = rows.iter().filter(|(_, value)| !value.is_empty());
    let cells: String = known
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value)))
        .collect();
    format!("<dl class=\"facts\">\n{cells}</dl>\n")
}

fn invoice_body(invoice: &Invoice, later: &[Invoice]) -> String {
    let content = &invoice.content;
    let payer = content.payer.as_ref();
    let of_payer = |text: Option<&String>| text.cloned().unwrap_or_default();
    let numbers: Vec<&str> = later.iter().map(|one| one.number.as_str()).collect();
    let head = facts(&[
        ("Issued", invoice.issued_at.to_string()),
        ("Issued by", content.issuer.name.clone()),
        ("Address", content.issuer.address.clone()),
        ("Tax number", content.issuer.tax_id.clone()),
        (
            "Payer",
            of_payer(payer.and_then(|payer| payer.email.as_ref())),
        ),
        (
            "Wallet",
            of_payer(payer.and_then(|payer| payer.wallet.as_ref())),
        ),
        ("Provider", content.provider_id.to_string()),
        ("Corrected by", numbers.join(", ")),
        ("Reason", content.reason.clone().unwrap_or_default()),
    ]);
    let rented = &content.rented;
    let moment =
        |at: Option<shared::time::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let what = facts(&[
        ("Rental", rented.rental_id.to_string()),
        ("Image", rented.image.clone()),
        ("Digest", rented.image_digest.clone().unwrap_or_default()),
        ("Memory", format!("{} MiB", rented.ram_bytes / (1 << 20))),
        ("Started", moment(rented.started_at)),
        ("Finished", moment(rented.finished_at)),
        ("Seconds", seconds(rented.billed_ms)),
        (
            "Price of an hour",
            format!("{} {}", rented.per_hour, invoice.asset.code()),
        ),
    ]);
    format!("{head}<h2>What was rented</h2>\n{what}{}", sums(invoice))
}

/// Milliseconds as seconds with three decimals.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn sums(invoice: &Invoice) -> String {
    let content = &invoice.content;
    let code = escape(invoice.asset.code());
    let row = |name: &str, amount: Amount| {
        let amount = signed(invoice.kind, amount);
        format!(
            "<tr><th scope=\"row\">{}</th><td>{amount}</td></tr>\n",
            escape(name)
        )
    };
    let lines: String = content
        .lines
        .iter()
        .map(|line| row(&line.what, line.amount))
        .collect();
    let percent = format!("{}.{:02} %", content.tax.bps / 100, content.tax.bps % 100);
    let tax = format!("{} included, {percent}", content.tax.name);
    let rest = content
        .prepaid
        .as_ref()
        .map_or_else(String::new, |prepaid| {
            row("Paid ahead", prepaid.paid) + &row("Unused, given back", prepaid.returned)
        });
    let exchanges = exchanges(&content.exchanges);
    format!(
        "<table>\n<caption>Amounts in {code}</caption>\n<tbody>\n{lines}{}{}</tbody>\n<tfoot>\n\
         <tr class=\"total\"><th scope=\"row\">Total</th><td id=\"total\">{} {code}</td></tr>\n{rest}</tfoot>\n</table>\n{exchanges}\
         <p><a href=\"/api/v1/invoices/{}?format=csv\">CSV</a></p>\n",
        row("Net", content.net),
        row(&tax, content.tax.amount),
        signed(invoice.kind, invoice.total),
        invoice.id
    )
}

/// What was paid in other currencies, and at which rates.
fn exchanges(all: &[Exchanged]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows: String = all
        .iter()
        .map(|one| {
            let at = one.at.map(|at| at.to_string()).unwrap_or_default();
            let words = escape(&one.words());
            format!("<tr><th scope=\"row\">{at}</th><td>{words}</td></tr>\n")
        })
        .collect();
    format!(
        "<table class=\"exchanges\">\n<caption>Paid in other currencies</caption>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )
}

fn statement_body(statement: &Statement, lines: &[StatementLine]) -> String {
    let state = if statement.is_final {
        "final: it never changes"
    } else {
        "so far: the month isn't over"
    };
    let head = facts(&[
        ("Account", statement.email.clone()),
        ("Month", format!("{} (UTC)", statement.month)),
        ("State", state.to_owned()),
    ]);
    let accounts: String = statement
        .accounts
        .iter()
        .map(|row| {
            let rows: String = [
                ("Before", row.before),
                ("Received", row.received),
                ("Spent", row.spent),
                ("After", row.after),
            ]
            .iter()
            .map(|(name, amount)| {
                format!("<tr><th scope=\"row\">{name}</th><td>{amount}</td></tr>\n")
            })
            .collect();
            let name = format!("{}, {}", row.name, row.asset.code());
            format!(
                "<table>\n<caption>{}</caption>\n<tbody>\n{rows}</tbody>\n</table>\n",
                escape(&name)
            )
        })
        .collect();
    let moved: String = lines.iter().map(moved_row).collect();
    let more = i64::try_from(lines.len()).is_ok_and(|count| count == LINES_MAX);
    let note = if more {
        "<p>The first 500 are shown; the CSV has all of them.</p>\n"
    } else {
        ""
    };
    format!(
        "{head}{accounts}<h2>Transfers</h2>\n<table class=\"moved\">\n<thead><tr><th scope=\"col\">When and what</th>\
         <th scope=\"col\">Amount</th></tr></thead>\n<tbody>\n{moved}</tbody>\n</table>\n{note}\
         <p><a href=\"/api/v1/statements?month={}&amp;format=csv\">CSV</a></p>\n",
        statement.month
    )
}

fn moved_row(line: &StatementLine) -> String {
    let sign = if line.entry.received { "" } else { "-" };
    let exchanged = line.exchanged.as_ref().map_or_else(String::new, |one| {
        format!("<br><small>{}</small>", escape(&one.words()))
    });
    format!(
        "<tr><td>{} <br>{}: {} <br><small>{}</small>{exchanged}</td><td>{sign}{} {}</td></tr>\n",
        line.entry.at,
        escape(line.account),
        escape(words(&line.entry.code)),
        escape(&line.entry.id),
        line.entry.amount,
        escape(line.asset.code())
    )
}
