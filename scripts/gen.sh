#!/usr/bin/env bash
# Rewrites what is generated from the code. `make check` doesn't: a difference is for the author to see and commit.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

need_rust
made=$(mktemp)
trap 'rm -f "$made"' EXIT
# by way of a file, so that a failure doesn't leave half a document
cargo run --quiet --locked -p ramarket-coordinator -- openapi >"$made"
mkdir -p docs
cp "$made" docs/openapi.json
say "wrote docs/openapi.json"
