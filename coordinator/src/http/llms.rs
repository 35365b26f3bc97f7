//! `/llms.txt`: how a program finds, quotes, rents, pays, reaches, stops and verifies, made from the document of the API.
//!
//! # Invariants
//! - What it shows is run: the lines of its first block by a journey of the system tests, the order by the API's own examples.

use std::fmt::Write as _;

use serde_json::Value;

/// The text, with links below `url`; `document` is that of the API.
#[must_use]
pub fn text(document: &Value, url: &str) -> String {
    let mut out = String::from("# RAMarket\n\n");
    let about = document["info"]["description"].as_str().unwrap_or_default();
    let order = &document["paths"]["/api/v1/rentals"]["post"];
    let body = &order["requestBody"]["content"]["application/json"]["example"];
    // a String takes everything that is written to it
    let _written = write!(
        out,
        "> {about}\n\n{}\
         ## Rent in one request\n\n\
         No account is needed. Choose an offer ({url}/api/v1/offers), post the order, get 402 with x402 terms, and repeat the same \
         request with the signed payment in the header PAYMENT-SIGNATURE. The answer is the rental and its rental_token.\n\n\
         ```\ncurl -X POST {url}/api/v1/rentals -H 'content-type: application/json' -d '{body}'\n```\n\n\
         - Prices: POST {url}/api/v1/payments/quote with the same order, without an image. What isn't used is refunded by itself.\n\
         - Progress: GET {url}/api/v1/rentals/ID until `state` is `running`; nothing is billed before. `ended` has a `reason`.\n\
         - Longer: POST {url}/api/v1/rentals/ID/extend; over: POST {url}/api/v1/rentals/ID/stop. Both need who rents.\n\
         - Proof: GET {url}/api/v1/rentals/ID/receipts has the node's Ed25519-signed records behind the bill, …/usage its windows.\n\n\
         ## Who you are\n\n\
         - With an account: an API key (POST {url}/api/v1/api-keys), sent as `Authorization: Bearer …`. A person gives a program one by \
         POST {url}/api/v1/auth/device: show them verification_uri_complete, then ask POST {url}/api/v1/auth/device/token.\n\
         - Without: the rental_token of a rental opens that rental, sent the same way.\n\
         - Orders from a balance need the header Idempotency-Key; those paid by x402 don't: payer and nonce are the key.\n\
         - Errors are application/problem+json with a stable `code`; 429 and 503 say when to come back in Retry-After.\n\n\
         ## Links\n\n\
         - [OpenAPI document]({url}/api/openapi.json): every operation, with examples and errors\n\
         - [Viewer]({url}/api/docs/): the same, to read and try\n\n\
         ## Operations\n\n",
        by_client(url)
    );
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let Some(id) = operation["operationId"].as_str() else {
                continue;
            };
            let about = ["summary", "description"]
                .into_iter()
                .find_map(|key| operation[key].as_str())
                .and_then(|text| text.split(". ").next())
                .unwrap_or_default()
                .replace('\n', " ");
            let method = method.to_uppercase();
            let _written = writeln!(out, "- `{method} {path}` ({id}): {about}");
        }
    }
    out
}

/// The same with our client, which pays by itself below a limit and repeats what got lost.
fn by_client(url: &str) -> String {
    format!(
        "## Rent with the client `ramarket`\n\n\
         Every command takes --json; messages go to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, \
         5 not found, 6 payment required (above your limit, or refused). The wallet's limit holds over runs: a payment above it isn't made.\n\n\
         ```sh\n\
         export RAMARKET_URL={url}\n\
         ramarket wallet new --plain\n\
         ramarket wallet limit 1 --per-day 5\n\
         ramarket --json offers --ram 256MiB\n\
         ramarket --json quote --ram 256MiB --cpu 0.1 --duration 10m\n\
         ramarket --json rent --ram 256MiB --cpu 0.1 --duration 10m busybox:latest -- sleep 600\n\
         ramarket --json status $RENTAL\n\
         ramarket --json extend $RENTAL --duration 10m\n\
         ramarket --json stop $RENTAL\n\
         ramarket --json receipts verify $RENTAL\n\
         ```\n\n\
         $RENTAL is the `id` that rent answered. After a crash: `ramarket resume` finishes payments, and charges none twice. Reach what \
         runs:\n\n\
         ```sh\n\
         ramarket logs $RENTAL --tail 100\n\
         ramarket exec $RENTAL -- uname -a\n\
         ramarket cp input.csv $RENTAL:/tmp/\n\
         ramarket port-forward $RENTAL 8080\n\
         ramarket post-mortem $RENTAL -o why.tar.gz    # when it has ended\n\
         ```\n\n\
         As tools of a model: `ramarket mcp --limit 0.5 --limit-in-all 2` serves the Model Context Protocol over stdio, with the tools search, \
         quote, rent, status, exec and stop; it spends no more than that, whatever it is asked.\n\n"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_tells_how_to_rent_and_every_operation() {
        let document = crate::router::openapi();
        let text = super::text(&document, "https://market.example");
        assert!(text.contains("-X POST https://market.example/api/v1/rentals"));
        assert!(text.contains("RAMARKET_URL=https://market.example\n"));
        assert!(text.contains("\"duration_seconds\":600") && text.contains("\"offer_id\":\"ofr_"));
        for item in document["paths"].as_object().expect("paths").values() {
            for operation in item.as_object().expect("operations").values() {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(text.contains(&format!("({id})")), "{id}");
            }
        }
    }
}
