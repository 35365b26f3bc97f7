//! Properties of every parser of bytes from outside: it never panics, what it accepts is within bounds, and what it accepts and
//! writes again is the same.

pub(crate) mod mangled;

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::mangled::{cases, mangled, mangled_text};
use crate::{
    container::{ContainerSpec, limits},
    http_signature::{self, Params, Request},
    id::{NodeId, RentalId},
    journal::{Hash, SignedRecord},
    money::Amount,
    sign::{PublicKey, Signature, SigningKey},
    time::Timestamp,
    wire::{
        enroll::EnrollRequest,
        heartbeat::{Beat, Reply},
    },
};

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("a key")
}

/// Reads JSON; what is accepted reads the same after it was written.
fn holds<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("it is written");
        let again: T = serde_json::from_slice(&written).expect("it is read again");
        assert_eq!(again, value);
    }
}

fn record() -> Value {
    json!({"record": {
        "node_id": format!("nod_{}", "1".repeat(32)), "boot_id": "b", "rental_id": format!("rnt_{}", "2".repeat(32)),
        "lease_id": format!("lea_{}", "3".repeat(32)), "seq": 1, "prev_hash": "0".repeat(64), "beacon": "ab",
        "t_wall": "2026-01-31T12:00:00.000000Z", "t_boot_ms": 5, "state": "running", "container_id": "c", "image_digest": "d", "spec_sha256": "e",
        "started_at": null, "finished_at": null, "cum_cpu_ns": 1, "cum_mem_byte_s": 2, "cum_rx_bytes": 3, "cum_tx_bytes": 4,
        "exit": null}, "signature": key().sign("d", b"m").to_string()})
}

fn spec() -> Value {
    json!({"image": format!("ghcr.io:443/a/b:1@sha256:{}", "a".repeat(64)), "command": ["sh", "-c", "x"], "env": {"A_1": "x", "b": ""}})
}

fn beat() -> Value {
    json!({"node_id": format!("nod_{}", "1".repeat(32)), "instance_id": "ab", "seq": 1, "beacon": "", "boot_id": "b",
        "sent_wall": "2026-01-31T12:00:00Z", "sent_boot_ms": 1, "agent_version": "1",
        "inventory": {"hostname": "h", "kernel": "k", "os": "o", "ram_total_bytes": 1, "cpu_model": "c", "cpu_count": 1,
            "disks": [], "gpus": [], "gpu_absent_reason": "no", "docker": null, "docker_absent_reason": "no", "cgroup_version": 2},
        "load": {"ram_available_bytes": 1, "cpu_busy_millis": 1, "load1_millis": 1, "disk_free_bytes": [], "gpus": []},
        "generation": 1, "observed": [{"rental_id": format!("rnt_{}", "2".repeat(32)), "lease_id": format!("lea_{}", "3".repeat(32)),
            "phase": {"phase": "exited", "exit": {"code": 1, "oom_killed": false}, "cause": "itself"},
            "container_id": null, "image_digest": null, "started_at": null, "finished_at": null}],
        "journal_head": {"seq": 0, "hash": "0".repeat(64)}, "usage": [record()]})
}

fn reply() -> Value {
    json!({"desired": {"generation": 1, "rentals": [{"rental_id": format!("rnt_{}", "2".repeat(32)),
            "lease_id": format!("lea_{}", "3".repeat(32)), "wanted": "run", "spec": spec(),
            "resources": {"ram_bytes": 1, "cpu_millis": 1, "gpu_count": 0, "disk_bytes": 0}}]},
        "leases": [{"rental_id": format!("rnt_{}", "2".repeat(32)), "lease_id": format!("lea_{}", "3".repeat(32)), "lease_ms": 5}],
        "ack": null, "beacon": "ab", "more": false, "server_time": "2026-01-31T12:00:00Z", "beat_interval_ms": 5000})
}

/// The samples are valid: else nothing below would test much.
#[test]
fn samples_are_accepted() {
    serde_json::from_value::<SignedRecord>(record()).expect("a record");
    serde_json::from_value::<ContainerSpec>(spec()).expect("a spec");
    serde_json::from_value::<Beat>(beat()).expect("a beat");
    serde_json::from_value::<Reply>(reply()).expect("a reply");
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn ids_are_written_as_they_were_read(text in prop_oneof![".{0,60}", mangled_text(format!("nod_{}", "0123456789abcdef".repeat(2)))]) {
        if let Ok(id) = text.parse::<NodeId>() {
            prop_assert_eq!(id.to_string(), text.clone());
            prop_assert!(text.parse::<RentalId>().is_err());
        }
    }

    #[test]
    fn amounts_are_exact(text in prop_oneof![".{0,40}", "[0-9]{0,20}\\.?[0-9]{0,8}", mangled_text("12.345678")]) {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert!(amount.atomic() >= 0);
            let written = amount.to_string();
            prop_assert_eq!(written.parse::<Amount>(), Ok(amount));
            // nothing but zeros at the ends is written otherwise
            let bare = |text: &str| {
                let (whole, part) = text.split_once('.').unwrap_or((text, ""));
                (whole.trim_start_matches('0').to_owned(), part.trim_end_matches('0').to_owned())
            };
            prop_assert_eq!(bare(&text), bare(&written));
        }
    }

    #[test]
    fn moments_are_read_again(text in prop_oneof![".{0,60}", mangled_text("2026-01-31T12:00:00.123456+01:00")]) {
        if let Ok(moment) = Timestamp::parse_rfc3339(&text) {
            prop_assert_eq!(Timestamp::parse_rfc3339(&moment.to_string()), Ok(moment));
            // arithmetic on what anybody may send saturates
            let far = moment.plus_ms(i64::MAX).plus_ms(i64::MIN).ms_since(Timestamp::from_secs(i64::MIN));
            prop_assert!(far >= 0);
        }
    }

    #[test]
    fn keys_signatures_and_hashes_have_one_text(
        public in mangled_text(key().public().to_string()), signature in mangled_text(key().sign("d", b"m").to_string()),
        hash in mangled_text("0123456789abcdef".repeat(4)),
    ) {
        if let Ok(parsed) = PublicKey::try_from(public.clone()) {
            prop_assert_eq!(String::from(parsed), public);
        }
        if let Ok(parsed) = Signature::try_from(signature.clone()) {
            prop_assert_eq!(parsed.to_string(), signature);
        }
        if let Ok(parsed) = Hash::try_from(hash.clone()) {
            prop_assert_eq!(String::from(parsed), hash);
        }
    }

    #[test]
    fn specifications_stay_within_their_limits(bytes in prop_oneof![
        mangled(spec().to_string()),
        prop::collection::vec(any::<u8>(), 0..300),
        (".{0,40}", prop::collection::vec(".{0,20}", 0..70), prop::collection::btree_map(".{0,10}", ".{0,20}", 0..70))
            .prop_map(|(image, command, env)| json!({"image": image, "command": command, "env": env}).to_string().into_bytes()),
    ]) {
        holds::<ContainerSpec>(&bytes);
        if let Ok(spec) = serde_json::from_slice::<ContainerSpec>(&bytes) {
            prop_assert!((1..=crate::image::REFERENCE_CHARS_MAX).contains(&spec.image().len()));
            prop_assert!(spec.image().bytes().all(|b| b.is_ascii_graphic()) && !spec.image().starts_with('-'));
            prop_assert!(spec.command().len() <= limits::COMMAND_WORDS_MAX && spec.env().len() <= limits::ENV_VARS_MAX);
            prop_assert!(spec.env().keys().all(|name| !name.is_empty() && !name.contains(['=', '\0'])));
            let texts = spec.command().iter().chain(spec.env().values());
            prop_assert!(texts.into_iter().all(|text| !text.contains('\0')));
        }
    }

    #[test]
    fn messages_of_the_link_are_read_or_refused(
        beat in mangled(beat().to_string()), reply in mangled(reply().to_string()),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        holds::<Beat>(&beat);
        holds::<Reply>(&reply);
        for parse in [holds::<Beat>, holds::<Reply>, holds::<SignedRecord>] {
            parse(&noise);
        }
        prop_assert!(serde_json::from_slice::<EnrollRequest>(&noise).is_err());
    }
}

#[cfg(feature = "link")]
fn open() -> Value {
    json!({"exec": {"rental_id": format!("rnt_{}", "2".repeat(32)), "exec": {"command": ["sh", "-c", "x"], "shell": false,
        "terminal": {"term": "xterm", "size": {"columns": 80, "rows": 24}}, "env": {"A": "b"}}}})
}

#[cfg(feature = "link")]
proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn what_opens_a_stream_is_read_or_refused(
        open in mangled(open().to_string()),
        opened in mangled(r#"{"refused":{"code":"port_not_open","detail":"nobody listens"}}"#),
    ) {
        use crate::link::open::{Open, Opened};
        holds::<Open>(&open);
        holds::<Opened>(&opened);
    }
}

fn params() -> Params {
    Params {
        created_s: 1_800_000_000,
        nonce: "n0nce".to_owned(),
        key_id: format!("nod_{}", "1".repeat(32)),
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_change_of_a_signed_request_passes(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3), which in 0..4_usize, body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let key = key();
        let request = Request { method: "POST", target_uri: "https://m.example/x", body: Some(&body) };
        let signed = http_signature::sign(&key, &request, &params());
        let digest = signed.content_digest.clone().expect("of a body");
        let original = [digest.into_bytes(), signed.signature_input.into_bytes(), signed.signature.into_bytes(), body.clone()];
        let mut parts = original.clone();
        for (at, byte) in &edits {
            let part = &mut parts[which];
            if part.is_empty() {
                part.push(*byte);
            } else {
                let at = at.index(part.len());
                part[at] = *byte;
            }
        }
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let outcome = http_signature::parse(Some(&parts[3]), Some(&text(&parts[0])), &text(&parts[1]), &text(&parts[2]))
            .and_then(|unverified| unverified.verify(&key.public(), &Request { body: Some(&parts[3]), ..request }));
        prop_assert_eq!(outcome.is_ok(), parts == original);
    }

    #[test]
    fn signature_headers_are_read_or_refused(
        input in prop_oneof![".{0,600}", mangled_text(r#"sig1=("@method" "@target-uri");created=5;nonce="n";keyid="k";alg="ed25519";tag="ramarket-agent""#)],
        signature in prop_oneof![".{0,100}", mangled_text(format!("sig1=:{}:", key().sign("d", b"m")))],
    ) {
        if let Ok(unverified) = http_signature::parse(None, None, &input, &signature) {
            let params = unverified.params;
            prop_assert!(!params.nonce.is_empty() && params.nonce.len() <= 64 && params.key_id.len() <= 512);
            let digits = params.created_s.to_string();
            prop_assert!(input.contains(&format!("created={digits}")) || input.contains("created=0") || input.contains("created=-0"), "{}", input);
        }
    }
}
