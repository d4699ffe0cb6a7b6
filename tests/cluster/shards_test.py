#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The queue shards of several nodes: their leaders are spread, and move for a drained node; a new node
becomes a member of each, and a removed one leaves each, while messages are sent and received."""
import json
import os
import shutil
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, end, wait_for  # noqa: E402

QUEUES = 8  # some in each of the four shards
ROUNDS = 15


class Load:
    """Sends numbered messages to many queues through the nodes that are said to serve."""

    def __init__(self, cluster, nodes):
        self.cluster = cluster
        self.nodes = list(nodes)
        self.sent = {n: [] for n in range(QUEUES)}
        self.failed = []
        self.ending = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.ending:
            number += 1
            queue = number % QUEUES
            node = self.nodes[number % len(self.nodes)]
            status, reply = self.cluster.sqs(node, "SendMessage", MessageBody=str(number),
                                             QueueUrl=self.cluster.queue_url(f"q{queue}"))
            if status == 200:
                self.sent[queue].append(str(number))
            else:
                self.failed.append((node, status, reply))

    def stop(self):
        self.ending = True
        self.thread.join()


class Shards(ClusterCase):
    def setUp(self):
        # on all nodes, the fourth too: tests/cluster/replicas_test.py is about fewer
        self.cluster = Cluster(nodes=3, ports=4, broker_args=("--replicas", "7"))
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("queues", lambda: all(self.cluster.sqs(1, "CreateQueue", QueueName=f"q{n}")[0] == 200
                                       for n in range(QUEUES)))

    def millrace(self, node, *words, good=True):
        done = subprocess.run(
            [os.path.join(BIN, "millrace"), "cluster", *words, "--endpoint",
             f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}"],
            capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode == 0, good, done.stdout + done.stderr)
        return done.stdout if good else done.stderr

    def shards(self, node=1):
        return json.loads(self.millrace(node, "status", "--json"))["Shards"]

    def wait_for_members(self, node, members):
        """A node that does not lead hears of a change a moment after it was answered."""
        wait_for(f"node {node} to know the members {members} of all shards", lambda: all(
            {m["NodeId"]: m["Role"] for m in shard["Members"]} == dict.fromkeys(members, "voter")
            and shard["Leader"] in members for shard in self.shards(node)))

    def leaders(self, node=1):
        return [shard["Leader"] for shard in self.shards(node)[1:]]

    def drain_queues(self, node, load):
        for queue, sent in load.sent.items():
            got = []

            def more():
                _, answer = self.cluster.sqs(node, "ReceiveMessage", MaxNumberOfMessages=10,
                                             QueueUrl=self.cluster.queue_url(f"q{queue}"))
                messages = answer.get("Messages", [])
                got.extend(message["Body"] for message in messages)
                entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
                           for n, message in enumerate(messages)]
                if entries:
                    self.cluster.sqs(node, "DeleteMessageBatch", Entries=entries,
                                     QueueUrl=self.cluster.queue_url(f"q{queue}"))
                return set(sent) <= set(got)

            wait_for(f"all messages of q{queue}", more)
            # A send that failed may have been stored all the same; nothing else is in excess.
            self.assertLessEqual(len(got), len(sent) + len(load.failed))

    def test_leaders_are_spread_and_move(self):
        self.assertEqual(len(self.shards()), 5)
        wait_for("leaders on all nodes", lambda: set(self.leaders()) == {1, 2, 3})
        load = Load(self.cluster, (1, 2, 3))
        try:
            self.millrace(1, "drain", "2")
            self.assertNotIn(2, self.leaders())
            self.assertNotEqual(self.shards()[0]["Leader"], 2)
            self.assertEqual([m["Duty"] for m in json.loads(self.millrace(3, "status", "--json"))
                              ["Members"]], ["active", "drained", "active"])
            self.millrace(1, "drain", "1")
            self.assertEqual(set(self.leaders()), {3})
            self.assertIn("no other could lead", self.millrace(3, "drain", "3", good=False))
            self.millrace(1, "undrain", "1")
            self.millrace(1, "undrain", "2")
            wait_for("leaders on all nodes again", lambda: set(self.leaders()) == {1, 2, 3})
        finally:
            load.stop()
        self.assertEqual(load.failed, [], "a planned handover costs no errors")
        self.drain_queues(2, load)

    def test_a_node_joins_all_shards_and_another_leaves_them(self):
        load = Load(self.cluster, (2, 3))
        try:
            port = self.cluster.port + 30
            self.addCleanup(end, self.cluster.broker(
                4, os.path.join(self.cluster.dir, "four"), "--join",
                f"1=127.0.0.1:{self.cluster.port + 2}"))
            wait_for("node 4 to listen", lambda: self.cluster.get(4, "/health/live")[0] == 200)
            self.millrace(2, "add", "4", f"127.0.0.1:{port + 2}")
            self.wait_for_members(3, (1, 2, 3, 4))
            wait_for("node 4 to be ready", lambda: self.cluster.get(4, "/health/ready")[0] == 200)
            self.millrace(2, "remove", "1")
            self.wait_for_members(3, (2, 3, 4))
            load.nodes.append(4)
            wait_for("more", lambda: all(len(sent) > ROUNDS for sent in load.sent.values()))
        finally:
            load.stop()
        self.assertEqual(load.failed, [])
        self.drain_queues(4, load)

    def test_a_node_without_one_of_its_shards_does_not_start(self):
        self.cluster.script("stop", "3")
        folder = os.path.join(self.cluster.dir, "broker-3/data/shard-2")
        shutil.rmtree(folder)
        self.cluster.script("restart", "3")
        wait_for("the refusal", lambda: self.cluster.logged("the folder is missing"))
        self.assertEqual(self.cluster.sqs(1, "SendMessage", MessageBody="x",
                                          QueueUrl=self.cluster.queue_url("q1"))[0], 200)


if __name__ == "__main__":
    unittest.main()
