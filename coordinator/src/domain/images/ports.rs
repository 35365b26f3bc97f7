//! What images need from outside: registries, by the distribution specification.
//!
//! # Invariants
//! - What is asked for by digest has that digest, and what is asked for by tag comes with its own: whoever asks doesn't check again.

use std::fmt::Debug;

use async_trait::async_trait;
use shared::{
    image::{Digest, ImageRef, RegistryAuth},
    secret::Secret,
};

/// Who asks, for as long as one image is looked at.
#[derive(Debug, Default)]
pub struct Access {
    /// Whose credentials, if the image is private.
    pub auth: Option<RegistryAuth>,
    /// The header that the registry took last.
    pub header: Option<Secret<String>>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Of its bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It isn't there, or isn't shown.
    #[error("the registry doesn't have it, or doesn't show it to everybody")]
    NotFound,
    /// The credentials aren't taken.
    #[error("the registry doesn't take these credentials")]
    Unauthorized,
    /// It answers, and not by the specification.
    #[error("the registry's answer isn't understood: {0}")]
    Odd(String),
    /// It may not be called from here.
    #[error("the registry may not be called: {0}")]
    NotCallable(String),
    /// It doesn't answer now.
    #[error("the registry doesn't answer: {0}")]
    Unavailable(String),
}

/// Registries.
#[async_trait]
pub trait Registry: Send + Sync + Debug {
    /// The manifest that a reference means.
    ///
    /// # Errors
    /// There is none to be had.
    async fn manifest(&self, image: &ImageRef, access: &mut Access) -> Result<Document, Refusal>;

    /// A blob of the reference's repository.
    ///
    /// # Errors
    /// There is none to be had.
    async fn blob(
        &self,
        image: &ImageRef,
        digest: &Digest,
        access: &mut Access,
    ) -> Result<Document, Refusal>;
}
