#!/usr/bin/env bash
# Measures an optimised build against docker run, prometheus-node-exporter and an sshd; arguments go to the bench program.
# A peer that can't be had is no failure: its row says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

engine_is_ours=no
clean_up() { [ "$engine_is_ours" = no ] || scripts/docker-engine.sh stop; }
trap clean_up EXIT

need_rust
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && ! command -v prometheus-node-exporter >/dev/null; then
    (install_package prometheus-node-exporter prometheus-node-exporter) || say "measuring without prometheus-node-exporter"
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && ! [ -x /usr/sbin/sshd ]; then
    (install_package openssh-server sshd) || say "measuring without an sshd"
fi
engine_answers || engine_is_ours=yes
scripts/docker-engine.sh start
scripts/docker-engine.sh image
step "build" cargo build --locked --release --workspace --bins
# the places where tests make a coordinator die are in debug builds only
if grep -q DIE_AT "${CARGO_TARGET_DIR:-target}/release/ramarket-coordinator"; then
    say "the optimised coordinator can be made to die: look at coordinator/src/crash.rs"
    exit 1
fi
cargo run --quiet --locked --release -p system-tests --bin bench -- "$@"
