//! What this client remembers between commands, in `$XDG_CONFIG_HOME/ramarket` (or `~/.config/ramarket`), per market:
//! the sign-in, the tokens of rentals paid without an account, and orders whose outcome isn't known yet.
//!
//! # Invariants
//! - An order that costs something is written down before it is sent and crossed out after a definite answer: a killed command loses
//!   nothing (`ramarket resume` repeats it; the market takes it once).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::time::Timestamp;

use crate::{failure::Result, private_file::PrivateJson};

/// A sign-in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub email: String,
    /// Sent with each request.
    pub access_token: String,
    /// Exchanged for a new pair when the access token is over.
    pub refresh_token: String,
}

/// A payment that was signed and perhaps sent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Unfinished {
    /// Where it goes.
    pub path: String,
    /// The request's body.
    pub body: Value,
    /// The value of `PAYMENT-SIGNATURE`.
    pub payment: String,
    /// What it pays, for people.
    pub amount: String,
    /// Who ordered, as [`crate::api::Api::who`] says; unknown of what an older client wrote down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_by: Option<String>,
}

/// An order that is paid from a balance and was perhaps sent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keyed {
    /// Where it goes.
    pub path: String,
    /// The request's body.
    pub body: Value,
    /// Who ordered, as [`crate::api::Api::who`] says.
    pub ordered_by: String,
    /// When: the market knows its key for some days only.
    pub at: Timestamp,
}

#[derive(Default, Serialize, Deserialize)]
struct Market {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
    /// Instead of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rental_tokens: BTreeMap<String, String>,
    /// By the payment's nonce.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unfinished: BTreeMap<String, Unfinished>,
    /// By the order's idempotency key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keyed: BTreeMap<String, Keyed>,
}

/// Markets by their URL.
type Markets = BTreeMap<String, Market>;

/// The memory of one market.
#[derive(Debug, Clone)]
pub struct Local {
    file: PrivateJson<Markets>,
    folder: PathBuf,
    url: String,
}

impl Local {
    /// Of the market at `url`, in `folder`.
    pub fn open(folder: PathBuf, url: String) -> Self {
        Self {
            file: PrivateJson::at(folder.join("client.json")),
            folder,
            url,
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Who is signed in.
    pub fn session(&self) -> Result<Option<Session>> {
        self.get(|market| market.session.clone())
    }

    /// Remembers or forgets who is signed in; a key that was remembered is forgotten.
    pub fn set_session(&self, session: Option<Session>) -> Result<()> {
        self.change(|market| (market.session, market.api_key) = (session, None))
    }

    /// The API key that was remembered.
    pub fn api_key(&self) -> Result<Option<String>> {
        self.get(|market| market.api_key.clone())
    }

    /// Remembers an API key; a session that was remembered is forgotten.
    pub fn set_api_key(&self, key: &str) -> Result<()> {
        self.change(|market| (market.session, market.api_key) = (None, Some(key.to_owned())))
    }

    /// Replaces the tokens of the session that had `refresh_token`; does nothing if another command did.
    pub fn rotate(&self, refresh_token: &str, new: Session) -> Result<()> {
        self.change(|market| match &mut market.session {
            Some(session) if session.refresh_token == refresh_token => *session = new,
            _ => {}
        })
    }

    /// The token of a rental.
    pub fn rental_token(&self, id: &str) -> Result<Option<String>> {
        self.get(|market| market.rental_tokens.get(id).cloned())
    }

    /// All rentals with tokens.
    pub fn rental_tokens(&self) -> Result<BTreeMap<String, String>> {
        self.get(|market| market.rental_tokens.clone())
    }

    /// Remembers a rental's token.
    pub fn add_rental_token(&self, id: &str, token: &str) -> Result<()> {
        self.change(|market| {
            market.rental_tokens.insert(id.to_owned(), token.to_owned());
        })
    }

    /// Writes a payment down before it is sent.
    pub fn add_unfinished(&self, nonce: &str, payment: Unfinished) -> Result<()> {
        self.change(|market| {
            market.unfinished.insert(nonce.to_owned(), payment);
        })
    }

    /// Crosses a payment out.
    pub fn finish(&self, nonce: &str) -> Result<()> {
        self.change(|market| {
            market.unfinished.remove(nonce);
        })
    }

    /// Payments whose outcome isn't known, by nonce.
    pub fn unfinished(&self) -> Result<BTreeMap<String, Unfinished>> {
        self.get(|market| market.unfinished.clone())
    }

    /// Writes an order down before it is sent.
    pub fn add_keyed(&self, key: &str, order: Keyed) -> Result<()> {
        self.change(|market| {
            market.keyed.insert(key.to_owned(), order);
        })
    }

    /// Crosses an order out.
    pub fn finish_keyed(&self, key: &str) -> Result<()> {
        self.change(|market| {
            market.keyed.remove(key);
        })
    }

    /// Orders whose outcome isn't known, by their keys.
    pub fn keyed(&self) -> Result<BTreeMap<String, Keyed>> {
        self.get(|market| market.keyed.clone())
    }

    fn get<R: Default>(&self, pick: impl FnOnce(&Market) -> R) -> Result<R> {
        Ok(self
            .file
            .get()?
            .get(&self.url)
            .map(pick)
            .unwrap_or_default())
    }

    fn change(&self, change: impl FnOnce(&mut Market)) -> Result<()> {
        self.file
            .change(|markets| change(markets.entry(self.url.clone()).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_file::tests::Folder;

    fn session(refresh: &str) -> Session {
        Session {
            email: "a@example.org".into(),
            access_token: "x".into(),
            refresh_token: refresh.into(),
        }
    }

    #[test]
    fn markets_are_kept_apart() {
        let folder = Folder::default();
        let open = |url: &str| Local::open(folder.0.clone(), url.into());
        let (one, two) = (open("http://127.0.0.1:1/"), open("http://127.0.0.1:2/"));
        one.set_session(Some(session("r1"))).unwrap();
        one.add_rental_token("rnt_1", "t").unwrap();
        assert!(two.session().unwrap().is_none());
        assert_eq!(two.rental_token("rnt_1").unwrap(), None);
        assert_eq!(one.rental_token("rnt_1").unwrap().as_deref(), Some("t"));
        one.set_api_key("k").unwrap();
        assert_eq!(one.api_key().unwrap().as_deref(), Some("k"));
        assert_eq!(two.api_key().unwrap(), None);
        assert!(one.session().unwrap().is_none(), "one or the other");
        one.set_session(None).unwrap();
        assert_eq!(one.api_key().unwrap(), None);
        assert_eq!(one.rental_tokens().unwrap().len(), 1);
    }

    #[test]
    fn only_the_newest_rotation_stays() {
        let folder = Folder::default();
        let local = Local::open(folder.0.clone(), "u".into());
        local.set_session(Some(session("r1"))).unwrap();
        local.rotate("r1", session("r2")).unwrap();
        local.rotate("r1", session("late")).unwrap();
        assert_eq!(local.session().unwrap().unwrap().refresh_token, "r2");
    }

    #[test]
    fn a_payment_stays_until_it_is_finished() {
        let folder = Folder::default();
        let local = Local::open(folder.0.clone(), "u".into());
        let payment = Unfinished {
            path: "/api/v1/rentals".into(),
            body: serde_json::json!({}),
            payment: "x".into(),
            amount: "0.1".into(),
            ordered_by: None,
        };
        local.add_unfinished("0x1", payment).unwrap();
        assert_eq!(local.unfinished().unwrap().len(), 1);
        local.finish("0x1").unwrap();
        assert!(local.unfinished().unwrap().is_empty());
    }
}
