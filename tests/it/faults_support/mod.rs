//! What the tests of faults share: random moments, a stage with rentals on it, Docker's own account of containers, a link to cut.
//!
//! # Invariants
//! - Random moments come from a seed that is printed; `FAULTS_SEED` repeats a run.
//! - What Docker says is written down by a witness of its own, never taken from the programs under test.

mod chance;
mod evidence;
mod netns;
mod stage;
mod witness;

pub(crate) use self::{
    chance::{Chance, is_full},
    evidence::{arrivals, records, spent},
    netns::CutLink,
    stage::Stage,
    witness::{Life, Witness},
};
