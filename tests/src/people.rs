//! Those who have accounts: signed up over HTTP, or made by the operator.

use std::io::Write as _;

use serde_json::json;

use crate::{api::Api, market::Market};

const PASSWORD: &str = "a long password of tests";

/// Signs somebody up (`roles`: `consumer`, `provider`) and returns the API as them.
///
/// # Panics
/// If that is refused.
pub async fn signup(market: &Market, name: &str, roles: &[&str]) -> Api {
    let body = json!({"email": email(name), "password": PASSWORD, "roles": roles});
    let answer = market.api().post("/auth/signup", &body).await.is(201);
    let token = answer["access_token"].as_str().expect("a token");
    market.api().bearing(token)
}

/// Signs somebody in who has an account, and returns the API as them.
///
/// # Panics
/// If that is refused.
pub async fn login(market: &Market, name: &str) -> Api {
    let body = json!({"email": email(name), "password": PASSWORD});
    let answer = market.api().post("/auth/login", &body).await.is(200);
    let token = answer["access_token"].as_str().expect("a token");
    market.api().bearing(token)
}

/// Somebody who rents.
pub async fn consumer(market: &Market) -> Api {
    signup(market, "consumer", &["consumer"]).await
}

/// Somebody who lends machines.
pub async fn provider(market: &Market) -> Api {
    signup(market, "provider", &["provider"]).await
}

/// An administrator, made by the operator as administrators are.
///
/// # Panics
/// If that fails.
pub async fn admin(market: &Market) -> Api {
    let file = market.folder().join("admin.password");
    let mut written = std::fs::File::create(&file).expect("a file");
    writeln!(written, "{PASSWORD}").expect("a password");
    let file = file.to_str().expect("text");
    let email = email("admin");
    let arguments = [
        "user",
        "create",
        "--email",
        &email,
        "--admin",
        "--password-file",
        file,
    ];
    let made = market.run(&arguments);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "no admin: {said}");
    login(market, "admin").await
}

fn email(name: &str) -> String {
    format!("{name}@ramarket.example")
}
