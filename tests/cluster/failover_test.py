#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes, each killed, paused and restarted in turn: calls through the others go on, and
nothing that was answered is lost."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, wait_for  # noqa: E402

NODES = (1, 2, 3)


class Failover(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3)
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        self.sent = set()
        self.unsure = set()

    def send(self, node, queue):
        body = f"message {len(self.sent) + len(self.unsure)}"
        status, _ = self.cluster.sqs(node, "SendMessage", MessageBody=body,
                                     QueueUrl=self.cluster.queue_url(queue))
        (self.sent if status == 200 else self.unsure).add(body)
        return status

    def send_as_clients_do(self, node, queue):
        """While there is no leader a node may answer 503, which clients try again."""
        wait_for(f"node {node} to take a message", lambda: self.send(node, queue) == 200)

    def receive_all(self, node, queue):
        found = []
        while True:
            status, answer = self.cluster.sqs(node, "ReceiveMessage", MaxNumberOfMessages=10,
                                              QueueUrl=self.cluster.queue_url(queue))
            self.assertEqual(status, 200, answer)
            if not answer.get("Messages"):
                return found
            found += [message["Body"] for message in answer["Messages"]]

    def create(self, node, queue):
        self.assertEqual(self.cluster.sqs(node, "CreateQueue", QueueName=queue)[0], 200)
        for other in NODES:
            wait_for(f"{queue} to be known on node {other}", lambda n=other: self.cluster.sqs(
                n, "GetQueueUrl", QueueName=queue)[0] == 200)

    def wait_ready(self, node):
        wait_for(f"node {node} to be ready",
                 lambda: self.cluster.get(node, "/health/ready")[0] == 200)

    def leads_a_queue_shard(self, node):
        status, about = self.cluster.get(1, "/admin/cluster")
        return status == 200 and node in [one["Leader"] for one in about["Shards"][1:]]

    def test_native_clients_notice_nothing_of_a_leader_that_dies(self):
        """They talk to the leaders of their queues. What was under way at one that is killed is asked
        of another: on FIFO queues no call fails, and nothing is lost, doubled or out of order."""
        wait_for("node 2 to lead", lambda: self.leads_a_queue_shard(2))
        brokers = ",".join(f"127.0.0.1:{self.cluster.port + 10 * (node - 1) + 1}" for node in NODES)
        done = subprocess.run(
            [os.path.join(BIN, "millrace"), "bench", "--mode", "failover", "--fifo", "--groups", "16",
             "--queues", "8", "--rate", "500", "--seconds", "4", "--json", "--brokers", brokers,
             "--kill-pid", str(self.cluster.about["pids"]["broker"]["2"])],
            capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result = json.loads(done.stdout)
        found = {key: result[key] for key in ("errors", "lost", "duplicates", "disordered")}
        self.assertEqual(set(found.values()), {0}, (found, done.stderr))

    def test_a_queue_is_there_on_every_node(self):
        for node in NODES:
            name = f"queue-{node}"
            self.create(node, name)
            for other in NODES:
                self.assertEqual(self.send(other, name), 200)

    def test_each_node_dies_in_turn(self):
        self.create(1, "q")
        for victim in NODES:
            others = [node for node in NODES if node != victim]
            for _ in range(5):
                self.assertEqual(self.send(victim, "q"), 200)
            self.cluster.script("kill", str(victim))
            for _ in range(20):
                for node in others:
                    self.send_as_clients_do(node, "q")
            self.cluster.script("restart", str(victim))
            self.wait_ready(victim)
        found = self.receive_all(1, "q")
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(self.sent, set(found))
        self.assertLessEqual(set(found), self.sent | self.unsure)

    def test_each_node_is_paused_in_turn(self):
        self.create(1, "q")
        for victim in NODES:
            others = [node for node in NODES if node != victim]
            self.cluster.script("pause", str(victim))
            for _ in range(5):
                for node in others:
                    self.send_as_clients_do(node, "q")
            self.cluster.script("resume", str(victim))
            self.wait_ready(victim)
        found = self.receive_all(2, "q")
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(self.sent, set(found))
        self.assertLessEqual(set(found), self.sent | self.unsure)

    def test_all_die_at_once(self):
        self.create(1, "q")
        for _ in range(10):
            self.assertEqual(self.send(2, "q"), 200)
        for node in NODES:
            self.cluster.script("kill", str(node))
        self.cluster.up()
        self.assertEqual(sorted(self.receive_all(3, "q")), sorted(self.sent))


if __name__ == "__main__":
    unittest.main()
