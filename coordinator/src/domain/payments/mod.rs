//! Payments by x402.

pub mod ports;
pub mod x402_http;
