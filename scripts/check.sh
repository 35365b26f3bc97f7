#!/usr/bin/env bash
# What can be said about the code without running it: format, lints, docs, dependencies, house rules, scripts, units.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

CARGO_DENY_VERSION=0.20.2
tools=${CARGO_TARGET_DIR:-$PWD/target}/tools

# Unoptimised: it looks at a few hundred crates, and compiles in a third of the time.
install_cargo_deny() {
    [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ] && return
    CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        cargo install --quiet --locked --debug --root "$tools" --version "$CARGO_DENY_VERSION" cargo-deny
    rm -r "$tools/build"
}

dependencies() {
    install_cargo_deny
    # two versions of one crate are a warning: `cargo deny check bans` shows them
    "$tools/bin/cargo-deny" --locked --log-level error check licenses bans sources
}

# the reader of this code sees private items too
docs() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links -A rustdoc::bare_urls" cargo doc --quiet --locked --workspace --no-deps --document-private-items; }

# tidy and the systemd units
house_rules() {
    need systemd systemd-analyze
    # --workspace, so that the features of dependencies are those of `make test` and nothing compiles twice
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --locked --workspace --test it --no-fail-fast -E 'test(/^(tidy|systemd_units)::/)'
    else
        cargo test --locked --workspace --test it -- tidy:: systemd_units::
    fi
}

shell_scripts() {
    need shellcheck shellcheck
    shellcheck --external-sources --severity=warning .ci/run scripts/*.sh packaging/*/{postinst,prerm,postrm}
}

need_rust
step "format" cargo fmt --all --check
step "scripts" shell_scripts
step "dependencies" dependencies
step "lints" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step "docs" docs
step "house rules" house_rules
