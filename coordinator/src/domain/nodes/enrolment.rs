//! How a node comes to be: a provider's one-time token, a key made on the machine, and what was measured there.
//!
//! # Invariants
//! - A token enrols one node, once; the same key with the same token gets the same answer again.
//! - Tokens are kept as hashes only.

use serde_json::json;
use shared::{
    id::UserId,
    image::rules::{CACHED_MAX, NodeImages},
    resources::{Inventory, Isolation},
    time::Timestamp,
    wire::enroll,
};

use super::{
    NAME_CHARS_MAX, announce, bounded,
    model::{self, Availability, Lifecycle, Node, Schedulability},
    store,
};
use crate::{
    context::{OpCtx, Role},
    domain::audit::{self, Entry},
    error::{Error, Result},
    store::Tx,
};

fn sha256(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes())
        .as_ref()
        .to_vec()
}

/// How long an enrolment token is valid.
pub const TOKEN_TTL_MS: i64 = 15 * 60 * 1_000;
/// How many unused tokens a provider may have at once.
const OPEN_TOKENS_MAX: i64 = 100;

/// Keeps a token's hash for the calling provider; the caller shows the token once.
///
/// # Errors
/// Not signed in, or not a provider; 409 with too many unused tokens.
pub fn add_token(tx: &mut dyn Tx, ctx: &OpCtx, token: &str) -> Result<Timestamp> {
    let owner = ctx.user_with(Role::Provider)?.id;
    let expires = ctx.now.plus_ms(TOKEN_TTL_MS);
    store::delete_tokens(tx, ctx.now.plus_ms(-24 * 3_600 * 1_000))?;
    if store::open_tokens(tx, owner, ctx.now)? >= OPEN_TOKENS_MAX {
        return Err(Error::conflict(
            "too_many_tokens",
            "100 tokens wait to be used: use them, or wait until they expire",
        ));
    }
    store::insert_token(tx, &sha256(token), owner, ctx.now, expires)?;
    let after = json!({ "expires_at": expires });
    audit::record(
        tx,
        ctx,
        Entry::of("enrollment_token.created", owner).after(after),
    )?;
    Ok(expires)
}

/// Makes a node of a token, a key and what was measured.
///
/// # Errors
/// 401 for an unknown, used or expired token, or one whose proof doesn't hold; 409 for a key that is another node's.
pub fn enroll(tx: &mut dyn Tx, ctx: &OpCtx, request: &enroll::EnrollRequest) -> Result<Node> {
    request
        .public_key
        .verify(enroll::DOMAIN, request.token.as_bytes(), &request.proof)
        .map_err(|_| {
            Error::unauthenticated(
                "enroll_proof_invalid",
                "the proof isn't a signature by this key",
            )
        })?;
    if request.protocol_version != shared::PROTOCOL_VERSION {
        return Err(Error::invalid(
            "/protocol_version",
            "this coordinator speaks version 1: install a matching agent",
        ));
    }
    let name = bounded("/name", &request.name, NAME_CHARS_MAX)?;
    check_inventory(&request.inventory)?;
    let hash = sha256(&request.token);
    let refused = || {
        Error::unauthenticated(
            "enroll_token_invalid",
            "unknown, used or expired token: ask for a new one",
        )
    };
    let (owner, expires, used_by) = store::token(tx, &hash)?.ok_or_else(refused)?;
    if let Some(node) = store::by_key(tx, &request.public_key)? {
        return if used_by == Some(node.id) {
            Ok(node)
        } else {
            Err(Error::conflict(
                "key_already_enrolled",
                "this key is another node's: make a new one",
            ))
        };
    }
    if used_by.is_some() || expires < ctx.now {
        return Err(refused());
    }
    let node = new_node(ctx, owner, name, request);
    store::insert(tx, &node)?;
    if !store::use_token(tx, &hash, node.id)? {
        return Err(refused());
    }
    announce(tx, ctx, &node, "node.enrolled")?;
    let after = json!({ "owner": owner, "name": node.name, "public_key": node.public_key });
    audit::record(tx, ctx, Entry::of("node.enrolled", node.id).after(after))?;
    Ok(node)
}

fn new_node(ctx: &OpCtx, owner: UserId, name: String, request: &enroll::EnrollRequest) -> Node {
    let rentable = model::rentable_max(&request.inventory);
    Node {
        id: ctx.mint(),
        owner,
        name,
        public_key: request.public_key,
        lifecycle: Lifecycle::Member,
        schedulability: Schedulability::Active,
        availability: Availability::Warming,
        availability_at: ctx.now,
        region: String::new(),
        inventory: request.inventory.clone(),
        agent_version: request.agent_version.chars().take(NAME_CHARS_MAX).collect(),
        rentable,
        free: rentable,
        generation: 1,
        created_at: ctx.now,
        drain_deadline: None,
        drain_asked_at: None,
        maintenance: Vec::new(),
        memory_pressure: String::new(),
    }
}

/// As many findings, and as long texts, as an agent sends.
fn isolation_bounded(isolation: &Isolation) -> bool {
    const FINDINGS_MAX: usize = 64;
    const BYTES_MAX: usize = 2_048;
    let short = |text: &String| text.len() <= BYTES_MAX;
    isolation.findings.len() <= FINDINGS_MAX
        && isolation.breach.as_ref().is_none_or(short)
        && isolation
            .findings
            .iter()
            .all(|f| [&f.check, &f.cause, &f.mend].into_iter().all(short))
}

/// As many images, and as many rules about them, as an agent sends.
fn images_bounded(images: &NodeImages) -> bool {
    images.cached.len() <= CACHED_MAX && images.rules.check().is_ok()
}

/// Bounds on what a node says about itself.
///
/// # Errors
/// 422 for a value that no machine has.
pub fn check_inventory(inventory: &Inventory) -> Result<()> {
    const PIB: i64 = 1 << 50;
    let texts = [
        &inventory.hostname,
        &inventory.kernel,
        &inventory.os,
        &inventory.cpu_model,
    ];
    let gpu_texts = inventory
        .gpus
        .iter()
        .flat_map(|gpu| [&gpu.uuid, &gpu.model, &gpu.pci_bus_id, &gpu.driver]);
    let texts_ok = texts
        .into_iter()
        .chain(gpu_texts)
        .all(|text| text.len() <= 300);
    let counts_ok = inventory.disks.len() <= 256 && inventory.gpus.len() <= 64;
    let sizes_ok = (0..=PIB).contains(&inventory.ram_total_bytes)
        && (0..=4_096).contains(&inventory.cpu_count);
    let isolation_ok = inventory.isolation.as_ref().is_none_or(isolation_bounded);
    let disk = inventory.rental_disk.as_ref();
    let disk_ok = disk.is_none_or(|disk| (0..=PIB).contains(&disk.total_bytes))
        && [&inventory.shortage, &inventory.gpus_refused]
            .into_iter()
            .flatten()
            .all(|why| why.len() <= 1_024);
    let images_ok = inventory.images.as_ref().is_none_or(images_bounded);
    if texts_ok && counts_ok && sizes_ok && isolation_ok && disk_ok && images_ok {
        Ok(())
    } else {
        Err(Error::invalid(
            "/inventory",
            "out of bounds: no machine has this",
        ))
    }
}
