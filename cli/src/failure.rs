//! Why a command failed, and with which exit code.

use std::{fmt, process::ExitCode};

use shared::wire::problem::Problem;

/// The kinds of failure that scripts can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1: it was understood and didn't work out.
    Failed,
    /// 2: the command line or a file that it names is wrong.
    Usage,
    /// 3: the market doesn't answer, or can't for now.
    Unreachable,
    /// 4: not signed in, or not allowed.
    Auth,
    /// 5: there is no such thing, or it is somebody else's.
    NotFound,
    /// 6: it must be paid, and wasn't: above the limit, refused, or nothing to pay with.
    PaymentRequired,
}

/// A failure: what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// The market's stable code, if it came from there.
    pub code: Option<String>,
    message: String,
}

/// The result of nearly everything here.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: message.into(),
        }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Exit code 6.
    pub fn payment(message: impl Into<String>) -> Self {
        Self::new(Kind::PaymentRequired, message)
    }

    /// What an answer with an error status says.
    pub fn from_status(status: u16, problem: Option<Problem>) -> Self {
        let kind = match status {
            401 | 403 => Kind::Auth,
            402 => Kind::PaymentRequired,
            404 => Kind::NotFound,
            502..=504 => Kind::Unreachable,
            _ => Kind::Failed,
        };
        let Some(problem) = problem else {
            return Self::new(kind, format!("the market answered with status {status}"));
        };
        let id = match problem.request_id.as_str() {
            "" => String::new(),
            id => format!(" (request {id})"),
        };
        Self {
            kind,
            message: format!("{}: {}{id}", problem.code, problem.detail),
            code: Some(problem.code),
        }
    }

    /// Says more.
    pub fn add(&mut self, more: &str) {
        self.message.push_str("; ");
        self.message.push_str(more);
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
            Kind::Auth => 4,
            Kind::NotFound => 5,
            Kind::PaymentRequired => 6,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes() {
        for (status, kind) in [
            (400, Kind::Failed),
            (401, Kind::Auth),
            (402, Kind::PaymentRequired),
            (403, Kind::Auth),
            (404, Kind::NotFound),
            (409, Kind::Failed),
            (500, Kind::Failed),
            (503, Kind::Unreachable),
        ] {
            assert_eq!(Failure::from_status(status, None).kind, kind, "{status}");
        }
        let problem = Problem {
            kind: "/docs/problems#capacity_gone".into(),
            title: "Conflict".into(),
            status: 409,
            detail: "no room".into(),
            code: "capacity_gone".into(),
            request_id: "req_1".into(),
            errors: Vec::new(),
            recover: None,
        };
        let failure = Failure::from_status(409, Some(problem));
        assert_eq!(
            failure.to_string(),
            "capacity_gone: no room (request req_1)"
        );
        assert_eq!(failure.code.as_deref(), Some("capacity_gone"));
    }
}
