#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One system to measure: start it, end it, name its processes. On loopback, with data of its own.
#
#   servers.sh start|stop|pids|hosts SYSTEM DIR
#
# SYSTEM: millrace (MILLRACE_NODES brokers, 3), millrace-1 (one broker), rabbit (three nodes, quorum queues), nats (three nodes,
# JetStream), redis (one, appendfsync always), nginx (one worker, a static answer to every POST).
# DIR is made by start and removed by stop. Needs what deploy/install-deps.sh --peers installs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
command=${1:?start, stop, pids or hosts}
system=${2:?a system}
dir=${3:?a folder}
nodes=${MILLRACE_NODES:-3}
base=${MILLRACE_BENCH_PORT:-27000}
if [ "$system" = millrace-1 ]; then
    system=millrace
    nodes=1
fi

wait_port() {
    for _ in $(seq 600); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
        sleep 0.1
    done
    echo "servers.sh: nothing listens on port $1; see $dir" >&2
    return 1
}

# spawn NAME COMMAND...: in the background, its output in NAME.out, its process id in NAME.pid.
spawn() {
    local name=$1
    shift
    setsid "$@" >>"$dir/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}

# end PID: SIGTERM, and SIGKILL after 20 seconds.
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 200); do
        [ -d "/proc/$1" ] || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

# ---- RabbitMQ: its scripts are configured by the environment ----

in_rabbit() {
    local node=$1
    shift
    (
        export HOME=$dir ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((base + 39))
        export RABBITMQ_NODENAME=bench$node@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
        export RABBITMQ_NODE_PORT=$((base + 30 + node)) RABBITMQ_DIST_PORT=$((base + 34 + node))
        export RABBITMQ_MNESIA_BASE=$dir/mnesia RABBITMQ_LOG_BASE=$dir/log
        export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins RABBITMQ_CONFIG_FILE=$dir/rabbitmq
        export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
        export RABBITMQ_CTL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
        cd "$dir" && "$@"
    )
}

rabbit_ctl() {
    local node=$1
    shift
    in_rabbit "$node" /usr/lib/rabbitmq/bin/rabbitmqctl "$@" >>"$dir/ctl.out" 2>&1
}

start_rabbit() {
    local node
    echo '[].' >"$dir/enabled_plugins"
    printf 'loopback_users.guest = true\nlog.file.level = warning\n' >"$dir/rabbitmq.conf"
    head -c 15 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/.erlang.cookie"
    chmod 400 "$dir/.erlang.cookie"
    in_rabbit 1 true
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((base + 39)) spawn epmd epmd
    sleep 0.5
    for node in 1 2 3; do
        in_rabbit "$node" setsid /usr/lib/rabbitmq/bin/rabbitmq-server \
            >>"$dir/node$node.out" 2>&1 </dev/null &
    done
    for node in 1 2 3; do
        wait_port $((base + 30 + node))
    done
    sleep 2
    for node in 2 3; do
        rabbit_ctl "$node" stop_app
        rabbit_ctl "$node" join_cluster bench1@localhost
        rabbit_ctl "$node" start_app
    done
}

rabbit_pids() {
    local process
    for process in /proc/[0-9]*; do
        grep -qs beam "$process/comm" || continue
        if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "RABBITMQ_MNESIA_BASE=$dir/mnesia"; then
            basename "$process"
        fi
    done
}

# ---- the others ----

start_nats() {
    local node
    for node in 1 2 3; do
        cat >"$dir/node$node.conf" <<CONF
server_name: n$node
listen: 127.0.0.1:$((base + 40 + node))
jetstream { store_dir: "$dir/js$node"
 max_mem: 1G
 max_file: 40G }
cluster { name: bench
 listen: 127.0.0.1:$((base + 44 + node))
 routes: [nats://127.0.0.1:$((base + 45)), nats://127.0.0.1:$((base + 46)), nats://127.0.0.1:$((base + 47))] }
CONF
        spawn "node$node" /usr/sbin/nats-server -c "$dir/node$node.conf"
    done
    for node in 1 2 3; do
        wait_port $((base + 40 + node))
    done
    sleep 8 # until JetStream's group has a leader
}

start_redis() {
    spawn node1 /usr/bin/redis-server --bind 127.0.0.1 --port $((base + 50)) --dir "$dir" \
        --appendonly yes --appendfsync always --save "" --daemonize no
    wait_port $((base + 50))
}

start_nginx() {
    cat >"$dir/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
 access_log off;
 client_body_temp_path $dir/body;
 proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
 keepalive_requests 1000000000;
 server { listen 127.0.0.1:$((base + 51));
  location / { default_type application/x-amz-json-1.0; return 200 '{"MD5OfMessageBody":"00000000000000000000000000000000","MessageId":"00000000-0000-0000-0000-000000000000"}'; } }
}
CONF
    spawn node1 /usr/sbin/nginx -c "$dir/nginx.conf" -e "$dir/error.log"
    wait_port $((base + 51))
}

start_millrace() {
    "$root/deploy/local-cluster.sh" up --nodes "$nodes" --workers 0 --data-dir "$dir/cluster" \
        --base-port "$base" >"$dir/cluster.json"
}

json() {
    /usr/bin/python3 -c "import json,sys; d=json.load(open('$dir/cluster.json')); print($1)"
}

pids() {
    case $system in
    millrace) json '"\n".join(str(p) for p in d["pids"]["broker"].values())' ;;
    rabbit) rabbit_pids ;;
    nginx) pgrep -P "$(cat "$dir/node1.pid")" ;;
    *) cat "$dir"/node*.pid ;;
    esac | paste -sd,
}

hosts() {
    case $system in
    millrace) json '",".join(d["brokers"]) + " " + ",".join(d["endpoints"])' ;;
    rabbit) echo "127.0.0.1:$((base + 31)),127.0.0.1:$((base + 32)),127.0.0.1:$((base + 33))" ;;
    nats) echo "127.0.0.1:$((base + 41)),127.0.0.1:$((base + 42)),127.0.0.1:$((base + 43))" ;;
    redis) echo "127.0.0.1:$((base + 50))" ;;
    nginx) echo "- http://127.0.0.1:$((base + 51))" ;;
    esac
}

stop() {
    local pid file
    case $system in
    millrace) "$root/deploy/local-cluster.sh" down --data-dir "$dir/cluster" >/dev/null 2>&1 || true ;;
    rabbit)
        for pid in $(rabbit_pids); do
            end "$pid"
        done
        ;;
    esac
    for file in "$dir"/*.pid; do
        [ -f "$file" ] && end "$(cat "$file")"
    done
    rm -rf "$dir"
}

case $command in
start)
    [ ! -e "$dir" ] || {
        echo "servers.sh: $dir is there already" >&2
        exit 1
    }
    mkdir -p "$dir"
    "start_$system"
    ;;
stop | pids | hosts) "$command" ;;
*)
    echo "servers.sh: unknown command '$command'" >&2
    exit 64
    ;;
esac
