//! Invoices and credit notes, and statements of accounts by month: what the ledger did, on paper.
//!
//! # Invariants
//! - A document is never changed (triggers). What was given back later is another document, which refers to the one that it corrects.
//! - Numbers have no gaps: series and year have one counter, held until the transaction that issues ends.
//! - A document's total is the sum of its transfers, and a transfer is on one document ([`check`]).
//! - Whoever issues looks at what isn't documented yet ([`document`]); doing that twice, or at once, issues nothing twice.
//!
//! The market issues one invoice per rental, to whoever rented; its provider sees the same document as a statement of earnings, without the
//! payer: who rents isn't told to those who lend.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

pub mod api;
pub mod check;
pub mod exchanged;
pub mod model;
pub mod statement;
mod store;
#[cfg(test)]
mod tests;

use serde_json::json;
use shared::id::{InvoiceId, RentalId};

pub use self::store::Linked;
use self::{
    model::{Content, Invoice, Kind, Payer, Prepaid, Rented, Rules},
    store::About,
};
use super::{
    auth,
    disputes::given_back::{self, GivenBack},
    events::{self, Event},
    ledger::model::Account,
    rentals::{self, model::Rental},
};
use crate::{
    context::{Actor, OpCtx},
    error::{Error, Result},
    store::Tx,
};

/// Issues what is missing of a rental: its invoice once it is settled, another one for what was charged since, and a credit note for
/// each part that was given back. Returns what was issued now.
///
/// # Errors
/// 404; 503 if the rental was written meanwhile; internal if the ledger says something else than the rental.
pub fn document(tx: &mut dyn Tx, ctx: &OpCtx, rules: &Rules, id: RentalId) -> Result<Vec<Invoice>> {
    let rental = rentals::find(tx, id)?;
    let mut known = store::of_rental(tx, id)?;
    let before = known.len();
    if rental.settled_at.is_some() && rentals::mark_invoiced(tx, &rental, ctx.now)? {
        let escrow = Account::RentalEscrow(id).key(rental.asset);
        let sums = store::sums(tx, About::Charges(&escrow))?;
        if known.is_empty() || !sums.is_empty() {
            let about = About::Charges(&escrow);
            let corrects = last_invoice(&known);
            let issued = issue(tx, ctx, rules, &rental, (about, None), corrects)?;
            known.push(issued);
        }
    }
    let Some(corrected) = last_invoice(&known) else {
        return Ok(Vec::new());
    };
    for given in given_back::of_rental(tx, id)? {
        let is_known = |one: &Invoice| one.given_back.as_ref() == Some(&given.reference);
        if !known.iter().any(is_known) {
            let about = About::GivenBack(&given.reference);
            let note = issue(
                tx,
                ctx,
                rules,
                &rental,
                (about, Some(&given)),
                Some(corrected),
            )?;
            known.push(note);
        }
    }
    Ok(known.split_off(before))
}

fn last_invoice(known: &[Invoice]) -> Option<InvoiceId> {
    let mut newest_first = known.iter().rev();
    let last = newest_first.find(|one| one.kind == Kind::Invoice);
    last.map(|one| one.id)
}

fn issue(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    rental: &Rental,
    (about, given): (About<'_>, Option<&GivenBack>),
    corrects: Option<InvoiceId>,
) -> Result<Invoice> {
    let sums = store::sums(tx, about)?;
    let (lines, total, net, tax) = model::bill(&sums, rules)?;
    let of = |codes: &[&str]| {
        sums.iter()
            .filter(|(code, ..)| codes.contains(&code.as_str()))
            .try_fold(shared::money::Amount::ZERO, |sum, (_, _, amount)| {
                sum.plus(*amount)
            })
    };
    let provider_share = of(&["window_provider", "dispute_pending", "dispute_available"])?;
    let kind = given.map_or(Kind::Invoice, |_| Kind::CreditNote);
    let content = Content {
        issuer: rules.issuer.clone(),
        payer: Some(payer(tx, rental)?),
        provider_id: rental.provider,
        rented: rented(rental)?,
        lines,
        net,
        tax,
        platform_fee: total.minus(provider_share)?,
        provider_share,
        prepaid: (kind == Kind::Invoice).then_some(Prepaid {
            paid: rental.paid,
            returned: rental.refunded,
        }),
        exchanges: match kind {
            Kind::Invoice => exchanged::of_rental(tx, rental, ctx.now)?,
            // what is given back is in the price's currency
            Kind::CreditNote => Vec::new(),
        },
        reason: given.map(|given| given.reason.clone()),
    };
    let year = model::year_of(ctx.now);
    let number = store::next_number(tx, kind.series(), year)?;
    let invoice = Invoice {
        id: ctx.mint(),
        number: model::number(kind.series(), year, number),
        kind,
        rental: rental.id,
        consumer: rental.consumer,
        provider: rental.provider,
        asset: rental.asset,
        total,
        corrects,
        given_back: given.map(|given| given.reference.clone()),
        content,
        issued_at: ctx.now,
    };
    store::insert(tx, &invoice, year, number)?;
    store::link(tx, invoice.id, about)?;
    announce(tx, ctx, &invoice)?;
    Ok(invoice)
}

fn payer(tx: &mut dyn Tx, rental: &Rental) -> Result<Payer> {
    let account = rental.consumer.map(|consumer| auth::account(tx, consumer));
    Ok(Payer {
        user_id: rental.consumer,
        email: account.transpose()?.map(|account| account.email),
        wallet: rental.payer.clone(),
    })
}

fn rented(rental: &Rental) -> Result<Rented> {
    const HOUR_MS: i64 = 3_600_000;
    Ok(Rented {
        rental_id: rental.id,
        image: rental.spec.image().to_owned(),
        image_digest: rental.image_digest.clone(),
        ram_bytes: rental.resources.ram_bytes,
        cpu_millis: rental.resources.cpu_millis,
        started_at: rental.started_at,
        finished_at: rental.finished_at,
        billed_ms: rental.billed_ms,
        per_hour: rental.rate.charge_for_ms(HOUR_MS)?,
    })
}

fn announce(tx: &mut dyn Tx, ctx: &OpCtx, invoice: &Invoice) -> Result<()> {
    let event = Event {
        consumer: invoice.consumer,
        provider: Some(invoice.provider),
        rental: Some(invoice.rental),
        ..Event::new(
            "invoice.issued",
            json!({
                "invoice_id": invoice.id, "number": invoice.number, "kind": invoice.kind,
                "total": invoice.total, "currency": invoice.asset,
            }),
        )
    };
    events::append(tx, ctx, event)
}

/// Rentals whose invoice isn't issued yet, the longest settled first.
///
/// # Errors
/// The database's.
pub fn due(tx: &mut dyn Tx, limit: i64) -> Result<Vec<RentalId>> {
    rentals::to_invoice(tx, limit)
}

/// From which side documents are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Of what the caller rents.
    Consumer,
    /// Of what ran on their machines.
    Provider,
}

/// The caller's documents, newest first, before an id.
///
/// # Errors
/// 401.
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    side: Side,
    before: Option<InvoiceId>,
    limit: i64,
) -> Result<Vec<Invoice>> {
    if let Actor::RentalToken(rental) = ctx.actor {
        let own = store::of_rental(tx, rental)?;
        let older = own
            .into_iter()
            .rev()
            .filter(|one| before.is_none_or(|id| one.id < id));
        let most = usize::try_from(limit).unwrap_or(0);
        return Ok(older.take(most).collect());
    }
    let caller = ctx.user()?.id;
    // `~` sorts behind every id
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let rows = match side {
        Side::Consumer => store::of_consumer(tx, caller, &before, limit)?,
        Side::Provider => store::of_provider(tx, caller, &before, limit)?,
    };
    rows.into_iter().map(|one| seen_by(ctx, one)).collect()
}

/// A document as the caller may see it, and the documents that correct it.
///
/// # Errors
/// 404.
pub fn get(tx: &mut dyn Tx, ctx: &OpCtx, id: InvoiceId) -> Result<(Invoice, Vec<Invoice>)> {
    let invoice = store::by_id(tx, id)?.ok_or_else(|| Error::not_found("invoice"))?;
    let invoice = seen_by(ctx, invoice)?;
    let all = store::of_rental(tx, invoice.rental)?;
    let later = all.into_iter().filter(|one| one.corrects == Some(id));
    let later = later.map(|one| seen_by(ctx, one)).collect::<Result<_>>()?;
    Ok((invoice, later))
}

/// The newest invoice of a rental that the caller may see.
///
/// # Errors
/// 404 for a rental that isn't theirs; 409 `invoice_not_issued` before it is settled.
pub fn of_rental(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<InvoiceId> {
    rentals::get(tx, ctx, id)?;
    last_invoice(&store::of_rental(tx, id)?).ok_or_else(|| {
        Error::conflict(
            "invoice_not_issued",
            "an invoice is issued when the rental is over and its money is split: try again then",
        )
        .retry_after_s(60)
    })
}

/// The transfers of a document that the caller may see, after an id.
///
/// # Errors
/// 404.
pub fn transfers(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: InvoiceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Linked>> {
    get(tx, ctx, id)?;
    store::transfers(tx, id, after, limit)
}

/// Leaves out what the caller isn't told.
fn seen_by(ctx: &OpCtx, mut invoice: Invoice) -> Result<Invoice> {
    let rents = match &ctx.actor {
        Actor::RentalToken(token) => Some(*token == invoice.rental),
        Actor::Wallet(wallet) => Some(invoice.is_of_wallet(wallet)),
        _ => None,
    };
    match rents {
        Some(true) => return Ok(invoice),
        Some(false) => return Err(Error::not_found("invoice")),
        None => {}
    }
    let caller = ctx.user()?.id;
    if invoice.consumer == Some(caller) || ctx.is_admin() {
        return Ok(invoice);
    }
    if invoice.provider == caller {
        invoice.content.payer = None;
        invoice.content.prepaid = None;
        invoice.content.exchanges.clear();
        return Ok(invoice);
    }
    Err(Error::not_found("invoice"))
}
