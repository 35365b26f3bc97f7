//! Who may come in: a key, a rental, and how both stand now.

use shared::id::RentalId;

use crate::{
    app::App,
    context::SshKey,
    domain::{
        auth, rentals,
        sshkeys::{
            self,
            model::{Opener, PublicKey},
        },
    },
    error::{Kind, Result},
    store::Tx,
};

/// What a key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// No such rental, or no key of it: whoever asks isn't told which.
    Unknown,
    /// The key fits, but the rental isn't open; why, for whoever holds the key.
    Closed(String),
    /// The rental; by whose key.
    Open(SshKey),
}

/// What `key` opens of `rental` now.
///
/// # Errors
/// The database's.
pub(super) async fn admit(app: &App, rental: RentalId, key: &PublicKey) -> Result<Admission> {
    let key = key.clone();
    app.db
        .read("ssh.admit", move |tx| judge(tx, rental, &key))
        .await
}

fn judge(tx: &mut dyn Tx, id: RentalId, key: &PublicKey) -> Result<Admission> {
    let rental = match rentals::find(tx, id) {
        Ok(rental) => rental,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Admission::Unknown),
        Err(error) => return Err(error),
    };
    let Some(opener) = sshkeys::opener(tx, id, rental.consumer, key)? else {
        return Ok(Admission::Unknown);
    };
    if let Some(consumer) = rental.consumer
        && auth::account(tx, consumer)?.disabled.is_some()
    {
        let why = "the account that rents this is disabled: write to the operator of this market";
        return Ok(Admission::Closed(why.to_owned()));
    }
    Ok(match rental.client_state() {
        "running" => Admission::Open(SshKey {
            rental: id,
            account: match opener {
                Opener::Rental => None,
                Opener::Account(key) => rental.consumer.map(|consumer| (consumer, key)),
            },
        }),
        "ended" => {
            let reason = rental.end_reason.map_or("ended", |reason| reason.name());
            Admission::Closed(format!("this rental has ended ({reason})"))
        }
        "stopping" => Admission::Closed("this rental is being stopped".to_owned()),
        state => Admission::Closed(format!(
            "this rental doesn't run yet ({state}): try again in a moment"
        )),
    })
}

/// Notes that an account's key was used; what is opened by a key is in the audit log (`visit`). That it can't be noted is no reason to refuse its bearer.
pub(super) async fn note_use(app: &App, key: SshKey) {
    let Some((_, id)) = key.account else { return };
    let now = app.clock.now();
    let noted = app
        .db
        .write("ssh_key.use", move |tx| sshkeys::note_use(tx, id, now))
        .await;
    if let Err(error) = noted {
        tracing::warn!(key.id = %id, %error, "use of an SSH key can't be noted");
    }
}
