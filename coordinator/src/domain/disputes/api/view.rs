//! A dispute as its parties and administrators see it.

use serde::Serialize;
use serde_json::Value;
use shared::{
    id::{DisputeId, RentalId},
    money::Amount,
    time::Timestamp,
};
use utoipa::ToSchema;

use crate::domain::disputes::model::{Author, Dispute, Outcome, Reason, State, Statement};

/// A dispute.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisputeView {
    #[schema(value_type = String, example = "dsp_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: DisputeId,
    #[schema(value_type = String)]
    rental_id: RentalId,
    /// `open` or `decided`.
    #[schema(value_type = String, example = "open")]
    state: State,
    /// `unreachable`, `slow`, `not_as_described`, `interrupted` or `other`.
    #[schema(value_type = String, example = "unreachable")]
    reason: Reason,
    /// The words of whoever rents it.
    text: String,
    /// Nothing after this is billed.
    #[schema(value_type = String, format = DateTime)]
    reported_at: Timestamp,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionView>,
}

/// What was decided.
#[derive(Debug, Serialize, ToSchema)]
struct DecisionView {
    /// What was given back, in the rental's currency.
    #[schema(value_type = String, example = "0.000500")]
    refund: Amount,
    reason: String,
    #[schema(value_type = String, format = DateTime)]
    decided_at: Timestamp,
}

impl From<Outcome> for DecisionView {
    fn from(outcome: Outcome) -> Self {
        Self {
            refund: outcome.refund,
            reason: outcome.reason,
            decided_at: outcome.decided_at,
        }
    }
}

impl From<Dispute> for DisputeView {
    fn from(dispute: Dispute) -> Self {
        Self {
            id: dispute.id,
            rental_id: dispute.rental,
            state: dispute.state(),
            reason: dispute.reason,
            text: dispute.statement,
            reported_at: dispute.reported_at,
            decision: dispute.outcome.map(DecisionView::from),
        }
    }
}

/// A dispute with its evidence.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisputeDetail {
    #[serde(flatten)]
    dispute: DisputeView,
    /// What the market knew of rental, offer, node, windows, coverage and receipts at the moment of the report.
    #[schema(value_type = Object)]
    evidence: Value,
    /// What both parties said, oldest first.
    statements: Vec<DisputeStatementView>,
}

impl DisputeDetail {
    /// With what was said.
    #[must_use]
    pub fn new(dispute: Dispute, said: Vec<Statement>) -> Self {
        Self {
            evidence: dispute.evidence.clone(),
            statements: said.into_iter().map(DisputeStatementView::from).collect(),
            dispute: DisputeView::from(dispute),
        }
    }
}

/// Something that was said about a dispute.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisputeStatementView {
    /// `consumer`, `provider` or `admin`.
    #[schema(value_type = String, example = "provider")]
    author: Author,
    text: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl From<Statement> for DisputeStatementView {
    fn from(said: Statement) -> Self {
        Self {
            author: said.author,
            text: said.text,
            at: said.at,
        }
    }
}
