//! The decision by itself; what it means for every route is shown by the matrix.

use std::collections::BTreeSet;

use shared::id::Ids;

use super::{Line, line, table::TABLE};
use crate::{
    context::{Actor, ApiKey, Role, Scope},
    error::Kind,
};

fn key(roles: &[Role], scopes: &[Scope]) -> Actor {
    let ids = Ids::counting();
    Actor::ApiKey(ApiKey {
        id: ids.mint(),
        user: ids.mint(),
        roles: roles.iter().copied().collect(),
        scopes: scopes.iter().copied().collect(),
    })
}

fn of(operation: &str) -> &'static Line {
    line(operation).expect("a line")
}

fn code(operation: &str, actor: &Actor) -> &'static str {
    of(operation).decide(actor).expect_err("refused").code()
}

#[test]
fn each_operation_has_one_line() {
    let names: BTreeSet<&str> = TABLE.iter().map(|line| line.operation).collect();
    assert_eq!(names.len(), TABLE.len());
    assert_eq!(line("something_new"), None);
    assert_eq!(super::no_line().kind(), Kind::Forbidden);
}

#[test]
fn a_key_needs_the_scope_and_the_role_and_never_runs_the_market() {
    let provider = [Role::Consumer, Role::Provider];
    let full = key(&provider, &Scope::ALL);
    assert!(of("create_offer").decide(&full).is_ok());
    assert_eq!(code("run_metering", &full), "key_not_allowed");
    let narrow = key(&provider, &[Scope::RentalsRead]);
    assert_eq!(code("create_offer", &narrow), "scope_required");
    // anybody may order without an account, but not in this account's name
    assert_eq!(code("create_rental", &narrow), "scope_required");
    assert!(of("list_offers").decide(&narrow).is_ok());
    let consumer = key(&[Role::Consumer], &Scope::ALL);
    assert_eq!(code("create_offer", &consumer), "forbidden");
}

#[test]
fn tokens_open_what_they_are_for() {
    let ids = Ids::counting();
    let token = Actor::RentalToken(ids.mint());
    assert!(of("get_rental").decide(&token).is_ok());
    assert_eq!(code("list_nodes", &token), "forbidden");
    assert!(of("run_metering").decide(&Actor::System).is_ok());
    assert_eq!(code("get_rental", &Actor::System), "cron_token");
    assert_eq!(code("list_offers", &Actor::System), "cron_token");
    assert_eq!(code("me", &Actor::Anonymous), "sign_in_required");
    assert_eq!(code("me", &Actor::Node(ids.mint())), "sign_in_required");
}

#[test]
fn every_operation_of_the_document_has_a_line_and_every_line_an_operation() {
    let document = crate::router::openapi();
    let mut served = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            served.extend(operation["operationId"].as_str());
        }
    }
    let lines: BTreeSet<&str> = TABLE.iter().map(|line| line.operation).collect();
    assert_eq!(served, lines, "add a line to domain/access/table.rs");
}
