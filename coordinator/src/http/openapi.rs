//! What the OpenAPI document says of all endpoints: its head, its security schemes, the problem body.

use serde::Serialize;
use utoipa::{IntoResponses, OpenApi, ToSchema};

/// The body of every error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemSchema {
    /// A URI that names the kind of problem.
    #[schema(example = "/docs/problems#not_found")]
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// Stable, for programs.
    #[schema(example = "not_found")]
    pub code: String,
    /// To quote when asking for help.
    pub request_id: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FieldErrorSchema>>,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
#[schema(as = FieldError)]
pub struct FieldErrorSchema {
    /// JSON pointer.
    #[schema(example = "/duration_seconds")]
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// The errors that any endpoint may answer: put it in `responses(…, Problems)`.
#[derive(IntoResponses)]
pub enum Problems {
    /// The request can't be understood.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemSchema),
    /// Valid credentials are needed.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(ProblemSchema),
    /// Not allowed.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemSchema),
    /// Absent, or not yours.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemSchema),
    /// The request didn't arrive in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Slow(ProblemSchema),
    /// The state of things doesn't allow it now.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemSchema),
    /// It isn't any more what `If-Match` says.
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(ProblemSchema),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemSchema),
    /// The URL is too long.
    #[response(status = 414, content_type = "application/problem+json")]
    LongUrl(ProblemSchema),
    /// The body isn't of the type that is taken.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(ProblemSchema),
    /// A value is out of bounds, or not supported yet.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(ProblemSchema),
    /// Too often: see `Retry-After`.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(ProblemSchema),
    /// The headers are too many or too long.
    #[response(status = 431, content_type = "application/problem+json")]
    LargeHead(ProblemSchema),
    /// Our fault.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemSchema),
    /// Not now: see `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemSchema),
}

/// An amount of money.
#[derive(Serialize, ToSchema)]
#[schema(as = Money)]
pub struct MoneySchema {
    /// A decimal string, at most six decimals.
    #[schema(example = "0.100000", pattern = r"^[0-9]{1,13}(\.[0-9]{1,6})?$")]
    pub amount: String,
    /// Of which asset.
    #[schema(example = "USDC", pattern = "^USDC$")]
    pub currency: String,
}

/// The head of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "RAMarket",
        description = "A market for memory, processors and graphics cards by the hour, paid per second. \
            Money is a decimal string, times are RFC 3339 in UTC, sizes are bytes; errors are RFC 9457 problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemSchema, FieldErrorSchema)),
    modifiers(&Security)
)]
pub struct Head;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme,
        };
        let bearer = |format: &str, about: &str| {
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .bearer_format(format)
                    .description(Some(about))
                    .build(),
            )
        };
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(
            "access_token",
            bearer(
                "JWT",
                "The access token that login and refresh answer with.",
            ),
        );
        components.add_security_scheme(
            "wallet",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "SIGN-IN-WITH-X",
                "A challenge that the wallet signed which paid; see wallet_challenge.",
            ))),
        );
        components.add_security_scheme(
            "rental_token",
            bearer(
                "rmt_…",
                "The token of one rental, answered when it was paid.",
            ),
        );
        components.add_security_scheme(
            "cookie",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "__Host-at",
                "The access token as the cookie that login sets.",
            ))),
        );
    }
}

/// An event of a stream (`text/event-stream`), as it is when its lines are read.
#[derive(Debug, ToSchema)]
pub struct ServerSentEvent {
    /// What happened.
    pub event: Option<String>,
    /// Where to go on, for `Last-Event-ID`.
    pub id: Option<String>,
    /// JSON.
    pub data: String,
}
