//! The networks we know: their names in both protocol versions and the token that is paid with on each.
//!
//! # Invariants
//! - A currency has one token on a network, and an address is one token's.
//! - A token's EIP-712 name and version are what its contract answers; they differ between networks.

use std::sync::{PoisonError, RwLock};

use super::address::Address;
use crate::money::Asset;

/// A token and what its EIP-712 domain says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Which currency it is, 6 decimals.
    pub asset: Asset,
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
    /// What can be paid with on this chain; one token for a currency.
    pub tokens: &'static [Token],
    /// Whether its money is play money.
    pub testnet: bool,
}

impl Network {
    /// The token of a currency.
    #[must_use]
    pub fn token(&self, asset: Asset) -> Option<&'static Token> {
        self.tokens.iter().find(|token| token.asset == asset)
    }

    /// The token at an address.
    #[must_use]
    pub fn token_at(&self, address: &Address) -> Option<&'static Token> {
        self.tokens.iter().find(|token| token.address == *address)
    }
}

const fn usdc(digits: &[u8; 40], eip712_name: &'static str) -> Token {
    Token {
        asset: Asset::USDC,
        address: Address::from_digits(digits),
        eip712_name,
        eip712_version: "2",
    }
}

const fn eurc(digits: &[u8; 40]) -> Token {
    Token {
        asset: Asset::EURC,
        address: Address::from_digits(digits),
        eip712_name: "EURC",
        eip712_version: "2",
    }
}

/// USD Coin on Base's test network.
pub const BASE_SEPOLIA_USDC: Token = usdc(b"036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC");
/// Euro Coin on Base's test network.
pub const BASE_SEPOLIA_EURC: Token = eurc(b"808456652fdb597867f38412077A9182bf77359F");
/// USD Coin on Base.
pub const BASE_USDC: Token = usdc(b"833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin");
/// Euro Coin on Base.
pub const BASE_EURC: Token = eurc(b"60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42");

/// Base's test network: what the sandbox names in its terms.
pub const BASE_SEPOLIA: Network = Network {
    caip2: "eip155:84532",
    v1_name: "base-sepolia",
    chain_id: 84532,
    tokens: &[BASE_SEPOLIA_USDC, BASE_SEPOLIA_EURC],
    testnet: true,
};

/// Base.
pub const BASE: Network = Network {
    caip2: "eip155:8453",
    v1_name: "base",
    chain_id: 8453,
    tokens: &[BASE_USDC, BASE_EURC],
    testnet: false,
};

/// Ethereum. Its gas costs more than most rentals: for large top-ups.
pub const ETHEREUM: Network = Network {
    caip2: "eip155:1",
    v1_name: "ethereum",
    chain_id: 1,
    tokens: &[usdc(
        b"A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "USD Coin",
    )],
    testnet: false,
};

/// Avalanche's C-Chain.
pub const AVALANCHE: Network = Network {
    caip2: "eip155:43114",
    v1_name: "avalanche",
    chain_id: 43114,
    tokens: &[usdc(
        b"B97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E",
        "USD Coin",
    )],
    testnet: false,
};

/// Avalanche's test network.
pub const AVALANCHE_FUJI: Network = Network {
    caip2: "eip155:43113",
    v1_name: "avalanche-fuji",
    chain_id: 43113,
    tokens: &[usdc(
        b"5425890298aed601595a70AB815c96711a31Bc65",
        "USD Coin",
    )],
    testnet: true,
};

/// Sei.
pub const SEI: Network = Network {
    caip2: "eip155:1329",
    v1_name: "sei",
    chain_id: 1329,
    tokens: &[usdc(b"e15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", "USDC")],
    testnet: false,
};

/// Sei's test network.
pub const SEI_TESTNET: Network = Network {
    caip2: "eip155:1328",
    v1_name: "sei-testnet",
    chain_id: 1328,
    tokens: &[usdc(b"4fCF1784B31630811181f670Aea7A7bEF803eaED", "USDC")],
    testnet: true,
};

/// The networks that need no configuration.
pub static BUILT_IN: [&Network; 7] = [
    &BASE_SEPOLIA,
    &BASE,
    &ETHEREUM,
    &AVALANCHE,
    &AVALANCHE_FUJI,
    &SEI,
    &SEI_TESTNET,
];

/// What the settings add: other networks, and built-in ones with other tokens. Few, and only ever added to.
static CONFIGURED: RwLock<Vec<&'static Network>> = RwLock::new(Vec::new());

/// A network of the settings takes the place of a built-in one of that name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is configured already, with another name or other tokens")]
pub struct AlreadyConfigured(&'static str);

/// Makes a network of the settings known, for as long as the process runs. The same one again changes nothing.
///
/// # Errors
/// Another one has its CAIP-2 or version 1 name.
pub fn configure(network: Network) -> Result<&'static Network, AlreadyConfigured> {
    let clashes =
        |known: &Network| (known.caip2 == network.caip2) != (known.v1_name == network.v1_name);
    if BUILT_IN.into_iter().any(clashes) {
        return Err(AlreadyConfigured(network.caip2));
    }
    let mut configured = CONFIGURED.write().unwrap_or_else(PoisonError::into_inner);
    let known = configured
        .iter()
        .find(|known| known.caip2 == network.caip2 || known.v1_name == network.v1_name);
    match known {
        Some(known) if **known == network => Ok(known),
        Some(_) => Err(AlreadyConfigured(network.caip2)),
        None => {
            // as the built-in ones: there are few, and they live as long as the process
            let network: &'static Network = Box::leak(Box::new(network));
            configured.push(network);
            Ok(network)
        }
    }
}

fn find(wanted: impl Fn(&Network) -> bool) -> Option<&'static Network> {
    let configured = CONFIGURED.read().unwrap_or_else(PoisonError::into_inner);
    let all = configured.iter().copied().chain(BUILT_IN);
    all.into_iter().find(|network| wanted(network))
}

/// The network of a CAIP-2 name.
#[must_use]
pub fn by_caip2(name: &str) -> Option<&'static Network> {
    find(|network| network.caip2 == name)
}

/// The network of a version 1 name.
#[must_use]
pub fn by_v1_name(name: &str) -> Option<&'static Network> {
    find(|network| network.v1_name == name)
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
            let computed = domain_separator(network.chain_id, &network.tokens[0]);
            assert_eq!(hex::encode(computed), separator, "{}", network.v1_name);
        }
    }

    #[test]
    fn names_lead_to_their_network_only() {
        for network in BUILT_IN {
            assert_eq!(network.caip2, format!("eip155:{}", network.chain_id));
            assert_eq!(by_caip2(network.caip2), Some(network));
            assert_eq!(by_v1_name(network.v1_name), Some(network));
            assert_eq!(by_caip2(network.v1_name), None);
            for token in network.tokens {
                assert_eq!(network.token(token.asset), Some(token));
                assert_eq!(network.token_at(&token.address), Some(token));
            }
        }
        let pairs = BUILT_IN.map(|n| (n.caip2, n.v1_name));
        assert!(pairs.iter().all(|(a, b)| {
            let same = pairs.iter().filter(|(c, d)| a == c || b == d);
            same.count() == 1
        }));
    }

    #[test]
    fn a_configured_network_is_found_and_stays_what_it_is() {
        let own = Network {
            caip2: "eip155:31337",
            v1_name: "bench",
            chain_id: 31337,
            tokens: &[BASE_USDC],
            testnet: true,
        };
        let known = configure(own).expect("new");
        assert_eq!(
            (by_caip2("eip155:31337"), by_v1_name("bench")),
            (Some(known), Some(known))
        );
        assert_eq!(configure(own), Ok(known), "the same again");
        for other in [
            Network {
                tokens: &[BASE_EURC],
                ..own
            },
            Network {
                caip2: "eip155:31338",
                ..own
            },
            Network {
                v1_name: "base",
                ..own
            },
            Network {
                caip2: "eip155:8453",
                ..own
            },
        ] {
            assert!(configure(other).is_err(), "{other:?}");
        }
        let fewer = Network {
            tokens: &[BASE_EURC],
            ..BASE
        };
        let base = configure(fewer).expect("another table for a built-in network");
        assert_eq!(by_v1_name("base"), Some(base));
        assert_eq!(base.token(Asset::USDC), None);
    }
}
