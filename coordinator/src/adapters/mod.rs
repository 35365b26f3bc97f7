//! The outside world behind the slices' ports; named only by `app`.

pub mod facilitator_sandbox;
