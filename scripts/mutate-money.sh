#!/usr/bin/env bash
# Whether the proofs about money can fail: each patch of tests/mutations is a small defect, and a test has to find it.
#
#   scripts/mutate-money.sh [PATCH…]     builds and tests a scratch copy of HEAD with each patch; fails if one survives or doesn't apply
#   scripts/mutate-money.sh --check      only whether each applies to the files as they are; seconds
#
# Above its diff a patch says what the defect is. The tests are the crash matrix on SQLite, with few seeds, those of the ledger, and those of
# payouts' steps and sending; of each patch the first test that fails is named. Without any patch all of them must pass first. The copy and what is built of it lie in
# target/mutations.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

home=$PWD
copy=$home/target/mutations/copy
# matched as parts of the tests' names
tests=(tests::matrix_money::sqlite:: tests::matrix_money::payouts::sqlite:: tests::matrix_money::started::sqlite::
    tests::matrix_money::without tests::matrix_money::payouts::without domain::ledger::tests::sqlite::
    domain::payouts::tests::sending::sqlite:: domain::payouts::tests::steps::)
output=$(mktemp)

clean_up() {
    rm -f "$output"
    git worktree remove --force "$copy" 2>/dev/null || true
}
trap clean_up EXIT


# What a patch says above its diff.
title() { sed -n '1p' "$1"; }

applies() { git apply --check "$1" || die "$1 doesn't apply any more: mend it, or make it anew"; }

run_tests() {
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --locked -p ramarket-coordinator --lib --fail-fast "${tests[@]}"
    else
        cargo test --locked -p ramarket-coordinator --lib -- "${tests[@]}"
    fi
}

# The first test that failed, by the runner's own words.
first_failed() {
    sed -E 's/\x1b\[[0-9;]*m//g' "$1" |
        sed -nE 's/^ +(FAIL|TIMEOUT|ABORT) .*ramarket-coordinator +([a-z0-9_:]+).*/\2/p; s/^test ([a-z0-9_:]+) \.\.\. FAILED.*/\1/p' | sed -n 1p
}

# One patch: caught, or not.
try() {
    local patch=$1 started=$SECONDS caught
    git -C "$copy" checkout --quiet .
    (cd "$copy" && applies "$patch" && git apply "$patch")
    (cd "$copy" && cargo test --quiet --locked -p ramarket-coordinator --lib --no-run) >"$output" 2>&1 || { cat "$output"; die "$patch doesn't compile"; }
    if (cd "$copy" && run_tests) >"$output" 2>&1; then
        say "SURVIVED $(basename "$patch"): $(title "$patch")"
        return 1
    fi
    caught=$(first_failed "$output")
    [ -n "$caught" ] || { tail -n 50 "$output"; die "$patch: the tests didn't run"; }
    say "caught $(basename "$patch") by $caught ($((SECONDS - started)) s): $(title "$patch")"
}

patches=("$home"/tests/mutations/*.patch)
if [ "${1:-}" = --check ]; then
    for patch in "${patches[@]}"; do applies "$patch"; done
    exit 0
fi
[ $# -eq 0 ] || patches=("${@/#/$home/}")

need_rust
git worktree remove --force "$copy" 2>/dev/null || true
git worktree add --quiet --detach "$copy" HEAD
# own folder: what is built of the copy lies beside what is built here
export CARGO_TARGET_DIR=${MUTATIONS_TARGET_DIR:-$home/target/mutations/build} MATRIX_SEEDS=${MATRIX_SEEDS:-4}
(cd "$copy" && run_tests) >"$output" 2>&1 || { tail -n 50 "$output"; die "the tests fail without any patch"; }
survived=0
for patch in "${patches[@]}"; do
    try "$patch" || survived=$((survived + 1))
done
[ "$survived" -eq 0 ] || die "$survived of ${#patches[@]} defects weren't found"
say "all ${#patches[@]} defects were found"
