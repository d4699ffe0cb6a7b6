#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Millrace and other brokers on this machine, in one run, in turns.
#
#   tests/bench/compare.sh [OPTION]...
#
#   --out DIR         where results go (default build/compare): results.jsonl, table.md, goals.md, *.svg
#   --systems LIST    of floor millrace millrace-1 nginx rabbit nats redis (default: all): what is started.
#                     millrace-1: one broker; floor: the disk and the loopback interface alone
#   --workloads LIST  only these rows of tests/bench/rows.tsv; patterns such as 'produce-*' may be used
#                     (default: all but backlog-1M of the others, which takes minutes)
#   --rounds N        how often all is measured (default 2: A B C A B C)
#   --seconds S       of each measurement (default 5)
#   --nodes N         brokers of millrace (default 3)
#   --no-install      the packages are there
#
# Every system keeps a message on disk before it acknowledges it as well as it can (docs/performance.md
# says how well that is). Each measurement has new servers, on loopback, with data of their own below
# DIR, which are ended by their process ids: what one leaves behind is no burden to the next. Workload
# by workload the systems take turns. The medians of the rounds go into the tables. All of it takes
# a quarter of an hour with --rounds 1 --seconds 3.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
out=build/compare
systems="floor millrace millrace-1 nginx rabbit nats redis"
workloads=
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
    --out | --systems | --workloads | --rounds | --seconds | --nodes)
        [ $# -ge 2 ] || misuse "$1 needs a value"
        case $1 in
        --out) out=$2 ;;
        --systems) systems=$2 ;;
        --workloads) workloads=$2 ;;
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --nodes) MILLRACE_NODES=$2 ;;
        esac
        shift
        ;;
    --no-install) install=no ;;
    -h | --help)
        sed -n '3,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
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
    line=$(timeout 600 "$@" 2>>"$out/progress.log") || true
    if [ -z "$line" ]; then
        echo "compare.sh: $system $workload gave no result; see $out/progress.log" >&2
        return
    fi
    printf '{"system": "%s", "workload": "%s", "round": %s, %s\n' "$system" "$workload" "$round" \
        "${line#\{}" >>"$results"
    printf '%-16s %-18s %s\n' "$system" "$workload" \
        "$(grep -o '"rate": [0-9.]*' <<<"$line" | head -1)/s"
}

# wanted SYSTEM WORKLOAD: is it to be measured?
wanted() {
    local pattern
    if [ -z "$workloads" ]; then
        [[ $1 != peer || $2 != backlog-1M ]]
        return
    fi
    set -f
    for pattern in $workloads; do
        # shellcheck disable=SC2053 # a pattern
        [[ $2 == $pattern ]] && break
        pattern=
    done
    set +f
    [ -n "${pattern:-}" ]
}

# run_row SYSTEM NAME WORKLOAD CLIENT ARGUMENTS...: servers of its own for one measurement.
run_row() {
    local system=$1 name=$2 workload=$3 client=$4 brokers endpoints pids command
    shift 4
    running=$system
    "$servers" start "$system" "$out/server" 2>>"$out/progress.log"
    read -r brokers endpoints < <("$servers" hosts "$system" "$out/server")
    pids=$("$servers" pids "$system" "$out/server")
    case $client in
    native) command=(build/release/bin/millrace bench --json --brokers "$brokers") ;;
    http) command=(build/release/bin/millrace bench --json --protocol http --endpoint "$endpoints") ;;
    peer) command=(build/peers/bin/peer_bench --peer "$system" --hosts "$brokers" --replicas 3) ;;
    esac
    [[ $* == *--messages* ]] || command+=(--seconds "$seconds")
    # nginx keeps nothing, so all is "lost" there; only the rate and the CPU time mean something.
    measure "$name" "$workload" "${command[@]}" --server-pids "$pids" "$@"
    stop_running
    sync # what the disk still has to do would be done during the next measurement
}

# What no broker can be faster than. The program links nothing of the project.
run_floor() {
    mkdir -p "$out/floor"
    cc -O2 -std=gnu11 -D_GNU_SOURCE -pthread -o "$out/floor/bench_floor" tests/bench/floor.c
    measure floor floor "$out/floor/bench_floor" --dir "$out/floor"
    rm -rf "$out/floor"
}

# run_for SYSTEM ROW...: a row of rows.tsv, if it is one of the system's. Rows of "peer" are of all peers.
run_for() {
    local system=$1 of=$2 name=$3
    shift 3
    if [ "$of" = peer ] && [[ " rabbit nats redis " == *" $system "* ]]; then
        of=$system
        name=$system
    fi
    if [ "$of" != "$system" ]; then
        return
    elif [ "$system" = floor ]; then
        run_floor
    else
        run_row "$system" "$name" "$@"
    fi
}

# run_rows: all that is wanted, in the order of rows.tsv, so that what is compared is measured in the same minutes.
run_rows() {
    local -a row
    local system
    while read -r -a row; do
        wanted "${row[0]}" "${row[2]}" || continue
        for system in $systems; do
            run_for "$system" "${row[@]}" </dev/null
        done
    done < <(grep -v '^#' tests/bench/rows.tsv)
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
    run_rows
done
tests/bench/plot --table "$results" >"$out/table.md"
tests/bench/plot --goals tests/bench/goals.tsv "$results" >"$out/goals.md"
tests/bench/plot --out "$out" "$results"
cat "$out/table.md" "$out/goals.md"
