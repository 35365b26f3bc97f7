//! Secrets stay secret: after a whole run (signing up and in, refreshing, keys, identity, enrolment, a paid rental) none of those used
//! is in clear in a log, a problem, the settings as shown, or the files of the database.
//!
//! One exception, with its reason in `docs/OPERATIONS.md`: the values of a rental's environment variables are in the database and in
//! the agent's folder, since the agent must be given them. They too are in no log and no problem.

use std::{fs, path::Path};

use serde_json::{Value, json};
use system_tests::{
    api::Answer,
    market::{Market, Store},
    node::enrolment_token,
    payer::Payer,
    people,
    stage::Stage,
};

const PASSWORD: &str = "correct horse battery staple, 4711";
const WRONG_PASSWORD: &str = "almost my password, 4711";
const ENV_VALUE: &str = "the-database-password-of-a-tenant";
const CRON_TOKEN: &str = "cron-token-of-the-secrets-test-0123456789";
/// `whsec_` and base64.
const WEBHOOK_SECRET: &str = "whsec_c2VjcmV0cyB0ZXN0LCBob3N0ZWQgcHJvdmlkZXI=";
/// Of a picture: what its base64 and its bytes hold.
const DOCUMENT: &str = "\u{89}the face of a person";

/// A secret, and by which name a failure may show it.
type Secrets = Vec<(&'static str, Vec<u8>)>;

fn text(answer: &Value, key: &str) -> String {
    answer[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {answer}"))
        .to_owned()
}

/// Whether `bytes` hold `secret`.
fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret)
}

fn found(place: &str, bytes: &[u8], secrets: &Secrets) -> Vec<String> {
    let found = secrets.iter().filter(|(_, secret)| holds(bytes, secret));
    found
        .map(|(name, _)| format!("{name} in {place}"))
        .collect()
}

/// Signs up, in and refreshes; fails in every way that might tell a secret.
async fn sign_in(market: &Market, secrets: &mut Secrets, problems: &mut Vec<Answer>) -> String {
    let api = market.api();
    let who = json!({"email": "ada@example.org", "password": PASSWORD});
    let mut pairs = vec![api.post("/auth/signup", &who).await.is(201)];
    pairs.push(api.post("/auth/login", &who).await.is(200));
    let used = json!({"refresh_token": pairs[1]["refresh_token"]});
    pairs.push(api.post("/auth/refresh", &used).await.is(200));
    for pair in &pairs {
        secrets.push(("an access token", text(pair, "access_token").into_bytes()));
        secrets.push(("a refresh token", text(pair, "refresh_token").into_bytes()));
    }
    let wrong = json!({"email": "ada@example.org", "password": WRONG_PASSWORD});
    problems.push(api.post("/auth/login", &wrong).await);
    problems.push(api.post("/auth/signup", &who).await);
    problems.push(
        api.post("/auth/login", &json!({"email": 5, "password": PASSWORD}))
            .await,
    );
    let cut = &text(&pairs[1], "access_token")[1..];
    secrets.push(("a cut access token", cut.as_bytes().to_vec()));
    problems.push(api.bearing(cut).get("/auth/me").await);
    problems.push(
        api.post(
            "/auth/refresh",
            &json!({"refresh_token": [text(&pairs[0], "refresh_token")]}),
        )
        .await,
    );
    secrets.push(("the password", PASSWORD.into()));
    secrets.push(("a wrong password", WRONG_PASSWORD.into()));
    text(&pairs[2], "access_token")
}

/// An API key, and a document of identity.
async fn make_keys(
    market: &Market,
    token: &str,
    secrets: &mut Secrets,
    problems: &mut Vec<Answer>,
) {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    let mine = market.api().bearing(token);
    let wish = json!({"name": "test", "scopes": ["account:read"]});
    let key = text(&mine.post("/api-keys", &wish).await.is(201), "key");
    market.api().bearing(&key).get("/auth/me").await.is(200);
    problems.push(market.api().bearing(&key).post("/api-keys", &wish).await);
    secrets.push(("an api key", key.into_bytes()));
    let content = BASE64.encode([b"%PDF-1.7 ", DOCUMENT.as_bytes()].concat());
    let sent = json!({"documents": [{"kind": "passport", "content": content}]});
    mine.post("/kyc", &sent).await.is(201);
    problems.push(mine.post("/kyc", &sent).await);
    secrets.push(("a document", DOCUMENT.into()));
    secrets.push(("a document in base64", content[12..30].into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_clear() {
    let stage = Stage::with(
        Store::Sqlite,
        &[
            ("log.level", "debug"),
            ("cron_token", CRON_TOKEN),
            ("kyc.provider", "hosted"),
            ("kyc.webhook_secret", WEBHOOK_SECRET),
        ],
    )
    .await;
    let (mut secrets, mut problems): (Secrets, Vec<Answer>) = Default::default();
    let market = &stage.market;
    let access = sign_in(market, &mut secrets, &mut problems).await;
    make_keys(market, &access, &mut secrets, &mut problems).await;
    secrets.push((
        "an enrolment token",
        enrolment_token(&stage.provider).await.into_bytes(),
    ));
    secrets.push(("the cron token", CRON_TOKEN.into()));
    secrets.push(("the webhook secret", WEBHOOK_SECRET.into()));
    problems.push(market.api().bearing(CRON_TOKEN).get("/auth/me").await);

    // a rental that is paid by a wallet, with something secret in its environment
    let payer = Payer::new();
    let mut order = stage.order(&["sleep", "600"], 600);
    order["env"] = json!({ "PGPASSWORD": ENV_VALUE });
    let rented = payer.rent(&market.api(), &order).await;
    rented.until("running").await;
    rented.stop().await;
    rented.until_settled().await;
    secrets.push(("a rental token", rented.api.token().as_bytes().to_vec()));
    secrets.push((
        "a wallet's key",
        payer.key_hex().trim_start_matches("0x").into(),
    ));
    order["env"] = json!({ "NOT A NAME": ENV_VALUE });
    problems.push(market.api().post("/rentals", &order).await);
    order["env"] = json!({ "PGPASSWORD": [ENV_VALUE] });
    problems.push(market.api().post("/rentals", &order).await);
    people::admin(market).await;
    for name in [
        "access.pk8",
        "journal_ack.pk8",
        "audit.pk8",
        "token_secret.bin",
        "kyc.bin",
    ] {
        let key = fs::read(market.data_dir().join("keys").join(name)).expect("a key");
        let last = key[key.len() - 32..].to_vec();
        secrets.push(("a key of ours in hex", hex::encode(&last).into_bytes()));
        secrets.push(("a key of ours", last));
    }

    let mut bad = Vec::new();
    let env: Secrets = vec![("a variable's value", ENV_VALUE.into())];
    for answer in &problems {
        assert!(answer.status >= 400, "a problem was wanted: {answer:?}");
        let shown = format!("{answer:?}");
        bad.extend(found(&shown, shown.as_bytes(), &secrets));
        bad.extend(found(&shown, shown.as_bytes(), &env));
    }
    for (place, log) in [
        ("the coordinator's log", market.log()),
        ("the agent's log", stage.node.log()),
    ] {
        assert!(log.len() > 500, "{place} is nearly empty");
        bad.extend(found(place, log.as_bytes(), &secrets));
        bad.extend(found(place, log.as_bytes(), &env));
    }
    let settings = market.command(&["check"]).output().expect("it runs");
    assert!(settings.status.success(), "{settings:?}");
    bad.extend(found("the settings as shown", &settings.stdout, &secrets));
    bad.extend(in_files(market.folder(), &secrets));
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Looks through the files of the database, raw.
fn in_files(folder: &Path, secrets: &Secrets) -> Vec<String> {
    let (mut bad, mut read) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        if name.starts_with("market.db") {
            let bytes = fs::read(&path).expect("a file");
            read += bytes.len();
            bad.extend(found(&name, &bytes, secrets));
            // the search finds what is there: an address is, in clear
            assert!(
                name.ends_with("-shm")
                    || bytes.is_empty()
                    || !name.ends_with(".db")
                    || read > 4_096
            );
        }
    }
    assert!(read > 100_000, "only {read} bytes of database");
    bad
}
