#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Install what the tests need, build, run everything, and count.
#
#   tests/run.sh [--only PART]...
#
#   --only PART  only this part; may be given several times. Parts:
#                tidy        layers, style and format of the sources
#                unit        unit tests, with address and thread sanitizers
#                sim         the simulations of the core and of a cluster
#                fuzz        each fuzz target for a short while (MILLRACE_FUZZ_SECONDS, 10), or as
#                            often as tests/fuzz/runs says
#                wire        bytes on the wire against a running broker
#                clients     awscli, boto3, npm clients, Celery, Ruby against a broker and a worker
#                cluster     brokers that are several processes
#                chaos       brokers in a network of their own, while everything goes wrong
#                recovery    kill -9 at random moments (MILLRACE_SEED repeats a run)
#                bench       millrace bench, short, in all its modes: that it runs and nothing is lost
#                quickstart  deploy/quickstart.sh, twice on the same data
#
# Each part prints one line; the last line is "N passed, N failed". Exits non-zero when a test has
# failed or a part could not run. Logs are in build/tests. Needs no terminal and no input.
set -uo pipefail
exec </dev/null

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
logs=$root/build/tests
fuzz_seconds=${MILLRACE_FUZZ_SECONDS:-10}
jobs=$(nproc)
python=/usr/bin/python3
part_timeout_s=1200
passed=0
failed=0
all_parts="tidy unit sim fuzz wire clients cluster chaos recovery bench quickstart"
parts=

export PYTHONDONTWRITEBYTECODE=1
export MILLRACE_BIN=$root/build/release/bin

misuse() {
    echo "run.sh: $1" >&2
    sed -n '5,22s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 64
}

while [ $# -gt 0 ]; do
    case $1 in
    --only)
        [ $# -ge 2 ] || misuse "--only needs a part"
        case " $all_parts " in
        *" $2 "*) parts="$parts $2" ;;
        *) misuse "there is no part '$2'" ;;
        esac
        shift
        ;;
    -h | --help)
        sed -n '3,22s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) misuse "unknown option '$1'" ;;
    esac
    shift
done
parts=${parts:-$all_parts}

wants() {
    local part
    for part in "$@"; do
        case " $parts " in
        *" $part "*) return 0 ;;
        esac
    done
    return 1
}

# Programs of ours that run now, by pid: none may be left that was not there before.
our_processes() {
    local exe path
    for exe in /proc/[0-9]*/exe; do
        path=$(readlink "$exe" 2>/dev/null) || continue
        case $path in
        "$root"/build/asan/* | "$root"/build/tsan/* | "$root"/build/release/* | \
            "$root"/build/fuzz/*)
            exe=${exe#/proc/}
            echo "${exe%/exe}"
            ;;
        esac
    done | sort
}

# report NAME PASSED FAILED SECONDS: the line of one suite.
report() {
    printf '%-28s %5d passed, %d failed   (%d s)\n' "$1" "$2" "$3" "$4"
    passed=$((passed + $2))
    failed=$((failed + $3))
}

# suite NAME KIND COMMAND...: run it, count its log as KIND (see tally.py), report. A command that
# fails without a failed test, or that ran no test, is one failure. With SUITE_LOG that file is
# counted instead of what the command printed.
suite() {
    local name=$1 kind=$2 log=$logs/$1.log begun=$SECONDS status good=0 bad=0
    shift 2
    timeout -k 10 "$part_timeout_s" "$@" >"$log" 2>&1
    status=$?
    if [ "$kind" = exit ]; then
        [ $status -eq 0 ] && good=1
    else
        read -r good bad < <($python tests/tally.py "$kind" "${SUITE_LOG:-$log}")
    fi
    good=${good:-0}
    bad=${bad:-0}
    if { [ $status -ne 0 ] && [ "$bad" -eq 0 ]; } || [ $((good + bad)) -eq 0 ]; then
        bad=$((bad + 1))
    fi
    report "$name" "$good" "$bad" $((SECONDS - begun))
    if [ "$bad" -ne 0 ]; then
        echo "--- the end of $log (exit status $status)"
        tail -n 60 "$log"
        echo "---"
    fi
}

# build PRESET: configure and build; when that fails it is a failed test, and the result is false.
build() {
    local log=$logs/build-$1.log begun=$SECONDS
    if cmake --preset "$1" >"$log" 2>&1 && cmake --build --preset "$1" -j "$jobs" >>"$log" 2>&1; then
        report "build-$1" 1 0 $((SECONDS - begun))
        return 0
    fi
    report "build-$1" 0 1 $((SECONDS - begun))
    echo "--- the end of $log"
    grep -E -A 20 'FAILED:|CMake Error' "$log" | head -n 60
    echo "---"
    return 1
}

run_tidy() {
    suite tidy exit "$python" tests/tidy/tidy.py
    suite tidy-test unittest "$python" tests/tidy/tidy_test.py
}

# ctest_suite NAME PRESET ARGUMENTS...: some of a build's tests, counted from CTest's own log, which
# is kept.
ctest_suite() {
    local name=$1 preset=$2
    local record=build/$preset/Testing/Temporary/LastTest.log
    shift 2
    rm -f "$record"
    SUITE_LOG=$record suite "$name" ctest ctest --test-dir "build/$preset" --output-on-failure \
        -j "$jobs" "$@"
    cp "$record" "$logs/$name.ctest.log"
}

run_asan() {
    build asan || return
    wants unit && ctest_suite unit-asan asan -E '_sim(_|$)'
    wants sim && ctest_suite sim asan -R '_sim(_|$)'
}

# Many short runs of a cluster, optimised, on all cores; a few of them run with sanitizers above.
# Then versions of the engine that are wrong in one place: a run must notice each of them.
run_sim() {
    suite sim-cluster exit tests/sim/run --nodes 1 --seeds 1..1500
    suite sim-cluster-3 exit tests/sim/run --nodes 3 --seeds 1..1200
    suite sim-cluster-5 exit tests/sim/run --nodes 5 --seeds 1..250
    suite build-sim-mutants exit cmake --build --preset sim --target cluster_sim_all
    ctest_suite sim-mutants sim -R '^cluster_sim_'
}

# The thread sanitizer is for what has threads: tests/CMakeLists.txt says which tests those are. Tests
# that fork do so from processes with threads.
run_tsan() {
    build tsan || return
    TSAN_OPTIONS=die_after_fork=0 ctest_suite unit-tsan tsan
}

# One target: its seeds, if there are any, and then what the fuzzer makes of them: for a while, or, for
# a target with a line in tests/fuzz/runs, exactly so many executions however long they take.
fuzz_one() {
    local program=$1 name work seeds arguments runs
    name=$(basename "$program")
    work=$(mktemp -d)
    seeds=$root/tests/fuzz/corpus/$name
    arguments=("$work")
    [ -d "$seeds" ] && arguments+=("$seeds")
    [ -f "$root/tests/fuzz/$name.dict" ] && arguments+=("-dict=$root/tests/fuzz/$name.dict")
    runs=$(sed -n "s/^$name //p" "$root/tests/fuzz/runs")
    if [ -n "$runs" ]; then
        arguments+=("-runs=$runs" -max_len=512)
    else
        arguments+=("-max_total_time=$fuzz_seconds")
    fi
    if (cd "$work" && "$program" "${arguments[@]}" -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1) >"$logs/fuzz-$name.log" 2>&1; then
        echo "ok $name"
    else
        echo "not ok $name"
        tail -n 40 "$logs/fuzz-$name.log"
    fi
    rm -rf "$work"
}

fuzz_all() {
    printf '%s\n' build/fuzz/bin/*_fuzz | sed "s|^|$root/|" |
        xargs -P "$jobs" -I PROGRAM bash -c 'fuzz_one PROGRAM'
}

run_fuzz() {
    build fuzz || return
    export -f fuzz_all fuzz_one
    export root logs fuzz_seconds jobs
    suite fuzz lines bash -c fuzz_all
}

# unittest_files NAME FILE...: each file that is a program of its own.
unittest_files() {
    local file
    local name=$1
    shift
    for file in "$@"; do
        if grep -q '__main__' "$file" 2>/dev/null; then
            suite "$name-$(basename "$file" .py)" unittest "$python" "$file" -v
        fi
    done
}

run_clients() {
    unittest_files clients tests/clients/*.py
    suite clients-npm-ci exit npm ci --prefix tests/clients --no-audit --no-fund
    suite clients-node node node --test tests/clients/
}

# Where network namespaces are not allowed a plain run goes on without; CI must not.
run_chaos() {
    local reason
    unittest_files chaos tests/chaos/checker_test.py
    reason=$("$python" -c 'import sys; sys.path.insert(0, "tests/chaos"); import sandbox
print(sandbox.why_not() or "")')
    if [ -n "$reason" ] && [ -z "${CI:-}" ]; then
        echo "chaos-run: skipped: $reason"
        return
    fi
    unittest_files chaos tests/chaos/net_test.py
    suite chaos-run exit tests/chaos/run --seed 7 --minutes 0.4 --prove
    suite chaos-run-again exit tests/chaos/run --seed 11 --minutes 0.3 --rehearse
}

run_quickstart() {
    local data
    data=$(mktemp -d)
    chmod 711 "$data" # functions run as other users below it
    suite quickstart exit deploy/quickstart.sh --data-dir "$data"
    suite quickstart-again exit deploy/quickstart.sh --data-dir "$data"
    rm -rf "$data"
}

mkdir -p "$logs"
before=$(our_processes)
if ! deploy/install-deps.sh --tests >"$logs/install.log" 2>&1; then
    tail -n 20 "$logs/install.log"
    echo "0 passed, 1 failed"
    exit 1
fi
wants tidy && run_tidy
wants unit sim && run_asan
wants sim && run_sim
wants unit && run_tsan
wants fuzz && run_fuzz
if wants wire clients cluster chaos recovery bench quickstart && build release; then
    wants wire && unittest_files wire tests/wire/*.py
    wants clients && run_clients
    wants cluster && unittest_files cluster tests/cluster/*.py
    wants chaos && run_chaos
    wants recovery && unittest_files recovery tests/recovery/*.py
    wants bench && unittest_files bench tests/bench/smoke_test.py tests/bench/polls_test.py
    wants quickstart && run_quickstart
fi

left=$(comm -13 <(echo "$before") <(our_processes))
if [ -n "$left" ]; then
    echo "left behind, and ended now: $(echo "$left" | tr '\n' ' ')"
    for pid in $left; do
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null && echo
        kill -KILL "$pid" 2>/dev/null
    done
    failed=$((failed + 1))
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
