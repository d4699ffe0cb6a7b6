#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Millrace and other brokers on this machine, in one run, in turns.
#
#   tests/bench/compare.sh [OPTION]...
#
#   --out DIR        where results go (default build/compare): results.jsonl, table.md, *.svg
#   --systems LIST   of millrace rabbit nats redis nginx (default all)
#   --rounds N       how often each system has its turn (default 2: A B C A B C)
#   --seconds S      of each measurement (default 5)
#   --nodes N        brokers of Millrace (default 3)
#   --no-install     the packages are there
#
# Every system keeps a message on disk before it acknowledges it as well as it can (docs/performance.md
# says how well that is). Servers run on loopback, one system at a time, with data of their own below
# DIR, and are ended by their process ids. The medians of the rounds go into the table.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
out=build/compare
systems="millrace rabbit nats redis nginx"
rounds=2
seconds=5
install=yes
export MILLRACE_NODES=3 LC_ALL=C

misuse() {
    echo "compare.sh: $1; --help lists the options" >&2
    exit 64
}

while [ $# -gt 0 ]; do
    case $1 in
    --out | --systems | --rounds | --seconds | --nodes)
        [ $# -ge 2 ] || misuse "$1 needs a value"
        case $1 in
        --out) out=$2 ;;
        --systems) systems=$2 ;;
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --nodes) MILLRACE_NODES=$2 ;;
        esac
        shift
        ;;
    --no-install) install=no ;;
    -h | --help)
        sed -n '3,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) misuse "unknown option '$1'" ;;
    esac
    shift
done

mkdir -p "$out"
out=$(cd "$out" && pwd)
servers=$root/tests/bench/peers/servers.sh
results=$out/results.jsonl
running=

stop_running() {
    [ -z "$running" ] || "$servers" stop "$running" "$out/server" || true
    running=
}
trap stop_running EXIT

# measure SYSTEM WORKLOAD COMMAND...: one line of results, with what it is of.
measure() {
    local system=$1 workload=$2 line
    shift 2
    line=$(timeout 300 "$@" 2>>"$out/progress.log") || true
    if [ -z "$line" ]; then
        echo "compare.sh: $system $workload gave no result; see $out/progress.log" >&2
        return
    fi
    printf '{"system": "%s", "workload": "%s", "round": %s, %s\n' "$system" "$workload" "$round" \
        "${line#\{}" >>"$results"
    printf '%-16s %-18s %s\n' "$system" "$workload" \
        "$(grep -o '"rate": [0-9.]*' <<<"$line" | head -1)/s"
}

# workloads SYSTEM COMMAND...: what every broker is asked to do, one message in a send.
workloads() {
    local system=$1 inflight
    shift
    for inflight in 1 64 1024; do
        measure "$system" "produce-$inflight" "$@" --mode produce --seconds "$seconds" \
            --inflight "$inflight"
    done
    measure "$system" cycle-256 "$@" --mode cycle --seconds "$seconds" --inflight 256
    measure "$system" latency-500 "$@" --mode latency --rate 500 --seconds "$seconds"
    measure "$system" produce-256KB "$@" --mode produce --seconds "$seconds" --inflight 32 \
        --size 262144
}

measure_millrace() {
    local brokers=$1 endpoints=$2 pids=$3
    local bench=("build/release/bin/millrace" bench --json --server-pids "$pids")
    local native=("${bench[@]}" --brokers "$brokers")
    local http=("${bench[@]}" --protocol http --endpoint "$endpoints")
    workloads millrace "${native[@]}"
    measure millrace-batch produce-1024 "${native[@]}" --mode produce --batch 10 \
        --seconds "$seconds" --inflight 1024
    measure millrace-batch cycle-256 "${native[@]}" --mode cycle --batch 10 --seconds "$seconds" \
        --inflight 256
    measure millrace-http produce-64 "${http[@]}" --mode produce --seconds "$seconds" --inflight 64
    measure millrace-http cycle-256 "${http[@]}" --mode cycle --seconds "$seconds" --inflight 256
    measure millrace-http latency-500 "${http[@]}" --mode latency --rate 500 --seconds "$seconds"
    measure millrace-http10 produce-640 "${http[@]}" --mode produce --batch 10 \
        --seconds "$seconds" --inflight 640
}

turn() {
    local system=$1 brokers endpoints pids
    running=$system
    "$servers" start "$system" "$out/server" 2>>"$out/progress.log"
    read -r brokers endpoints < <("$servers" hosts "$system" "$out/server") || true
    pids=$("$servers" pids "$system" "$out/server")
    case $system in
    millrace) measure_millrace "$brokers" "$endpoints" "$pids" ;;
    nginx) # keeps nothing, so all is "lost"; only the rate and the CPU time mean something
        measure nginx produce-64 build/release/bin/millrace bench --json --protocol http \
            --endpoint "$endpoints" --server-pids "$pids" --mode produce --seconds "$seconds" \
            --inflight 64
        ;;
    *)
        workloads "$system" build/peers/bin/peer_bench --peer "$system" --hosts "$brokers" \
            --replicas 3 --server-pids "$pids"
        ;;
    esac
    stop_running
}

if [ "$install" = yes ]; then
    deploy/install-deps.sh --peers
fi
cmake --preset release >/dev/null
cmake --build --preset release --target millrace millrace-broker >/dev/null
cmake -G Ninja -S . -B build/peers -DCMAKE_BUILD_TYPE=RelWithDebInfo -DMILLRACE_PEERS=ON >/dev/null
cmake --build build/peers --target peer_bench >/dev/null

rm -rf "$out/server"
: >"$results"
: >"$out/progress.log"
for round in $(seq "$rounds"); do
    for system in $systems; do
        turn "$system"
    done
done
tests/bench/plot --table "$results" >"$out/table.md"
tests/bench/plot --out "$out" "$results"
cat "$out/table.md"
