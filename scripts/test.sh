#!/usr/bin/env bash
# Every test, real Docker and PostgreSQL included. TEST_FULL=1 runs the full counts; arguments go to the test runner.
# The last line says how many passed and failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

export TEST_FULL=${TEST_FULL:-0}
output=$(mktemp)
engine_is_ours=no

clean_up() {
    rm -f "$output"
    # whoever found an engine leaves it; KEEP_ENGINE=1 leaves ours as well, for the next run
    if [ "$engine_is_ours" = yes ] && [ "${KEEP_ENGINE:-0}" != 1 ]; then
        scripts/docker-engine.sh stop
    fi
}
trap clean_up EXIT

has_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

prepare() {
    need_rust
    need curl curl
    need iproute2 ip
    need util-linux nsenter unshare
    need nftables nft
    need docker-registry docker-registry
    need systemd systemd-analyze
    has_postgres || install_package postgresql "initdb (PostgreSQL)"
    need nodejs node
    need npm npm
    need nginx-light nginx
    need openssl openssl
    need_schemathesis
    need chromium chromium
    need oathtool oathtool
    need openssh-client ssh sftp scp ssh-keygen
    need openssh-sftp-server /usr/lib/openssh/sftp-server
    need rsync rsync
    engine_answers || engine_is_ours=yes
    scripts/docker-engine.sh start
    scripts/docker-engine.sh image
    # a Debian with systemd and what packs packages, for the test that installs them
    scripts/debian-image.sh systemd >/dev/null
    # and one with what people rent machines for
    scripts/debian-image.sh rental >/dev/null
    scripts/package.sh --tools
    for client in tests/x402-client tests/oidc-issuer tests/mail-server tests/webhook-receiver tests/x402-chain tests/mcp-client; do
        npm ci --prefix "$client" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    done
}

# The fuzzer that reads the document of the API, pinned, in a folder of its own.
need_schemathesis() {
    local folder=tests/schemathesis
    [ -x "$folder/.venv/bin/schemathesis" ] && return
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || install_package python3-venv "python3 -m venv"
    python3 -m venv "$folder/.venv"
    "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$folder/requirements.txt" >&2
}

# The tests start the programs themselves. --all-targets, so that programs and tests share one build of every dependency.
build() { cargo build --locked --workspace --all-targets; }

run_nextest() {
    local profile=default
    [ "$TEST_FULL" = 0 ] || profile=full
    cargo nextest run --locked --workspace --no-fail-fast --profile "$profile" "$@"
}

run_tests() {
    if command -v cargo-nextest >/dev/null; then
        run_nextest "$@" 2>&1 | tee "$output"
    else
        say "cargo-nextest not found; using cargo test, one test binary at a time"
        cargo test --locked --workspace --no-fail-fast "$@" -- --test-threads 2 2>&1 | tee "$output"
    fi
}

# The counts of the runner, as one plain line.
closing_line() {
    sed -E 's/\x1b\[[0-9;]*m//g' "$output" | awk '
        /^ *Summary \[/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) passed = $i; if ($(i+1) ~ /^(failed|timed|exec)/) failed += $i } found = 1 }
        /^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) passed += $i; if ($(i+1) ~ /^failed/) failed += $i } found = 1 }
        END { if (!found) exit 1; printf "%d passed, %d failed\n", passed, failed }' || say "no test ran: the build failed"
}

step "tools" prepare
step "build" build
[ "$TEST_FULL" = 0 ] && say "reduced counts; make test-full runs the full ones"
status=0
say "== tests"
started=$SECONDS
run_tests "$@" || status=$?
if [ "$TEST_FULL" != 0 ]; then
    # too many for a build without optimisation: a million operations of the ledger in memory
    cargo run --quiet --locked --release -p system-tests --bin bench -- generated || status=$?
    # whether the proofs about money find what they are for
    scripts/mutate-money.sh || status=$?
fi
say "== tests: $((SECONDS - started)) s"
closing_line
exit "$status"
