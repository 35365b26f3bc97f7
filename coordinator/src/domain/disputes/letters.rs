//! What we write to the parties of a dispute: plain ASCII, and nothing that the other party wrote.

use shared::id::UserId;

use super::model::{Dispute, Outcome};
use crate::{
    context::OpCtx,
    domain::{
        auth,
        mail::{self, Mail, Postbox},
    },
    error::Result,
    store::Tx,
};

/// The provider learns that a rental on their node was reported.
pub(super) fn reported(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    dispute: &Dispute,
) -> Result<()> {
    let text = format!(
        "Whoever rents {} on your machine reported it: {}.\n\n\
         Its meter stopped at {}, and it was told to stop. What it earned isn't released before this is decided.\n\
         Read what was said, and say what you know of it:\n\n{}/api/v1/disputes/{}\n",
        dispute.rental,
        dispute.reason.name(),
        dispute.reported_at,
        postbox.public_url,
        dispute.id
    );
    send(
        tx,
        ctx,
        postbox,
        dispute.provider,
        "A rental on your machine was reported",
        text,
    )
}

/// Both parties learn what was decided.
pub(super) fn decided(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    dispute: &Dispute,
    outcome: &Outcome,
    code: &str,
) -> Result<()> {
    let text = format!(
        "The dispute about {} is decided: {} {code} are given back to whoever rented it.\n\nThe reason is here:\n\n\
         {}/api/v1/disputes/{}\n",
        dispute.rental, outcome.refund, postbox.public_url, dispute.id
    );
    for party in [dispute.consumer, Some(dispute.provider)]
        .into_iter()
        .flatten()
    {
        send(
            tx,
            ctx,
            postbox,
            party,
            "A dispute was decided",
            text.clone(),
        )?;
    }
    Ok(())
}

fn send(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    to: UserId,
    subject: &'static str,
    text: String,
) -> Result<()> {
    let to = auth::account(tx, to)?.address()?;
    mail::queue(tx, ctx, postbox, &Mail::new(to, subject, text)).map(|_| ())
}
