//! What is written on an invoice or a credit note: numbers, tax, lines.
//!
//! # Invariants
//! - Prices include tax: net + tax = total.
//! - The lines add up to the total, and each line is the sum of its transfers.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};
use shared::{
    id::{InvoiceId, RentalId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
    x402::address::Address,
};
use utoipa::ToSchema;

use super::exchanged::Exchanged;
use crate::error::Result;

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What a rental cost.
    Invoice,
    /// What was given back of it.
    CreditNote,
}

impl Kind {
    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::CreditNote => "credit_note",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Invoice, Self::CreditNote]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// The series in which it is numbered.
    #[must_use]
    pub const fn series(self) -> &'static str {
        match self {
            Self::Invoice => "RM",
            Self::CreditNote => "RC",
        }
    }
}

/// Who issues documents and with which tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Who.
    pub issuer: Issuer,
    /// The tax's name.
    pub tax_name: String,
    /// Its rate, basis points of the net price.
    pub tax_bps: u32,
}

/// Who issues a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issuer {
    /// Its name.
    #[schema(example = "RAMarket")]
    pub name: String,
    /// Where it is; may be empty.
    pub address: String,
    /// Its number at the tax office; may be empty.
    pub tax_id: String,
}

/// Who pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payer {
    /// Their account, if they have one.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// Its address when the document was issued.
    pub email: Option<String>,
    /// The wallet that paid, if one did.
    pub wallet: Option<String>,
}

/// What was rented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rented {
    /// Which rental.
    #[schema(value_type = String)]
    pub rental_id: RentalId,
    /// What ran.
    pub image: String,
    /// Which of it exactly.
    pub image_digest: Option<String>,
    /// Memory, bytes.
    pub ram_bytes: i64,
    /// Thousandths of a processor.
    pub cpu_millis: i64,
    /// When it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it finished.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Billed time, milliseconds.
    pub billed_ms: i64,
    /// What an hour costs, rounded down.
    #[schema(value_type = String, example = "0.000500")]
    pub per_hour: Amount,
}

/// A line: transfers of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// The code of its transfers in the ledger.
    #[schema(example = "window_provider")]
    pub code: String,
    /// What for, in words.
    #[schema(example = "use, the provider's part")]
    pub what: String,
    /// How many transfers.
    pub transfers: i64,
    /// Their sum.
    #[schema(value_type = String, example = "0.000475")]
    pub amount: Amount,
}

/// A tax that is part of the total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tax {
    /// Its name.
    #[schema(example = "VAT")]
    pub name: String,
    /// Its rate, basis points of the net amount.
    pub bps: u32,
    /// How much of the total it is.
    #[schema(value_type = String, example = "0.000000")]
    pub amount: Amount,
}

/// All that is written on a document; kept as it was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Content {
    /// Who issues it.
    pub issuer: Issuer,
    /// Who pays; providers aren't told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<Payer>,
    /// Whose machine it was.
    #[schema(value_type = String)]
    pub provider_id: UserId,
    /// What was rented.
    pub rented: Rented,
    /// What the total is made of.
    pub lines: Vec<Line>,
    /// The total without tax.
    #[schema(value_type = String, example = "0.000500")]
    pub net: Amount,
    /// The tax in it.
    pub tax: Tax,
    /// What the platform has of the total.
    #[schema(value_type = String, example = "0.000025")]
    pub platform_fee: Amount,
    /// What the provider has of it.
    #[schema(value_type = String, example = "0.000475")]
    pub provider_share: Amount,
    /// What was paid ahead for the rental, and what of that wasn't used and went back; providers aren't told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepaid: Option<Prepaid>,
    /// What of that was paid in another currency, and at which rates; providers aren't told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchanged>,
    /// Why something is given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was paid ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prepaid {
    /// In all.
    #[schema(value_type = String, example = "0.001000")]
    pub paid: Amount,
    /// What went back unused.
    #[schema(value_type = String, example = "0.000500")]
    pub returned: Amount,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Which.
    pub id: InvoiceId,
    /// Its number: `RM-2026-000001`.
    pub number: String,
    /// What it is.
    pub kind: Kind,
    /// Of which rental.
    pub rental: RentalId,
    /// Who rented, if they have an account.
    pub consumer: Option<UserId>,
    /// Whose machine it was.
    pub provider: UserId,
    /// In which currency.
    pub asset: Asset,
    /// What it comes to.
    pub total: Amount,
    /// The document that it corrects.
    pub corrects: Option<InvoiceId>,
    /// What of [`crate::domain::disputes::given_back`] it is about.
    pub given_back: Option<String>,
    /// All that is written on it.
    pub content: Content,
    /// When it was issued.
    pub issued_at: Timestamp,
}

impl Invoice {
    /// Whether it is about what a wallet paid for without an account.
    #[must_use]
    pub fn is_of_wallet(&self, wallet: &Address) -> bool {
        let paid_by = self.content.payer.as_ref();
        let paid_by = paid_by.and_then(|payer| payer.wallet.as_deref());
        self.consumer.is_none() && paid_by == Some(&*wallet.to_string())
    }
}

/// A number as it is written.
#[must_use]
pub fn number(series: &str, year: i64, number: i64) -> String {
    format!("{series}-{year}-{number:06}")
}

/// The calendar year of a moment, in UTC.
#[must_use]
pub fn year_of(at: Timestamp) -> i64 {
    let text = at.to_string();
    text.split('-')
        .next()
        .and_then(|year| year.parse().ok())
        .unwrap_or(1970)
}

/// What a kind of transfer is for, in words.
#[must_use]
pub fn words(code: &str) -> &'static str {
    match code {
        "payment" => "paid by x402",
        "sandbox_grant" => "play money",
        "balance_purchase" => "rental paid from the balance",
        "exchange" => "exchanged from another currency",
        "window_provider" => "use, the provider's part",
        "window_fee" => "use, the platform's fee",
        "refund" => "unused time given back",
        "goodwill" => "given back as goodwill",
        "dispute_pending" | "dispute_available" => "given back after a dispute, by the provider",
        "dispute_fee" => "given back after a dispute, of the platform's fee",
        "dispute_goodwill" => "given back after a dispute, by the platform",
        "earnings_released" => "earnings that became payable",
        "payout_held" => "payout asked for",
        "payout_sent" => "payout being sent",
        "payout_ended" => "payout ended",
        _ => "other",
    }
}

/// The lines, net and tax of a total that is the sum of `sums` (code, transfers, amount).
///
/// # Errors
/// They don't fit.
pub fn bill(
    sums: &[(String, i64, Amount)],
    rules: &Rules,
) -> Result<(Vec<Line>, Amount, Amount, Tax)> {
    let mut total = Amount::ZERO;
    let mut lines = Vec::new();
    for (code, transfers, amount) in sums {
        total = total.plus(*amount)?;
        lines.push(Line {
            code: code.clone(),
            what: words(code).to_owned(),
            transfers: *transfers,
            amount: *amount,
        });
    }
    let tax = total.part_in_gross(rules.tax_bps)?;
    let tax = Tax {
        name: rules.tax_name.clone(),
        bps: rules.tax_bps,
        amount: tax,
    };
    let net = total.minus(tax.amount)?;
    Ok((lines, total, net, tax))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_years_are_written_in_full() {
        assert_eq!(number("RM", 2026, 1), "RM-2026-000001");
        assert_eq!(number("RC", 2026, 1_234_567), "RC-2026-1234567");
        assert_eq!(year_of(Timestamp::from_secs(1_800_000_000)), 2027);
        assert_eq!(year_of(Timestamp::from_micros(1_798_761_599_999_999)), 2026);
        assert_eq!(year_of(Timestamp::from_secs(1_798_761_600)), 2027);
    }

    #[test]
    fn tax_is_part_of_the_total() {
        let rules = |tax_bps| Rules {
            issuer: Issuer {
                name: String::new(),
                address: String::new(),
                tax_id: String::new(),
            },
            tax_name: "VAT".to_owned(),
            tax_bps,
        };
        let amount = |atomic| Amount::from_atomic(atomic).expect("positive");
        let sums = [
            ("window_provider".to_owned(), 60, amount(1_130)),
            ("window_fee".to_owned(), 60, amount(60)),
        ];
        let (lines, total, net, tax) = bill(&sums, &rules(1_900)).expect("adds up");
        assert_eq!(
            (lines.len(), total, net, tax.amount),
            (2, amount(1_190), amount(1_000), amount(190))
        );
        let (_, total, net, tax) = bill(&sums, &rules(0)).expect("adds up");
        assert_eq!((total, tax.amount), (net, Amount::ZERO));
    }
}
