#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Functions on queues of several shards: the dispatcher runs where the catalog is led, the queues'
shards are led by other nodes, and any of them dies. Every message is worked on, deletes are exact,
what ran is counted, and a FIFO queue keeps its order."""
import itertools
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, wait_for  # noqa: E402
from functions import NODES, FunctionsCase  # noqa: E402

SHARDS = 4
GROUPS = 3  # of the FIFO queue


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


class ShardsFunctions(FunctionsCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3, workers=2, broker_args=("--shards", str(SHARDS)))
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("the workers", lambda: len(self.catalog_leader()[1]["workers"]) == 2)

    def shards_away(self):
        """Those that another node leads than the catalog, and is to lead. There may be none for a
        while: whoever was elected leads, and hands over some seconds later."""
        node, about = self.catalog_leader()
        return {shard["id"] for shard in about.get("shards", ())
                if shard["leader"] not in (0, node) and shard["leader"] == shard["replicas"][0]}

    def queue_away(self, suffix):
        """A queue in such a shard, and that shard."""
        away = wait_for("shards to be led elsewhere than the catalog", self.shards_away)
        attributes = {"VisibilityTimeout": "60"}
        if suffix:
            attributes.update(FifoQueue="true", ContentBasedDeduplication="true")
        for attempt in itertools.count():
            name = f"work-{attempt}{suffix}"
            self.call(1, "CreateQueue", QueueName=name, Attributes=attributes)
            shard = wait_for(f"{name} in the status", lambda n=name: next(
                (queue["shard"] for queue in self.catalog_leader()[1]["queues"]
                 if queue["name"] == n), None))
            if shard in away:
                return name, shard

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
