//! `/statements`: a person's accounts in a month, as JSON, and as CSV that is written while it is read.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State as AxumState,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use shared::{money::Amount, money::Asset, time::Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::view;
use crate::{
    app::App,
    context::OpCtx,
    domain::invoices::{
        exchanged::Exchanged,
        model::words,
        statement::{self, AccountMonth, LinePlace, Month, Statement, StatementLine},
    },
    error::{Error, Result},
    http::{
        Json, Page, Paging, Problems, Query,
        csv::{self, Cell, Form},
    },
};

/// Lines that are read at once for CSV.
const CSV_BATCH: i64 = 500;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatementParams {
    /// A month in UTC.
    #[param(example = "2026-11")]
    month: String,
    /// `json`, the default, or `csv` with every transfer; `Accept: text/csv` does the same.
    format: Option<String>,
}

/// A month of an account.
#[derive(Debug, Serialize, ToSchema)]
struct AccountMonthView {
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    /// `balance`, `payouts under way`, `earnings, pending` or `earnings, payable`.
    #[schema(example = "balance")]
    account: &'static str,
    /// What it held when the month began.
    #[schema(value_type = String, example = "5.000000")]
    before: Amount,
    #[schema(value_type = String, example = "1.000000")]
    received: Amount,
    #[schema(value_type = String, example = "0.250000")]
    spent: Amount,
    /// What it held when the month ended, or holds now.
    #[schema(value_type = String, example = "5.750000")]
    after: Amount,
}

/// A month of a person's accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatementView {
    #[schema(example = "2026-11")]
    month: String,
    /// The month is over, and this never changes any more.
    r#final: bool,
    accounts: Vec<AccountMonthView>,
    /// Every transfer, in pages.
    #[schema(example = "/api/v1/statements/2026-11/transfers")]
    transfers_url: String,
}

fn view(statement: Statement) -> StatementView {
    let account = |row: AccountMonth| AccountMonthView {
        currency: row.asset,
        account: row.name,
        before: row.before,
        received: row.received,
        spent: row.spent,
        after: row.after,
    };
    StatementView {
        month: statement.month.to_string(),
        r#final: statement.is_final,
        accounts: statement.accounts.into_iter().map(account).collect(),
        transfers_url: format!("/api/v1/statements/{}/transfers", statement.month),
    }
}

/// The caller's statement; accounts of a month that is over are closed first.
///
/// # Errors
/// As [`statement::of`].
pub async fn read(app: &App, ctx: &OpCtx, month: Month) -> Result<Statement> {
    let asks = ctx.clone();
    let read = app
        .db
        .read("statement.get", move |tx| statement::of(tx, &asks, month));
    if let Some(found) = read.await? {
        return Ok(found);
    }
    let asks = ctx.clone();
    app.db
        .write("statement.close", move |tx| {
            statement::close(tx, &asks, month)?;
            let found = statement::of(tx, &asks, month)?;
            found.ok_or_else(|| Error::internal(format!("{month} can't be closed")))
        })
        .await
}

#[utoipa::path(
    get, path = "/statements", operation_id = "get_statement", tag = "invoices", params(StatementParams),
    description = "What moved on your accounts in a month (UTC), as a consumer and as a provider. The statement of a month that is over for \
        an hour never changes. For print: GET /statements/{month} outside of the API.",
    responses((status = 200, body = StatementView), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn get(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Query(params): Query<StatementParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let form = Form::wanted(params.format.as_deref(), &headers)?;
    let month = Month::parse(&params.month)?;
    let statement = read(&app, &ctx, month).await?;
    match form {
        Form::Json => Ok(Json(view(statement)).into_response()),
        Form::Csv => {
            let name = format!("statement-{month}.csv");
            csv::answer(&name, streamed(app, ctx, &statement))
        }
    }
}

/// The head, a row for each account's beginning and end, and then every transfer, read page by page as it is sent.
fn streamed(app: Arc<App>, ctx: OpCtx, statement: &Statement) -> Body {
    let heads = [
        "currency", "account", "at", "transfer", "what", "about", "amount",
    ];
    let heads = heads.iter().chain(&view::EXCHANGED);
    let heads: Vec<Cell> = heads.map(|head| Cell::text(*head)).collect();
    let mut head = csv::row(&heads);
    for row in &statement.accounts {
        for (what, amount) in [("before", row.before), ("after", row.after)] {
            let empty = || Cell::text("");
            let cells = [
                Cell::text(row.asset.code()),
                Cell::text(row.name),
                empty(),
                empty(),
                Cell::text(what),
                empty(),
                Cell::number(&amount),
            ];
            let cells: Vec<Cell> = cells.into_iter().chain(view::no_exchange()).collect();
            head.push_str(&csv::row(&cells));
        }
    }
    let month = statement.month;
    let begin = (Some(head), None::<LinePlace>, false);
    Body::from_stream(stream::try_unfold(begin, move |(head, after, is_over)| {
        let (app, ctx) = (Arc::clone(&app), ctx.clone());
        async move {
            if is_over {
                return Ok::<_, Error>(None);
            }
            let place = after.clone();
            let lines = app
                .db
                .read("statement.csv", move |tx| {
                    statement::lines(tx, &ctx, month, place.as_ref(), CSV_BATCH)
                })
                .await?;
            let mut text = head.unwrap_or_default();
            text.extend(lines.iter().map(|(_, line)| csv_row(line)));
            let is_over = i64::try_from(lines.len()).is_ok_and(|count| count < CSV_BATCH);
            let last = lines.into_iter().next_back().map(|(place, _)| place);
            Ok(Some((text, (None, last.or(after), is_over))))
        }
    }))
}

fn csv_row(line: &StatementLine) -> String {
    let amount = &line.entry.amount;
    let signed = if line.entry.received {
        amount.to_string()
    } else {
        format!("-{amount}")
    };
    let exchanged = line.exchanged.as_ref();
    let exchanged = exchanged.map_or_else(view::no_exchange, view::exchanged);
    let cells = [
        Cell::text(line.asset.code()),
        Cell::text(line.account),
        Cell::text(line.entry.at.to_string()),
        Cell::text(&line.entry.id),
        Cell::text(words(&line.entry.code)),
        Cell::text(about(&line.entry.reference)),
        Cell::number(&signed),
    ];
    let cells: Vec<Cell> = cells.into_iter().chain(exchanged).collect();
    csv::row(&cells)
}

/// What a reference is about: its first part, an id; what follows tells causes apart.
fn about(reference: &str) -> &str {
    reference.split(':').next().unwrap_or_default()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LinesParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A transfer as an account sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatementLineView {
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    #[schema(example = "balance")]
    account: &'static str,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(example = "trf_0192f0c1a2b37c4d8e5f60718293a4b5")]
    transfer_id: String,
    /// What for, in words.
    what: &'static str,
    /// The rental, payment or payout that it is about.
    about: String,
    /// Whether the account received it; else it spent it.
    received: bool,
    #[schema(value_type = String, example = "0.000475")]
    amount: Amount,
    /// If it was exchanged: what was paid, for which price and at which rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanged: Option<Exchanged>,
}

#[utoipa::path(
    get, path = "/statements/{month}/transfers", operation_id = "statement_transfers", tag = "invoices",
    params(("month" = String, Path, description = "A month in UTC.", example = "2026-11"), LinesParams),
    description = "Every transfer of a month, account by account in order of time.",
    responses((status = 200, body = Page<StatementLineView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn lines(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    crate::http::Path(month): crate::http::Path<String>,
    Query(params): Query<LinesParams>,
) -> Result<Json<Page<StatementLineView>>> {
    let month = Month::parse(&month)?;
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: Option<LinePlace> = paging.after()?;
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("statement.lines", move |tx| {
            statement::lines(tx, &ctx, month, after.as_ref(), fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |(place, _)| place.clone())?;
    Ok(Json(page.map(|(_, line)| StatementLineView {
        currency: line.asset,
        account: line.account,
        at: line.entry.at,
        what: words(&line.entry.code),
        about: about(&line.entry.reference).to_owned(),
        transfer_id: line.entry.id,
        received: line.entry.received,
        amount: line.entry.amount,
        exchanged: line.exchanged,
    })))
}
