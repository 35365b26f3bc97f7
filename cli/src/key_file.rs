//! The payer's private key: 64 hexadecimal digits in a file that only its owner may read.

use std::path::Path;

use shared::x402::{address::Address, signature::PayerKey};

use crate::{
    failure::{Failure, Result},
    private_file, random,
};

/// Reads the key.
///
/// # Errors
/// There is no file, others can read it, or it holds no key. The file's content is never shown.
pub fn load(path: &Path) -> Result<PayerKey> {
    let text = private_file::read(path)?.ok_or_else(|| {
        let shown = path.display();
        Failure::usage(format!(
            "there is no key file {shown}: make one with `ramarket wallet new`, or name one with --key-file"
        ))
    })?;
    PayerKey::from_hex(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Makes a new key and writes it; never replaces one.
///
/// # Errors
/// The file exists or can't be written.
pub fn create(path: &Path) -> Result<Address> {
    // a random number outside the group has a chance of one in 2^128
    let secret = random::bytes::<32>()?;
    let key = PayerKey::from_bytes(&secret)
        .map_err(|_| Failure::failed("the random key is unusable: try again"))?;
    private_file::create_new(path, &format!("0x{}\n", hex::encode(secret)))?;
    Ok(key.address())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::Kind, private_file::tests::Folder};

    #[test]
    fn a_new_key_is_read_back_and_never_replaced() {
        let folder = Folder::default();
        let path = folder.0.join("wallet.key");
        assert_eq!(load(&path).unwrap_err().kind, Kind::Usage);
        let address = create(&path).unwrap();
        assert_eq!(load(&path).unwrap().address(), address);
        assert!(create(&path).is_err());
        assert_eq!(load(&path).unwrap().address(), address);
    }

    #[test]
    fn a_bad_key_is_refused_without_showing_it() {
        let folder = Folder::default();
        let path = folder.0.join("wallet.key");
        private_file::create_new(&path, "0xdeadbeef").unwrap();
        let failure = load(&path).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(!failure.to_string().contains("deadbeef"), "{failure}");
    }
}
