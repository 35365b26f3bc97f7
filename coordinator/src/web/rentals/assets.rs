//! What the terminal's page loads: two packages of others, as they were published (`static/terminal/ORIGIN.md`), and what is ours.

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};

use crate::app::App;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Its name has its version.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// It changes with this program.
const A_WHILE: &str = "public, max-age=300";

/// Path, content, its type, how long it may be kept.
type Asset = (&'static str, &'static [u8], &'static str, &'static str);

macro_rules! asset {
    ($name:literal, $kind:expr, $kept:expr) => {
        (
            concat!("/static/terminal/", $name),
            include_bytes!(concat!("../../../static/terminal/", $name)),
            $kind,
            $kept,
        )
    };
}

const ASSETS: [Asset; 7] = [
    asset!("xterm-6.0.0.mjs", SCRIPT, FOR_GOOD),
    asset!("xterm-6.0.0.css", STYLE, FOR_GOOD),
    asset!("xterm-6.0.0.LICENSE", TEXT, FOR_GOOD),
    asset!("addon-fit-0.11.0.mjs", SCRIPT, FOR_GOOD),
    asset!("addon-fit-0.11.0.LICENSE", TEXT, FOR_GOOD),
    asset!("terminal.js", SCRIPT, A_WHILE),
    asset!("terminal.css", STYLE, A_WHILE),
];

/// All of it.
pub(super) fn routes() -> Router<Arc<App>> {
    ASSETS.into_iter().fold(Router::new(), |routes, asset| {
        routes.route(asset.0, get(async move || serve(asset)))
    })
}

fn serve((_, content, kind, kept): Asset) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_others_is_as_it_was_published() {
        let origin = include_str!("../../../static/terminal/ORIGIN.md");
        let of_others = ASSETS.iter().filter(|asset| asset.3 == FOR_GOOD);
        let mut count = 0;
        for (path, content, ..) in of_others {
            let name = path.rsplit('/').next().expect("a name");
            let sum = hex::encode(ring::digest::digest(&ring::digest::SHA256, content));
            let row = origin
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}`")));
            assert!(row.is_some_and(|row| row.contains(&sum)), "{name}: {sum}");
            count += 1;
        }
        assert_eq!(count, 5);
        let script = include_str!("../../../static/terminal/terminal.js");
        assert!(script.contains("./xterm-6.0.0.mjs") && script.contains("./addon-fit-0.11.0.mjs"));
    }
}
