#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Queue shards on three of five nodes: which node has which, and what happens to them when nodes are
drained, added, removed and killed, while clients send through all of them. And a backup, of which no
node has everything."""
import json
import os
import subprocess
import sys
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, end, wait_for  # noqa: E402

QUEUES = 12  # some in each of the four shards
REPLICAS = 3


class Load:
    """Sends numbered messages to all queues, through one node after the other."""

    def __init__(self, cluster, nodes):
        self.cluster = cluster
        self.nodes = list(nodes)
        self.sent = {n: set() for n in range(QUEUES)}
        self.failed = []
        self.ending = False
        self.threads = [threading.Thread(target=self.run, args=(turn,)) for turn in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self, turn):
        number = turn
        while not self.ending:
            number += 2
            queue = number % QUEUES
            node = self.nodes[number // QUEUES % len(self.nodes)]
            status, reply = self.cluster.sqs(node, "SendMessage", MessageBody=str(number),
                                             QueueUrl=self.cluster.queue_url(f"q{queue}"))
            if status == 200:
                self.sent[queue].add(str(number))
            else:
                self.failed.append((node, status, reply))
            time.sleep(0.005)

    def stop(self):
        self.ending = True
        for thread in self.threads:
            thread.join()


class Replicas(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=5, ports=7)
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("queues", lambda: all(self.cluster.sqs(1, "CreateQueue", QueueName=f"q{n}")[0] == 200
                                       for n in range(QUEUES)))

    def run_millrace(self, *words):
        return subprocess.run([os.path.join(BIN, "millrace"), *words], capture_output=True,
                              text=True, check=False, timeout=120)

    def millrace(self, node, *words):
        done = self.run_millrace(*words, "--endpoint",
                                 f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def view(self, node=2):
        return json.loads(self.millrace(node, "cluster", "status", "--json").stdout)

    def is_at_rest(self, asked=2):
        view = self.view(asked)
        return view["Settled"] and not any(shard["Leaving"] for shard in view["Shards"])

    def on_node(self, node, asked=2):
        """The queue shards that the catalog lists for this node."""
        return {shard["ShardId"] for shard in self.view(asked)["Shards"][1:]
                if node in shard["Replicas"]}

    def data(self, node):
        return os.path.join(self.cluster.dir, f"broker-{node}/data" if node < 6 else "six")

    def folders(self, node):
        """The queue shards whose data this node has."""
        return {int(name.split("-")[1]) for name in os.listdir(self.data(node))
                if name.startswith("shard-") and name.split("-")[1].isdigit()} - {0}

    def check_lists(self, nodes):
        """Each shard is where it is listed, on three nodes, spread evenly; and nowhere else."""
        wait_for("moves to end", lambda: self.is_at_rest(nodes[0]))
        shards = self.view(nodes[0])["Shards"]
        loads = {node: 0 for node in nodes}
        leads = {node: 0 for node in nodes}
        for shard in shards[1:]:
            self.assertEqual(len(shard["Replicas"]), REPLICAS, shard)
            self.assertEqual({m["NodeId"] for m in shard["Members"] if m["Role"] == "voter"},
                             set(shard["Replicas"]), shard)
            leads[shard["Replicas"][0]] += 1
            for node in shard["Replicas"]:
                loads[node] += 1
        self.assertLessEqual(max(loads.values()) - min(loads.values()), 1, loads)
        self.assertLessEqual(max(leads.values()) - min(leads.values()), 1, leads)
        for node in nodes:
            wait_for(f"node {node} to have its shards and no others",
                     lambda n=node: self.folders(n) == self.on_node(n, nodes[0]))

    def receive_all(self, nodes, load):
        """Everything that was sent is there, through whatever node."""
        for queue, sent in load.sent.items():
            got = set()

            def more():
                node = nodes[len(got) % len(nodes)]
                _, answer = self.cluster.sqs(node, "ReceiveMessage", MaxNumberOfMessages=10,
                                             QueueUrl=self.cluster.queue_url(f"q{queue}"))
                got.update(m["Body"] for m in (answer or {}).get("Messages", []))
                return sent <= got

            wait_for(f"all messages of q{queue}", more)

    def join(self, node):
        port = self.cluster.port + 10 * (node - 1)
        self.addCleanup(end, self.cluster.broker(
            node, self.data(node), "--join", f"2=127.0.0.1:{self.cluster.port + 12}"))
        wait_for(f"node {node}", lambda: self.cluster.get(node, "/health/live")[0] == 200)
        self.millrace(2, "cluster", "add", str(node), f"127.0.0.1:{port + 2}")

    def kill_while_it_gets_replicas(self, node):
        """As soon as it has the folder of one that it is to get, and once more after that."""
        self.millrace(2, "cluster", "undrain", str(node))
        wait_for("a move to begin", lambda: self.folders(node))
        for _ in range(2):
            self.cluster.script("kill", str(node))
            self.cluster.script("restart", str(node))
            wait_for(f"node {node}", lambda: self.cluster.get(node, "/health/live")[0] == 200)

    def test_replicas_follow_the_nodes(self):
        self.check_lists((1, 2, 3, 4, 5))
        load = Load(self.cluster, (1, 2, 3, 4, 5))
        try:
            time.sleep(1)
            self.millrace(1, "cluster", "drain", "4")
            self.assertEqual(self.on_node(4), set())
            self.assertEqual(load.failed, [], "a drain costs no errors")
            self.join(6)
            self.assertTrue(self.on_node(6))
            load.nodes = [2, 3, 6]  # what is asked of a node that dies may fail
            self.cluster.script("kill", "1")  # for good: it is replaced
            self.millrace(2, "cluster", "remove", "1")
            wait_for("node 4 to let go", lambda: self.folders(4) == set())
            self.kill_while_it_gets_replicas(4)
            wait_for("the moves to end", self.is_at_rest)
        finally:
            load.stop()
        self.check_lists((2, 3, 4, 5, 6))
        self.assertTrue(all(load.sent.values()))
        self.receive_all((2, 3, 4, 5, 6), load)

    def test_nothing_is_removed_before_its_promises_are_kept(self):
        shard = min(self.on_node(4))
        folder = os.path.join(self.data(4), f"shard-{shard}")
        with open(folder + ".was", "w", encoding="ascii"):
            pass  # a file where a folder is to be made
        self.millrace(1, "cluster", "drain", "4")
        wait_for("the failure", lambda: self.cluster.logged("not_kept"))
        wait_for("the others to go", lambda: self.folders(4) == {shard})
        time.sleep(1)
        self.assertIn("meta-1", os.listdir(folder))
        # A process that ends here finds it begun, and goes the whole way.
        self.cluster.script("kill", "4")
        self.cluster.script("restart", "4")
        self.assertTrue(os.path.isdir(folder))
        os.unlink(folder + ".was")
        wait_for("the last one to go", lambda: self.folders(4) == set())
        self.assertIn("promise", os.listdir(folder + ".was"))
        # One that was begun, of which nobody has said so: its promises are kept, too.
        self.cluster.script("stop", "4")
        os.rename(folder + ".was", folder)
        self.cluster.script("restart", "4")
        wait_for("what it promised to be kept again", lambda: os.path.isdir(folder + ".was"))
        wait_for("node 4 to be at rest", lambda: self.folders(4) == set() and self.is_at_rest(1))
        self.assertIn("promise", os.listdir(folder + ".was"))

    def test_a_backup_has_what_no_node_has(self):
        load = Load(self.cluster, (1, 2, 3, 4, 5))
        wait_for("messages", lambda: all(len(sent) > 2 for sent in load.sent.values()))
        load.stop()
        self.assertEqual(load.failed, [])
        backup = os.path.join(self.cluster.dir, "backup")
        restored = os.path.join(self.cluster.dir, "restored")
        self.millrace(3, "backup", backup)
        port = self.cluster.port + 60  # where a node 7 would be
        done = self.run_millrace("restore", "--data-dir", restored, "--node-id", "7", "--peer",
                                 f"127.0.0.1:{port + 2}", backup)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(end, self.cluster.broker(7, restored))
        wait_for("node 7", lambda: self.cluster.get(7, "/health/ready")[0] == 200)
        self.receive_all((7,), load)
        # The lists named nodes of the old cluster.
        wait_for("new lists", lambda: all(shard["Replicas"] == [7] and not shard["Leaving"]
                                          for shard in self.view(7)["Shards"]))

    def test_the_last_node_goes_on_with_what_it_has(self):
        mine = self.on_node(3)
        for node in (1, 2, 3, 4, 5):
            self.cluster.script("stop", str(node))
        words = ("cluster", "recover", "--data-dir", self.data(3))
        done = self.run_millrace(*words)
        missing = ", ".join(str(shard) for shard in sorted({1, 2, 3, 4} - mine))
        self.assertIn(f"NO COPY HERE of shard{'s' if len(mine) < 3 else ''} {missing}", done.stdout)
        self.assertEqual(self.run_millrace(*words, "--yes").returncode, 0)
        self.cluster.script("restart", "3")
        wait_for("node 3", lambda: self.cluster.get(3, "/health/ready")[0] == 200)
        wait_for("new lists", lambda: all(shard["Replicas"] == [3] and not shard["Leaving"]
                                          for shard in self.view(3)["Shards"]
                                          if shard["ShardId"] in mine))
        self.assertEqual(self.folders(3), mine)
        with ThreadPoolExecutor(QUEUES) as pool:
            answers = set(pool.map(lambda n: self.cluster.sqs(
                3, "SendMessage", MessageBody="x", timeout=30,
                QueueUrl=self.cluster.queue_url(f"q{n}"))[0], range(QUEUES)))
        self.assertIn(200, answers)  # of those that it has
        self.assertTrue(answers & {500, 503}, answers)  # and of the others


if __name__ == "__main__":
    unittest.main()
