//! Orders whose client was killed: who may ask what became of them, and what it counts meanwhile.

use std::time::Duration;

use crate::{
    program::Person,
    stub::{API_KEY, Fault, RENTAL, Stub},
};

const RENT: &str = "rent busybox:latest --ram 256MiB --duration 10m --no-wait";

/// Orders by an API key and is killed once the market has taken the order.
async fn killed(person: &Person, stub: &Stub, order: &str) {
    let mut command = person.command(order);
    let mut child = command.env("RAMARKET_API_KEY", API_KEY).spawn().unwrap();
    let mut waiting = tokio::time::interval(Duration::from_millis(5));
    while stub.seen().taken() == 0 {
        waiting.tick().await;
    }
    child.kill().await.unwrap();
}

/// Asks by an API key.
async fn resume(person: &Person, key: &str) -> (Option<i32>, String, String) {
    let mut command = person.command("-q resume");
    let output = command.env("RAMARKET_API_KEY", key).output().await.unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn only_who_ordered_is_told_and_crosses_out() {
    for balance in [false, true] {
        let stub = Stub::start(400_000, &[Fault::DropAfterEffect]).await;
        let person = Person::with_wallet(&stub.url).await;
        assert_eq!(person.run("wallet limit 0.5 --per-day 0.5").await.code, 0);
        let order = if balance { "--balance" } else { "" };
        killed(&person, &stub, &format!("{RENT} {order}")).await;
        let asked = stub.seen().bodies.len();
        let other = person.run("resume").await;
        assert_eq!(other.code, 4, "{other:?}");
        assert!(other.stderr.contains("ordered by"), "{other:?}");
        let (code, _, said) = resume(&person, "ram_live_another").await;
        assert_eq!(code, Some(4), "{said}");
        assert_eq!(stub.seen().bodies.len(), asked, "something was sent");
        if !balance {
            assert_eq!(person.run(RENT).await.code, 6, "it counts");
        }
        let (code, served, said) = resume(&person, API_KEY).await;
        assert_eq!((code, served), (Some(0), format!("{RENTAL}\n")), "{said}");
        assert_eq!(stub.seen().taken(), 1, "it was taken twice");
        let (code, served, _) = resume(&person, API_KEY).await;
        assert_eq!((code, served.as_str()), (Some(0), ""), "it is over");
    }
}

#[tokio::test]
async fn a_refused_order_from_the_balance_leaves_nothing_open() {
    let stub = Stub::start(500, &[Fault::CapacityGone]).await;
    let person = Person::new(&stub.url);
    let order = format!("{RENT} --balance");
    let mut command = person.command(&order);
    let refused = command.env("RAMARKET_API_KEY", API_KEY).output().await;
    assert_eq!(refused.unwrap().status.code(), Some(1));
    let mut command = person.command(&order);
    let unknown = command.env("RAMARKET_API_KEY", "ram_live_revoked").output();
    assert_eq!(unknown.await.unwrap().status.code(), Some(4));
    let asked = stub.seen().bodies.len();
    assert_eq!(person.run("resume").await.code, 0);
    assert_eq!(stub.seen().bodies.len(), asked);
}

#[tokio::test]
async fn the_days_limit_is_never_raised_in_silence() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    assert_eq!(person.run("wallet limit 0.5 --per-day 2").await.code, 0);
    let above = person.run("wallet limit 3").await;
    assert!(
        above.code == 2 && above.stderr.contains("--per-day"),
        "{above:?}"
    );
    let set = person.run("--json wallet limit 1.5").await;
    assert_eq!(set.json()["limit_per_day"], "2.000000", "{set:?}");
}

#[tokio::test]
async fn a_server_of_tools_takes_no_passphrase_from_its_messages() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    let refused = person.run("mcp --passphrase-file -").await;
    assert!(
        refused.code == 2 && refused.stderr.contains("standard input"),
        "{refused:?}"
    );
}
