#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Functions on queues of several shards: the dispatcher runs where the catalog is led, the queues'
shards are led by other nodes, and any of them dies. Every message is worked on, deletes are exact,
what ran is counted, and a FIFO queue keeps its order."""
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, wait_for  # noqa: E402

NODES = (1, 2, 3)
SHARDS = 4
GROUPS = 3  # of the FIFO queue
FUNCTION = """
import time
def handler(event, context):
    for record in event["Records"]:
        seconds, _, name = record["body"].partition(" ")
        print("begins", name, time.time(), flush=True)
        time.sleep(float(seconds))
        print("ends", name, time.time(), flush=True)
"""


class Load:
    """Messages to both queues, through all nodes, until the end."""

    def __init__(self, test, plain, ordered):
        self.test = test
        self.stop = threading.Event()
        self.sent, self.unsure, self.ordered = set(), set(), set()
        self.threads = [threading.Thread(target=self.send_plain, args=(plain,)),
                        threading.Thread(target=self.send_ordered, args=(ordered,))]
        for thread in self.threads:
            thread.start()

    def send_plain(self, queue):
        number = 0
        while not self.stop.is_set():
            number += 1
            sure = self.test.send(NODES[number % 3], queue, f"0.02 {number}")
            (self.sent if sure else self.unsure).add(str(number))
            time.sleep(0.01)

    def send_ordered(self, queue):
        """A message is sent when the one before it is stored."""
        number = 0
        while not self.stop.is_set():
            group = number % GROUPS
            name = f"{group}:{number}"
            for node in (NODES * 100)[number % 3:]:
                if self.test.send(node, queue, f"0.02 {name}", MessageGroupId=str(group)):
                    break
            self.ordered.add(name)
            number += 1
            time.sleep(0.02)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class ShardsFunctions(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3, workers=2, broker_args=("--shards", str(SHARDS)))
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("the workers", lambda: len(self.catalog_leader()[1]["workers"]) == 2)

    # ---- who leads what ----

    def catalog_leader(self):
        for node in NODES:
            status, about = self.cluster.get(node, "/status")
            if status == 200 and about.get("leads"):
                return node, about
        return None, {"workers": [], "functions": [], "queues": []}

    def shard_leader(self, shard):
        """The node that says that it leads this shard; None while nobody does."""
        for node in NODES:
            status, about = self.cluster.get(node, "/status")
            if status == 200 and any(one["id"] == shard and one["leads"]
                                     for one in about["shards"]):
                return node
        return None

    def queue_away(self, suffix):
        """A queue whose shard another node leads than the catalog, and that shard."""
        for attempt in range(50):
            name = f"work-{attempt}{suffix}"
            attributes = {"VisibilityTimeout": "60"}
            if suffix:
                attributes.update(FifoQueue="true", ContentBasedDeduplication="true")
            self.call(1, "CreateQueue", QueueName=name, Attributes=attributes)
            shard = wait_for(f"{name} in the status", lambda n=name: next(
                (queue["shard"] for queue in self.catalog_leader()[1]["queues"]
                 if queue["name"] == n), None))
            leader = wait_for("its leader", lambda s=shard: self.shard_leader(s))
            if leader != self.catalog_leader()[0]:
                return name, shard
        raise AssertionError("every queue is where the catalog is led")

    # ---- calls ----

    def call(self, node, action, **members):
        """As clients do, again while there is no leader."""
        wait_for(action, lambda: self.cluster.sqs(node, action, **members)[0] == 200)

    def send(self, node, queue, body, **members):
        status, _ = self.cluster.sqs(node, "SendMessage", MessageBody=body,
                                     QueueUrl=self.cluster.queue_url(queue), **members)
        return status == 200

    def deploy(self, name, queue, batch):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "app.py"), "w", encoding="ascii") as file:
                file.write(FUNCTION)
            done = subprocess.run(
                [os.path.join(BIN, "millrace"), "function", "deploy", folder, "--name", name,
                 "--runtime", "python3.11", "--handler", "app.handler", "--timeout", "30",
                 "--queue", queue, "--batch-size", str(batch),
                 "--endpoint", f"http://127.0.0.1:{self.cluster.port}"],
                capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr + self.cluster.logs())

    # ---- what happened ----

    def events(self, function, word):
        """(time, name) of all lines of the function that begin so, on all workers, in order."""
        found = []
        for worker in (1, 2):
            path = os.path.join(self.cluster.dir, f"worker-{worker}/data/logs/{function}.log")
            if not os.path.exists(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    words = line.split()
                    if word in words and len(words) >= words.index(word) + 3:
                        at = words.index(word)
                        found.append((float(words[at + 2]), words[at + 1]))
        return sorted(found)

    def invocations(self, function):
        return next((one["usage"]["invocations"] for one in self.catalog_leader()[1]["functions"]
                     if one["name"] == function), None)

    def left(self, name):
        """Messages in the queue, as its shard's leader knows; None: not known."""
        for node in NODES:
            status, about = self.cluster.get(node, "/status")
            for queue in about["queues"] if status == 200 else ():
                if queue["name"] == name and about["shards"][queue["shard"]]["leads"]:
                    return queue["visible"] + queue["in_flight"] + queue["delayed"]
        return None

    def kill_and_restart(self, node, away_s):
        self.cluster.script("kill", str(node))
        time.sleep(away_s)
        self.cluster.script("restart", str(node))
        wait_for(f"node {node} to be ready",
                 lambda: self.cluster.get(node, "/health/ready")[0] == 200)

    # ---- the tests ----

    def test_leaders_die_under_load(self):
        plain, shard = self.queue_away("")
        ordered, fifo_shard = self.queue_away(".fifo")
        self.deploy("plain", plain, 1)
        self.deploy("ordered", ordered, 10)
        load = Load(self, plain, ordered)
        try:
            wait_for("functions to run", lambda: len(self.events("plain", "ends")) > 20)
            victim = wait_for("a leader of the queue's shard", lambda: self.shard_leader(shard))
            self.kill_and_restart(victim, 2)
            victim = wait_for("the catalog's leader", lambda: self.catalog_leader()[0])
            self.kill_and_restart(victim, 2)
            victim = wait_for("a leader of the FIFO queue's shard",
                              lambda: self.shard_leader(fifo_shard))
            self.kill_and_restart(victim, 2)
        finally:
            load.end()
        wait_for("both queues to be empty",
                 lambda: self.left(plain) == 0 and self.left(ordered) == 0)
        self.check_plain(load.sent, load.unsure)
        self.check_order(load.ordered)
        self.check_calm(plain)

    def check_plain(self, sent, unsure):
        ended = [name for _, name in self.events("plain", "ends")]
        self.assertLessEqual(sent, set(ended))
        self.assertLessEqual(set(ended), sent | unsure)
        # One message a run, so each delete is of a run that is counted, and of one that ended.
        wait_for("usage", lambda: (self.invocations("plain") or 0) >= len(set(ended)))
        self.assertLessEqual(self.invocations("plain"), len(ended))

    def check_order(self, sent):
        last = {}
        ended = self.events("ordered", "ends")
        self.assertLessEqual(sent, {name for _, name in ended})
        for _, name in ended:
            group, _, number = name.partition(":")
            before = last.get(group)
            if before is not None:  # again what was there, or the next one
                self.assertLessEqual(int(number), before + GROUPS, ended)
            last[group] = max(int(number), before or 0)

    def check_calm(self, queue):
        """While nobody dies each message is one run, and each run is counted once."""
        before, ran = self.invocations("plain"), len(self.events("plain", "ends"))
        for number in range(20):
            self.assertTrue(self.send(NODES[number % 3], queue, f"0 calm-{number}"))
        wait_for("the queue to be empty", lambda: self.left(queue) == 0 and
                 len(self.events("plain", "ends")) >= ran + 20)
        wait_for("usage", lambda: self.invocations("plain") == before + 20)
        self.assertEqual(len(self.events("plain", "ends")), ran + 20)

    def test_a_worker_and_the_leader_of_the_queue_die_together(self):
        """Its messages are back after their short lease, not after the visibility timeout."""
        queue, shard = self.queue_away("")
        self.deploy("long", queue, 1)
        self.assertTrue(self.send(1, queue, "20 one"))
        wait_for("the function to begin", lambda: len(self.events("long", "begins")) == 1)
        busy = next(worker for worker in (1, 2) if os.path.exists(os.path.join(
            self.cluster.dir, f"worker-{worker}/data/logs/long.log")))
        leader = wait_for("the leader of the queue's shard", lambda: self.shard_leader(shard))
        self.cluster.script("kill", f"worker-{busy}")
        self.cluster.script("kill", str(leader))
        died = time.monotonic()
        wait_for("the function to begin again", lambda: len(self.events("long", "begins")) == 2)
        self.assertLess(time.monotonic() - died, 25)  # the visibility timeout is 60 s


if __name__ == "__main__":
    unittest.main()
