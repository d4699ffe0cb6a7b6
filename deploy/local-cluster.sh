#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A cluster of real processes on loopback, to try one out and to test with: start it, stop it, kill or
# pause one node. What is printed on stdout is JSON; everything else goes to stderr. Each process has a
# folder DIR/broker-N or DIR/worker-N with its data, its log (`log`), its command line (`command`) and
# its process id (`pid`).
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/local-cluster.sh COMMAND --data-dir DIR [OPTION]...

Commands:
  up          start what is not running, wait until all brokers are ready, print JSON
  down        stop everything; data stay
  status      print the same JSON as up
  kill NAME   kill one process (SIGKILL)
  stop NAME   stop one process in order (SIGTERM)
  pause NAME  stop it from running (SIGSTOP), resume NAME lets it go on
  restart NAME
              start it again with the same command line, stopping it first if it runs

NAME is a broker's number, or broker-N, or worker-N.

Options of up, for a new DIR (an old one keeps what it has):
  --nodes N           brokers (default 3)
  --workers N         workers (default 1)
  --base-port P       broker N listens on P+10*(N-1): HTTP, +1: workers, +2: other brokers (default 9324)
  --broker-arg ARG    one more argument for every broker; may be repeated, like --worker-arg
  --worker-arg ARG
  --bin DIR           folder with the programs (default $MILLRACE_BIN, else build/release/bin)
  --timeout SECONDS   for the brokers to become ready (default 30)

Example:
  deploy/local-cluster.sh up --nodes 3 --data-dir /tmp/cluster
  deploy/local-cluster.sh kill 1 --data-dir /tmp/cluster
  deploy/local-cluster.sh down --data-dir /tmp/cluster
TEXT
}

fail() {
    echo "local-cluster: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")/.." && pwd)
command=${1:-}
[ $# -gt 0 ] && shift
name=
dir=
nodes=3
workers=1
base_port=9324
bin=${MILLRACE_BIN:-$here/build/release/bin}
timeout=30
broker_args=()
worker_args=()

case $command in
up | down | status) ;;
kill | stop | pause | resume | restart)
    name=${1:-}
    [ -n "$name" ] || fail "$command needs the name of a process"
    shift
    ;;
-h | --help | help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 64
    ;;
esac

while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
    --data-dir) dir=$2 ;;
    --nodes) nodes=$2 ;;
    --workers) workers=$2 ;;
    --base-port) base_port=$2 ;;
    --broker-arg) broker_args+=("$2") ;;
    --worker-arg) worker_args+=("$2") ;;
    --bin) bin=$2 ;;
    --timeout) timeout=$2 ;;
    *) fail "unknown option $1; see --help" ;;
    esac
    shift 2
done
[ -n "$dir" ] || fail "--data-dir is required"
for number in "$nodes" "$workers" "$base_port" "$timeout"; do
    [[ $number =~ ^[0-9]+$ ]] || fail "'$number' is not a number"
done

# ---- processes ----

# The process of one folder, if it runs and is really ours: process ids are used again.
pid_of() {
    local pid
    [ -f "$1/pid" ] || return 1
    pid=$(<"$1/pid")
    [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$1/data" || return 1
    echo "$pid"
}

start() {
    local arguments
    mapfile -t arguments <"$1/command"
    setsid nohup "${arguments[@]}" >>"$1/log" 2>&1 </dev/null &
    echo $! >"$1/pid"
    disown
}

signal() {
    local pid
    pid=$(pid_of "$1") || fail "$(basename "$1") is not running"
    kill "-$2" "$pid"
}

# TERM and, when that takes too long, KILL; a paused process is let go on first.
stop() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        pid_of "$1" >/dev/null || return 0
        sleep 0.05
    done
    echo "local-cluster: $(basename "$1") does not end, killing it" >&2
    kill -KILL "$pid" 2>/dev/null || true
}

folder_of() {
    local folder=$1
    [[ $folder =~ ^[0-9]+$ ]] && folder=broker-$folder
    if [[ ! $folder =~ ^(broker|worker)-[0-9]+$ ]] || [ ! -f "$dir/$folder/command" ]; then
        fail "there is no process '$1' in $dir"
    fi
    echo "$dir/$folder"
}

# Folders of one kind in the order of their numbers.
folders() {
    local folder
    for folder in "$dir/$1"-*; do
        [ -f "$folder/command" ] && echo "${folder##*-} $folder"
    done | sort -n | cut -d ' ' -f 2-
}

# The value behind an option in a command line of ours.
option() {
    grep -xF -A 1 -- "$2" "$1/command" | sed -n 2p
}

# ---- a new cluster ----

make_broker() {
    local folder=$dir/broker-$1 port=$((base_port + 10 * ($1 - 1)))
    mkdir -p "$folder"
    printf '%s\n' "$bin/millrace-broker" --node-id "$1" --data-dir "$folder/data" \
        --http "127.0.0.1:$port" --rpc "127.0.0.1:$((port + 1))" --peer "127.0.0.1:$((port + 2))" \
        --cluster "$members" ${broker_args[@]+"${broker_args[@]}"} >"$folder/command"
}

make_worker() {
    local folder=$dir/worker-$1
    mkdir -p "$folder"
    printf '%s\n' "$bin/millrace-worker" --brokers "$addresses" --data-dir "$folder/data" \
        ${worker_args[@]+"${worker_args[@]}"} >"$folder/command"
}

make_cluster() {
    local n port
    [ -x "$bin/millrace-broker" ] || fail "no programs in $bin: build them, or give --bin"
    [ "$nodes" -ge 1 ] || fail "--nodes must be 1 or more"
    members='' addresses=''
    for n in $(seq "$nodes"); do
        port=$((base_port + 10 * (n - 1)))
        members+=${members:+,}$n=127.0.0.1:$((port + 2))
        addresses+=${addresses:+,}127.0.0.1:$((port + 1))
    done
    for n in $(seq "$nodes"); do make_broker "$n"; done
    for n in $(seq "$workers"); do make_worker "$n"; done
}

# ---- waiting and telling ----

ready() {
    local port=${1##*:} line
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /health/ready HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n' >&3
    read -r -t 2 line <&3 || line=
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

wait_ready() {
    local until=$((SECONDS + timeout)) folder
    for folder in $(folders broker); do
        until ready "$(option "$folder" --http)"; do
            if ! pid_of "$folder" >/dev/null; then
                tail -n 5 "$folder/log" >&2
                fail "$(basename "$folder") has ended; its log is $folder/log"
            fi
            [ $SECONDS -lt $until ] || fail "$(basename "$folder") is not ready; its log is $folder/log"
            sleep 0.1
        done
    done
}

quote() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# list KIND OPTION PREFIX: ["PREFIX value", ...] of all processes of that kind.
list() {
    local folder before=''
    printf '['
    for folder in $(folders "$1"); do
        printf '%s' "$before"
        quote "$3$(option "$folder" "$2")"
        before=', '
    done
    printf ']'
}

# pids KIND: {"N": pid or null, ...}
pids() {
    local folder before='' pid
    printf '{'
    for folder in $(folders "$1"); do
        pid=$(pid_of "$folder") || pid=null
        printf '%s"%s": %s' "$before" "${folder##*-}" "$pid"
        before=', '
    done
    printf '}'
}

tell() {
    printf '{"endpoints": %s,\n "brokers": %s,\n' "$(list broker --http http://)" "$(list broker --rpc '')"
    printf ' "peers": %s,\n "data_dir": %s,\n' "$(list broker --peer '')" "$(quote "$dir")"
    printf ' "pids": {"broker": %s, "worker": %s}}\n' "$(pids broker)" "$(pids worker)"
}

# ---- commands ----

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
[ -z "$name" ] || folder=$(folder_of "$name")
case $command in
up)
    [ -d "$bin" ] || fail "no folder $bin: build first, or give --bin"
    bin=$(cd "$bin" && pwd)
    [ -n "$(folders broker)" ] || make_cluster
    for folder in $(folders broker) $(folders worker); do
        pid_of "$folder" >/dev/null || start "$folder"
    done
    wait_ready
    tell
    ;;
down)
    # Workers first: they give back what they hold. Brokers together: no need to elect anyone.
    for folder in $(folders worker); do stop "$folder" & done
    wait
    for folder in $(folders broker); do stop "$folder" & done
    wait
    ;;
status)
    tell
    ;;
kill) signal "$folder" KILL ;;
stop) stop "$folder" ;;
pause) signal "$folder" STOP ;;
resume) signal "$folder" CONT ;;
restart)
    stop "$folder"
    start "$folder"
    ;;
esac
