//! `/rentals/{id}/ssh-keys`: the keys that open one rental.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::id::RentalId;
use utoipa::ToSchema;

use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::{
        rentals,
        sshkeys::{self, model::PublicKey},
    },
    error::Result,
    http::{Json, Path, Problems},
    store::Tx,
};

/// The keys that a rental is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RentalSshKeysBody {
    /// Lines of `.pub` files, at most 16; none takes all away.
    #[schema(example = json!(["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ada@desk"]))]
    ssh_keys: Vec<String>,
}

/// A key of a rental.
#[derive(Serialize, ToSchema)]
struct RentalSshKeyView {
    /// Type, base64 and comment.
    public_key: String,
    /// As `ssh-keygen -l` shows it.
    #[schema(example = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE")]
    fingerprint: String,
}

/// A rental's own keys; those of the account that rents it open it as well.
#[derive(Serialize, ToSchema)]
pub(super) struct RentalSshKeysView {
    items: Vec<RentalSshKeyView>,
}

impl RentalSshKeysView {
    fn of(keys: &[PublicKey]) -> Self {
        let view = |key: &PublicKey| RentalSshKeyView {
            public_key: key.line(),
            fingerprint: key.fingerprint().to_owned(),
        };
        Self {
            items: keys.iter().map(view).collect(),
        }
    }
}

/// Refuses everybody but whoever rents it: what opens a rental isn't even its provider's or an administrator's.
fn only_its_renter(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<()> {
    match &ctx.actor {
        // it names the rental that it opens
        Actor::RentalToken(_) => rentals::get(tx, ctx, id)?,
        _ => rentals::get_as_renter(tx, ctx, id)?,
    };
    Ok(())
}

#[utoipa::path(
    get, path = "/rentals/{id}/ssh-keys", operation_id = "get_rental_ssh_keys", tag = "rentals", params(("id" = String, Path)),
    description = "The keys that open this rental alone, for whoever rents it. The keys of their account open it as well.",
    responses((status = 200, body = RentalSshKeysView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn get(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<Json<RentalSshKeysView>> {
    let find = move |tx: &mut dyn Tx| {
        only_its_renter(tx, &ctx, id)?;
        sshkeys::of_rental(tx, id)
    };
    let keys = app.db.read("rental.ssh_keys", find).await?;
    Ok(Json(RentalSshKeysView::of(&keys)))
}

#[utoipa::path(
    put, path = "/rentals/{id}/ssh-keys", operation_id = "replace_rental_ssh_keys", tag = "rentals", params(("id" = String, Path)),
    description = "Replaces the keys that open this rental alone. Connections that a key opened which is gone end within a minute.",
    request_body = RentalSshKeysBody, responses((status = 200, body = RentalSshKeysView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn replace(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
    Json(body): Json<RentalSshKeysBody>,
) -> Result<Json<RentalSshKeysView>> {
    let keys = PublicKey::list(&body.ssh_keys)?;
    let kept = keys.clone();
    let replace = move |tx: &mut dyn Tx| {
        only_its_renter(tx, &ctx, id)?;
        sshkeys::replace_of_rental(tx, &ctx, id, &kept)
    };
    app.db.write("rental.put_ssh_keys", replace).await?;
    Ok(Json(RentalSshKeysView::of(&keys)))
}
