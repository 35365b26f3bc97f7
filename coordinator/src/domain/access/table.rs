//! The table. A new operation needs a line here, and a row in the matrix of `tests/matrix`.

use super::{
    Caller::{Admin, Anyone, Cron, Person, Provider, RentalToken, Wallet},
    Keys::{Refused, With},
    Line,
};
use crate::context::Scope;

/// Every operation of the API, by area.
pub const TABLE: &[Line] = &[
    // auth
    Line::own_proof("signup"),
    Line::own_proof("login"),
    Line::own_proof("refresh"),
    Line::own_proof("logout"),
    Line::of("me", &[Person], With(Scope::AccountRead)),
    Line::of("step_up", &[Person], Refused),
    Line::own_proof("login_totp"),
    Line::of("begin_totp", &[Person], Refused).fresh(),
    Line::of("confirm_totp", &[Person], Refused).fresh(),
    Line::of("remove_totp", &[Person], Refused).fresh(),
    // the old password is in the request
    Line::of("change_password", &[Person], Refused),
    Line::own_proof("forgot_password"),
    Line::own_proof("reset_password"),
    Line::of("change_email", &[Person], Refused).fresh(),
    Line::of("request_email_verification", &[Person], Refused),
    Line::own_proof("verify_email"),
    Line::of("list_sessions", &[Person], Refused),
    Line::of("end_session", &[Person], Refused),
    Line::of("end_other_sessions", &[Person], Refused),
    Line::own_proof("wallet_challenge"),
    // a program and its own code; who confirms does so on a page, signed in
    Line::own_proof("begin_device_login"),
    Line::own_proof("redeem_device_login"),
    // signing in elsewhere: a provider's answer is its own proof, with the cookie of the attempt
    Line::own_proof("oidc_providers"),
    Line::own_proof("oidc_start"),
    Line::own_proof("oidc_callback"),
    Line::of("identities", &[Person], Refused),
    Line::of("link_identity", &[Person], Refused).fresh(),
    Line::of("unlink_identity", &[Person], Refused).fresh(),
    // keys: made by people only
    Line::of("create_api_key", &[Person], Refused).fresh(),
    Line::of("list_api_keys", &[Person], Refused),
    Line::of("revoke_api_key", &[Person], Refused),
    // one opens all that its account rents
    Line::of("create_ssh_key", &[Person], Refused).fresh(),
    Line::of("list_ssh_keys", &[Person], Refused),
    Line::of("delete_ssh_key", &[Person], Refused),
    Line::public("get_ssh_gateway"),
    // proof of identity: people only; the provider's webhook is signed
    Line::of("get_kyc", &[Person], Refused),
    Line::of("submit_kyc", &[Person], Refused),
    Line::own_proof("take_kyc_webhook"),
    // offers
    Line::public("list_offers"),
    Line::public("get_offer"),
    Line::public("market_summary"),
    Line::public("offer_price_history"),
    Line::of("create_offer", &[Provider], With(Scope::OffersWrite)),
    Line::of("change_offer", &[Provider, Admin], With(Scope::OffersWrite)),
    Line::of("delete_offer", &[Provider, Admin], With(Scope::OffersWrite)),
    // payments: whoever signs a payment needs no account
    Line::public("create_quote"),
    Line::of("authorize_payment", &[Anyone], With(Scope::RentalsWrite)),
    Line::of("complete_payment", &[Anyone], With(Scope::RentalsWrite)),
    Line::of("get_payment", &[Anyone], With(Scope::RentalsRead)),
    Line::of(
        "settle_rental",
        &[Person, RentalToken],
        With(Scope::RentalsWrite),
    ),
    Line::of("get_balance", &[Person], With(Scope::AccountRead)),
    Line::of("top_up", &[Person], With(Scope::BalanceWrite)),
    // money out
    Line::of("create_payout", &[Provider], Refused).fresh(),
    Line::of("withdraw", &[Person], Refused).fresh(),
    Line::of("list_payouts", &[Person], With(Scope::AccountRead)),
    Line::of("get_payout", &[Person], With(Scope::AccountRead)),
    Line::of("get_payout_address", &[Person], With(Scope::AccountRead)),
    Line::of("put_payout_address", &[Person], Refused).fresh(),
    // it only keeps what held: whoever sees the letter stops a thief at once
    Line::of("keep_payout_address", &[Person], Refused),
    // rentals
    Line::of("create_rental", &[Anyone], With(Scope::RentalsWrite)),
    Line::of(
        "list_rentals",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "get_rental",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "extend_rental",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsWrite),
    ),
    Line::of(
        "stop_rental",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsWrite),
    ),
    Line::of(
        "delete_rental",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsWrite),
    ),
    Line::of(
        "rental_events",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "rental_usage",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "rental_receipts",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "get_rental_ssh_keys",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    // reaching into them
    Line::of(
        "replace_rental_ssh_keys",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    Line::of(
        "create_ticket",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    // or by a ticket
    Line::of("rental_logs", &[Anyone], With(Scope::RentalsReach)),
    Line::of(
        "rental_metrics",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "rental_post_mortem",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    Line::of(
        "list_ports",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    Line::of(
        "open_port",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    Line::of(
        "close_port",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsReach),
    ),
    Line::or_ticket("rental_exec", Scope::RentalsReach),
    Line::or_ticket("rental_port", Scope::RentalsReach),
    Line::or_ticket("rental_files", Scope::RentalsReach),
    // a key would outlive itself by it
    Line::of("renew_rental_token", &[Person, Wallet], Refused),
    // documents
    Line::of(
        "list_invoices",
        &[Person, RentalToken],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "get_invoice",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "invoice_transfers",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "rental_invoice",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of("get_statement", &[Person], With(Scope::AccountRead)),
    Line::of("statement_transfers", &[Person], With(Scope::AccountRead)),
    // disputes
    Line::of(
        "report_rental",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsWrite),
    ),
    Line::of(
        "list_disputes",
        &[Person, RentalToken],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "get_dispute",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsRead),
    ),
    Line::of(
        "add_dispute_evidence",
        &[Person, RentalToken, Wallet],
        With(Scope::RentalsWrite),
    ),
    // nodes
    Line::of(
        "create_enrollment_token",
        &[Provider],
        With(Scope::NodesWrite),
    ),
    Line::own_proof("enroll_node"),
    Line::of("list_nodes", &[Provider, Admin], With(Scope::NodesRead)),
    Line::of("get_node", &[Provider, Admin], With(Scope::NodesRead)),
    Line::of(
        "get_node_blocklists",
        &[Provider, Admin],
        With(Scope::NodesRead),
    ),
    Line::of(
        "replace_node_blocklists",
        &[Provider, Admin],
        With(Scope::NodesWrite),
    ),
    Line::of("change_node", &[Provider, Admin], With(Scope::NodesWrite)),
    Line::of("retire_node", &[Provider, Admin], With(Scope::NodesWrite)),
    Line::of("cordon_node", &[Provider, Admin], With(Scope::NodesWrite)),
    Line::of("uncordon_node", &[Provider, Admin], With(Scope::NodesWrite)),
    Line::of("drain_node", &[Provider, Admin], With(Scope::NodesWrite)),
    Line::of(
        "plan_node_maintenance",
        &[Provider, Admin],
        With(Scope::NodesWrite),
    ),
    // agents: signed by the node's key, which the handler checks
    Line::own_proof("heartbeat"),
    Line::own_proof("node_link"),
    // live
    Line::of(
        "follow_events",
        &[Person, RentalToken],
        With(Scope::EventsRead),
    ),
    Line::of("list_webhooks", &[Person], With(Scope::WebhooksRead)),
    Line::of("get_webhook", &[Person], With(Scope::WebhooksRead)),
    Line::of(
        "list_webhook_deliveries",
        &[Person],
        With(Scope::WebhooksRead),
    ),
    Line::of("create_webhook", &[Person], With(Scope::WebhooksWrite)),
    Line::of("change_webhook", &[Person], With(Scope::WebhooksWrite)),
    Line::of("delete_webhook", &[Person], With(Scope::WebhooksWrite)),
    Line::of("test_webhook", &[Person], With(Scope::WebhooksWrite)),
    Line::of(
        "rotate_webhook_secret",
        &[Person],
        With(Scope::WebhooksWrite),
    ),
    Line::of(
        "replay_webhook_delivery",
        &[Person],
        With(Scope::WebhooksWrite),
    ),
    // figures over time
    Line::of(
        "provider_analytics",
        &[Provider],
        With(Scope::AnalyticsRead),
    ),
    Line::of("consumer_analytics", &[Person], With(Scope::AnalyticsRead)),
    Line::public("market_analytics"),
    // running the market
    Line::of("list_audit", &[Admin], Refused),
    Line::of("admin_list_nodes", &[Admin], Refused),
    Line::of("ban_node", &[Admin], Refused).fresh(),
    Line::of("unban_node", &[Admin], Refused).fresh(),
    Line::of("list_users", &[Admin], Refused),
    Line::of("change_roles", &[Admin], Refused).fresh(),
    Line::of("disable_user", &[Admin], Refused).fresh(),
    Line::of("enable_user", &[Admin], Refused).fresh(),
    Line::of("end_user_sessions", &[Admin], Refused).fresh(),
    Line::of("check_ledger", &[Admin], Refused),
    Line::of("resume_ledger", &[Admin], Refused).fresh(),
    Line::of("platform_figures", &[Admin], Refused),
    Line::of("refund", &[Admin], Refused).fresh(),
    Line::of("admin_list_payouts", &[Admin], Refused),
    Line::of("approve_payout", &[Admin], Refused).fresh(),
    Line::of("reject_payout", &[Admin], Refused).fresh(),
    Line::of("resolve_payout", &[Admin], Refused).fresh(),
    Line::of("admin_list_disputes", &[Admin], Refused),
    Line::of("decide_dispute", &[Admin], Refused).fresh(),
    Line::of("get_settings", &[Admin], Refused),
    Line::of("put_settings", &[Admin], Refused).fresh(),
    Line::public("get_announcement"),
    Line::of("list_kyc", &[Admin], Refused),
    Line::of("decide_kyc", &[Admin], Refused).fresh(),
    Line::of("download_kyc_document", &[Admin], Refused),
    // jobs
    Line::of("run_metering", &[Admin, Cron], Refused),
];
