//! Documents as clients see them, as JSON and as CSV.

use serde::Serialize;
use shared::{
    id::{InvoiceId, RentalId},
    money::{Amount, Asset, Money},
    time::Timestamp,
};
use utoipa::ToSchema;

use crate::{
    domain::invoices::model::{Content, Invoice, Kind},
    http::csv::{Cell, row},
};

/// A document in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceView {
    #[schema(value_type = String, example = "inv_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: InvoiceId,
    #[schema(example = "RM-2026-000001")]
    number: String,
    /// `invoice` or `credit_note`.
    #[schema(value_type = String, example = "invoice")]
    kind: Kind,
    #[schema(value_type = String)]
    rental_id: RentalId,
    /// Tax included.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    total: Money,
    /// The document that this one corrects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    corrects: Option<InvoiceId>,
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
}

impl From<Invoice> for InvoiceView {
    fn from(invoice: Invoice) -> Self {
        Self {
            id: invoice.id,
            number: invoice.number,
            kind: invoice.kind,
            rental_id: invoice.rental,
            total: Money {
                amount: invoice.total,
                currency: invoice.asset,
            },
            corrects: invoice.corrects,
            issued_at: invoice.issued_at,
        }
    }
}

/// A document with all that is written on it.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceDetail {
    #[serde(flatten)]
    invoice: InvoiceView,
    #[serde(flatten)]
    content: Content,
    /// Numbers of the documents that correct this one.
    corrected_by: Vec<String>,
}

impl InvoiceDetail {
    /// With the documents that correct it.
    #[must_use]
    pub fn new(invoice: Invoice, later: &[Invoice]) -> Self {
        Self {
            content: invoice.content.clone(),
            corrected_by: later.iter().map(|one| one.number.clone()).collect(),
            invoice: InvoiceView::from(invoice),
        }
    }
}

/// The amount as a document counts: what a credit note gives back is below zero.
#[must_use]
pub fn signed(kind: Kind, amount: Amount) -> String {
    match kind {
        Kind::CreditNote if !amount.is_zero() => format!("-{amount}"),
        _ => amount.to_string(),
    }
}

/// A document as CSV: a row for each line, then net, tax and total.
#[must_use]
pub fn csv(invoice: &Invoice) -> String {
    let heads = [
        "number",
        "kind",
        "issued_at",
        "rental",
        "image",
        "image_digest",
        "billed_ms",
        "line",
        "transfers",
        "currency",
        "amount",
    ];
    let mut out = row(&heads.map(Cell::text));
    let content = &invoice.content;
    for line in &content.lines {
        out.push_str(&line_of(invoice, &line.what, line.transfers, line.amount));
    }
    out.push_str(&line_of(invoice, "net", 0, content.net));
    let tax = format!("tax included: {}", content.tax.name);
    out.push_str(&line_of(invoice, &tax, 0, content.tax.amount));
    out.push_str(&line_of(invoice, "total", 0, invoice.total));
    out
}

fn line_of(invoice: &Invoice, what: &str, transfers: i64, amount: Amount) -> String {
    let rented = &invoice.content.rented;
    let asset: Asset = invoice.asset;
    row(&[
        Cell::text(&invoice.number),
        Cell::text(invoice.kind.name()),
        Cell::text(invoice.issued_at.to_string()),
        Cell::text(invoice.rental.to_string()),
        Cell::text(&rented.image),
        Cell::text(rented.image_digest.clone().unwrap_or_default()),
        Cell::number(&rented.billed_ms),
        Cell::text(what),
        Cell::number(&transfers),
        Cell::text(asset.code()),
        Cell::number(&signed(invoice.kind, amount)),
    ])
}
