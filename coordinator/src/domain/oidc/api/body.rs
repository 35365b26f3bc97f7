//! What the endpoints take and answer.

use serde::{Deserialize, Serialize};
use shared::{id::IdentityId, time::Timestamp};
use utoipa::{IntoParams, ToSchema};

use crate::domain::oidc::model::Identity;

/// A provider with which people may sign in.
#[derive(Serialize, ToSchema)]
pub(super) struct ProviderResponse {
    /// Its name in addresses.
    #[schema(example = "google")]
    pub(super) name: String,
    /// What people call it.
    #[schema(example = "Google")]
    pub(super) display_name: String,
    /// Send the browser there.
    #[schema(example = "/api/v1/auth/oidc/google/start")]
    pub(super) start_url: String,
}

/// All providers.
#[derive(Serialize, ToSchema)]
pub(super) struct ProvidersResponse {
    pub(super) items: Vec<ProviderResponse>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// The page of ours to go to afterwards: a path such as `/rentals`. Without it the first page.
    #[param(example = "/rentals")]
    pub(super) next: Option<String>,
    /// `true`: be asked there again who you are, for what needs a fresh proof.
    #[serde(default)]
    pub(super) prove_again: bool,
}

/// What a provider sends; it may send more.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CallbackQuery {
    /// Exchanged for tokens, once.
    pub(super) code: Option<String>,
    /// Ours, sent back unchanged.
    pub(super) state: Option<String>,
    /// Who answers (RFC 9207).
    pub(super) iss: Option<String>,
    /// Why there is no code.
    pub(super) error: Option<String>,
}

/// An account elsewhere with which you can sign in.
#[derive(Serialize, ToSchema)]
pub(super) struct IdentityResponse {
    #[schema(value_type = String, example = "idn_0192f0c1a2b37c4d8e5f60718293a4b5")]
    pub(super) id: IdentityId,
    /// The provider's name here.
    #[schema(example = "google")]
    pub(super) provider: String,
    /// The address that the provider told last, to recognise it by.
    #[schema(example = "ada@example.org")]
    pub(super) email: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(super) last_used_at: Timestamp,
}

/// All identities of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct IdentitiesResponse {
    pub(super) items: Vec<IdentityResponse>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    /// A provider's name.
    #[schema(example = "google")]
    pub(super) provider: String,
    /// The page of ours to go to afterwards.
    #[schema(example = "/")]
    pub(super) next: Option<String>,
}

/// Where to go on.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkResponse {
    /// Send this browser there; the answer's cookie belongs to it.
    #[schema(example = "https://accounts.google.com/o/oauth2/v2/auth?response_type=code")]
    pub(super) authorize_url: String,
}

impl From<Identity> for IdentityResponse {
    fn from(identity: Identity) -> Self {
        Self {
            id: identity.id,
            provider: identity.provider,
            email: identity.email,
            created_at: identity.created,
            last_used_at: identity.last_used,
        }
    }
}
