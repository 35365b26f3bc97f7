//! Who may do what: one pure table, a line for each operation of the API, and the decision it makes.
//!
//! # Invariants
//! - Default deny: an operation without a line is refused, for everybody.
//! - The decision needs the line and the caller and nothing else; it is made before the handler sees the request.
//! - A line says what *kind* of caller may; whether this object is theirs is asked in the slice's query, and what isn't is
//!   404 there.

pub mod table;
#[cfg(test)]
mod tests;

use crate::{
    context::{Actor, ApiKey, Person, Role, Scope, key_refused, sign_in_required},
    error::{Error, Kind, Result},
};

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Everybody, nobody signed in included.
    Anyone,
    /// Any person with an account.
    Person,
    /// A person who lends machines.
    Provider,
    /// A person who runs the market.
    Admin,
    /// Whoever holds the token of a rental.
    RentalToken,
    /// A wallet that paid without an account.
    Wallet,
    /// Whoever holds the cron token.
    Cron,
}

/// What API keys may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Not this, whatever their scopes: money out, identity, running the market.
    Refused,
    /// As anybody else: what is public.
    Any,
    /// This, with the scope, if their person may.
    With(Scope),
}

/// Where a request says who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// In its credentials: a bearer token or the cookie.
    Credentials,
    /// In its headers, or in a ticket that its handler redeems: a bearer token or a wallet's claim, never the cookie, since a page of
    /// any site may open a WebSocket with it.
    HeadersOrTicket,
    /// In itself: a password, a one-time token or a signature that its handler checks. Credentials aren't looked at, since a stale
    /// cookie must not lock anybody out.
    Own,
}

/// What the table says of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its `operationId`.
    pub operation: &'static str,
    /// Who may.
    pub callers: &'static [Caller],
    /// Which of their keys may.
    pub keys: Keys,
    /// How they prove who they are.
    pub proof: Proof,
    /// Whether the person must have proven within the last minutes who they are (step-up).
    pub fresh: bool,
}

impl Line {
    const fn of(operation: &'static str, callers: &'static [Caller], keys: Keys) -> Self {
        Self {
            operation,
            callers,
            keys,
            proof: Proof::Credentials,
            fresh: false,
        }
    }

    /// What everybody may, whoever they are.
    const fn public(operation: &'static str) -> Self {
        Self::of(operation, &[Caller::Anyone], Keys::Any)
    }

    /// What carries its own proof.
    const fn own_proof(operation: &'static str) -> Self {
        Self {
            proof: Proof::Own,
            ..Self::of(operation, &[Caller::Anyone], Keys::Any)
        }
    }

    /// What a ticket opens as well: without credentials the handler decides.
    const fn or_ticket(operation: &'static str, scope: Scope) -> Self {
        Self {
            proof: Proof::HeadersOrTicket,
            ..Self::of(operation, &[Caller::Anyone], Keys::With(scope))
        }
    }

    /// The same, only for whoever proved a moment ago who they are: money out, identity, running the market.
    const fn fresh(self) -> Self {
        Self {
            fresh: true,
            ..self
        }
    }

    /// Whether `actor` may do this. How fresh their proof is, is asked where sessions are known.
    ///
    /// # Errors
    /// 401 for whoever must say who they are, 403 for whoever may not.
    pub fn decide(&self, actor: &Actor) -> Result<()> {
        match actor {
            Actor::Anonymous if self.opens_to(Caller::Anyone) => Ok(()),
            Actor::Anonymous | Actor::SshKey(_) | Actor::Node(_) => Err(sign_in_required()),
            Actor::ApiKey(key) => {
                self.decide_key(key)?;
                self.decide_person(actor.person())
            }
            Actor::User(_) => self.decide_person(actor.person()),
            Actor::RentalToken(_)
                if self.opens_to(Caller::Anyone) || self.opens_to(Caller::RentalToken) =>
            {
                Ok(())
            }
            Actor::RentalToken(_) => Err(Error::forbidden(
                "a rental's token opens that rental and nothing else: sign in",
            )),
            Actor::Wallet(_) if self.opens_to(Caller::Anyone) || self.opens_to(Caller::Wallet) => {
                Ok(())
            }
            Actor::Wallet(_) => Err(Error::forbidden(
                "a wallet opens the rentals that it paid for and nothing else: sign in",
            )),
            Actor::System if self.opens_to(Caller::Cron) => Ok(()),
            Actor::System => Err(Error::unauthenticated(
                "cron_token",
                "the cron token opens the cron endpoints only",
            )),
        }
    }

    fn decide_key(&self, key: &ApiKey) -> Result<()> {
        match self.keys {
            Keys::Any => Ok(()),
            Keys::Refused => Err(key_refused()),
            Keys::With(scope) if key.scopes.contains(&scope) => Ok(()),
            Keys::With(scope) => Err(Error::new(
                Kind::Forbidden,
                "scope_required",
                format!("this API key lacks the scope {}", scope.name()),
            )),
        }
    }

    fn decide_person(&self, person: Option<Person<'_>>) -> Result<()> {
        let person = person.ok_or_else(sign_in_required)?;
        let may = self.callers.iter().any(|caller| match caller {
            Caller::Anyone | Caller::Person => true,
            Caller::Provider => person.roles.contains(&Role::Provider),
            Caller::Admin => person.roles.contains(&Role::Admin),
            Caller::RentalToken | Caller::Wallet | Caller::Cron => false,
        });
        if may {
            return Ok(());
        }
        let role = if self.opens_to(Caller::Provider) {
            Role::Provider
        } else {
            Role::Admin
        };
        Err(Error::forbidden(format!(
            "this needs the role {}",
            role.name()
        )))
    }

    fn opens_to(&self, caller: Caller) -> bool {
        self.callers.contains(&caller)
    }
}

/// The line of an operation.
#[must_use]
pub fn line(operation: &str) -> Option<&'static Line> {
    table::TABLE.iter().find(|line| line.operation == operation)
}

/// The refusal of an operation that has no line.
#[must_use]
pub fn no_line() -> Error {
    Error::new(
        Kind::Forbidden,
        "not_open",
        "nobody may do this: the operation isn't opened to anybody yet",
    )
}
