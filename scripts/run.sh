#!/usr/bin/env bash
# A market on this machine: coordinator and agent are built and started, this machine's RAM is offered, and some of it is
# rented through the public API as anybody outside would. Then the site stays up until Ctrl-C, which ends what was started.
#
#   scripts/run.sh            as `make run`
#   scripts/run.sh --once     ends after the first rental's statement
#   scripts/run.sh --clean    deletes the data
#
# PORT (8080), SSH_PORT (a free one), VAR (./var), DATABASE_URL (SQLite in VAR), PROFILE=release for an optimised build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh
. scripts/guided.sh

PORT=${PORT:-8080}
# 0: one that is free; a rental's connect.ssh says which
SSH_PORT=${SSH_PORT:-0}
VAR=$(realpath -m "${VAR:-var}")
URL=http://127.0.0.1:$PORT
# Unoptimised by default: a first build takes 60 % of the time, and `make test` builds nothing twice afterwards.
PROFILE=${PROFILE:-dev}
case $PROFILE in dev) bin=debug ;; *) bin=$PROFILE ;; esac
BIN=${CARGO_TARGET_DIR:-$PWD/target}/$bin

HOME_DIR=
home_is_ours=no
engine_is_ours=no
stopping=no
# names in the order of their start; pids by name
started=()
declare -A pids=()

# --- processes -------------------------------------------------------------------------------------------------------

log_of() { printf '%s/logs/%s.log' "$HOME_DIR" "$1"; }
is_alive() { [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

# launch NAME COMMAND…: in the background, in a process group of its own, so that Ctrl-C reaches this script alone
launch() {
    local name=$1
    shift
    set -m
    "$@" </dev/null >"$(log_of "$name")" 2>&1 &
    pids[$name]=$!
    set +m
    started+=("$name")
}

# wait_until SECONDS WHAT COMMAND…: returns when the command succeeds; dies when time is up or a program has ended
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2 name
    shift 2
    until "$@"; do
        for name in "${started[@]}"; do
            is_alive "$name" || die "$name ended while waiting until $what"
        done
        [ "$SECONDS" -lt "$deadline" ] || die "waited in vain until $what"
        sleep 0.2
    done
}

# end NAME: asks it to stop, and returns when it is gone
end() {
    is_alive "$1" || return 0
    kill -TERM "${pids[$1]}"
    local deadline=$((SECONDS + 30))
    while is_alive "$1"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say "$1 didn't stop within 30 s: killed"
            kill -KILL "${pids[$1]}"
        fi
        sleep 0.1
    done
    wait "${pids[$1]}" 2>/dev/null || true
}

show_logs() {
    local name
    for name in "${started[@]}"; do
        say "last lines of $(log_of "$name")"
        tail -n 25 "$(log_of "$name")" >&2
    done
}

# Containers of our node, which outlive the agent on purpose, must not outlive this script.
remove_containers() {
    local node containers
    node=$(node_id) || return 0 # never enrolled: none were started
    containers=$(docker ps -aq --filter "label=ramarket.node=$node")
    [ -z "$containers" ] || xargs -r docker rm -f <<<"$containers" >/dev/null
}

clean_up() {
    local status=$? at
    [ "$stopping" = no ] || return
    stopping=yes
    trap '' INT TERM
    [ "$status" -eq 0 ] || show_logs
    # last started, first stopped
    for ((at = ${#started[@]} - 1; at >= 0; at--)); do
        end "${started[$at]}"
    done
    if [ "$home_is_ours" = yes ] && engine_answers; then remove_containers; fi
    if [ "$engine_is_ours" = yes ]; then scripts/docker-engine.sh stop; fi
    exit "$status"
}

# --- what everything needs -------------------------------------------------------------------------------------------

prepare() {
    need_rust
    need curl curl
    engine_answers || engine_is_ours=yes
    scripts/docker-engine.sh start
    scripts/docker-engine.sh image
}

build() {
    cargo build --locked --profile "$PROFILE" --bins -p ramarket-coordinator -p ramarket-agent -p ramarket
}

# One folder per database: a node is enrolled in one market.
choose_home() {
    if [ -n "${DATABASE_URL:-}" ] && [[ $DATABASE_URL != sqlite:* ]]; then
        HOME_DIR=$VAR/postgres-$(printf '%s' "$DATABASE_URL" | sha256sum | cut -c1-12)
    else
        HOME_DIR=$VAR/sqlite
    fi
    DATABASE=${DATABASE_URL:-sqlite://$HOME_DIR/coordinator/market.db}
    (umask 077 && mkdir -p "$HOME_DIR/logs" "$HOME_DIR/secrets" "$HOME_DIR/coordinator" "$HOME_DIR/agent")
    # two runs in one folder would fight over the database, the journal and the port
    exec 9>"$HOME_DIR/lock"
    flock -n 9 || die "another make run uses $HOME_DIR; stop it, or set VAR and PORT"
    home_is_ours=yes
}

write_settings() {
    cat >"$HOME_DIR/coordinator.toml" <<TOML
data_dir = "$HOME_DIR/coordinator"

[http]
listen = "127.0.0.1:$PORT"

[ssh]
listen = "127.0.0.1:$SSH_PORT"

[agents]
# so that somebody who watches sees figures soon
beat_interval_ms = 1000

[images]
# the image that is rented here is made here
resolve = "never"
TOML
}

# The database's URL may hold a password: a variable, which other users can't read, and not an argument.
coordinator() {
    RAMARKET_DATABASE__URL=$DATABASE "$BIN/ramarket-coordinator" "$@" --config "$HOME_DIR/coordinator.toml" 9>&-
}

start_coordinator() {
    if curl -s -o /dev/null "$URL/"; then
        die "something listens on port $PORT already; choose another: make run PORT=8081"
    fi
    launch coordinator env "RAMARKET_DATABASE__URL=$DATABASE" \
        "$BIN/ramarket-coordinator" serve --config "$HOME_DIR/coordinator.toml"
    wait_until 60 "the coordinator is ready ($URL/readyz)" curl -fs -o /dev/null "$URL/readyz"
}

start_agent() {
    launch agent "$BIN/ramarket-agent" run --data-dir "$HOME_DIR/agent"
}

# --- the run ---------------------------------------------------------------------------------------------------------

once=no
case ${1:-} in
--once) once=yes ;;
--clean)
    rm -rf "$VAR"
    exit 0
    ;;
"") ;;
*) die "usage: $0 [--once | --clean]" ;;
esac

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

prepare
step "build" build
choose_home
write_settings

say "A market on this machine, its data in $HOME_DIR"
start_coordinator
printed 1 "the coordinator serves $URL"
seed_people
enrol_node
offer_ram
rent_some

if [ "$once" = no ]; then
    say "The market is up: $URL  (API: $URL/api/docs, passwords: $HOME_DIR/secrets). Ctrl-C ends it."
    trap 'exit 0' INT TERM
    while is_alive coordinator && is_alive agent; do
        sleep 1 &
        wait $! || true
    done
    die "a program ended"
fi
