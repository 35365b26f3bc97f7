//! One binary for all system tests.

mod x402_stock_client;
