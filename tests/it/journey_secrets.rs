//! Secrets stay secret: after a whole run (signing up and in, refreshing, keys, identity, an issuer elsewhere, webhooks, a second factor, links by mail, enrolment, rentals
//! that are paid by a wallet and from a balance) none of those used is in clear in a log, a problem, the settings as shown, or the files
//! of the databases. The values of a rental's variables are nowhere but where the node needs them.

use std::{fs, path::Path, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use system_tests::{
    api::{Answer, Api},
    authenticator::code_of,
    market::{Market, Store},
    node::enrolment_token,
    payer::Payer,
    people,
    stage::Stage,
    wait,
};

const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "correct horse battery staple, 4711";
const WRONG_PASSWORD: &str = "almost my password, 4711";
const ENV_VALUE: &str = "the-database-password-of-a-tenant";
const PULL_TOKEN: &str = "dckr_pat_of-a-tenant-4711";
const WORD: &str = "--token=another-password-of-a-tenant";
const CRON_TOKEN: &str = "cron-token-of-the-secrets-test-0123456789";
const CLIENT_SECRET: &str = "what only the issuer and we should know";
/// `whsec_` and base64.
const KYC_SECRET: &str = "whsec_c2VjcmV0cyB0ZXN0LCBob3N0ZWQgcHJvdmlkZXI=";
/// Of a picture: what its base64 and its bytes hold.
const DOCUMENT: &str = "\u{89}the face of a person";

/// Secrets, each by the name that a failure may show; and problems that might tell them.
#[derive(Default)]
struct Used {
    secrets: Vec<(&'static str, Vec<u8>)>,
    problems: Vec<Answer>,
}

impl Used {
    fn secret(&mut self, name: &'static str, secret: impl Into<Vec<u8>>) {
        let secret = secret.into();
        assert!(secret.len() >= 12, "{name} would be found anywhere");
        self.secrets.push((name, secret));
    }

    /// The names of those that `bytes` hold.
    fn found(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let held = |secret: &[u8]| bytes.windows(secret.len()).any(|part| part == secret);
        let found = self.secrets.iter().filter(|(_, secret)| held(secret));
        found
            .map(|(name, _)| format!("{name} in {place}"))
            .collect()
    }
}

fn text(answer: &Value, key: &str) -> String {
    answer[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {answer}"))
        .to_owned()
}

/// Signs up, in and refreshes; fails in every way that might tell a secret.
async fn sign_in(market: &Market, used: &mut Used) -> Api {
    let api = market.api();
    let who = json!({"email": EMAIL, "password": PASSWORD});
    let mut pairs = vec![api.post("/auth/signup", &who).await.is(201)];
    pairs.push(api.post("/auth/login", &who).await.is(200));
    let refresh = json!({"refresh_token": pairs[1]["refresh_token"]});
    pairs.push(api.post("/auth/refresh", &refresh).await.is(200));
    for pair in &pairs {
        used.secret("an access token", text(pair, "access_token"));
        used.secret("a refresh token", text(pair, "refresh_token"));
    }
    let wrong = json!({"email": EMAIL, "password": WRONG_PASSWORD});
    let cut = text(&pairs[1], "access_token")[1..].to_owned();
    used.secret("a cut access token", cut.as_bytes());
    used.secret("the password", PASSWORD);
    used.secret("a wrong password", WRONG_PASSWORD);
    used.problems.extend([
        api.post("/auth/login", &wrong).await,
        api.post("/auth/signup", &who).await,
        api.post("/auth/login", &json!({"email": 5, "password": PASSWORD}))
            .await,
        api.post("/auth/login", &json!(PASSWORD)).await,
        api.bearing(&cut).get("/auth/me").await,
        api.post(
            "/auth/refresh",
            &json!({"refresh_token": [text(&pairs[0], "refresh_token")]}),
        )
        .await,
        // nobody answers there
        api.get("/auth/oidc/elsewhere/start").await,
    ]);
    api.bearing(&text(&pairs[2], "access_token"))
}

/// An API key, a webhook, and a document of identity.
async fn make_keys(market: &Market, mine: &Api, used: &mut Used) {
    let wish = json!({"name": "test", "scopes": ["account:read"]});
    let key = text(&mine.post("/api-keys", &wish).await.is(201), "key");
    market.api().bearing(&key).get("/auth/me").await.is(200);
    used.problems
        .push(market.api().bearing(&key).post("/api-keys", &wish).await);
    used.secret("an api key", key);

    let hook = json!({"url": "https://192.0.2.1/hooks"});
    used.problems.push(mine.post("/webhooks", &hook).await);
    let hook = json!({"url": "https://example.org/hooks"});
    let made = mine.post("/webhooks", &hook).await.is(201);
    let turned = format!("/webhooks/{}/rotate-secret", text(&made, "id"));
    let turned = mine.post(&turned, &json!({})).await.is(200);
    for answer in [&made, &turned] {
        let secret = text(answer, "secret");
        let bytes = BASE64.decode(secret.trim_start_matches("whsec_"));
        used.secret("a webhook's secret", secret);
        used.secret("the bytes of a webhook's secret", bytes.expect("base64"));
    }

    let content = BASE64.encode([b"%PDF-1.7 ", DOCUMENT.as_bytes()].concat());
    let sent = json!({"documents": [{"kind": "passport", "content": content}]});
    mine.post("/kyc", &sent).await.is(201);
    used.problems.push(mine.post("/kyc", &sent).await);
    used.secret("a document", DOCUMENT);
    used.secret("a document in base64", &content[12..30]);
}

/// Rents with something secret in variables and command, by a wallet and from a balance.
async fn rent(stage: &Stage, mine: &Api, used: &mut Used) {
    let payer = Payer::new();
    let mut order = stage.order(&["sleep", "600", WORD], 600);
    order["command"] = json!(["sh", "-c", "sleep 600", WORD]);
    order["env"] = json!({ "PGPASSWORD": ENV_VALUE });
    order["registry_auth"] = json!({"username": "ada", "password": PULL_TOKEN});
    let rented = payer.rent(&stage.market.api(), &order).await;
    rented.until("running").await;
    used.secret("a variable's value", ENV_VALUE);
    used.secret("a word of a command", WORD);
    used.secret("a password at a registry", PULL_TOKEN);
    used.secret("a rental token", rented.api.token());
    used.secret("a wallet's key", payer.key_hex().trim_start_matches("0x"));
    let money = json!({"amount": {"amount": "5", "currency": "USDC"}, "source": "sandbox"});
    mine.post_once("/balance/topups", &money, "top-up")
        .await
        .is(201);
    order["pay_with"] = json!("balance");
    let bought = mine.post_once("/rentals", &order, "rent").await.is(201);
    assert_ne!(text(&bought, "id"), rented.id);
    let mut odd = order.clone();
    for env in [
        json!({ "NOT A NAME": ENV_VALUE }),
        json!({ "PGPASSWORD": [ENV_VALUE] }),
        json!(ENV_VALUE),
    ] {
        odd["env"] = env;
        used.problems
            .push(mine.post_once("/rentals", &odd, "odd").await);
    }
    odd["env"] = json!({ "PGPASSWORD": ENV_VALUE });
    odd["registry_auth"] = json!({"username": "a:b", "password": PULL_TOKEN});
    used.problems
        .push(mine.post_once("/rentals", &odd, "odd").await);
    odd["registry_auth"] = json!(PULL_TOKEN);
    used.problems
        .push(mine.post_once("/rentals", &odd, "odd").await);
    odd["registry_auth"] = order["registry_auth"].clone();
    odd["env"] = json!({ "PGPASSWORD": ENV_VALUE, "MORE": "x" });
    // the key is taken by another order
    used.problems
        .push(mine.post_once("/rentals", &odd, "rent").await);
    let searched = in_files(&databases(stage), used);
    assert!(searched.is_empty(), "while it runs: {searched:?}");
    rented.stop().await;
    rented.until_settled().await;
}

/// A second factor, logins that need it, and a link by mail.
async fn prove_more(market: &Market, mine: &Api, used: &mut Used) {
    let begun = mine.post("/auth/totp", &Value::Null).await.is(201);
    let secret = text(&begun, "secret");
    let code = json!({ "code": code_of(&secret, 0) });
    let set = mine.post("/auth/totp/confirm", &code).await.is(200);
    for code in set["recovery_codes"].as_array().expect("codes") {
        used.secret("a recovery code", code.as_str().expect("text"));
    }
    let api = market.api();
    let who = json!({"email": EMAIL, "password": PASSWORD});
    let asked = api.post("/auth/login", &who).await;
    let challenge = asked.clone().is(401)["challenge"].clone();
    let code = json!({"challenge": challenge, "code": set["recovery_codes"][0]});
    api.post("/auth/login/totp", &code).await.is(200);
    used.problems
        .push(api.post("/auth/login/totp", &code).await);
    used.problems
        .push(mine.post("/auth/totp", &Value::Null).await);
    // as an app shows it, and as it is counted with
    let bytes = base32(&secret);
    used.secret("the secret of an authenticator", secret);
    used.secret("the bytes of the secret of an authenticator", bytes);

    let forgotten = json!({ "email": EMAIL });
    api.post("/auth/password/forgot", &forgotten).await.is(202);
    let link = wait::until("the link arrives", async || {
        let mails = fs::read_dir(market.data_dir().join("mail")).ok()?;
        let mails = mails.filter_map(|mail| fs::read_to_string(mail.ok()?.path()).ok());
        let texts: Vec<String> = mails.collect();
        let mut lines = texts.iter().flat_map(|text| text.lines());
        let link = lines.find_map(|line| line.split_once("/account/reset-password?token="))?;
        Some(link.1.trim().to_owned())
    })
    .await;
    let wrong = json!({"token": link, "password": "short"});
    used.problems
        .push(api.post("/auth/password/reset", &wrong).await);
    used.secret("the token of a link", link);
}

/// Bytes of RFC 4648 base32 without padding.
fn base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|it| *it == c);
        held = (held << 5) | u32::try_from(value.expect("base32")).expect("small");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).expect("a byte"));
        }
    }
    bytes
}

fn keys_of_ours(stage: &Stage, used: &mut Used) {
    let folder = stage.market.data_dir().join("keys");
    let mut names = 0;
    for file in fs::read_dir(&folder).expect("keys") {
        let path = file.expect("a file").path();
        let key = fs::read(&path).expect("a key");
        // of an Ed25519 key in PKCS #8 the seed: what follows is public
        let is_pkcs8 = path.extension().is_some_and(|it| it == "pk8");
        let secret = if is_pkcs8 { key[16..48].to_vec() } else { key };
        used.secret("a key of ours in hex", hex::encode(&secret));
        if let Ok(number) = hex::decode(&secret) {
            used.secret("a key of ours that is kept in hex", number);
        }
        used.secret("a key of ours in base64", BASE64.encode(&secret));
        used.secret("a key of ours", secret);
        names += 1;
    }
    assert!(names >= 5, "{names} keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_clear() {
    let folder = coordinator::store::testing::TempDir::new();
    let file = folder.path().join("client_secret");
    fs::write(&file, CLIENT_SECRET).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode).expect("private");
    let settings = [
        ("log.level", "debug"),
        ("cron_token", CRON_TOKEN),
        ("kyc.provider", "hosted"),
        ("kyc.webhook_secret", KYC_SECRET),
        ("outbound.allow_private", "127.0.0.2"),
        ("tasks.mail_ms", "100"),
        ("oidc.elsewhere.issuer", "http://127.0.0.2:9"),
        ("oidc.elsewhere.client_id", "ramarket"),
        (
            "oidc.elsewhere.client_secret_file",
            file.to_str().expect("text"),
        ),
    ];
    let mut stage = Stage::with(Store::Sqlite, &settings).await;
    let mut used = Used::default();
    used.secret("the cron token", CRON_TOKEN);
    used.secret("the secret of the hosted provider", KYC_SECRET);
    used.secret("the secret that an issuer knows", CLIENT_SECRET);
    let mine = sign_in(&stage.market, &mut used).await;
    make_keys(&stage.market, &mine, &mut used).await;
    let token = enrolment_token(&stage.provider).await;
    used.secret("an enrolment token", token);
    let cron = stage.market.api().bearing(CRON_TOKEN);
    used.problems.push(cron.get("/auth/me").await);
    rent(&stage, &mine, &mut used).await;
    prove_more(&stage.market, &mine, &mut used).await;
    people::admin(&stage.market).await;
    keys_of_ours(&stage, &mut used);

    let mut bad = Vec::new();
    for answer in &used.problems {
        assert!(answer.status >= 400, "a problem was wanted: {answer:?}");
        let shown = format!("{answer:?}");
        bad.extend(used.found(&shown, shown.as_bytes()));
    }
    for (place, log) in [
        ("the coordinator's log", stage.market.log()),
        ("the agent's log", stage.node.log()),
        ("the helper's log", stage.node.helper_log()),
    ] {
        assert!(log.len() > 500, "{place} is nearly empty");
        bad.extend(used.found(place, log.as_bytes()));
    }
    let settings = stage.market.run(&["check"]);
    assert!(settings.status.success(), "{settings:?}");
    bad.extend(used.found("the settings as shown", &settings.stdout));
    bad.extend(in_files(&databases(&stage), &used));
    stage.market.stop();
    bad.extend(in_files(&databases(&stage), &used));
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The files of the market's database and of the agent's journal, write-ahead logs and indexes included.
fn databases(stage: &Stage) -> Vec<PathBuf> {
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .filter(|path| path.to_string_lossy().contains(".db"))
            .collect()
    };
    let (market, agent) = (files(stage.market.folder()), files(&stage.node.data_dir()));
    assert!(
        !market.is_empty() && !agent.is_empty(),
        "{market:?} {agent:?}"
    );
    [market, agent].concat()
}

/// Looks through files, raw; what is there in clear is found, so the search is one.
fn in_files(files: &[PathBuf], used: &Used) -> Vec<String> {
    let (mut bad, mut sees) = (Vec::new(), false);
    for path in files {
        let bytes = fs::read(path).expect("a file");
        bad.extend(used.found(&path.display().to_string(), &bytes));
        sees |= bytes
            .windows(EMAIL.len())
            .any(|part| part == EMAIL.as_bytes());
    }
    assert!(sees, "not even an address is found in {files:?}");
    bad
}
