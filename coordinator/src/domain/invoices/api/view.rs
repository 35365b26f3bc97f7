//! Documents as clients see them, as JSON and as CSV.

use serde::Serialize;
use shared::{
    id::{InvoiceId, RentalId},
    money::{Amount, Asset, Money},
    time::Timestamp,
};
use utoipa::ToSchema;

use crate::{
    domain::invoices::{
        exchanged::Exchanged,
        model::{Content, Invoice, Kind},
    },
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

/// A document as CSV: a row for each line, then net, tax and total, then what was paid ahead in another currency.
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
    let heads = heads.iter().chain(&EXCHANGED);
    let heads: Vec<Cell> = heads.map(|head| Cell::text(*head)).collect();
    let mut out = row(&heads);
    let content = &invoice.content;
    let mut line = |what: &str, transfers: i64, amount: Amount| {
        let mut cells = line_of(invoice, what, transfers, amount).to_vec();
        cells.extend(no_exchange());
        out.push_str(&row(&cells));
    };
    for one in &content.lines {
        line(&one.what, one.transfers, one.amount);
    }
    line("net", 0, content.net);
    let tax = format!("tax included: {}", content.tax.name);
    line(&tax, 0, content.tax.amount);
    line("total", 0, invoice.total);
    for one in &content.exchanges {
        let what = "paid ahead in another currency";
        let mut cells = line_of(invoice, what, one.payments, one.price.amount).to_vec();
        cells.extend(exchanged(one));
        out.push_str(&row(&cells));
    }
    out
}

fn line_of(invoice: &Invoice, what: &str, transfers: i64, amount: Amount) -> [Cell; 11] {
    let rented = &invoice.content.rented;
    let asset: Asset = invoice.asset;
    [
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
    ]
}

/// The heads of [`exchanged`].
pub(super) const EXCHANGED: [&str; 7] = [
    "paid",
    "paid_currency",
    "price",
    "price_currency",
    "rate",
    "rate_source",
    "rate_at",
];

/// What was exchanged, as cells of a row.
pub(super) fn exchanged(one: &Exchanged) -> [Cell; 7] {
    let text = |text: Option<String>| Cell::text(text.unwrap_or_default());
    [
        Cell::number(&one.paid.amount),
        Cell::text(one.paid.currency.code()),
        Cell::number(&one.price.amount),
        Cell::text(one.price.currency.code()),
        text(one.rate.clone()),
        text(one.rate_source.clone()),
        text(one.rate_at.map(|at| at.to_string())),
    ]
}

/// The cells of a row in which nothing was exchanged.
pub(super) fn no_exchange() -> [Cell; 7] {
    [(); 7].map(|()| Cell::text(""))
}
