//! What the system tests share.

pub mod stock_client;
