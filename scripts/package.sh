#!/usr/bin/env bash
# Debian packages of agent (with its helper), coordinator and client, and their SHA-256, in FOLDER (target/debian unless given).
#
#   scripts/package.sh [FOLDER]             optimised
#   PROFILE=dev scripts/package.sh FOLDER   of the programs that `make test` has built
#   VERSION=0.2.0-1 …                       another version than the workspace's
#   PACKAGES=ramarket-agent …               this one alone
#   scripts/package.sh --tools              only makes sure that what packs is there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

CARGO_DEB_VERSION=3.8.0
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools
PROFILE=${PROFILE:-release}
case $PROFILE in dev) bin=$target/debug ;; *) bin=$target/$PROFILE ;; esac

# Unoptimised: it packs three programs, and compiles in a third of the time.
install_cargo_deb() {
    [ "$("$tools/bin/cargo-deb" --version 2>/dev/null)" = "cargo-deb $CARGO_DEB_VERSION" ] && return
    CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        cargo install --quiet --locked --debug --root "$tools" --version "$CARGO_DEB_VERSION" --no-default-features cargo-deb
    rm -rf "$tools/build"
}

# completions PROGRAM PACKAGE: for each shell, under the name by which that shell looks for it
completions() {
    local into=packaging/generated/$2
    mkdir -p "$into/bash" "$into/zsh" "$into/fish"
    "$bin/$1" completions bash >"$into/bash/$1"
    "$bin/$1" completions zsh >"$into/zsh/_$1"
    "$bin/$1" completions fish >"$into/fish/$1.fish"
}

generate() {
    rm -rf packaging/generated
    mkdir -p packaging/generated/agent/man packaging/generated/coordinator/man packaging/generated/client/man
    "$bin/ramarket-agent" man packaging/generated/agent/man
    "$bin/ramarket-coordinator" man packaging/generated/coordinator/man
    "$bin/ramarket" man packaging/generated/client/man
    completions ramarket-agent agent
    completions ramarket-helper agent
    completions ramarket-coordinator coordinator
    completions ramarket client
}

# pack PACKAGE
pack() {
    local arguments=(--no-build --no-strip --profile "$PROFILE" -p "$1" --output "$folder/")
    [ -z "${VERSION:-}" ] || arguments+=(--deb-version "$VERSION")
    [ "$PROFILE" != dev ] || arguments+=(--fast)
    "$tools/bin/cargo-deb" deb --quiet "${arguments[@]}" >&2
}

need_rust
need dpkg dpkg-deb
step "cargo-deb" install_cargo_deb
[ "${1:-}" != --tools ] || exit 0
folder=$(realpath -m "${1:-$target/debian}")
[ "$PROFILE" = dev ] || step "programs" cargo build --locked --profile "$PROFILE" --bins -p ramarket-agent -p ramarket-coordinator -p ramarket
mkdir -p "$folder"
step "manuals and completions" generate
for package in ${PACKAGES:-ramarket-agent ramarket-coordinator ramarket}; do
    step "$package" pack "$package"
done
(cd "$folder" && sha256sum -- *.deb >SHA256SUMS)
ls "$folder"/*.deb
