//! Journeys and proofs over the real parts.

mod agent_report;
