#!/usr/bin/env bash
# Load by oha (https://github.com/hatoo/oha) on any running Souk: loadtest/oha.sh SCENARIO
#
#   browse    the first page of products, and one product
#   search    searches that no cache can answer
#   checkout  one shopper's cart line and its order, again and again: a write through the ledger, and a repeated key
#   mixed     80 % lists, 15 % products, 5 % cart writes, side by side
#
# From the environment: SOUK_URL (http://127.0.0.1:8000), SOUK_TOKENS (checkout and mixed: the file that
# `souk seed --tokens FILE` wrote), RATE (requests a second, 200), DURATION (10s). Latencies count from the planned start.
# oha sends every request with the same headers, so it plays one shopper; many of them are played by loadtest/k6.
# Exit code 1 if anything but the wanted status came, or no answer.
set -euo pipefail

shop=${SOUK_URL:-http://127.0.0.1:8000}
shop=${shop%/}
rate=${RATE:-200}
duration=${DURATION:-10s}

fail() {
    printf 'oha.sh: %s\n' "$*" >&2
    exit 1
}

command -v oha > /dev/null || fail "there is no oha; cargo install oha brings it"
command -v python3 > /dev/null || fail "there is no python3, which reads what oha says"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

token() {
    [ -r "${SOUK_TOKENS:-}" ] || fail "SOUK_TOKENS must name the file that souk seed --tokens FILE wrote"
    head -n 1 "$SOUK_TOKENS"
}

# The first id in what is read.
first_id() {
    grep -o '"id":[0-9]*' | head -n 1 | cut -d : -f 2
}

# The id of a product that can be bought.
product() {
    curl -fsS "$shop/api/products/?in_stock=true&page_size=1" | first_id
}

# run NAME STATUS RATE ARGUMENT…: one oha, whose answers must all have that status; prints a line.
run() {
    local name=$1 status=$2 a_second=$3
    shift 3
    # After the deadline nothing is cut off, since that would look like an answer that did not come.
    oha --no-tui --output-format json --latency-correction -w -z "$duration" \
        -q "$a_second" -c "$((a_second < 50 ? a_second : 50))" "$@" > "$folder/$name.json" ||
        fail "$name: oha failed"
    python3 - "$name" "$status" "$folder/$name.json" << 'END'
import json, sys
name, status, file = sys.argv[1:]
said = json.load(open(file))
counts, errors = said["statusCodeDistribution"], said["errorDistribution"]
# A 503 is a refusal, and right when there is too much.
wrong = {code: count for code, count in counts.items() if code not in (status, "503")}
times = {part: (said["latencyPercentiles"][part] or 0) * 1e3 for part in ("p50", "p90", "p99", "p99.9")}
print(f"{name:9} {said['summary']['requestsPerSec']:9.1f}/s  "
      + "  ".join(f"{part} {time:.1f} ms" for part, time in times.items())
      + f"  {counts.get(status, 0)} good, {counts.get('503', 0)} refused")
if wrong or errors or not counts.get(status):
    sys.exit(f"{name}: FAILED: {wrong} {errors}")
END
}

browse() {
    run list 200 "$((rate / 2))" "$shop/api/products/"
    run detail 200 "$((rate / 2))" "$shop/api/products/$(product)/"
}

search() {
    # oha takes every dot for a plain one by itself.
    run search 200 "$rate" --rand-regex-url \
        "$shop/api/products/\\?search=(lamp|oak|table|chair|walnut)&price_max=1[0-9]{6}.[0-9]{2}&ordering=(name|-price)"
}

# Sees to it that the shopper's cart holds a line, and sets `authorization` and `line`.
fill_the_cart() {
    local wanted item
    authorization="Authorization: Bearer $(token)"
    wanted=$(product)
    curl -fsS -o "$folder/cart" -X DELETE "$shop/api/cart/" -H "$authorization"
    item=$(curl -fsS "$shop/api/cart/items/" -H "$authorization" -H 'Content-Type: application/json' \
        -d "{\"product_id\": $wanted, \"quantity\": 1}" | first_id)
    line="$shop/api/cart/items/$item/"
}

cart() {
    fill_the_cart
    run cart 200 "$1" -m PUT -H "$authorization" -T application/json -d '{"quantity": 1}' "$line"
}

checkout() {
    cart "$((rate / 2))"
    run order 201 "$((rate / 2))" -m POST -H "$authorization" -T application/json -H "Idempotency-Key: oha-$$-$RANDOM" \
        -d '{"shipping_address": "Rheingasse 12, 4058 Basel"}' "$shop/api/orders/"
}

mixed() {
    local detail pids=() failed=0
    detail="$shop/api/products/$(product)/"
    run list 200 "$((rate * 80 / 100))" "$shop/api/products/" & pids+=($!)
    run detail 200 "$((rate * 15 / 100))" "$detail" & pids+=($!)
    cart "$((rate * 5 / 100))" & pids+=($!)
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

case ${1:-} in
    browse | search | checkout | mixed) "$1" ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
