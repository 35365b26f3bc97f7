# Sourced by run.sh: the first rental, step by step, over the public API and the client.
# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # URL, BIN, HOME_DIR and pids are set by run.sh

RENT_RAM_BYTES=$((256 * 1024 * 1024))
RENT_SECONDS=600
# 3.60 USDC per GiB and hour: a tenth of a cent per GiB and second, so that a short rental has figures to show
PRICE_RAM_GIB_HOUR=3.60
PRICE_CPU_HOUR=0.36
METERED_SECONDS=8

printed() { printf '%2d. %s\n' "$1" "$2"; }

# --- JSON and money without further programs -------------------------------------------------------------------------

# find_field NAME JSON: the first value of that name, text or number; fails when there is none
find_field() {
    local found
    found=$(grep -oE "\"$1\" *: *(\"[^\"]*\"|-?[0-9]+|true|false)" <<<"$2" | sed -n 1p) || return 1
    [ -n "$found" ] || return 1
    sed -E 's/^"[^"]*" *: *"?//; s/"$//' <<<"$found"
}

field() { find_field "$1" "$2" || die "the answer has no $1: $2"; }

# amount NAME JSON: the amount of `"NAME": {"amount": "…"}`
amount() {
    local found
    found=$(grep -oE "\"$1\" *: *\{[^}]*\}" <<<"$2" | sed -n 1p) || die "the answer has no amount $1: $2"
    field amount "$found"
}

# atomic AMOUNT: 12.5 → 12500000
atomic() {
    local whole=${1%%.*} part=
    [[ $1 != *.* ]] || part=${1#*.}
    [[ $whole$part =~ ^[0-9]+$ && ${#part} -le 6 ]] || die "not an amount: $1"
    part=$(printf '%-6s' "$part")
    printf '%d' "$((10#$whole * 1000000 + 10#${part// /0}))"
}

mib() { printf '%d MiB' "$(($1 / 1024 / 1024))"; }

# api METHOD PATH TOKEN [BODY]: prints the answer's body; dies when it is refused
api() {
    local answer
    answer=$(try_api "$@") || die "$1 $2 was refused: $answer"
    printf '%s' "$answer"
}

# as api, but fails quietly. The token goes through a file descriptor: arguments can be read by every user.
try_api() {
    local method=$1 path=$2 token=$3 body=${4:-}
    local arguments=(-sS --fail-with-body --max-time 30 -X "$method" --config -)
    [ -z "$body" ] || arguments+=(-H 'content-type: application/json' --data-binary "$body")
    curl "${arguments[@]}" "$URL/api/v1$path" <<<"${token:+header = \"authorization: Bearer $token\"}"
}

# --- people ----------------------------------------------------------------------------------------------------------

email_of() { printf '%s@ramarket.example' "$1"; }

password_of() {
    local file=$HOME_DIR/secrets/$1.password
    [ -s "$file" ] || (umask 077 && head -c 18 /dev/urandom | base64 >"$file")
    cat "$file"
}

login() {
    try_api POST /auth/login "" "{\"email\":\"$(email_of "$1")\",\"password\":\"$(password_of "$1")\"}"
}

# token_of ROLE: signs in; makes the account when it isn't there
token_of() {
    local answer
    if ! answer=$(login "$1" 2>/dev/null); then
        coordinator user create --email "$(email_of "$1")" --role "$1" \
            --password-file "$HOME_DIR/secrets/$1.password" >>"$(log_of seed)" 2>&1 ||
            die "the account of the $1 can't be made: $(tail -n 3 "$(log_of seed)")"
        answer=$(login "$1") || die "the $1 can't sign in: $answer"
    fi
    field access_token "$answer"
}

seed_people() {
    token_of admin >/dev/null
    token_of consumer >/dev/null
    PROVIDER_TOKEN=$(token_of provider)
    printed 2 "an admin, a provider and a consumer have accounts (passwords in $HOME_DIR/secrets)"
}

# --- the provider's side ---------------------------------------------------------------------------------------------

node_id() {
    [ -s "$HOME_DIR/agent/identity.json" ] && find_field node_id "$(cat "$HOME_DIR/agent/identity.json")"
}

node_is_online() {
    NODE=$(try_api GET "/nodes/$NODE_ID" "$PROVIDER_TOKEN") && [[ $NODE == *'"online"'* ]]
}

enrol_node() {
    local answer again=() token_file=$HOME_DIR/secrets/enrollment.token
    # enrolled here, but unknown to the market: the database was replaced
    if NODE_ID=$(node_id) && ! try_api GET "/nodes/$NODE_ID" "$PROVIDER_TOKEN" >/dev/null 2>&1; then
        again=(--force)
        NODE_ID=
    fi
    if [ -z "$NODE_ID" ]; then
        answer=$(api POST /nodes/enrollment-tokens "$PROVIDER_TOKEN" '{}')
        (umask 077 && field token "$answer" >"$token_file")
        "$BIN/ramarket-agent" enroll --url "$URL" --token-file "$token_file" --data-dir "$HOME_DIR/agent" "${again[@]}" \
            >>"$(log_of enroll)" 2>&1 || die "enrolment failed: $(tail -n 5 "$(log_of enroll)")"
        rm -f "$token_file"
        NODE_ID=$(node_id) || die "the agent is enrolled, but $HOME_DIR/agent/identity.json has no node_id"
        printed 3 "this machine is enrolled as $NODE_ID"
    else
        printed 3 "this machine is enrolled as $NODE_ID since an earlier run"
    fi
    start_agent
    wait_until 60 "the node is online" node_is_online
    local total cores
    total=$(field ram_total_bytes "$NODE")
    NODE_FREE_BYTES=$(field ram_available_bytes "$NODE")
    cores=$(field cpu_count "$NODE")
    printed 4 "its agent measured $(mib "$total") RAM, $(mib "$NODE_FREE_BYTES") of it free, and $cores cores"
}

offer_ram() {
    local mine lent made
    mine=$(api GET "/offers?node_id=$NODE_ID&limit=1" "$PROVIDER_TOKEN")
    if ! OFFER_ID=$(find_field id "$mine"); then
        # half of what is free, at most 4 GiB, in whole MiB
        lent=$((NODE_FREE_BYTES / 2))
        ((lent <= 4 << 30)) || lent=$((4 << 30))
        lent=$((lent >> 20 << 20))
        made=$(api POST /offers "$PROVIDER_TOKEN" "{\"node_id\":\"$NODE_ID\",\"region\":\"local\",
            \"capacity\":{\"ram_bytes\":$lent,\"cpu_millis\":1000},
            \"price\":{\"ram_gib_hour\":{\"amount\":\"$PRICE_RAM_GIB_HOUR\",\"currency\":\"USDC\"},
                       \"cpu_hour\":{\"amount\":\"$PRICE_CPU_HOUR\",\"currency\":\"USDC\"}}}")
        OFFER_ID=$(field id "$made")
    fi
    printed 5 "offer $OFFER_ID: RAM at $PRICE_RAM_GIB_HOUR USDC per GiB and hour"
}

# --- the consumer's side: the client, without an account -------------------------------------------------------------

client() { "$BIN/ramarket" --url "$URL" --json "$@"; }

rental_is() {
    RENTAL=$(client rentals "$RENTAL_ID" 2>>"$(log_of client)") && [ "$(find_field state "$RENTAL")" = "$1" ]
}

is_metered() {
    local cost
    rental_is running || return 1
    cost=$(atomic "$(amount cost_so_far "$RENTAL")") || return 1
    ((cost > 0 && SECONDS - RUNS_SINCE >= METERED_SECONDS))
}

ask_quote() {
    local quote total
    quote=$(client quote --offer "$OFFER_ID" --ram-bytes "$RENT_RAM_BYTES" --cpu-millis 250 \
        --duration "${RENT_SECONDS}s" 2>>"$(log_of client)") || die "no quote: $(tail -n 5 "$(log_of client)")"
    QUOTE_ID=$(field id "$quote")
    total=$(amount total "$quote")
    printed 6 "quote $QUOTE_ID: $(mib "$RENT_RAM_BYTES") for $RENT_SECONDS s costs at most $total USDC"
}

pay_and_run() {
    local rented started payer
    rented=$(client rent --quote "$QUOTE_ID" --image busybox:latest --key-file "$HOME_DIR/secrets/consumer.key" \
        --max-spend 1.00 -- sh -c 'while :; do :; done' 2>>"$(log_of client)") ||
        die "renting failed: $(tail -n 5 "$(log_of client)")"
    RENTAL_ID=$(field id "$rented")
    payer=$(find_field payer "$rented") || payer="the client's key"
    printed 7 "asked to pay (402), paid by a signature of $payer: rental $RENTAL_ID"
    wait_until 120 "the container runs" rental_is running
    RUNS_SINCE=$SECONDS
    started=$(field started_at "$RENTAL")
    printed 8 "the container runs since $started"
}

meter_and_stop() {
    local cost reason
    wait_until 60 "usage is metered" is_metered
    cost=$(amount cost_so_far "$RENTAL")
    printed 9 "metered: $cost USDC so far"
    client stop "$RENTAL_ID" >>"$(log_of client)" 2>&1 || die "stopping failed: $(tail -n 5 "$(log_of client)")"
    wait_until 60 "the rental has ended and is settled" rental_is ended
    reason=$(field reason "$RENTAL")
    printed 10 "ended: $reason"
}

rent_some() {
    ask_quote
    pay_and_run
    meter_and_stop
    statement
}

statement() {
    local paid provider fee refund part sum
    paid=$(amount paid "$RENTAL")
    provider=$(amount provider_share "$RENTAL")
    fee=$(amount platform_fee "$RENTAL")
    refund=$(amount refund "$RENTAL")
    sum=0
    for part in "$provider" "$fee" "$refund"; do
        part=$(atomic "$part")
        sum=$((sum + part))
    done
    printf '\n    paid by the consumer   %12s USDC\n' "$paid"
    printf '    to the provider        %12s\n    fee of the platform    %12s\n    back to the consumer   %12s\n' \
        "$provider" "$fee" "$refund"
    [ "$sum" -eq "$(atomic "$paid")" ] || die "the statement doesn't add up: $sum instead of $(atomic "$paid") millionths"
    coordinator ledger check >>"$(log_of ledger)" 2>&1 || die "the ledger doesn't add up: $(tail -n 5 "$(log_of ledger)")"
    printf '    adds up, and so does the whole ledger\n\n'
}
