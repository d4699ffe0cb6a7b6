#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What many queues cost: memory, idle time, the pages that show them, a restart; and whether messages
cost more with many queues than with few.

    MILLRACE_BIN=build/release/bin tests/bench/queues.py [--queues 10000] [--nodes 1] [--fifo]
        [--skip-costs] [--skip-speed] [--turns 6]

Brokers of its own run on loopback, with data below TMPDIR. One JSON object goes to stdout:

    create_s, create_cpu_us        making them, 16 calls at a time; CPU time of all brokers for each
    bytes                          anonymous memory that each broker grew by, for each queue: [of node 1, ...]
    bytes_used                     the same when each has had a message, which was deleted again
    bytes_restarted                the same after a restart
    idle_ms_per_s, idle_ms_per_s_empty
                                   CPU time of each broker while nothing happens, with them and without
    pages                          for each page: bytes, and CPU time of the loop's thread for an answer, the
                                   least of five: so long nobody else is served, at most
    live_ms_max                    the longest that GET /health/live took while the pages were made
    snapshot_bytes, restart_s, restart_cpu_s
                                   until every broker is ready again
    speed                          CPU us of all brokers a message, least and median of the turns, with one
                                   queue, a hundred, and as many as asked for

How much memory queues take that are made natively `millrace bench --mode queues --server-pids` says itself."""
import argparse
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cluster"))
import cluster as clusters  # noqa: E402

CALLERS = 16
PAGES = ["/metrics", "/status", "/health/ready", "ListQueues", "ListQueues, 1000", "ListDeadLetterSourceQueues"]


# ---- the brokers' processes ----

class Process:
    def __init__(self, pid):
        self.folder = pathlib.Path(f"/proc/{pid}")

    def anonymous_bytes(self):
        for line in (self.folder / "status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")

    def cpu_ns(self):
        """Of all threads that are there; those of the pool stay."""
        return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0])
                   for task in (self.folder / "task").iterdir())

    def loop_ns(self):
        """Of the thread that runs the loop: the first."""
        return int((self.folder / "schedstat").read_text(encoding="ascii").split()[0])


def processes(cluster):
    return [Process(pid) for pid in cluster.status()["pids"]["broker"].values()]


def memory(cluster):
    return [p.anonymous_bytes() for p in processes(cluster)]


def growth(cluster, before, queues):
    return [round((now - then) / queues) for now, then in zip(memory(cluster), before)]


def idle_ms_per_s(cluster, seconds):
    before = [p.cpu_ns() for p in processes(cluster)]
    time.sleep(seconds)
    return [round((p.cpu_ns() - then) / 1e6 / seconds, 2) for p, then in zip(processes(cluster), before)]


# ---- calls ----

class Caller:
    """One connection that is kept."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path):
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:200])
        return body

    def sqs(self, action, **members):
        self.connection.request("POST", "/", json.dumps(members).encode(), {
            "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"})
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (action, members, answer.status, body[:200])
        return json.loads(body or b"{}")


def name_of(number, fifo):
    return f"queue-{number:06}" + (".fifo" if fifo else "")


def spread(cluster, names, work):
    """work(caller, name) for each name, CALLERS at a time, over all brokers."""
    failures = []

    def run(which):
        try:
            caller = Caller(cluster.port + 10 * (which % cluster.nodes))
            for name in names[which::CALLERS]:
                work(caller, name)
        except Exception as failure:  # pylint: disable=broad-except
            failures.append(failure)
    threads = [threading.Thread(target=run, args=(which,)) for which in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def create(fifo):
    attributes = {"FifoQueue": "true"} if fifo else {}
    return lambda caller, name: caller.sqs("CreateQueue", QueueName=name, Attributes=attributes)


def use(caller, name):
    """A message comes and goes."""
    ids = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if name.endswith(".fifo") else {}
    caller.sqs("SendMessage", QueueUrl=name, MessageBody="x", **ids)
    for _ in range(50):
        messages = caller.sqs("ReceiveMessage", QueueUrl=name, WaitTimeSeconds=1).get("Messages", [])
        if messages:
            break
    assert len(messages) == 1, (name, messages)
    caller.sqs("DeleteMessage", QueueUrl=name, ReceiptHandle=messages[0]["ReceiptHandle"])


# ---- pages ----

def page(caller, what, names):
    if what == "ListQueues":
        return caller.sqs("ListQueues")
    if what == "ListQueues, 1000":
        return caller.sqs("ListQueues", MaxResults=1000)
    if what == "ListDeadLetterSourceQueues":
        return caller.sqs("ListDeadLetterSourceQueues", QueueUrl=names[0])
    return caller.get(what)


class Watch:
    """How long GET /health/live takes at most, while something else goes on."""

    def __init__(self, port):
        self.caller = Caller(port)
        self.over = False
        self.worst_ms = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            begun = time.monotonic()
            self.caller.get("/health/live")
            self.worst_ms = max(self.worst_ms, (time.monotonic() - begun) * 1000)
            time.sleep(0.001)

    def end(self):
        self.over = True
        self.thread.join()
        return round(self.worst_ms, 1)


def all_queues(caller):
    """By pages of a thousand."""
    count, token = 0, {}
    while True:
        found = caller.sqs("ListQueues", MaxResults=1000, **token)
        count += len(found["QueueUrls"])
        if "NextToken" not in found:
            return count
        token = {"NextToken": found["NextToken"]}


def pages(cluster, names):
    caller, broker = Caller(cluster.port), processes(cluster)[0]
    found = {}
    for what in PAGES:
        costs = []
        for _ in range(5):
            before = broker.loop_ns()
            answer = page(caller, what, names)
            costs.append((broker.loop_ns() - before) / 1e6)
        size = len(answer) if isinstance(answer, bytes) else len(json.dumps(answer))
        found[what] = {"bytes": size, "loop_ms": round(min(costs), 2)}
    assert all_queues(caller) == len(names), "ListQueues shows others than were made"
    return found


# ---- a restart ----

def newest_snapshots(cluster):
    """Bytes of the newest snapshot of each shard of node 1."""
    folders = pathlib.Path(cluster.dir).glob("broker-1/data/shard-*/snapshots")
    newest = [max(folder.glob("*.snap"), default=None) for folder in folders]
    return sum(path.stat().st_size for path in newest if path is not None)


def restart(cluster):
    cluster.script("down")
    begun = time.monotonic()
    cluster.script("up")
    seconds = time.monotonic() - begun
    return {"restart_s": round(seconds, 2),
            "restart_cpu_s": [round(p.cpu_ns() / 1e9, 3) for p in processes(cluster)]}


# ---- speed ----

def bench(cluster, protocol, mode, queues, options):
    pids = ",".join(str(pid) for pid in cluster.status()["pids"]["broker"].values())
    where = ["--brokers", ",".join(cluster.about["brokers"])] if protocol == "native" else \
            ["--endpoint", ",".join(cluster.about["endpoints"])]
    # In one call all messages are of one queue, so one in a call.
    done = subprocess.run([f"{clusters.BIN}/millrace", "bench", "--json", "--protocol", protocol, *where, "--mode",
                           mode, "--queues", str(queues), "--messages", str(options.messages), "--inflight",
                           "1024" if protocol == "native" else "64", "--server-pids", pids,
                           *(["--fifo", "--groups", "10000"] if options.fifo else [])],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"bench {mode} {protocol} {queues}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def speed(cluster, options):
    rows = []
    for protocol in ("native", "http"):
        for mode in ("produce", "cycle"):
            found = {}
            for _ in range(options.turns):
                for queues in dict.fromkeys((1, 100, options.queues)):
                    found.setdefault(queues, []).append(bench(cluster, protocol, mode, queues, options))
            for queues, results in found.items():
                costs = [result["server_cpu_us_per_msg"] for result in results]
                rows.append({"protocol": protocol, "mode": mode, "queues": queues,
                             "server_cpu_us_per_msg": [min(costs), round(statistics.median(costs), 2)],
                             "lost": sum(result["lost"] for result in results)})
                print(rows[-1], file=sys.stderr)
    return rows


# ---- all ----

def costs(cluster, options):
    names = [name_of(number, options.fifo) for number in range(options.queues)]
    spread(cluster, ["warm"] * 500, create(False))  # what the first calls of all take
    spread(cluster, ["warm"] * 200, use)
    result = {"idle_ms_per_s_empty": idle_ms_per_s(cluster, options.idle_seconds)}
    before = memory(cluster)
    cpu = sum(p.cpu_ns() for p in processes(cluster))
    begun = time.monotonic()
    spread(cluster, names, create(options.fifo))
    result["create_s"] = round(time.monotonic() - begun, 2)
    result["create_cpu_us"] = round((sum(p.cpu_ns() for p in processes(cluster)) - cpu) / 1e3 / len(names), 1)
    result["bytes"] = growth(cluster, before, len(names))
    Caller(cluster.port).sqs("DeleteQueue", QueueUrl="warm")
    time.sleep(2)
    result["idle_ms_per_s"] = idle_ms_per_s(cluster, options.idle_seconds)
    watch = Watch(cluster.port)
    result["pages"] = pages(cluster, names)
    result["live_ms_max"] = watch.end()
    spread(cluster, names, use)
    result["bytes_used"] = growth(cluster, before, len(names))
    result.update(restart(cluster))
    result["snapshot_bytes"] = newest_snapshots(cluster)
    clusters.wait_for("all queues", lambda: all_queues(Caller(cluster.port)) == len(names))
    result["bytes_restarted"] = growth(cluster, before, len(names))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=10000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--fifo", action="store_true")
    parser.add_argument("--skip-speed", action="store_true",
                        help="no comparison with one queue: takes minutes, and judges nothing")
    parser.add_argument("--skip-costs", action="store_true",
                        help="no memory, pages, restart: only the comparison")
    parser.add_argument("--idle-seconds", type=float, default=5)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--messages", type=int, default=30000, help="of each turn")
    options = parser.parse_args()
    cluster = clusters.Cluster(options.nodes)
    try:
        cluster.up()
        result = {"queues": options.queues, "nodes": options.nodes, "fifo": options.fifo}
        if not options.skip_costs:
            result.update(costs(cluster, options))
        if not options.skip_speed:
            result["speed"] = speed(cluster, options)
    finally:
        cluster.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
