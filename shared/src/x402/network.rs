//! The networks we know: their names in both protocol versions and the token that is paid with on each.
//!
//! # Invariants
//! - A token's EIP-712 name and version are what its contract answers; they differ between networks.

use super::address::Address;

/// A token and what its EIP-712 domain says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its contract.
    pub address: Address,
    /// `name` of the EIP-712 domain.
    pub eip712_name: &'static str,
    /// `version` of the EIP-712 domain.
    pub eip712_version: &'static str,
}

/// A chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its name in x402 version 2 (CAIP-2): `eip155:84532`.
    pub caip2: &'static str,
    /// Its name in x402 version 1: `base-sepolia`.
    pub v1_name: &'static str,
    /// The number in its CAIP-2 name.
    pub chain_id: u64,
    /// USD Coin on this chain, 6 decimals.
    pub usdc: Token,
    /// Whether its money is play money.
    pub testnet: bool,
}

/// Base's test network: what the sandbox names in its terms.
pub const BASE_SEPOLIA: Network = Network {
    caip2: "eip155:84532",
    v1_name: "base-sepolia",
    chain_id: 84532,
    usdc: Token {
        address: Address::from_digits(b"036CbD53842c5426634e7929541eC2318f3dCF7e"),
        eip712_name: "USDC",
        eip712_version: "2",
    },
    testnet: true,
};

/// Base.
pub const BASE: Network = Network {
    caip2: "eip155:8453",
    v1_name: "base",
    chain_id: 8453,
    usdc: Token {
        address: Address::from_digits(b"833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
        eip712_name: "USD Coin",
        eip712_version: "2",
    },
    testnet: false,
};

/// Every network that can be paid on.
pub static NETWORKS: [&Network; 2] = [&BASE_SEPOLIA, &BASE];

/// The network of a CAIP-2 name.
#[must_use]
pub fn by_caip2(name: &str) -> Option<&'static Network> {
    NETWORKS.into_iter().find(|network| network.caip2 == name)
}

/// The network of a version 1 name.
#[must_use]
pub fn by_v1_name(name: &str) -> Option<&'static Network> {
    NETWORKS.into_iter().find(|network| network.v1_name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x402::eip712::domain_separator;

    #[test]
    fn domain_separators_are_those_of_the_contracts() {
        for (network, separator) in [
            (
                &BASE,
                "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
            ),
            (
                &BASE_SEPOLIA,
                "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
            ),
        ] {
            let computed = domain_separator(network.chain_id, &network.usdc);
            assert_eq!(hex::encode(computed), separator, "{}", network.v1_name);
        }
    }

    #[test]
    fn names_lead_to_their_network_only() {
        for network in NETWORKS {
            assert_eq!(network.caip2, format!("eip155:{}", network.chain_id));
            assert_eq!(by_caip2(network.caip2), Some(network));
            assert_eq!(by_v1_name(network.v1_name), Some(network));
            assert_eq!(by_caip2(network.v1_name), None);
        }
    }
}
