//! The first page: what this is, the market's numbers now, how to begin on either side.

use super::html::escape;
use shared::money::Amount;

use crate::app::MarketNumbers;

/// A step and the command that does it; `{url}` is where this coordinator is reached.
type Step = (&'static str, &'static str);

const RENT: [Step; 3] = [
    (
        "Look at what is offered",
        "ramarket --url {url} offers --ram 1GiB",
    ),
    (
        "Rent it: the price comes as HTTP 402 and is paid by x402 from your key; no account needed",
        "ramarket wallet new\n\
         ramarket --url {url} rent busybox:latest --ram 1GiB --duration 1h --max-price 1 -- sleep 3600",
    ),
    (
        "Stop when you are done; what you didn't use comes back",
        "ramarket --url {url} rentals\nramarket --url {url} stop <rental>",
    ),
];

const LEND: [Step; 3] = [
    (
        "Open an account as a provider; the answer holds an access_token",
        "curl {url}/api/v1/auth/signup -H 'content-type: application/json' \\\n  \
         -d '{\"email\":\"you@example.org\",\"password\":\"…\",\"roles\":[\"provider\"]}'",
    ),
    (
        "Ask for a one-time token and enrol the machine with it",
        "curl -X POST {url}/api/v1/nodes/enrollment-tokens -H 'authorization: Bearer <access_token>'\n\
         ramarket-agent enroll --url {url} --token-file -",
    ),
    (
        "Start the agent: it measures, signs and earns",
        "systemctl enable --now ramarket-agent",
    ),
];

/// The page.
pub(super) fn page(url: &str, numbers: &MarketNumbers) -> String {
    let body = format!(
        "{HEAD}{}<section class=\"sides\" aria-label=\"How to begin\">{}{}</section></main>{FOOT}",
        figures(numbers),
        side("rent", "Rent memory", &RENT, url),
        side("lend", "Lend a machine", &LEND, url),
    );
    format!("<!doctype html>\n<html lang=\"en\">{body}</html>\n")
}

const HEAD: &str = r##"<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>RAMarket: memory by the hour</title>
<meta name="description" content="Rent RAM and processors by the hour, paid by the millisecond.">
<link rel="stylesheet" href="/static/site.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<strong>RAMarket</strong>
<nav aria-label="Main"><ul>
<li><a href="#rent">Rent</a></li>
<li><a href="#lend">Lend</a></li>
<li><a href="/rentals">Your rentals</a></li>
<li><a href="/api/docs/">API</a></li>
<li><a href="/api/openapi.json">OpenAPI</a></li>
</ul></nav>
</header>
<main id="main">
<h1>Rent memory from people who have some to spare.</h1>
<p class="lead">RAM and processors by the hour. You pay for the milliseconds that your container ran,
measured and signed on the machine it ran on.</p>
"##;

const FOOT: &str = r#"
<footer><p>Everything here is also an API: <a href="/api/openapi.json">the OpenAPI document</a> and
<a href="/api/docs/">its viewer</a>.</p></footer>
</body>"#;

/// An amount without the zeros at its end, but with at least two decimals.
fn short(amount: Amount) -> String {
    let text = amount.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{:0<2}", part.trim_end_matches('0'))
}

fn figures(numbers: &MarketNumbers) -> String {
    let price = numbers.lowest_ram_gib_hour.map_or_else(
        || "–".to_owned(),
        |amount| format!("{} <small>USDC</small>", short(amount)),
    );
    let rows = [
        ("GiB online", gib(numbers.online_ram_bytes)),
        ("GiB free now", gib(numbers.free_ram_bytes)),
        ("offers", numbers.offers.to_string()),
        ("lowest price of a GiB for an hour", price),
        ("rentals running", numbers.running_rentals.to_string()),
    ];
    let cells: String = rows
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"))
        .collect();
    format!("<dl class=\"numbers\" aria-label=\"The market now\">\n{cells}</dl>\n")
}

/// Whole GiB and one decimal, rounded down.
fn gib(bytes: u64) -> String {
    const TENTH: u64 = (1 << 30) / 10;
    let tenths = bytes / TENTH;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn side(id: &str, title: &str, steps: &[Step], url: &str) -> String {
    let items: String = steps
        .iter()
        .map(|(text, command)| {
            let command = escape(&command.replace("{url}", url));
            format!(
                "<li>{}<pre tabindex=\"0\"><code>{command}</code></pre></li>\n",
                escape(text)
            )
        })
        .collect();
    format!("<div><h2 id=\"{id}\">{title}</h2>\n<ol>\n{items}</ol></div>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_commands_are_shown_and_escaped() {
        let numbers = MarketNumbers {
            online_ram_bytes: 3 << 29,
            offers: 7,
            ..MarketNumbers::default()
        };
        let page = page("https://market.example/<", &numbers);
        assert!(page.contains("<dt>GiB online</dt><dd>1.5</dd>"));
        assert!(page.contains("<dt>offers</dt><dd>7</dd>"));
        assert!(page.contains("https://market.example/&lt; offers"));
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("{url}"));
    }
}
