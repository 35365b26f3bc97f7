//! `/admin/settings`, and what of them everybody may read: `/announcement`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::{
        admin,
        settings::{
            self,
            model::{Runtime, Versioned},
        },
    },
    error::{Error, Result},
    http::{Json, Problems, Tag, Tagged},
};

/// What is set.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingsView {
    /// The platform's share of new rentals, basis points; null: as configured.
    #[schema(example = 500, maximum = 5000)]
    fee_bps: Option<u32>,
    /// Whether new accounts are opened.
    signups_open: bool,
    /// What everybody is told.
    announcement: Option<String>,
}

/// What to set: all of it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsBody {
    /// The platform's share of new rentals, basis points; null: as configured.
    #[schema(example = 500, maximum = 5000)]
    fee_bps: Option<u32>,
    /// Whether new accounts are opened.
    signups_open: bool,
    /// What everybody is told: null or one line.
    announcement: Option<String>,
    /// Goes into the audit log.
    #[schema(example = "maintenance on Sunday")]
    reason: String,
}

fn tagged(versioned: Versioned) -> Tagged<Json<SettingsView>> {
    let tag = Tag::of_version(versioned.version);
    let Runtime {
        fee_bps,
        signups_open,
        announcement,
    } = versioned.settings;
    let view = SettingsView {
        fee_bps,
        signups_open,
        announcement,
    };
    Tagged(tag, Json(view))
}

#[utoipa::path(
    get, path = "/admin/settings", operation_id = "get_settings", tag = "admin",
    description = "What is set while the market runs; its ETag is the version that an edit names.",
    responses((status = 200, body = SettingsView), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn get(State(app): State<Arc<App>>) -> Result<Tagged<Json<SettingsView>>> {
    app.db
        .read("settings.get", settings::current)
        .await
        .map(tagged)
}

#[utoipa::path(
    put, path = "/admin/settings", operation_id = "put_settings", tag = "admin",
    params(("If-Match" = String, Header, description = "The ETag of what you read.")),
    request_body = SettingsBody, responses((status = 200, body = SettingsView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn put(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(body): Json<SettingsBody>,
) -> Result<Tagged<Json<SettingsView>>> {
    let version = version_of(&headers)?;
    let reason = admin::reason(&body.reason)?;
    let wanted = Runtime {
        fee_bps: body.fee_bps,
        signups_open: body.signups_open,
        announcement: body.announcement,
    };
    app.db
        .write("settings.put", move |tx| {
            settings::replace(tx, &ctx, version, &wanted, &reason)
        })
        .await
        .map(tagged)
}

/// The version that the caller read.
fn version_of(headers: &HeaderMap) -> Result<i64> {
    headers
        .get(header::IF_MATCH)
        .and_then(|value| value.to_str().ok())
        .and_then(|tag| {
            tag.trim()
                .strip_prefix("\"v")?
                .strip_suffix('"')?
                .parse()
                .ok()
        })
        .ok_or_else(|| {
            Error::bad_request(
                "if_match",
                "send If-Match with the ETag of the settings that you read",
            )
        })
}

/// What everybody is told.
#[derive(Serialize, ToSchema)]
pub(super) struct AnnouncementView {
    #[schema(example = "maintenance on Sunday from 6:00 UTC")]
    announcement: Option<String>,
    /// Whether new accounts are opened.
    signups_open: bool,
}

#[utoipa::path(
    get, path = "/announcement", operation_id = "get_announcement", tag = "offers",
    description = "What the operators of this market tell everybody.",
    responses((status = 200, body = AnnouncementView), Problems), security(())
)]
pub(super) async fn announcement(State(app): State<Arc<App>>) -> Result<Json<AnnouncementView>> {
    let Versioned { settings, .. } = app.db.read("settings.get", settings::current).await?;
    Ok(Json(AnnouncementView {
        announcement: settings.announcement,
        signups_open: settings.signups_open,
    }))
}
