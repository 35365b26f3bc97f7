//! Beats through the router: what is accepted, what is refused with which code, and that a refusal changes nothing.

mod coverage;
mod journal;
mod refused;
