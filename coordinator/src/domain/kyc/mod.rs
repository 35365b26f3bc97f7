//! Proof of identity: submitted by people, decided by an administrator or a hosted provider, in force for a time. What it
//! gates is the operator's choice.
//!
//! # Invariants
//! - An account has at most one case that is pending or approved; its newest case is where it stands.
//! - Documents are stored sealed, under a key of their own, beside their own id; who reads one is recorded.
//! - A decision is guarded by the case's version and recorded with its reason; documents go some days after it.
//! - A provider's webhook counts once, however often it is sent.

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;
pub mod webhook;

use model::{Case, DOCUMENTS_MAX, Document, DocumentKind, MANUAL, State};
use serde_json::{Value, json};
use shared::{
    id::{KycCaseId, KycDocumentId, UserId},
    time::Timestamp,
};

use super::{
    audit::{self, Entry},
    events::{self, Event},
};
use crate::{
    config::{KycConfig, KycGate},
    context::{OpCtx, Role},
    error::{Error, Result},
    store::Tx,
};

const DAY_MS: i64 = 86_400_000;
/// Cases that one turn of the timer changes.
const BATCH_MAX: i64 = 100;
/// Webhooks are remembered for so long: far longer than a timestamp is believed.
const EVENTS_KEPT_MS: i64 = DAY_MS;

/// A document to be stored, sealed already.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// Its id, which it is sealed beside.
    pub id: KycDocumentId,
    /// What it shows.
    pub kind: DocumentKind,
    /// What it is.
    pub media_type: &'static str,
    /// Its size before it was sealed.
    pub size_bytes: i64,
    /// Its content.
    pub sealed: Vec<u8>,
}

/// Where an account stands.
///
/// # Errors
/// What the database says.
pub fn state_of(tx: &mut dyn Tx, ctx: &OpCtx, user: UserId) -> Result<State> {
    Ok(newest(tx, ctx, user)?.map_or(State::None, |case| case.state))
}

/// The account's newest case; an approval that ran out is expired already, even if the timer didn't come by yet.
fn newest(tx: &mut dyn Tx, ctx: &OpCtx, user: UserId) -> Result<Option<Case>> {
    let mut case = store::newest(tx, user)?;
    if let Some(case) = &mut case
        && has_run_out(case, ctx.now)
    {
        case.state = State::Expired;
    }
    Ok(case)
}

fn has_run_out(case: &Case, now: Timestamp) -> bool {
    case.state == State::Approved && case.expires_at.is_none_or(|until| until <= now)
}

/// Passes the caller if the operator's gates let them do `what`.
///
/// # Errors
/// 401 for anybody who isn't signed in, 403 `kyc_required`.
pub fn require(tx: &mut dyn Tx, ctx: &OpCtx, config: &KycConfig, what: KycGate) -> Result<()> {
    let state = state_of(tx, ctx, ctx.user()?.id)?;
    model::gate(&config.gates, what, state)
}

/// The caller's newest case and its documents.
///
/// # Errors
/// 401 for anybody who isn't signed in.
pub fn own(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Option<(Case, Vec<Document>)>> {
    let Some(case) = newest(tx, ctx, ctx.user()?.id)? else {
        return Ok(None);
    };
    let documents = store::documents(tx, case.id)?;
    Ok(Some((case, documents)))
}

/// Submits a case: documents for administrators, or none for the hosted `provider`.
///
/// # Errors
/// 401 for anybody who isn't signed in; 409 while one is pending or approved; 422 with too many documents.
pub fn submit(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    provider: &str,
    documents: &[NewDocument],
) -> Result<Case> {
    let user = ctx.user()?.id;
    if documents.len() > DOCUMENTS_MAX {
        return Err(Error::invalid("/documents", "at most 4 documents"));
    }
    if let Some(old) = store::newest(tx, user)?.filter(|case| has_run_out(case, ctx.now)) {
        expire_one(tx, ctx, &old)?;
    }
    let case = Case {
        id: ctx.mint(),
        user,
        provider: provider.to_owned(),
        state: State::Pending,
        reason: None,
        created_at: ctx.now,
        decided_at: None,
        expires_at: None,
        documents_until: None,
        version: 1,
    };
    if !store::insert(tx, &case)? {
        return Err(Error::conflict(
            "kyc_open",
            "your proof of identity is approved already or waits for a decision",
        ));
    }
    for document in documents {
        store::insert_document(tx, case.id, document, ctx.now)?;
    }
    announce(tx, ctx, &case)?;
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| document.kind.name())
        .collect();
    let after = json!({ "user": user, "provider": provider, "documents": kinds });
    audit::record(tx, ctx, Entry::of("kyc.submitted", case.id).after(after))?;
    Ok(case)
}

/// Cases of one state, for administrators.
///
/// # Errors
/// 401 or 403 for anybody else.
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    state: State,
    after: &str,
    limit: i64,
) -> Result<Vec<(Case, Vec<Document>)>> {
    ctx.user_with(Role::Admin)?;
    let cases = store::page(tx, state, after, limit)?;
    let with = |case: Case| Ok((case.clone(), store::documents(tx, case.id)?));
    cases.into_iter().map(with).collect()
}

/// What is decided.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Approved or rejected.
    pub to: State,
    /// Why.
    pub reason: String,
    /// Until when an approval holds; by default as long as the settings say.
    pub expires_at: Option<Timestamp>,
}

/// An administrator decides on a case, or takes an approval back.
///
/// # Errors
/// 401 or 403 for anybody else; 404; 409 for a case that was decided, or is the hosted provider's.
pub fn decide(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    config: &KycConfig,
    id: KycCaseId,
    decision: &Decision,
) -> Result<Case> {
    let admin = ctx.user_with(Role::Admin)?.id;
    let case = store::by_id(tx, id)?.ok_or_else(|| Error::not_found("case"))?;
    if case.user == admin {
        return Err(Error::forbidden("nobody decides on their own case"));
    }
    change(tx, ctx, config, &case, decision)
}

fn change(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    config: &KycConfig,
    case: &Case,
    decision: &Decision,
) -> Result<Case> {
    if !case.state.may_become(decision.to) {
        return Err(Error::conflict(
            "kyc_decided",
            format!(
                "this case is {}: it can't become {}",
                case.state.name(),
                decision.to.name()
            ),
        ));
    }
    let days = |days: u32| ctx.now.plus_ms(i64::from(days).saturating_mul(DAY_MS));
    let longest = days(config.valid_days);
    let expires_at = decision.expires_at.unwrap_or(longest).min(longest);
    let changed = Case {
        state: decision.to,
        reason: Some(decision.reason.clone()),
        decided_at: Some(ctx.now),
        expires_at: (decision.to == State::Approved).then_some(expires_at),
        documents_until: Some(days(config.documents_days)),
        version: case.version.saturating_add(1),
        ..case.clone()
    };
    save(
        tx,
        ctx,
        case,
        &changed,
        decision.to.name(),
        &decision.reason,
    )?;
    Ok(changed)
}

fn save(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    old: &Case,
    new: &Case,
    to: &str,
    reason: &str,
) -> Result<()> {
    if !store::update(tx, new, old.version)? {
        return Err(Error::conflict(
            "changed_meanwhile",
            "somebody decided this case in between: read it again",
        ));
    }
    announce(tx, ctx, new)?;
    let action = match to {
        "approved" => "kyc.approved",
        "rejected" => "kyc.rejected",
        _ => "kyc.expired",
    };
    let state = |case: &Case| -> Value {
        json!({ "state": case.state.name(), "expires_at": case.expires_at, "provider": case.provider })
    };
    let entry = Entry::of(action, new.id)
        .before(state(old))
        .after(state(new));
    audit::record(tx, ctx, entry.reason(reason))
}

/// A document's place and sealed content, for an administrator; that they look at it is recorded.
///
/// # Errors
/// 401 or 403 for anybody else; 404.
pub fn read_document(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    case: KycCaseId,
    id: KycDocumentId,
) -> Result<(Document, Vec<u8>)> {
    ctx.user_with(Role::Admin)?;
    let found = store::document(tx, case, id)?.ok_or_else(|| Error::not_found("document"))?;
    let after = json!({ "case": case });
    audit::record(tx, ctx, Entry::of("kyc.document_read", id).after(after))?;
    Ok(found)
}

/// Takes in what a hosted provider says of a case; false if the same event was taken in before.
///
/// # Errors
/// 404 for a case that isn't this provider's; 409 for what can't follow.
pub fn take_event(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    config: &KycConfig,
    provider: &str,
    event: &webhook::Event,
) -> Result<bool> {
    if !store::take_event(tx, provider, &event.id, ctx.now)? {
        return Ok(false);
    }
    let case = store::by_id(tx, event.case)?
        .filter(|case| case.provider == provider)
        .ok_or_else(|| Error::not_found("case"))?;
    change(tx, ctx, config, &case, &event.decision)?;
    Ok(true)
}

/// What a turn of the timer did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Approvals that ran out.
    pub expired: u64,
    /// Documents that were deleted.
    pub documents: u64,
    /// Whether more is due.
    pub more: bool,
}

/// Expires approvals, deletes documents that were kept long enough, forgets old webhooks.
///
/// # Errors
/// What the database says.
pub fn sweep(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Done> {
    let mut done = Done::default();
    let run_out = store::run_out(tx, ctx.now, BATCH_MAX)?;
    for case in &run_out {
        expire_one(tx, ctx, case)?;
        done.expired = done.expired.saturating_add(1);
    }
    let due = store::documents_due(tx, ctx.now, BATCH_MAX)?;
    for case in &due {
        let deleted = store::delete_documents(tx, case.id)?;
        let bare = Case {
            documents_until: None,
            version: case.version.saturating_add(1),
            ..case.clone()
        };
        if store::update(tx, &bare, case.version)? && deleted > 0 {
            let after = json!({ "documents": deleted });
            audit::record(
                tx,
                ctx,
                Entry::of("kyc.documents_deleted", case.id).after(after),
            )?;
        }
        done.documents = done.documents.saturating_add(deleted);
    }
    store::forget_events(tx, ctx.now.plus_ms(-EVENTS_KEPT_MS))?;
    let full = usize::try_from(BATCH_MAX).unwrap_or(usize::MAX);
    done.more = run_out.len() >= full || due.len() >= full;
    Ok(done)
}

fn expire_one(tx: &mut dyn Tx, ctx: &OpCtx, case: &Case) -> Result<()> {
    let expired = Case {
        state: State::Expired,
        version: case.version.saturating_add(1),
        ..case.clone()
    };
    save(
        tx,
        ctx,
        case,
        &expired,
        "expired",
        "the time of the approval is over",
    )
}

fn announce(tx: &mut dyn Tx, ctx: &OpCtx, case: &Case) -> Result<()> {
    let event = Event {
        consumer: Some(case.user),
        ..Event::new("kyc.changed", json!({ "state": case.state.name() }))
    };
    events::append(tx, ctx, event)
}

/// Whether `provider` is the settings' hosted one.
#[must_use]
pub fn is_hosted(config: &KycConfig, provider: &str) -> bool {
    provider != MANUAL && config.provider.as_deref() == Some(provider)
}
