#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long it takes to replace a dead node that held --gb of messages: a figure for
docs/benchmarks.md.

Three brokers on loopback, data on the real disk, their queues filled with messages of 100 KB that
do not compress. One broker is killed and removed, a new one joins with nothing, and the clock runs
from `millrace cluster add` until the new one is a voter of every shard that it is to have, and
ready. A client goes on sending small messages meanwhile, one at a time; its longest wait and its
errors are told too. In the end each queue's count is compared with what was sent. One JSON object
on the last line.
"""
import argparse
import json
import os
import random
import shutil
import string
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
from cluster import BIN, Cluster, end  # noqa: E402

BODY_BYTES = 100_000
QUEUES = [f"fill-{number}" for number in range(8)]
TRICKLE = "trickle"
NEW = 4
LIMIT_S = 1800


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=10.0, help="bodies on each node (default 10)")
    parser.add_argument("--move-rate", help="MB/s that the new node takes (default: the broker's)")
    return parser.parse_args()


def body():
    letters = string.ascii_letters + string.digits
    return "".join(random.choices(letters, k=BODY_BYTES))


class Fill:
    """Two senders for each node; each has its own bodies and takes the queues in turn."""

    def __init__(self, cluster, messages):
        self.cluster = cluster
        self.left = messages // 10
        self.sent = dict.fromkeys(QUEUES, 0)
        self.lock = threading.Lock()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left

    def run(self, node):
        bodies = [body() for _ in range(20)]
        while (left := self.take()) >= 0:
            queue = QUEUES[left % len(QUEUES)]
            entries = [{"Id": str(n), "MessageBody": random.choice(bodies)} for n in range(10)]
            status, answer = self.cluster.sqs(node, "SendMessageBatch", Entries=entries, timeout=60,
                                              QueueUrl=self.cluster.queue_url(queue))
            if status != 200:
                raise RuntimeError(f"the fill was refused: {status} {answer}")
            with self.lock:
                self.sent[queue] += len(answer.get("Successful", []))

    def whole(self):
        threads = [threading.Thread(target=self.run, args=(1 + n % 3,)) for n in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(5)
            print(f"{10 * max(self.left, 0)} messages to send", file=sys.stderr)
        return self.sent


class Trickle(threading.Thread):
    """Small messages through node 1, one at a time."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.stop = False
        self.sent = self.errors = 0
        self.longest_s = 0.0

    def run(self):
        while not self.stop:
            began = time.monotonic()
            status, _ = self.cluster.sqs(1, "SendMessage", MessageBody="x" * 1000,
                                         QueueUrl=self.cluster.queue_url(TRICKLE))
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.sent += status == 200
            self.errors += status != 200
            time.sleep(0.01)


def millrace(cluster, *words):
    return subprocess.run([os.path.join(BIN, "millrace"), "cluster", *words, "--endpoint",
                           f"http://127.0.0.1:{cluster.port}"],
                          capture_output=True, text=True, check=False)


def start_new(cluster, move_rate):
    port = cluster.port + 10 * (NEW - 1)
    more = ["--move-rate", move_rate] if move_rate else []
    return subprocess.Popen(
        [os.path.join(BIN, "millrace-broker"), "--node-id", str(NEW), "--data-dir",
         os.path.join(cluster.dir, "new"), "--http", f"127.0.0.1:{port}", "--rpc",
         f"127.0.0.1:{port + 1}", "--peer", f"127.0.0.1:{port + 2}", "--join",
         f"1=127.0.0.1:{cluster.port + 2}", *more], stderr=subprocess.DEVNULL)


def voter_everywhere(cluster):
    """The new node votes in the catalog and all queue shards, as a node that knows them says."""
    done = millrace(cluster, "status", "--json")
    if done.returncode != 0:
        return False
    shards = json.loads(done.stdout)["Shards"]
    return all(any(member["NodeId"] == NEW and member["Role"] == "voter"
                   for member in shard["Members"]) for shard in shards)


def await_new(cluster):
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if voter_everywhere(cluster) and cluster.get(NEW, "/health/ready")[0] == 200:
            return
        time.sleep(0.2)
    raise RuntimeError("the new node did not become a voter of all shards: "
                       + millrace(cluster, "status").stdout + cluster.logs())


def counts(cluster):
    found = {}
    for queue in QUEUES:
        _, answer = cluster.sqs(NEW, "GetQueueAttributes", QueueUrl=cluster.queue_url(queue),
                                AttributeNames=["ApproximateNumberOfMessages"])
        found[queue] = int(answer["Attributes"]["ApproximateNumberOfMessages"])
    return found


def folder_bytes(folder):
    return sum(os.stat(os.path.join(at, name)).st_blocks * 512
               for at, _, names in os.walk(folder) for name in names)


def replace(cluster, found):
    for queue in [*QUEUES, TRICKLE]:
        cluster.sqs(1, "CreateQueue", QueueName=queue)
    began = time.monotonic()
    sent = Fill(cluster, int(found.gb * 1e9 / BODY_BYTES)).whole()
    filled_s = time.monotonic() - began
    cluster.script("kill", "3")
    millrace(cluster, "remove", "3")
    new = start_new(cluster, found.move_rate)
    trickle = Trickle(cluster)
    trickle.start()
    try:
        while cluster.get(NEW, "/health/live")[0] != 200:
            time.sleep(0.1)
        began = time.monotonic()
        added = millrace(cluster, "add", str(NEW), f"127.0.0.1:{cluster.port + 10 * NEW - 8}")
        print(added.stdout + added.stderr, file=sys.stderr)
        await_new(cluster)
        replaced_s = time.monotonic() - began
        trickle.stop = True
        trickle.join()
        result = {
            "gb": found.gb, "fill_s": round(filled_s, 1), "replace_s": round(replaced_s, 1),
            "mb_per_s": round(found.gb * 1000 / replaced_s, 1),
            "new_node_gib": round(folder_bytes(os.path.join(cluster.dir, "new")) / 2**30, 2),
            "sends_meanwhile": trickle.sent, "errors_meanwhile": trickle.errors,
            "longest_send_ms": round(trickle.longest_s * 1000, 1),
            "nothing_lost": counts(cluster) == sent, "load": os.getloadavg()}
    finally:
        end(new)
    return result


def main():
    found = options()
    cluster = Cluster(nodes=3, ports=4)
    try:
        cluster.up()
        result = replace(cluster, found)
    finally:
        cluster.close()
        shutil.rmtree(cluster.dir, ignore_errors=True)
    print(json.dumps(result))
    return 0 if result["nothing_lost"] else 1


if __name__ == "__main__":
    sys.exit(main())
