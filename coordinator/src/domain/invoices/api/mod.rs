//! `/invoices`, `/rentals/{id}/invoice` and `/statements`: documents as JSON and CSV.

pub mod statements;
pub mod view;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State as AxumState,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{InvoiceId, RentalId},
    money::Amount,
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{InvoiceDetail, InvoiceView};
use super::{Side, model::Rules, model::words};
use crate::{
    app::App,
    context::OpCtx,
    domain::invoices,
    error::Result,
    http::{
        Json, Page, Paging, Path, Problems, Query, SeenAs, SidedParams,
        csv::{self, Form},
    },
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(transfers))
        .routes(routes!(of_rental))
        .routes(routes!(statements::get))
        .routes(routes!(statements::lines))
}

#[utoipa::path(
    get, path = "/invoices", operation_id = "list_invoices", tag = "invoices", params(SidedParams),
    description = "Invoices and credit notes, newest first. Providers see those of what ran on their machines, without the payer.",
    responses((status = 200, body = Page<InvoiceView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []))
)]
async fn list(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Query(params): Query<SidedParams>,
) -> Result<Json<Page<InvoiceView>>> {
    let paging = params.paging()?;
    let before: Option<InvoiceId> = paging.after()?;
    let fetch = paging.fetch();
    let side = match params.seen_as {
        SeenAs::Consumer => Side::Consumer,
        SeenAs::Provider => Side::Provider,
    };
    let rows = app
        .db
        .read("invoice.list", move |tx| {
            invoices::list(tx, &ctx, side, before, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |invoice| invoice.id)?;
    Ok(Json(page.map(InvoiceView::from)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FormParams {
    /// `json`, the default, or `csv`; `Accept: text/csv` does the same.
    format: Option<String>,
}

#[utoipa::path(
    get, path = "/invoices/{id}", operation_id = "get_invoice", tag = "invoices", params(("id" = String, Path), FormParams),
    description = "A document with all that is written on it. For print: GET /invoices/{id} outside of the API.",
    responses((status = 200, body = InvoiceDetail), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn get(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<InvoiceId>,
    Query(params): Query<FormParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let form = Form::wanted(params.format.as_deref(), &headers)?;
    answer(&app, ctx, id, form).await
}

async fn answer(app: &App, ctx: OpCtx, id: InvoiceId, form: Form) -> Result<Response> {
    let (invoice, later) = app
        .db
        .read("invoice.get", move |tx| invoices::get(tx, &ctx, id))
        .await?;
    match form {
        Form::Json => Ok(Json(InvoiceDetail::new(invoice, &later)).into_response()),
        Form::Csv => {
            let name = format!("{}.csv", invoice.number);
            csv::answer(&name, Body::from(view::csv(&invoice)))
        }
    }
}

#[utoipa::path(
    get, path = "/rentals/{id}/invoice", operation_id = "rental_invoice", tag = "invoices", params(("id" = String, Path), FormParams),
    description = "The invoice of a rental that is settled; it is issued now if it wasn't before. The rental's token opens it too.",
    responses((status = 200, body = InvoiceDetail), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn of_rental(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<RentalId>,
    Query(params): Query<FormParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let form = Form::wanted(params.format.as_deref(), &headers)?;
    let (rules, asks) = (rules(&app), ctx.clone());
    let id = app
        .db
        .write("invoice.of_rental", move |tx| {
            crate::domain::rentals::get(tx, &asks, id)?;
            invoices::document(tx, &asks, &rules, id)?;
            invoices::of_rental(tx, &asks, id)
        })
        .await?;
    answer(&app, ctx, id, form).await
}

/// Who issues documents here, and with which tax.
#[must_use]
pub fn rules(app: &App) -> Rules {
    let market = &app.config.market;
    Rules {
        issuer: super::model::Issuer {
            name: market.issuer_name.clone(),
            address: market.issuer_address.clone(),
            tax_id: market.issuer_tax_id.clone(),
        },
        tax_name: market.tax_name.clone(),
        tax_bps: market.tax_bps,
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A transfer that is on a document.
#[derive(Debug, Serialize, ToSchema)]
struct InvoiceTransferView {
    #[schema(example = "trf_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: String,
    /// Its code in the ledger.
    #[schema(example = "window_provider")]
    code: String,
    /// What for, in words.
    what: &'static str,
    #[schema(value_type = String, example = "0.000008")]
    amount: Amount,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

#[utoipa::path(
    get, path = "/invoices/{id}/transfers", operation_id = "invoice_transfers", tag = "invoices",
    params(("id" = String, Path), PageParams),
    description = "The transfers of the ledger that a document is about; their sum is its total.",
    responses((status = 200, body = Page<InvoiceTransferView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn transfers(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<InvoiceId>,
    Query(params): Query<PageParams>,
) -> Result<Json<Page<InvoiceTransferView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("invoice.transfers", move |tx| {
            invoices::transfers(tx, &ctx, id, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |linked| linked.id.clone())?;
    Ok(Json(page.map(|linked| InvoiceTransferView {
        what: words(&linked.code),
        id: linked.id,
        code: linked.code,
        amount: linked.amount,
        at: linked.at,
    })))
}
