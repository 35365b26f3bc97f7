# Sourced by run.sh: the first rental, step by step, over the public API and the client.
# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # URL, BIN, HOME_DIR and pids are set by run.sh

RENT_RAM=256MiB
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
    cores=$(field cpu_count "$NODE")
    printed 4 "its agent measured $(mib "$total") of RAM and $cores processors"
}

# offer_of_node: the id of an offer of this node in a page of offers; fails when there is none
offer_of_node() {
    local page
    page=$(api GET "/offers?mine=true&limit=100" "$PROVIDER_TOKEN")
    OFFER_ID=$(grep -oE "\"id\":\"ofr_[0-9a-f]+\",\"node_id\":\"$NODE_ID\"" <<<"$page" | sed -n 1p | grep -oE 'ofr_[0-9a-f]+')
}

offer_is_found() { [[ $(try_api GET "/offers?limit=100" "") == *"$OFFER_ID"* ]]; }

offer_ram() {
    local made free
    if ! offer_of_node; then
        made=$(api POST /offers "$PROVIDER_TOKEN" "{\"node_id\":\"$NODE_ID\",\"region\":\"local\",
            \"prices\":{\"ram_gib_hour\":\"$PRICE_RAM_GIB_HOUR\",\"cpu_hour\":\"$PRICE_CPU_HOUR\"}}")
        OFFER_ID=$(field id "$made")
    fi
    wait_until 10 "the offer is on the market" offer_is_found
    free=$(field ram_free_bytes "$(api GET "/offers/$OFFER_ID" "")")
    printed 5 "offer $OFFER_ID: $(mib "$free") of this machine's RAM at $PRICE_RAM_GIB_HOUR USDC for a GiB and hour"
}

# --- the consumer's side: the client, without an account -------------------------------------------------------------

# one line of JSON
client() { "$BIN/ramarket" --url "$URL" --config-dir "$HOME_DIR/client" --json "$@" 2>>"$(log_of client)" | tr '\n' ' '; }

client_failed() { die "$1: $(tail -n 5 "$(log_of client)")"; }

rental_is() { RENTAL=$(client show "$RENTAL_ID") && [ "$(find_field state "$RENTAL")" = "$1" ]; }

is_settled() { rental_is ended && find_field settled_at "$RENTAL" >/dev/null; }

is_metered() {
    local cost
    rental_is running || return 1
    cost=$(atomic "$(amount cost_so_far "$RENTAL")") || return 1
    ((cost > 0 && SECONDS - RUNS_SINCE >= METERED_SECONDS))
}

has_receipts() { RECEIPTS=$(try_api GET "/rentals/$RENTAL_ID/receipts?limit=100" "$RENTAL_TOKEN") && [[ $RECEIPTS == *'"signature"'* ]]; }

ask_quote() {
    local quote
    quote=$(client quote --offer "$OFFER_ID" --ram "$RENT_RAM" --cpu 0.25 --duration "${RENT_SECONDS}s") ||
        client_failed "no quote"
    printed 6 "quote $(field id "$quote"): $RENT_RAM for $RENT_SECONDS s costs $(amount price "$quote") USDC at most, of which $(amount platform_fee "$quote") is the market's fee"
}

pay_and_run() {
    local rented payer
    [ -s "$HOME_DIR/client/wallet.key" ] || client wallet new --plain >/dev/null || client_failed "no wallet"
    payer=$(field address "$(client wallet address)")
    rented=$(client rent --offer "$OFFER_ID" --ram "$RENT_RAM" --cpu 0.25 --duration "${RENT_SECONDS}s" --max-price 1 \
        busybox:latest -- sh -c 'while :; do :; done') || client_failed "renting failed"
    RUNS_SINCE=$SECONDS
    RENTAL_ID=$(grep -oE 'rnt_[0-9a-f]{32}' <<<"$rented" | sed -n 1p) || die "the answer has no rental: $rented"
    RENTAL_TOKEN=$(field rental_token "$rented")
    printed 7 "asked, was answered 402 with the terms, paid $(amount paid "$rented") USDC by a signature of $payer: $RENTAL_ID"
    wait_until 120 "the container runs" rental_is running
    printed 8 "the container runs since $(field started_at "$RENTAL"): docker id $(docker ps -q --filter "label=ramarket.rental=$RENTAL_ID")"
}

meter_and_stop() {
    wait_until 60 "usage is metered" is_metered
    wait_until 30 "signed usage records arrived" has_receipts
    printed 9 "metered: $(amount cost_so_far "$RENTAL") USDC so far, $(grep -o '"signature"' <<<"$RECEIPTS" | wc -l) signed usage records"
    client stop "$RENTAL_ID" >/dev/null || client_failed "stopping failed"
    wait_until 60 "the rental has ended and is settled" is_settled
    printed 10 "ended: $(field reason "$RENTAL"), billed $(field billed_ms "$RENTAL") ms"
}

rent_some() {
    ask_quote
    pay_and_run
    meter_and_stop
    statement
}

statement() {
    local split paid provider fee refund part sum
    split=$(api POST /payments/settle "$RENTAL_TOKEN" "{\"rental_id\":\"$RENTAL_ID\"}")
    paid=$(amount paid "$split")
    provider=$(amount provider "$split")
    fee=$(amount platform_fee "$split")
    refund=$(amount refund "$split")
    sum=0
    for part in "$provider" "$fee" "$refund"; do
        part=$(atomic "$part")
        sum=$((sum + part))
    done
    printf '\n    paid by the consumer   %12s USDC\n' "$paid"
    printf '    to the provider        %12s\n    fee of the market      %12s\n    back to the consumer   %12s\n' \
        "$provider" "$fee" "$refund"
    [ "$sum" -eq "$(atomic "$paid")" ] || die "the statement doesn't add up: $sum instead of $(atomic "$paid") millionths"
    coordinator ledger check >>"$(log_of ledger)" 2>&1 || die "the ledger doesn't add up: $(tail -n 5 "$(log_of ledger)")"
    printf '    it adds up, and so does the whole ledger (the payments are play money: mode sandbox)\n\n'
}
