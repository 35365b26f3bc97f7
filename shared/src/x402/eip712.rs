//! EIP-712 as EIP-3009 tokens use it: the digest of a `TransferWithAuthorization`.
//!
//! # Invariants
//! - One digest per (chain, token, authorization): it is what the payer signs and what the token's contract checks.

use sha3::{Digest as _, Keccak256};

use super::{address::Address, authorization::Authorization, network::Token};

const DOMAIN_TYPE: &[u8] =
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const TRANSFER_TYPE: &[u8] = b"TransferWithAuthorization(address from,address to,uint256 value,\
uint256 validAfter,uint256 validBefore,bytes32 nonce)";

/// Keccak-256, Ethereum's hash.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// Hash of the domain of `token` on the chain `chain_id`.
#[must_use]
pub fn domain_separator(chain_id: u64, token: &Token) -> [u8; 32] {
    hash_words(&[
        keccak256(DOMAIN_TYPE),
        keccak256(token.eip712_name.as_bytes()),
        keccak256(token.eip712_version.as_bytes()),
        number(u128::from(chain_id)),
        account(&token.address),
    ])
}

/// Hash of the structure that the payer signs.
#[must_use]
pub fn struct_hash(authorization: &Authorization) -> [u8; 32] {
    hash_words(&[
        keccak256(TRANSFER_TYPE),
        account(&authorization.from),
        account(&authorization.to),
        number(authorization.value),
        number(authorization.valid_after),
        number(authorization.valid_before),
        authorization.nonce,
    ])
}

/// What is signed: domain and structure together.
#[must_use]
pub fn digest(chain_id: u64, token: &Token, authorization: &Authorization) -> [u8; 32] {
    let mut bytes = [0; 66];
    bytes[..2].copy_from_slice(&[0x19, 0x01]);
    bytes[2..34].copy_from_slice(&domain_separator(chain_id, token));
    bytes[34..].copy_from_slice(&struct_hash(authorization));
    keccak256(&bytes)
}

fn hash_words(words: &[[u8; 32]]) -> [u8; 32] {
    keccak256(words.as_flattened())
}

fn number(value: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

fn account(address: &Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(address.as_bytes());
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_hash_is_that_of_eip3009() {
        assert_eq!(
            hex::encode(keccak256(TRANSFER_TYPE)),
            "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"
        );
    }
}
