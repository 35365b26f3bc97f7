//! `GET /balance`: what an account holds, by currency, and how long it lasts.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use shared::money::{Asset, Money};
use utoipa::ToSchema;

use crate::{
    app::App,
    config::PaymentsMode,
    context::OpCtx,
    domain::{
        ledger::{self, model::Account},
        rates::Rates,
        rentals::spending,
    },
    error::{Error, Result},
    http::{Json, Problems},
    store::Tx,
};

/// What an account holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BalanceView {
    /// One for each currency that this market accepts.
    items: Vec<CurrencyBalanceView>,
    /// `sandbox` (play money) or `facilitator`.
    mode: &'static str,
}

/// What an account holds in one currency.
#[derive(Debug, Serialize, ToSchema)]
struct CurrencyBalanceView {
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    /// To spend.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    available: Money,
    /// Asked to be paid out and not sent yet.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    held: Money,
    /// Earned as a provider, and not payable yet: it may still be disputed.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    pending: Money,
    /// Earned as a provider: may be paid out.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    earned: Money,
    /// What your running rentals that draw on this balance cost in an hour: those priced in its currency, and those bought with it, at the
    /// rate of now.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    burn_rate_per_hour: Money,
    /// For how many hours `available` would pay that; null when nothing runs. What is paid ahead isn't counted.
    #[schema(example = 12.5)]
    hours_left: Option<f64>,
}

/// What is shown of every balance here.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    currencies: Vec<Asset>,
    mode: PaymentsMode,
    rates: Arc<Rates>,
}

impl Shown {
    pub(super) fn of(app: &App) -> Self {
        Self {
            currencies: app.purchases.payees.assets(),
            mode: app.config.payments.mode,
            rates: Arc::clone(&app.purchases.rates),
        }
    }
}

/// The caller's balances.
pub(super) fn balances(tx: &mut dyn Tx, ctx: &OpCtx, shown: &Shown) -> Result<BalanceView> {
    let user = ctx.user()?.id;
    let mut items = Vec::with_capacity(shown.currencies.len());
    for currency in shown.currencies.iter().copied() {
        let money = |amount| Money { amount, currency };
        let available = ledger::balance(tx, currency, &Account::UserAvailable(user))?;
        let forecast = spending::forecast(tx, user, (currency, available), &shown.rates, ctx.now)?;
        let mut of = |account| {
            let amount = ledger::balance(tx, currency, &account)?;
            Ok::<_, Error>(Money { amount, currency })
        };
        items.push(CurrencyBalanceView {
            currency,
            available: money(available),
            held: of(Account::UserHeld(user))?,
            pending: of(Account::ProviderPending(user))?,
            earned: of(Account::ProviderAvailable(user))?,
            burn_rate_per_hour: money(forecast.burn_per_hour),
            hours_left: forecast.lasts_ms.map(hours),
        });
    }
    Ok(BalanceView {
        items,
        mode: match shown.mode {
            PaymentsMode::Sandbox => "sandbox",
            PaymentsMode::Facilitator => "facilitator",
        },
    })
}

/// Hours with two decimals.
fn hours(ms: i64) -> f64 {
    let hundredths = i32::try_from(ms / 36_000).unwrap_or(i32::MAX);
    f64::from(hundredths) / 100.0
}

#[utoipa::path(
    get, path = "/balance", operation_id = "get_balance", tag = "payments",
    responses((status = 200, body = BalanceView), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn balance(ctx: OpCtx, State(app): State<Arc<App>>) -> Result<Json<BalanceView>> {
    let shown = Shown::of(&app);
    app.db
        .read("balance.get", move |tx| balances(tx, &ctx, &shown))
        .await
        .map(Json)
}
