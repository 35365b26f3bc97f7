//! `POST /rentals/{id}/tickets`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{id::RentalId, time::Timestamp};
use utoipa::ToSchema;

use super::super::{access::Verb, tickets};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{ClientIp, Json, Path, Problems},
    limits::{Action, Caller},
};

/// What a ticket is for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = StreamVerb)]
enum VerbName {
    /// A program.
    Exec,
    /// What the rental wrote.
    Logs,
    /// Its files.
    Files,
    /// A port of it.
    Port,
}

/// A ticket to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTicketRequest {
    /// What it opens.
    verb: VerbName,
    /// Which port, of the verb `port`.
    port: Option<u16>,
}

/// A ticket, shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketView {
    /// Goes into the query of one request: `?ticket=…`.
    #[schema(example = "rmk_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    ticket: String,
    /// It is used by then.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

#[utoipa::path(
    post, path = "/rentals/{id}/tickets", operation_id = "create_ticket", tag = "rentals", params(("id" = String, Path)),
    description = "A ticket that opens one stream into a rental within 30 s, for what can send no header, such as a browser's WebSocket or EventSource.",
    responses((status = 201, body = TicketView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    Path(id): Path<RentalId>,
    Json(asked): Json<CreateTicketRequest>,
) -> Result<(StatusCode, Json<TicketView>)> {
    let name = match asked.verb {
        VerbName::Exec => "exec",
        VerbName::Logs => "logs",
        VerbName::Files => "files",
        VerbName::Port => "port",
    };
    let verb = Verb::of(name, asked.port).ok_or_else(|| {
        Error::invalid(
            "/port",
            "a port from 1 to 65535 belongs to the verb port, and to no other",
        )
    })?;
    let caller = ctx
        .actor
        .person()
        .map_or(Caller::Address(client.group()), |person| {
            Caller::User(person.id)
        });
    app.limits
        .count(Action::Ticket, caller, app.clock.boot_ms())?;
    let (ticket, expires_at) = tickets::create(&app.db, &ctx, id, verb).await?;
    let view = TicketView {
        ticket: ticket.expose().clone(),
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(view)))
}
