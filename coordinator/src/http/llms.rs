//! `/llms.txt`: the market for programs that read, made from the document of the API.

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
        "> {about}\n\n\
         ## Rent in one request\n\n\
         No account is needed. Choose an offer ({url}/api/v1/offers), post the order, get 402 with x402 terms, and repeat the same \
         request with the signed payment in the header PAYMENT-SIGNATURE. The answer is the rental and its rental_token.\n\n\
         ```\ncurl -X POST {url}/api/v1/rentals -H 'content-type: application/json' -d '{body}'\n```\n\n\
         ## Who you are\n\n\
         - With an account: POST {url}/api/v1/auth/login answers access_token; send it as `Authorization: Bearer …`.\n\
         - Without: the rental_token of a rental opens that rental, sent the same way.\n\
         - Orders from a balance need the header Idempotency-Key; those paid by x402 don't: payer and nonce are the key.\n\
         - Errors are application/problem+json with a stable `code`; 429 and 503 say when to come back in Retry-After.\n\n\
         ## Links\n\n\
         - [OpenAPI document]({url}/api/openapi.json): every operation, with examples and errors\n\
         - [Viewer]({url}/api/docs/): the same, to read and try\n\n\
         ## Operations\n\n"
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

#[cfg(test)]
mod tests {
    #[test]
    fn it_tells_how_to_rent_and_every_operation() {
        let document = crate::router::openapi();
        let text = super::text(&document, "https://market.example");
        assert!(text.contains("-X POST https://market.example/api/v1/rentals"));
        assert!(text.contains("\"duration_seconds\":600") && text.contains("\"offer_id\":\"ofr_"));
        for item in document["paths"].as_object().expect("paths").values() {
            for operation in item.as_object().expect("operations").values() {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(text.contains(&format!("({id})")), "{id}");
            }
        }
    }
}
