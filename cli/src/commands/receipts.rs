//! `receipts` and `receipts verify`.

use std::path::Path;

use serde_json::{Value, json};
use shared::{id::RentalId, sign::PublicKey};

use super::{Desk, market};
use crate::{
    api::Request,
    args::account::{Receipts, ReceiptsCommand},
    failure::{Failure, Result},
    output::{self, Column, Form, tell, text},
    private_file,
    receipts::{self, Bundle, FORMAT},
};

/// Most windows and records of one rental: a year of them.
const LISTED_MAX: usize = 1_000_000;
const BUNDLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

const RECORDS: [Column; 5] = [
    ("SEQ", |r| text(r, "/record/record/seq")),
    ("AT", |r| text(r, "/record/record/t_wall")),
    ("STATE", |r| text(r, "/record/record/state")),
    ("CPU NS", |r| text(r, "/record/record/cum_cpu_ns")),
    ("RECEIVED", |r| text(r, "/received_at")),
];

/// Shows, writes or verifies.
pub(super) async fn run(desk: &Desk, wanted: Receipts) -> Result<()> {
    match (wanted.command, wanted.rental) {
        (Some(ReceiptsCommand::Verify { what, node_key }), _) => {
            verify(desk, &what, node_key.as_deref()).await
        }
        (None, Some(rental)) => show(desk, rental, wanted.output.as_deref()).await,
        (None, None) => Err(Failure::usage("name a rental")),
    }
}

async fn show(desk: &Desk, rental: RentalId, output: Option<&Path>) -> Result<()> {
    let bundle = fetch(desk, rental).await?;
    if let Some(path) = output {
        let text = serde_json::to_string_pretty(&bundle)
            .map_err(|error| Failure::failed(format!("can't be written as JSON: {error}")))?;
        private_file::create_new(path, &format!("{text}\n"))?;
        tell(&format!("wrote {}", path.display()));
        return Ok(());
    }
    let records = bundle["receipts"].as_array().cloned().unwrap_or_default();
    match desk.form {
        Form::Json => output::one(desk.form, &bundle, &[]),
        Form::Ids => {
            let numbers = records.iter().map(|r| text(r, "/record/record/seq"));
            output::lines(&numbers.collect::<Vec<_>>())
        }
        Form::Text => output::list(desk.form, &records, &RECORDS),
    }
}

/// Everything that a check needs. The rental comes last: of one that goes on, the bill then knows every window.
async fn fetch(desk: &Desk, rental: RentalId) -> Result<Value> {
    let id = rental.to_string();
    let auth = desk.auth_for(&id)?;
    let get = |part: &str| Request::get(format!("/api/v1/rentals/{id}{part}")).auth(auth.clone());
    let usage = market::pages(&desk.api, &get("/usage"), LISTED_MAX).await?;
    let records = market::pages(&desk.api, &get("/receipts"), LISTED_MAX).await?;
    let rental = desk.api.send(&get("")).await?.ok()?;
    Ok(json!({"format": FORMAT, "rental": rental, "usage": usage, "receipts": records}))
}

async fn verify(desk: &Desk, what: &str, known: Option<&str>) -> Result<()> {
    let known = known
        .map(|key| PublicKey::try_from(key.to_owned()))
        .transpose();
    let known =
        known.map_err(|_| Failure::usage("--node-key: not an Ed25519 public key in base64"))?;
    let bundle: Bundle = match what.parse::<RentalId>() {
        Ok(rental) => receipts::parse(&fetch(desk, rental).await?.to_string())?,
        Err(_) => receipts::parse(&read(Path::new(what))?)?,
    };
    let checks = receipts::verify(&bundle, known.as_ref());
    let broken = checks.iter().filter(|check| !check.holds).count();
    match desk.form {
        Form::Json => {
            let report =
                json!({"rental_id": bundle.rental.id, "holds": broken == 0, "checks": checks});
            output::one(desk.form, &report, &[])?;
        }
        Form::Ids | Form::Text => {
            let line = |check: &receipts::Check| {
                let word = if check.holds { "ok    " } else { "BROKEN" };
                format!("{word}  {}: {}", check.name, check.detail)
            };
            output::lines(&checks.iter().map(line).collect::<Vec<_>>())?;
        }
    }
    if broken == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{broken} of {} checks of {} don't hold: keep the bundle, and report the rental",
        checks.len(),
        bundle.rental.id
    )))
}

fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let wrong = |error: std::io::Error| Failure::usage(format!("{shown} can't be read: {error}"));
    let facts = std::fs::metadata(path).map_err(wrong)?;
    if facts.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::usage(format!("{shown} is larger than 256 MiB")));
    }
    std::fs::read_to_string(path).map_err(wrong)
}
