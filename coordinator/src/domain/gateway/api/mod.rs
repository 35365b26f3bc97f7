//! How streams are asked for: by other coordinators ([`peer`]).

pub mod peer;
