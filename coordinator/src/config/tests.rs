//! Tests of settings: their order, their bounds, and that the documents tell the truth about all of them.

use serde_json::Value;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn load(env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources {
        file: None,
        env: pairs(env),
        flags: pairs(flags),
    })
}

/// Every setting and its default.
fn settings() -> Vec<(String, Value)> {
    let defaults = serde_json::to_value(Config::default()).expect("json");
    let mut found = Vec::new();
    for (key, value) in defaults.as_object().expect("sections") {
        match value.as_object() {
            Some(section) => found.extend(
                section
                    .iter()
                    .map(|(inner, value)| (format!("{key}.{inner}"), value.clone())),
            ),
            None => found.push((key.clone(), value.clone())),
        }
    }
    assert!(found.len() > 40);
    let of_a_provider = OidcProviderConfig::KEYS;
    found.extend(of_a_provider.map(|key| (format!("oidc.<name>.{key}"), Value::Null)));
    found
}

#[test]
fn flag_before_variable_before_file_before_default() {
    let folder = crate::store::testing::TempDir::new();
    let file = folder.path().join("c.toml");
    std::fs::write(
        &file,
        "[market]\nfee_bps = 1\nhorizon_s = 100\nquote_ttl_s = 10\n",
    )
    .expect("written");
    let config = Config::load(&Sources {
        file: Some(file),
        env: pairs(&[
            ("RAMARKET_MARKET__FEE_BPS", "2"),
            ("RAMARKET_MARKET__HORIZON_S", "200"),
            ("RAMARKET_PAYMENTS__SANDBOX_GRANT", "7.5"),
            ("RAMARKET_HTTP__TRUSTED_PROXIES", "10.0.0.1, ::1"),
            ("RAMARKET_URL", "of another program"),
            ("HOME", "/root"),
        ]),
        flags: pairs(&[("market.fee_bps", "3")]),
    })
    .expect("fine");
    let market = &config.market;
    assert_eq!(
        (
            market.fee_bps,
            market.horizon_s,
            market.quote_ttl_s,
            market.lease_step_s
        ),
        (3, 200, 10, 60)
    );
    assert_eq!(config.payments.sandbox_grant.atomic(), 7_500_000);
    assert_eq!(config.http.trusted_proxies.len(), 2);
}

#[test]
fn what_is_unknown_or_out_of_bounds_is_refused_by_name() {
    let refused = |env: &[(&str, &str)], flags: &[(&str, &str)], name: &str| {
        let error = load(env, flags).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    };
    refused(
        &[("RAMARKET_MARKET__FEE", "2")],
        &[],
        "RAMARKET_MARKET__FEE",
    );
    refused(
        &[("RAMARKET_MARKT__FEE_BPS", "2")],
        &[],
        "RAMARKET_MARKT__FEE_BPS",
    );
    refused(
        &[("RAMARKET_MARKET__FEE_BPS", "5%")],
        &[],
        "RAMARKET_MARKET__FEE_BPS",
    );
    refused(&[], &[("market", "x")], "market");
    refused(&[], &[("market.fee_bps", "5001")], "market.fee_bps");
    refused(&[], &[("market.fee_bps", "4294967296")], "fee_bps");
    refused(
        &[],
        &[("market.lease_step_s", "901")],
        "market.lease_step_s",
    );
    refused(&[], &[("payments.pay_to", "0x1")], "payments.pay_to");
    refused(&[], &[("cron_token", "short")], "cron_token");
    refused(&[], &[("log.level", "a=b=c")], "log.level");
    let folder = crate::store::testing::TempDir::new();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[http]\nlisten_at = \"x\"\n").expect("written");
    let sources = |file| Sources {
        file: Some(file),
        ..Sources::default()
    };
    let error = Config::load(&sources(file))
        .expect_err("unknown")
        .to_string();
    assert!(error.contains("listen_at"), "{error}");
    assert!(Config::load(&sources(folder.path().join("absent"))).is_err());
}

#[test]
fn providers_are_named_by_the_operator() {
    let config = load(
        &[(
            "RAMARKET_OIDC__GOOGLE__ISSUER",
            "https://accounts.google.com",
        )],
        &[("oidc.google.client_id", "id")],
    )
    .expect("fine");
    let google = &config.oidc["google"];
    assert_eq!(
        (google.issuer.as_str(), google.client_id.as_str()),
        ("https://accounts.google.com", "id")
    );
    let half = load(&[], &[("oidc.google.client_id", "id")]);
    let told = half.expect_err("no issuer").to_string();
    assert!(told.contains("issuer"), "{told}");
    for unknown in ["oidc.google.secret", "oidc.google", "oidc.a.issuer.b"] {
        assert!(load(&[], &[(unknown, "x")]).is_err(), "{unknown}");
    }
}

#[test]
fn only_loopback_is_served_without_tls() {
    let ok = |listen: &str, url: &str| {
        let mut flags = vec![("http.listen", listen)];
        if !url.is_empty() {
            flags.push(("http.public_url", url));
        }
        load(&[], &flags).is_ok()
    };
    assert!(ok("127.0.0.1:1", "") && ok("[::1]:1", ""));
    assert!(ok("127.0.0.1:1", "http://localhost:1"));
    assert!(ok("127.0.0.1:1", "https://market.example"));
    assert!(!ok("0.0.0.0:1", "https://market.example"));
    let behind = |proxies: &str| {
        let flags = [
            ("http.listen", "0.0.0.0:1"),
            ("http.public_url", "https://market.example"),
            ("http.trusted_proxies", proxies),
        ];
        load(&[], &flags).is_ok()
    };
    assert!(behind("10.0.0.9") && !behind("127.0.0.1") && !behind(""));
    let own = |more: &[(&str, &str)]| {
        let mut flags = vec![("http.listen", "0.0.0.0:1"), ("http.tls_cert", "c.pem")];
        flags.extend(more);
        load(&[], &flags)
    };
    let config = own(&[("http.tls_key", "k.pem")]).expect("TLS of our own");
    assert_eq!(config.http.public_url(), "https://0.0.0.0:1");
    assert!(config.http.is_tls() && own(&[]).is_err());
    let plain = ("http.public_url", "http://localhost:1");
    assert!(own(&[("http.tls_key", "k.pem"), plain]).is_err());
    assert!(!ok("0.0.0.0:1", "") && !ok("10.0.0.1:1", "http://10.0.0.1:1"));
    assert!(!ok("0.0.0.0:1", "http://localhost:1"));
    assert!(!ok("127.0.0.1:1", "http://market.example"));
    for odd in [
        "https://market.example/",
        "https://a@b.c",
        "ftp://a.b",
        "market",
        "https://a.b/c?d",
    ] {
        assert!(!ok("127.0.0.1:1", odd), "{odd}");
    }
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let folder = crate::store::testing::TempDir::new();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").expect("written");
    let at = format!("@{}", file.display());
    let config = load(&[("RAMARKET_CRON_TOKEN", &at)], &[]).expect("fine");
    let token = config.cron_token.as_ref().expect("set");
    assert_eq!(token.expose(), "0123456789abcdef0123456789abcdef");
    let shown = format!("{config:?}{}", toml::to_string(&config).expect("toml"));
    assert!(!shown.contains("0123456789abcdef"));
}

#[test]
fn the_example_loads_and_names_every_setting_with_its_default() {
    let example = include_str!("../../coordinator.example.toml");
    let set: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = crate::store::testing::TempDir::new();
    for (name, text) in [
        ("as_is.toml", example.to_owned()),
        ("all_set.toml", set.clone()),
    ] {
        let file = folder.path().join(name);
        let text = text.replace("@/run/credentials/", "0123456789abcdef0123456789abcdef/");
        std::fs::write(&file, text).expect("written");
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Config::load(&sources).expect(name);
    }
    let parsed: Value = toml::from_str(&set).expect("toml");
    for (key, default) in settings() {
        let shown = key.replace("<name>", "google");
        let told = parsed.pointer(&format!("/{}", shown.replace('.', "/")));
        let told = told.unwrap_or_else(|| panic!("{key} is missing in the example"));
        assert!(
            default.is_null() || *told == default,
            "{key}: {told} but the default is {default}"
        );
    }
}

#[test]
fn the_reference_tells_every_setting_with_its_default() {
    let reference = include_str!("../../../docs/CONFIGURATION.md");
    let rows: Vec<Vec<&str>> = reference
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(
        rows.len(),
        settings().len(),
        "a row for each setting, and none more"
    );
    for (key, default) in settings() {
        let name = format!("`{key}`");
        let row = rows.iter().find(|row| row[1] == name);
        let row = row.unwrap_or_else(|| panic!("{key} is missing in docs/CONFIGURATION.md"));
        let variable = format!("`RAMARKET_{}`", key.to_uppercase().replace('.', "__"));
        assert_eq!(row[3], variable, "{key}");
        let told = match default {
            Value::Null => row[4].to_owned(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                format!("`{}`", items.join(","))
            }
            other => format!("`{other}`"),
        };
        assert_eq!(row[4], told, "{key}");
    }
}

#[test]
fn lists_of_ways_to_be_paid_are_read_and_bounded() {
    let folder = crate::store::testing::TempDir::new();
    let file = folder.path().join("c.toml");
    let pem = folder.path().join("key.pem");
    std::fs::write(
        &pem,
        "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
    )
    .expect("written");
    let load = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let file = Some(file.clone());
        Config::load(&Sources {
            file,
            ..Sources::default()
        })
    };
    let config = load(&format!(
        "[[payments.assets]]\ncurrency = \"EURC\"\n[[payments.assets]]\ncurrency = \"USDC\"\nnetwork = \"eip155:8453\"\n\
         [[payments.facilitators]]\nurl = \"https://f.example\"\nnetworks = [\"eip155:8453\"]\ncdp_key_id = \"k\"\n\
         cdp_key_secret = \"@{}\"\n[rates]\nfixed = [\"EURC/USDC=1.08\"]\n",
        pem.display()
    ))
    .expect("fine");
    let accepted = config.payments.accepted();
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[0].currency, shared::money::Asset::EURC);
    let secret = config.payments.facilitators[0]
        .cdp_key_secret
        .as_ref()
        .expect("set");
    assert!(secret.expose().contains("END EC"), "the whole file");
    assert!(!format!("{config:?}").contains("AAAA"));
    for (text, name) in [
        ("[[payments.assets]]\ncurrency = \"eurc\"\n", "currency"),
        (
            "[[payments.assets]]\ncurrency = \"EURC\"\nnetwork = \"base\"\n",
            "payments.assets.network",
        ),
        (
            "[[payments.assets]]\ncurrency = \"EURC\"\neip712_name = \"x\"\n",
            "payments.assets.token",
        ),
        (
            "[[payments.facilitators]]\nurl = \"http://f.example\"\nnetworks = []\n",
            "payments.facilitators.url",
        ),
        (
            "[[payments.networks]]\ncaip2 = \"eip155:0\"\n",
            "payments.networks.caip2",
        ),
        ("[rates]\nfixed = [\"EURC=1\"]\n", "rates.fixed"),
        (
            "[rates]\nfixed = [\"EURC/USDC=1\", \"USDC/EURC=1\"]\n",
            "rates.fixed",
        ),
        ("[rates]\nurl = \"https://r.example\"\n", "rates.public_key"),
    ] {
        let error = load(text).expect_err(name).to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
}
