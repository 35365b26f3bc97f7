//! x402 wire types and EIP-712.
