#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh Debian 12 to a finished job: install what is missing, build, start `millrace local`,
# and send this machine's package database through a queue that triggers a Python function.
#
#   deploy/quickstart.sh [--keep] [--data-dir DIR] [--port P]
#
#   --keep          leave Millrace running at the end, and say how to stop it
#   --data-dir DIR  where it keeps its data; build/quickstart if not given, or, run by root below
#                   a folder that is closed to others, /var/lib/millrace-quickstart
#   --port P        the HTTP port; 9324 if not given, or any free one if that is taken
#
# What it starts it also stops, by process id, however it ends.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data_dir=
port=9324
port_given=no
keep=no
pid=

usage() {
    sed -n '6,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

misuse() {
    echo "quickstart.sh: $1" >&2
    usage >&2
    exit 64
}

while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --data-dir | --port)
        [ $# -ge 2 ] || misuse "$1 needs a value"
        if [ "$1" = --port ]; then
            port=$2
            port_given=yes
        else
            data_dir=$2
        fi
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) misuse "unknown option '$1'" ;;
    esac
    shift
done
[[ $port =~ ^[0-9]{1,5}$ ]] || misuse "--port '$port' is no port"

step() {
    printf '\n== %s\n' "$1"
}

stop_millrace() {
    if [ -n "$pid" ]; then
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        pid=
    fi
}
trap stop_millrace EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

is_free() {
    /usr/bin/python3 - "$1" <<'PYTHON'
import socket, sys
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", int(sys.argv[1])))
    except (OSError, OverflowError):
        sys.exit(1)
PYTHON
}

json_member() {
    /usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
        "$data_dir/quickstart.json" "$1"
}

start_millrace() {
    if ! is_free "$port"; then
        if [ "$port_given" = yes ]; then
            echo "quickstart.sh: port $port is in use; choose another with --port" >&2
            return 1
        fi
        echo "Port $port is in use, so another one is taken."
        port=0
    fi
    if [ ! -d "$data_dir" ]; then
        mkdir -p "$data_dir"
        chmod 711 "$data_dir"
    fi
    : >"$data_dir/quickstart.json"
    # A few functions for each processor: more would only start more interpreters at once.
    nohup "$root/build/release/bin/millrace" local --json --data-dir "$data_dir" \
        --concurrency "$((4 * $(nproc)))" --http "127.0.0.1:$port" </dev/null >"$data_dir/quickstart.json" 2>"$data_dir/quickstart.trace" &
    pid=$!
    for _ in $(seq 600); do
        if [ -s "$data_dir/quickstart.json" ]; then
            return 0
        fi
        if ! kill -0 "$pid" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    echo "quickstart.sh: millrace local did not start; its traces end with:" >&2
    tail -n 20 "$data_dir/quickstart.trace" >&2
    return 1
}

# Functions run as users of their own if root starts the worker, and in a container they see the
# worker's files at their path.
others_can_pass() {
    [ "$(id -u)" -ne 0 ] ||
        setpriv --reuid=65534 --regid=65534 --clear-groups test -e "$1/." 2>/dev/null
}

choose_data_dir() {
    data_dir=$root/build/quickstart
    mkdir -p "$root/build"
    if ! others_can_pass "$root/build"; then
        data_dir=/var/lib/millrace-quickstart
    fi
}

if [ -z "$data_dir" ]; then
    choose_data_dir
fi
[[ $data_dir == /* ]] || data_dir=$PWD/$data_dir
cd "$root"
step "Installing what is missing"
deploy/install-deps.sh

step "Building a release"
if ! configured=$(cmake --preset release 2>&1); then
    echo "$configured" >&2
    exit 1
fi
cmake --build --preset release

step "Starting millrace local"
start_millrace
endpoint=$(json_member endpoint)
echo "It answers at $endpoint; data and traces (quickstart.trace) are in $data_dir"

step "Running the job"
if ! /usr/bin/python3 -B deploy/quickstart/job.py --endpoint "$endpoint"; then
    echo "quickstart.sh: the job failed; the traces of millrace local end with:" >&2
    tail -n 20 "$data_dir/quickstart.trace" >&2
    exit 1
fi

step "How to go on"
if [ "$keep" = yes ]; then
    echo "Millrace goes on running (pid $pid); stop it with: kill $pid"
    pid=
else
    stop_millrace
    echo "Millrace has been stopped; start it again on the same data with:"
    echo "  build/release/bin/millrace local --data-dir $data_dir"
    endpoint=http://127.0.0.1:9324
fi
cat <<NEXT
Then, in a terminal (any credentials do, the endpoint is $endpoint):
  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1
  build/release/bin/millrace --endpoint $endpoint status
  build/release/bin/millrace --help
  aws --endpoint-url $endpoint sqs list-queues
  aws --endpoint-url $endpoint lambda list-functions
NEXT
if ! command -v aws >/dev/null 2>&1; then
    echo "(aws is in Debian's package awscli, which is not installed here.)"
fi
