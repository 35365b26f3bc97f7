//! The connection to the engine: made when it is needed, with every wait bounded.
//!
//! # Invariants
//! - After the engine didn't answer, the next call connects and agrees on an API version anew: it may have been upgraded.
//! - An error status of the engine is its answer; no answer, half an answer or "I am not ready" is none.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{Docker, errors::Error};

use crate::runtime::{RuntimeError, code};

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
pub(super) const SOCKET: &str = "/var/run/docker.sock";
/// Reads are answered from the engine's memory; longer means that it hangs.
const READ_SECONDS_MAX: u64 = 10;
/// Creating, starting and the head of any other answer.
const WRITE_SECONDS_MAX: u64 = 120;

/// An engine at a unix socket.
#[derive(Debug)]
pub(super) struct Engine {
    socket: String,
    client: Mutex<Option<Docker>>,
}

impl Engine {
    pub(super) fn at(socket: &str) -> Self {
        Self {
            socket: socket.to_owned(),
            client: Mutex::new(None),
        }
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// A client that hasn't asked for the engine's version yet.
    pub(super) fn connect(&self) -> Result<Docker, RuntimeError> {
        let version = bollard::API_DEFAULT_VERSION;
        Docker::connect_with_unix(&self.socket, WRITE_SECONDS_MAX, version)
            .map_err(|error| unavailable(&error))
    }

    /// A client that speaks the engine's version.
    pub(super) async fn client(&self) -> Result<Docker, RuntimeError> {
        let known = self.lock().clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.read(self.connect()?.negotiate_version()).await?;
        *self.lock() = Some(client.clone());
        Ok(client)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Docker>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a read, within its time. An engine that fails at a read (5xx) will be asked again.
    pub(super) async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        let within = Duration::from_secs(READ_SECONDS_MAX);
        match tokio::time::timeout(within, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Error::DockerResponseServerError {
                status_code: 500..,
                message,
            })) => Err(RuntimeError::Unavailable(message)),
            Ok(Err(error)) => Err(self.classify(error, code::ENGINE_REFUSED)),
            Err(_) => {
                *self.lock() = None;
                let why = format!("no answer within {READ_SECONDS_MAX} s");
                Err(RuntimeError::Unavailable(why))
            }
        }
    }

    /// The error of a call that changes something; `refusal` is its code when the engine said no.
    pub(super) fn classify(&self, error: Error, refusal: &'static str) -> RuntimeError {
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } if status_code != 503 => RuntimeError::refused(refusal, message),
            other => {
                *self.lock() = None;
                unavailable(&other)
            }
        }
    }
}

pub(super) fn unavailable(error: &Error) -> RuntimeError {
    RuntimeError::Unavailable(error.to_string())
}

pub(super) fn is_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}
