//! The loop over a simulated engine.
