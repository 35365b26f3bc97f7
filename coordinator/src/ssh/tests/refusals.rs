//! Who isn't let in, and what they are told; who has to leave.

use std::process::Stdio;

use serde_json::json;
use shared::id::RentalId;

use super::{Came, Reach, ended, run, until};
use crate::testing::request;

async fn refused(reach: &Reach, key: &str, rental: RentalId) -> Came {
    let came = run(&mut reach.ssh_as(key, rental, &[], &["true"])).await;
    assert_eq!(came.code, Some(255), "{came:?}");
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_tells_an_unknown_rental_from_an_unknown_key() {
    let mut reach = Reach::open().await;
    reach.keygen("stranger");
    let (other, _) = reach.rent("stranger").await;
    let unknown: RentalId = "rnt_ffffffffffffffffffffffffffffffff"
        .parse()
        .expect("an id");
    let ours = reach.rental;
    let mut said = Vec::new();
    for (key, rental) in [
        ("stranger", ours),
        ("key", other),
        ("key", unknown),
        ("stranger", unknown),
    ] {
        let came = refused(&reach, key, rental).await;
        said.push(came.err.replace(&rental.to_string(), "RENTAL"));
    }
    assert!(
        said[0].contains("Permission denied (publickey)"),
        "{said:?}"
    );
    assert!(said.iter().all(|err| *err == said[0]), "{said:?}");
    // nor is a user name looked at that isn't a rental
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.args(reach.options("key"))
        .arg("root@127.0.0.1")
        .arg("true");
    let came = run(ssh.stdout(Stdio::piped()).stderr(Stdio::piped())).await;
    assert_eq!(came.err.replace("root", "RENTAL"), said[0]);
    assert!(reach.double.asked.lock().expect("fine").is_empty());
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_its_account_open_a_rental_and_no_others_do() {
    let mut reach = Reach::open().await;
    let test = &reach.market.test;
    let ada = test.signup("ada@example.org", &["consumer"]).await;
    reach.keygen("ada");
    let body = json!({"public_key": reach.public("ada")});
    let added = test.post("/api/v1/ssh-keys", &ada, &body).await.json();
    let mut payer = crate::testing::payer::Payer::numbered(7);
    let order = reach.market.order(600);
    let bought = payer
        .buy(test, "/api/v1/rentals", &ada, &order)
        .await
        .json();
    let rental: RentalId = bought["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    let early = refused(&reach, "ada", rental).await;
    assert!(
        early.err.contains("doesn't run yet (scheduled)"),
        "{early:?}"
    );
    reach.market.node.beat(test).await;
    reach.market.node.start(rental);
    reach.market.node.beat(test).await;
    let came = run(&mut reach.ssh_as("ada", rental, &[], &["echo in"])).await;
    assert_eq!(came.text(), "in\n", "{came:?}");
    refused(&reach, "key", rental).await;
    refused(&reach, "ada", reach.rental).await;
    let user = test.get("/api/v1/auth/me", &ada).await.json()["id"].clone();
    let recorded = super::reached(&reach).await;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(user, *recorded[0].actor);
    assert_eq!(recorded[0].via.as_deref(), added["id"].as_str());
    let keys = test.get("/api/v1/ssh-keys", &ada).await.json();
    assert!(keys["items"][0]["last_used_at"].is_string(), "{keys}");
    // a disabled account is told so, by whatever key
    let user = user.as_str().expect("an id").to_owned();
    let disable = test.app.db.write("test.disable", move |tx| {
        let statement = "UPDATE users SET disabled_us = 1 WHERE id = $1";
        Ok(tx.execute(statement, crate::params![user.as_str()])?)
    });
    assert_eq!(disable.await.expect("written"), 1);
    let came = refused(&reach, "ada", rental).await;
    assert!(came.err.contains("is disabled"), "{came:?}");
    assert!(added["id"].is_string());
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_key_of_an_ended_rental_is_told_so() {
    let reach = Reach::open().await;
    let test = &reach.market.test;
    let path = format!("/api/v1/rentals/{}/stop", reach.rental);
    let stopped = test
        .send(request(
            "POST",
            &path,
            &reach.token,
            &serde_json::Value::Null,
        ))
        .await;
    assert!(stopped.status.is_success(), "{stopped:?}");
    let came = refused(&reach, "key", reach.rental).await;
    assert!(came.err.contains("this rental"), "{came:?}");
    assert!(!came.err.contains("Permission denied"), "{came:?}");
    reach.keygen("stranger");
    let came = refused(&reach, "stranger", reach.rental).await;
    assert!(came.err.contains("Permission denied"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_away_ends_its_connection() {
    let reach = Reach::with(|config| config.ssh.recheck_s = 1).await;
    let marker = reach.path("runs");
    let command = format!("touch {}; cat", marker.display());
    let mut ssh = reach.ssh(&[], &[&command]);
    let child = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
    until("it runs", || marker.exists()).await;
    let path = format!("/api/v1/rentals/{}/ssh-keys", reach.rental);
    let none = json!({"ssh_keys": []});
    let put = request("PUT", &path, &reach.token, &none);
    assert!(reach.market.test.send(put).await.status.is_success());
    // its input stays open: it is the gateway that ends it
    let mut child = child;
    let stdin = child.stdin.take();
    let came = ended(child).await;
    drop(stdin);
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(
        came.err.contains("doesn't open the rental any more"),
        "{came:?}"
    );
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_moves_is_told_and_ended() {
    let reach = Reach::with(|config| config.ssh.idle_s = 10).await;
    let mut ssh = reach.ssh(&[], &["cat"]);
    let mut child = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
    let stdin = child.stdin.take();
    let came = ended(child).await;
    drop(stdin);
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(came.err.contains("nothing moved for 10 s"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_its_rental() {
    let reach = Reach::with(|config| config.ssh.recheck_s = 1).await;
    let marker = reach.path("runs");
    let command = format!("touch {}; cat", marker.display());
    let mut ssh = reach.ssh(&[], &[&command]);
    let mut child = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
    until("it runs", || marker.exists()).await;
    let path = format!("/api/v1/rentals/{}/stop", reach.rental);
    let stop = request("POST", &path, &reach.token, &serde_json::Value::Null);
    assert!(reach.market.test.send(stop).await.status.is_success());
    let stdin = child.stdin.take();
    let came = ended(child).await;
    drop(stdin);
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(came.err.contains("this rental"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_goodbye() {
    let reach = Reach::open().await;
    let marker = reach.path("runs");
    let command = format!("touch {}; cat", marker.display());
    let mut ssh = reach.ssh(&[], &[&command]);
    let mut child = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
    until("it runs", || marker.exists()).await;
    let stdin = child.stdin.take();
    reach.lifecycle.stop().await.expect("in good order");
    let came = ended(child).await;
    drop(stdin);
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(came.err.contains("the gateway restarts"), "{came:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_too_many_keys_is_cut_off() {
    let reach = Reach::with(|config| config.ssh.refusals_per_minute_ip = 3).await;
    reach.keygen("stranger");
    for _ in 0..3 {
        let came = refused(&reach, "stranger", reach.rental).await;
        assert!(came.err.contains("Permission denied"), "{came:?}");
    }
    let came = refused(&reach, "stranger", reach.rental).await;
    assert!(!came.err.contains("Permission denied"), "{came:?}");
    // whoever has the right key still comes in
    let came = run(&mut reach.ssh(&[], &["echo in"])).await;
    assert_eq!(came.text(), "in\n", "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_each_kind_open_a_rental_and_those_that_dont_come_first_do_no_harm() {
    let mut reach = Reach::open().await;
    reach.keygen_of("rsa", &["-t", "rsa", "-b", "2048"]);
    for bits in ["256", "384", "521"] {
        let name = format!("ecdsa{bits}");
        reach.keygen_of(&name, &["-t", "ecdsa", "-b", bits]);
        let (rental, _) = reach.rent(&name).await;
        let file = format!("IdentityFile={}", reach.path(&name).display());
        // the other key is offered first, and isn't taken
        let came = run(&mut reach.ssh_as("rsa", rental, &["-o", &file], &["echo in"])).await;
        assert_eq!(came.text(), "in\n", "{name}: {came:?}");
    }
    let order = json!({"ssh_keys": [reach.public("rsa")]});
    let path = format!("/api/v1/rentals/{}/ssh-keys", reach.rental);
    let refused = request("PUT", &path, &reach.token, &order);
    let refused = reach.market.test.send(refused).await;
    assert_eq!(refused.status.as_u16(), 422);
    assert!(refused.json().to_string().contains("RSA"), "{refused:?}");
    reach.close().await;
}
