//! `wallet new` and `wallet address`.

use serde_json::json;

use crate::{
    args::{KeyFile, Wallet},
    failure::Result,
    key_file,
    local::Local,
    output::{self, Form, tell},
};

/// Makes a key or shows its address.
pub(super) fn run(local: &Local, form: Form, command: Wallet) -> Result<()> {
    let path = |file: KeyFile| file.key_file.unwrap_or_else(|| local.default_key_file());
    let address = match command {
        Wallet::New(file) => {
            let path = path(file);
            let address = key_file::create(&path)?;
            tell(&format!(
                "wrote {}: whoever has it has the money",
                path.display()
            ));
            address
        }
        Wallet::Address(file) => key_file::load(&path(file))?.address(),
    };
    match form {
        Form::Json => output::one(form, &json!({"address": address}), &[]),
        Form::Ids | Form::Text => output::lines(&[address.to_string()]),
    }
}
