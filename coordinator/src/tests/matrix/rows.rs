//! The matrix: what each kind of caller is answered. Columns:
//!
//! nobody · the consumer whose objects they are · another consumer · the provider whose objects they are · another provider · a node
//! by its key · an API key of the owner without the scope · one with every scope · an administrator · a rental's token · the cron token

/// Whose objects a row is about: whose API keys are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Consumer,
    Provider,
}
use Owner::{Consumer, Provider};

/// One operation.
#[derive(Debug)]
pub(super) struct Row {
    /// Its `operationId`.
    pub(super) operation: &'static str,
    /// Whose it is.
    pub(super) owner: Owner,
    /// The object in its path and its query: `rental`, `rental?limit=1`; empty without.
    pub(super) object: &'static str,
    /// JSON with `<names>` of objects; empty without.
    pub(super) body: &'static str,
    /// By caller, in the order of the columns.
    pub(super) answers: [u16; 11],
}

const fn row(
    operation: &'static str,
    owner: Owner,
    object: &'static str,
    body: &'static str,
    answers: [u16; 11],
) -> Row {
    Row {
        operation,
        owner,
        object,
        body,
        answers,
    }
}

const RENT: &str = r#"{"offer_id": "<offer>", "resources": {"ram_bytes": 268435456, "cpu_millis": 100},
    "duration_seconds": 600, "image": "busybox:latest", "command": ["sleep", "600"]}"#;
const AUTHORIZE: &str = r#"{"quote_id": "<quote>", "offer_id": "<offer>", "resources": {"ram_bytes": 268435456, "cpu_millis": 100},
    "duration_seconds": 600, "image": "busybox:latest"}"#;
const QUOTE: &str = r#"{"offer_id": "<offer>", "resources": {"ram_bytes": 268435456, "cpu_millis": 100}, "duration_seconds": 600}"#;
const OFFER: &str =
    r#"{"node_id": "<node>", "prices": {"ram_gib_hour": "0.003", "cpu_hour": "0"}}"#;
const RENTAL: &str = r#"{"rental_id": "<rental>"}"#;

/// Every operation. The order matters at the end only: signing out ends the callers' own sessions.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    //                                                                           none cons othr prov othr node key- key+ admn rtok cron
    row("signup", Consumer, "", r#"{"email": "u<fresh>@example.org", "password": "a long password"}"#,
                                                                                [201, 201, 201, 201, 201, 201, 201, 201, 201, 201, 201]),
    row("login", Consumer, "", r#"{"email": "consumer@example.org", "password": "a long password"}"#,
                                                                                [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200]),
    row("refresh", Consumer, "", r#"{"refresh_token": "unknown"}"#,             [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401]),
    row("me", Consumer, "", "",                                                 [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("step_up", Consumer, "", r#"{"password": "a long password"}"#,          [401, 204, 204, 204, 204, 401, 403, 403, 204, 403, 401]),
    row("login_totp", Consumer, "", r#"{"challenge": "unknown", "code": "000000"}"#,
                                                                                [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401]),
    row("wallet_challenge", Consumer, "", "",                                   [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200]),
    row("begin_device_login", Consumer, "", r#"{"client_name": "a test", "scopes": ["rentals:read"]}"#,
                                                                                [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200]),
    row("redeem_device_login", Consumer, "", r#"{"device_code": "unknown"}"#,   [400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400]),
    row("list_sessions", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("end_session", Consumer, "session", "",                                 [401, 204, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("end_other_sessions", Consumer, "", "",                                 [401, 204, 204, 204, 204, 401, 403, 403, 204, 403, 401]),
    row("change_password", Consumer, "", r#"{"current_password": "a long password", "new_password": "a long password"}"#,
                                                                                [401, 204, 204, 204, 204, 401, 403, 403, 204, 403, 401]),
    row("forgot_password", Consumer, "", r#"{"email": "u<fresh>@example.org"}"#,
                                                                                [202, 202, 202, 202, 202, 202, 202, 202, 202, 202, 202]),
    row("reset_password", Consumer, "", r#"{"token": "unknown", "password": "a long password"}"#,
                                                                                [422, 422, 422, 422, 422, 422, 422, 422, 422, 422, 422]),
    row("change_email", Consumer, "", r#"{"email": "u<fresh>@example.org"}"#,   [401, 202, 202, 202, 202, 401, 403, 403, 202, 403, 401]),
    row("request_email_verification", Consumer, "", "",                         [401, 202, 202, 202, 202, 401, 403, 403, 202, 403, 401]),
    row("verify_email", Consumer, "", r#"{"token": "unknown"}"#,                [422, 422, 422, 422, 422, 422, 422, 422, 422, 422, 422]),
    // none was begun, or confirmed
    row("confirm_totp", Consumer, "", r#"{"code": "000000"}"#,                  [401, 404, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("begin_totp", Consumer, "", "",                                         [401, 201, 201, 201, 201, 401, 403, 403, 201, 403, 401]),
    row("remove_totp", Consumer, "", "",                                        [401, 204, 204, 204, 204, 401, 403, 403, 204, 403, 401]),
    // no provider is set up here: what matters is who gets as far as to hear that
    row("oidc_providers", Consumer, "", "",                                     [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200]),
    row("oidc_start", Consumer, "provider", "",                                 [404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404]),
    row("oidc_callback", Consumer, "provider", "",                              [404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404]),
    row("identities", Consumer, "", "",                                         [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("link_identity", Consumer, "", r#"{"provider": "nowhere"}"#,            [401, 404, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("unlink_identity", Consumer, "identity", "",                            [401, 404, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("create_api_key", Consumer, "", r#"{"name": "a", "scopes": ["account:read"]}"#,
                                                                                [401, 201, 201, 201, 201, 401, 403, 403, 201, 403, 401]),
    row("list_api_keys", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("revoke_api_key", Consumer, "api_key", "",                              [401, 204, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("create_ssh_key", Consumer, "", r#"{"public_key": "ssh-ed25519 <fresh_key>"}"#,
                                                                                [401, 201, 201, 201, 201, 401, 403, 403, 201, 403, 401]),
    row("list_ssh_keys", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("delete_ssh_key", Consumer, "ssh_key", "",                              [401, 204, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("get_ssh_gateway", Consumer, "", "",                                    [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("get_kyc", Consumer, "", "",                                            [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("submit_kyc", Consumer, "", r#"{"documents": [{"kind": "passport", "content": "iVBORw0KGgo="}]}"#,
                                                                                [401, 201, 201, 201, 201, 401, 403, 403, 201, 403, 401]),
    // no hosted provider is set up here
    row("take_kyc_webhook", Consumer, "provider", "{}",                         [404, 404, 404, 404, 404, 404, 404, 404, 404, 404, 404]),

    row("list_offers", Consumer, "", "",                                        [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("get_offer", Consumer, "offer", "",                                     [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("market_summary", Consumer, "", "",                                     [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("offer_price_history", Consumer, "offer", "",                           [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("market_analytics", Consumer, "?resource=ram", "",                      [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("provider_analytics", Provider, "", "",                                 [401, 403, 403, 200, 200, 401, 403, 200, 403, 403, 401]),
    row("consumer_analytics", Consumer, "", "",                                 [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("create_offer", Provider, "", OFFER,                                    [401, 403, 403, 201, 404, 401, 403, 201, 403, 403, 401]),
    row("change_offer", Provider, "offer", r#"{"region": "north"}"#,            [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("delete_offer", Provider, "offer_of_its_own", "",                       [401, 403, 403, 204, 404, 401, 403, 204, 204, 403, 401]),

    row("create_quote", Consumer, "", QUOTE,                                    [201, 201, 201, 201, 201, 201, 201, 201, 201, 201, 401]),
    row("authorize_payment", Consumer, "", AUTHORIZE,                           [402, 402, 402, 402, 402, 402, 403, 402, 402, 402, 401]),
    row("complete_payment", Consumer, "", r#"{"payment_id": "<payment>"}"#,     [404, 201, 404, 404, 404, 404, 403, 201, 201, 201, 401]),
    row("get_payment", Consumer, "payment", "",                                 [404, 200, 404, 404, 404, 404, 403, 200, 200, 200, 401]),
    row("settle_rental", Consumer, "", RENTAL,                                  [401, 200, 404, 200, 404, 401, 403, 200, 200, 200, 401]),
    row("get_balance", Consumer, "", "",                                        [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("top_up", Consumer, "", r#"{"amount": {"amount": "1", "currency": "USDC"}}"#,
                                                                                [401, 402, 402, 402, 402, 401, 403, 402, 402, 403, 401]),

    // nobody has an address that holds yet, but the consumer, who took out all they had
    row("put_payout_address", Consumer, "", r#"{"address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}"#,
                                                                                [401, 200, 200, 200, 200, 401, 403, 403, 200, 403, 401]),
    row("get_payout_address", Consumer, "", "",                                 [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("keep_payout_address", Consumer, "", "",                                [401, 204, 204, 204, 204, 401, 403, 403, 204, 403, 401]),
    row("create_payout", Provider, "", r#"{"amount": {"amount": "5", "currency": "USDC"}}"#,
                                                                                [401, 403, 403, 409, 409, 401, 403, 403, 403, 403, 401]),
    row("withdraw", Consumer, "", r#"{"amount": {"amount": "90", "currency": "USDC"}}"#,
                                                                                [401, 409, 409, 409, 409, 401, 403, 403, 409, 403, 401]),
    row("list_payouts", Consumer, "", "",                                       [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("get_payout", Consumer, "payout", "",                                   [401, 200, 404, 404, 404, 401, 403, 200, 404, 403, 401]),

    row("create_rental", Consumer, "", RENT,                                    [402, 402, 402, 402, 402, 402, 403, 402, 402, 402, 401]),
    row("list_rentals", Consumer, "", "",                                       [401, 200, 200, 200, 200, 401, 403, 200, 200, 200, 401]),
    row("get_rental", Consumer, "rental", "",                                   [401, 200, 404, 200, 404, 401, 403, 200, 200, 200, 401]),
    row("extend_rental", Consumer, "rental", r#"{"duration_seconds": 600}"#,    [401, 402, 404, 404, 404, 401, 403, 402, 402, 402, 401]),
    row("rental_events", Consumer, "rental", "",                                [401, 200, 404, 200, 404, 401, 403, 200, 200, 200, 401]),
    row("rental_usage", Consumer, "rental", "",                                 [401, 200, 404, 200, 404, 401, 403, 200, 200, 200, 401]),
    row("rental_receipts", Consumer, "rental", "",                              [401, 200, 404, 200, 404, 401, 403, 200, 200, 200, 401]),
    row("stop_rental", Consumer, "rental", "",                                  [401, 200, 404, 404, 404, 401, 403, 200, 200, 200, 401]),
    row("delete_rental", Consumer, "rental", "",                                [401, 200, 404, 404, 404, 401, 403, 200, 200, 200, 401]),

    row("get_rental_ssh_keys", Consumer, "rental", "",                          [401, 200, 404, 404, 404, 401, 403, 200, 404, 200, 401]),
    row("replace_rental_ssh_keys", Consumer, "rental", r#"{"ssh_keys": ["ssh-ed25519 <fresh_key>"]}"#,
                                                                                [401, 200, 404, 404, 404, 401, 403, 200, 404, 200, 401]),
    row("renew_rental_token", Consumer, "rental", "",                           [401, 201, 404, 404, 404, 401, 403, 403, 404, 403, 401]),
    row("list_invoices", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 200, 200, 200, 401]),
    row("get_invoice", Consumer, "invoice", "",                                 [401, 200, 404, 200, 404, 401, 403, 200, 200, 404, 401]),
    row("invoice_transfers", Consumer, "invoice", "",                           [401, 200, 404, 200, 404, 401, 403, 200, 200, 404, 401]),
    // it runs
    row("rental_invoice", Consumer, "rental", "",                               [401, 409, 404, 409, 404, 401, 403, 409, 409, 409, 401]),
    row("get_statement", Consumer, "?month=2027-01", "",                        [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("statement_transfers", Consumer, "month", "",                           [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    // the world's dispute is about a rental that was reported already: reporting it again finds it
    row("report_rental", Consumer, "rental_in_dispute", r#"{"reason": "slow", "text": "a test"}"#,
                                                                                [401, 200, 404, 404, 404, 401, 403, 200, 403, 404, 401]),
    row("list_disputes", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 200, 200, 200, 401]),
    row("get_dispute", Consumer, "dispute", "",                                 [401, 200, 404, 200, 404, 401, 403, 200, 200, 404, 401]),
    row("add_dispute_evidence", Consumer, "dispute", r#"{"text": "a test"}"#,   [401, 201, 404, 201, 404, 401, 403, 201, 201, 404, 401]),

    row("create_enrollment_token", Provider, "", "",                            [401, 403, 403, 201, 201, 401, 403, 201, 403, 403, 401]),
    row("enroll_node", Provider, "", "enrol",                                   [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401]),
    row("list_nodes", Provider, "", "",                                         [401, 403, 403, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("get_node", Provider, "node", "",                                       [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("change_node", Provider, "node", r#"{"name": "attic"}"#,                [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("get_node_blocklists", Provider, "node", "",                            [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("replace_node_blocklists", Provider, "node", r#"{"images": []}"#,       [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("cordon_node", Provider, "node", "",                                    [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("plan_node_maintenance", Provider, "node", r#"{"windows": []}"#,         [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("drain_node", Provider, "node", "",                                     [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("uncordon_node", Provider, "node", "",                                  [401, 403, 403, 200, 404, 401, 403, 200, 200, 403, 401]),
    row("retire_node", Provider, "idle_node", "",                               [401, 403, 403, 204, 404, 401, 403, 204, 204, 403, 401]),
    row("heartbeat", Provider, "node", "{}",                                    [401, 401, 401, 401, 401, 200, 401, 401, 401, 401, 401]),
    // no agent is linked here, and nobody sends what opens a WebSocket: what matters is who gets as far as to hear that
    row("create_ticket", Consumer, "rental", r#"{"verb": "port", "port": 8080}"#, [401, 201, 404, 404, 404, 401, 403, 201, 404, 201, 401]),
    row("rental_logs", Consumer, "rental?tail=10", "",                          [401, 503, 404, 404, 404, 401, 403, 503, 404, 503, 401]),
    row("rental_metrics", Consumer, "rental", "",                               [401, 503, 404, 404, 404, 401, 403, 503, 404, 503, 401]),
    row("rental_post_mortem", Consumer, "rental", "",                           [401, 409, 404, 404, 404, 401, 403, 409, 404, 409, 401]),
    row("rental_exec", Consumer, "rental", "",                                  [401, 400, 404, 404, 404, 401, 403, 400, 404, 400, 401]),
    row("rental_port", Consumer, "rental/container_port", "",                   [401, 400, 404, 404, 404, 401, 403, 400, 404, 400, 401]),
    row("rental_files", Consumer, "rental", "",                                 [401, 400, 404, 404, 404, 401, 403, 400, 404, 400, 401]),
    row("list_ports", Consumer, "rental", "",                                   [401, 200, 404, 404, 404, 401, 403, 200, 404, 200, 401]),
    // rentals have no host names here
    row("open_port", Consumer, "rental/container_port", r#"{"public": true}"#,  [401, 409, 404, 404, 404, 401, 403, 409, 404, 409, 401]),
    row("close_port", Consumer, "rental/container_port", "",                    [401, 204, 404, 404, 404, 401, 403, 204, 404, 204, 401]),
    row("node_link", Provider, "node?beacon=none", "",                          [401, 401, 401, 401, 401, 101, 401, 401, 401, 401, 401]),

    row("follow_events", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 200, 200, 200, 401]),
    row("list_webhooks", Consumer, "", "",                                      [401, 200, 200, 200, 200, 401, 403, 200, 200, 403, 401]),
    row("create_webhook", Consumer, "", r#"{"url": "https://hooks.invalid/"}"#, [401, 201, 201, 201, 201, 401, 403, 201, 201, 403, 401]),
    row("get_webhook", Consumer, "hook", "",                                    [401, 200, 404, 404, 404, 401, 403, 200, 404, 403, 401]),
    row("change_webhook", Consumer, "hook", r#"{"description": "a test"}"#,     [401, 200, 404, 404, 404, 401, 403, 200, 404, 403, 401]),
    row("rotate_webhook_secret", Consumer, "hook", "{}",                          [401, 200, 404, 404, 404, 401, 403, 200, 404, 403, 401]),
    row("test_webhook", Consumer, "hook", "",                                   [401, 202, 404, 404, 404, 401, 403, 202, 404, 403, 401]),
    row("list_webhook_deliveries", Consumer, "hook", "",                        [401, 200, 404, 404, 404, 401, 403, 200, 404, 403, 401]),
    row("replay_webhook_delivery", Consumer, "hook/delivery", "",               [401, 202, 404, 404, 404, 401, 403, 202, 404, 403, 401]),
    row("delete_webhook", Consumer, "hook_of_its_own", "",                      [401, 204, 404, 404, 404, 401, 403, 204, 404, 403, 401]),
    row("list_audit", Consumer, "", "",                                         [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("admin_list_nodes", Consumer, "", "",                                   [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("ban_node", Provider, "idle_node", r#"{"reason": "a test"}"#,           [401, 403, 403, 403, 403, 401, 403, 403, 409, 403, 401]),
    row("unban_node", Provider, "idle_node", r#"{"reason": "a test"}"#,         [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("list_users", Consumer, "", "",                                         [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("change_roles", Consumer, "user", r#"{"grant": ["provider"], "reason": "a test"}"#,
                                                                                [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("enable_user", Consumer, "user", r#"{"reason": "a test"}"#,             [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("end_user_sessions", Consumer, "user", r#"{"reason": "a test"}"#,       [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("disable_user", Consumer, "user", r#"{"reason": "a test"}"#,       [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("check_ledger", Consumer, "", "",                                       [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("resume_ledger", Consumer, "", r#"{"reason": "a test"}"#,               [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("platform_figures", Consumer, "", "",                                   [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    // nothing was charged yet: more than that isn't refunded
    row("refund", Consumer, "", r#"{"rental_id": "<rental>", "amount": {"amount": "1", "currency": "USDC"}, "reason": "a test"}"#,
                                                                                [401, 403, 403, 403, 403, 401, 403, 403, 422, 403, 401]),
    row("admin_list_payouts", Consumer, "?state=sent", "",                      [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    // it was paid
    row("approve_payout", Consumer, "payout", r#"{"reason": "a test"}"#,        [401, 403, 403, 403, 403, 401, 403, 403, 409, 403, 401]),
    row("reject_payout", Consumer, "payout", r#"{"reason": "a test"}"#,         [401, 403, 403, 403, 403, 401, 403, 403, 409, 403, 401]),
    row("resolve_payout", Consumer, "payout", r#"{"reason": "a test"}"#,        [401, 403, 403, 403, 403, 401, 403, 403, 409, 403, 401]),
    row("admin_list_disputes", Consumer, "", "",                                [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    // its rental is still being stopped
    row("decide_dispute", Consumer, "dispute", r#"{"refund": "none", "reason": "a test"}"#,
                                                                                [401, 403, 403, 403, 403, 401, 403, 403, 409, 403, 401]),
    row("get_settings", Consumer, "", "",                                       [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("put_settings", Consumer, "", r#"{"fee_bps": null, "signups_open": true, "announcement": null, "reason": "a test"}"#,
                                                                                [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("get_announcement", Consumer, "", "",                                   [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401]),
    row("list_kyc", Consumer, "", "",                                           [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("download_kyc_document", Consumer, "case/document", "",                 [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("decide_kyc", Consumer, "case", r#"{"decision": "approved", "reason": "a test"}"#,
                                                                                [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 401]),
    row("run_metering", Consumer, "", "",                                       [401, 403, 403, 403, 403, 401, 403, 403, 200, 403, 200]),

    row("logout", Consumer, "", "",                                             [204, 204, 204, 204, 204, 204, 204, 204, 204, 204, 204]),
];
