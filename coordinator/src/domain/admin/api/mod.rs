//! `/admin/*`: accounts, books, figures, refunds; nodes and settings are in the files beside.

mod disputes;
mod nodes;
mod settings;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{RentalId, UserId},
    money::{Asset, Money},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    books,
    context::{OpCtx, Role},
    domain::{
        admin::{self, Refund},
        auth::{
            self,
            model::{Account, Email},
        },
        ledger::{self, model::Account as Books},
        payments::idempotency::IdempotencyKey,
    },
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query, RawBody, extract::parse_json},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::ban))
        .routes(routes!(nodes::unban))
        .routes(routes!(users))
        .routes(routes!(roles))
        .routes(routes!(check_books))
        .routes(routes!(figures))
        .routes(routes!(refund))
        .routes(routes!(disputes::list))
        .routes(routes!(disputes::decide))
        .routes(routes!(settings::get, settings::put))
        .routes(routes!(settings::announcement))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct UsersParams {
    /// Only the account of this address.
    email: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// An account as administrators see it.
#[derive(Serialize, ToSchema)]
struct AdminUserView {
    #[schema(value_type = String, example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: UserId,
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(value_type = Vec<String>, example = json!(["consumer"]))]
    roles: BTreeSet<Role>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Account> for AdminUserView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            roles: account.roles,
            created_at: account.created,
        }
    }
}

#[utoipa::path(
    get, path = "/admin/users", operation_id = "list_users", tag = "admin", params(UsersParams),
    description = "Accounts, oldest first.",
    responses((status = 200, body = Page<AdminUserView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn users(
    State(app): State<Arc<App>>,
    Query(params): Query<UsersParams>,
) -> Result<Json<Page<AdminUserView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let email = params.email.as_deref().map(Email::parse).transpose()?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("admin.users", move |tx| match &email {
            Some(email) => {
                let found = auth::find_account(tx, email)?;
                Ok(found.into_iter().map(|(account, _)| account).collect())
            }
            None => auth::accounts(tx, &after, fetch),
        })
        .await?;
    let page = Page::of(rows, &paging, |account| account.id.to_string())?;
    Ok(Json(page.map(AdminUserView::from)))
}

/// Roles to give and to take.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RolesBody {
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["provider"]))]
    grant: BTreeSet<Role>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!([]))]
    revoke: BTreeSet<Role>,
    /// Goes into the audit log.
    #[schema(example = "joins the operators")]
    reason: String,
}

#[utoipa::path(
    post, path = "/admin/users/{id}/roles", operation_id = "change_roles", tag = "admin", params(("id" = String, Path)),
    description = "Gives and takes roles; sessions notice within 30 s.",
    request_body = RolesBody, responses((status = 200, body = AdminUserView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn roles(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<UserId>,
    Json(body): Json<RolesBody>,
) -> Result<Json<AdminUserView>> {
    let reason = admin::reason(&body.reason)?;
    let account = app
        .db
        .write("admin.roles", move |tx| {
            admin::change_roles(tx, &ctx, id, &body.grant, &body.revoke, &reason)
        })
        .await?;
    Ok(Json(account.into()))
}

#[utoipa::path(
    get, path = "/admin/ledger/check", operation_id = "check_ledger", tag = "admin",
    description = "Proves over the whole database that the books add up; takes as long as that takes.",
    responses((status = 200, body = Object), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn check_books(State(app): State<Arc<App>>) -> Result<Json<books::Report>> {
    books::check(&app.db).await.map(Json)
}

/// The market in figures, from counters that are kept anyway.
#[derive(Serialize, ToSchema)]
struct FiguresView {
    /// Offers that can be rented now.
    offers: usize,
    /// Nodes behind them.
    nodes: usize,
    ram_rentable_bytes: i64,
    ram_free_bytes: i64,
    /// Rentals that run or are about to.
    running_rentals: i64,
    /// What the platform earned and still has.
    #[schema(value_type = Object)]
    platform_fees: Money,
    /// Payments whose settlement isn't known yet, and other work that outlives its request.
    background_work: usize,
    /// The version of the settings.
    settings_version: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

#[utoipa::path(
    get, path = "/admin/metrics", operation_id = "platform_figures", tag = "admin",
    description = "The market in figures. For time series, scrape /metrics.",
    responses((status = 200, body = FiguresView), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn figures(ctx: OpCtx, State(app): State<Arc<App>>) -> Result<Json<FiguresView>> {
    let (fees, settings) = app
        .db
        .read("admin.figures", |tx| {
            let fees = ledger::balance(tx, Asset::Usdc, &Books::PlatformFees)?;
            Ok((fees, crate::domain::settings::current(tx)?))
        })
        .await?;
    let market = app.market.numbers();
    Ok(Json(FiguresView {
        offers: market.offers,
        nodes: market.nodes,
        ram_rentable_bytes: market.ram_rentable_bytes,
        ram_free_bytes: market.ram_free_bytes,
        running_rentals: market.running_rentals,
        platform_fees: Money {
            amount: fees,
            currency: Asset::Usdc,
        },
        background_work: app.background.len(),
        settings_version: settings.version,
        at: ctx.now,
    }))
}

/// A refund.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    #[schema(value_type = String, example = "rnt_0192f0c1a2b37c4d8e5f60718293a4b5")]
    rental_id: RentalId,
    #[schema(value_type = Object, example = json!({"amount": "0.5", "currency": "USDC"}))]
    amount: Money,
    /// Goes into the audit log.
    #[schema(example = "the node was slower than promised")]
    reason: String,
}

/// What was refunded.
#[derive(Serialize, ToSchema)]
struct RefundView {
    #[schema(value_type = String)]
    rental_id: RentalId,
    #[schema(value_type = Object)]
    amount: Money,
}

#[utoipa::path(
    post, path = "/admin/refunds", operation_id = "refund", tag = "admin",
    description = "Gives back what a rental cost, out of the platform's fees. Needs an Idempotency-Key: the same key refunds once.",
    params(("Idempotency-Key" = String, Header, description = "New for each refund.")),
    request_body = RefundBody, responses((status = 201, body = RefundView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn refund(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<(StatusCode, Json<RefundView>)> {
    let body: RefundBody = parse_json(&raw)?;
    let key = IdempotencyKey::read(&headers, &ctx, "refund", &raw)?;
    let refund = Refund {
        rental: body.rental_id,
        amount: body.amount,
        reason: admin::reason(&body.reason)?,
    };
    let view = RefundView {
        rental_id: refund.rental,
        amount: refund.amount.clone(),
    };
    app.db
        .write("admin.refund", move |tx| {
            admin::refund(tx, &ctx, &refund, &key)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}
