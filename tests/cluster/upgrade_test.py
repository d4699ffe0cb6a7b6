#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rolling upgrades: a cluster of an older program becomes one of ours, and then one of a newer one,
node by node and under load. The older and the newer program are ours but for the feature level that
they pretend (CMakeLists.txt); the newer one has a command that ours cannot read."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, end, wait_for  # noqa: E402

NODES = (1, 2, 3)
OURS = 2
PROGRAMS = {1: os.path.join(BIN, "rehearsal/millrace-broker-1"),
            2: os.path.join(BIN, "millrace-broker"),
            3: os.path.join(BIN, "rehearsal/millrace-broker-3")}
EX_CONFIG = 78
FUNCTION = """
def handler(event, context):
    for record in event["Records"]:
        print("ran", record["body"], flush=True)
"""


class Load:
    """Clients that never talk to the node that is being restarted, as behind a load balancer that
    looks at /health/ready: so they should see no error at all."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.away = 0  # the node that clients stay away from
        self.over = False  # nothing more is sent; all_sent: nor under way
        self.all_sent = False
        self.sent = {"plain": set(), "work": set()}
        self.got = set()
        self.errors = []
        self.threads = [threading.Thread(target=run, args=args) for run, args in (
            (self.send, ("plain",)), (self.send, ("work",)), (self.receive, ()))]
        for thread in self.threads:
            thread.start()

    def call(self, turn, action, **members):
        """One call as a client makes it: again, through another node, until it is answered."""
        for again in range(100):
            nodes = [node for node in NODES if node != self.away]
            node = nodes[(turn + again) % len(nodes)]
            status, answer = self.cluster.sqs(node, action, **members)
            if status == 200:
                return answer
            self.errors.append((node, action, status))
            time.sleep(0.1)
        raise AssertionError(f"{action} is not answered: {self.errors[-3:]}")

    def send(self, queue):
        number = 0
        while not self.over:
            body = f"{queue}-{number}"
            self.call(number, "SendMessage", MessageBody=body,
                      QueueUrl=self.cluster.queue_url(queue))
            self.sent[queue].add(body)
            number += 1
            time.sleep(0.02)

    def receive(self):
        turn = 0
        while not self.all_sent or self.sent["plain"] - self.got:
            answer = self.call(turn, "ReceiveMessage", MaxNumberOfMessages=10, WaitTimeSeconds=1,
                               QueueUrl=self.cluster.queue_url("plain"))
            for message in answer.get("Messages", []):
                self.got.add(message["Body"])
                self.call(turn, "DeleteMessage", ReceiptHandle=message["ReceiptHandle"],
                          QueueUrl=self.cluster.queue_url("plain"))
            turn += 1

    def finish(self):
        self.over = True
        for thread in self.threads[:-1]:
            thread.join()
        self.all_sent = True
        self.threads[-1].join()


class Upgrade(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3, workers=1, ports=4)
        self.addCleanup(self.cluster.close)
        with tempfile.TemporaryDirectory() as folder:  # the programs of the older version
            os.symlink(PROGRAMS[1], os.path.join(folder, "millrace-broker"))
            os.symlink(os.path.join(BIN, "millrace-worker"),
                       os.path.join(folder, "millrace-worker"))
            self.cluster.script("up", "--nodes", "3", "--workers", "1", "--base-port",
                                str(self.cluster.port), "--bin", folder)
            for node in NODES:
                self.replace(node, 1)
            self.command("worker-1", os.path.join(BIN, "millrace-worker"))

    def command(self, name, program):
        """Replace the program in the command line of a process."""
        path = os.path.join(self.cluster.dir, name, "command")
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
        with open(path, "w", encoding="utf-8") as file:
            file.writelines([program + "\n", *lines[1:]])
        return [program, *(line.rstrip("\n") for line in lines[1:])]

    def replace(self, node, level):
        return self.command(f"broker-{node}", PROGRAMS[level])

    def millrace(self, *words):
        done = subprocess.run(
            [os.path.join(BIN, "millrace"), *words, "--endpoint",
             f"http://127.0.0.1:{self.cluster.port + 10}"],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def status(self, node):
        return self.cluster.get(node, "/status")[1] or {}

    def levels(self):
        """The level in force, as each node sees it."""
        return [self.status(node).get("feature_level") for node in NODES]

    def programs(self):
        """Of all members, with their versions; fewer while one has not been heard of."""
        members = json.loads(self.millrace("cluster", "status", "--json"))["Members"]
        return [member["FeatureLevel"] for member in members if member.get("Version")]

    def wait_ready(self, node):
        wait_for(f"node {node} to be ready",
                 lambda: self.cluster.get(node, "/health/ready")[0] == 200)

    def upgrade(self, node, level, load):
        load.away = node
        time.sleep(0.3)
        self.cluster.script("stop", str(node))
        self.replace(node, level)
        self.cluster.script("restart", str(node))
        self.wait_ready(node)
        load.away = 0

    def upgrade_all(self, level, load):
        for node in NODES:
            self.assertEqual(self.levels(), [level - 1] * 3)
            self.upgrade(node, level, load)
            if node == 1:
                wait_for("node 1 to be seen with its new program",
                         lambda: self.programs() == [level, level - 1, level - 1])
        wait_for("the level to rise", lambda: self.levels() == [level] * 3)
        wait_for("all to be seen", lambda: self.programs() == [level] * 3)

    def refused_at_start(self, node, level, reason):
        """Another program at a node's data does not even start, says why, and does no harm."""
        before = self.command(f"broker-{node}", PROGRAMS[level])
        self.cluster.script("stop", str(node))
        done = subprocess.run(before, capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, EX_CONFIG, done.stderr)
        self.assertIn(reason, done.stderr)
        self.assertIn("docs/upgrades.md", done.stderr)

    def refused_by_others(self, level):
        """A new node with an unfit program is refused by name, on both sides."""
        port = self.cluster.port + 30
        log = os.path.join(self.cluster.dir, f"join-{level}.log")
        with open(log, "w", encoding="utf-8") as file:
            broker = subprocess.Popen(
                [PROGRAMS[level], "--node-id", "4", "--data-dir",
                 os.path.join(self.cluster.dir, f"four-{level}"), "--http", f"127.0.0.1:{port}",
                 "--rpc", f"127.0.0.1:{port + 1}", "--peer", f"127.0.0.1:{port + 2}", "--join",
                 ",".join(f"{n}=127.0.0.1:{self.cluster.port + 10 * n - 8}" for n in NODES)],
                stderr=file)
        try:
            def refusals():
                with open(log, encoding="utf-8") as file:
                    lines = [line for line in file if "reason=FEATURES" in line]
                return {line.split(" node=")[1][0] for line in lines} == {"1", "2", "3"}
            wait_for("each node to refuse it", refusals)
            self.assertTrue(self.cluster.logged("reason=FEATURES"))
        finally:
            end(broker)

    def deploy(self):
        for queue in ("plain", "work"):
            self.millrace("queue", "create", queue, "--visibility", "60")
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "app.py"), "w", encoding="ascii") as file:
                file.write(FUNCTION)
            self.millrace("function", "deploy", folder, "--name", "job", "--runtime", "python3.11",
                          "--handler", "app.handler", "--timeout", "30", "--queue", "work")

    def ran(self):
        path = os.path.join(self.cluster.dir, "worker-1/data/logs/job.log")
        with open(path, encoding="utf-8", errors="replace") as file:
            return {line.split()[-1] for line in file if "work-" in line}

    def left(self):
        _, answer = self.cluster.sqs(2, "GetQueueAttributes", AttributeNames=["All"],
                                     QueueUrl=self.cluster.queue_url("work"))
        found = (answer or {}).get("Attributes", {})
        return sum(int(found.get(name, 1)) for name in (
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"))

    def test_old_to_ours_to_new(self):
        self.deploy()
        self.assertEqual(self.levels(), [1] * 3)
        self.assertNotIn("LEVEL_KEPT", self.status(1)["features"])
        self.refused_by_others(3)
        load = Load(self.cluster)
        try:
            self.upgrade_all(OURS, load)
            self.assertIn("LEVEL_KEPT", self.status(1)["features"])
            self.assertNotIn("REHEARSAL", self.status(1)["features"])
            self.cluster.script("restart", "worker-1")
            self.upgrade_all(3, load)
            wait_for("the command of the new level", lambda: self.cluster.logged("rehearsed"))
            self.assertIn("REHEARSAL", self.status(2)["features"])
            self.assertIn("feature level 3", self.millrace("cluster", "status"))
            self.refused_by_others(OURS)
            load.away = 1
            self.refused_at_start(1, OURS, "feature_level_too_new")
            self.replace(1, 3)
            self.cluster.script("restart", "1")
            self.wait_ready(1)
            load.away = 0
        finally:
            load.finish()
        self.assertEqual(load.errors, [])
        self.assertGreater(len(load.sent["plain"]), 50)
        self.assertEqual(load.got, load.sent["plain"])
        wait_for("the functions to finish", lambda: self.left() == 0)
        self.assertEqual(load.sent["work"] - self.ran(), set())

    def test_not_two_levels_at_once(self):
        wait_for("the level to be known", lambda: self.levels() == [1] * 3)
        self.refused_at_start(3, 3, "feature_level_too_old")
        self.assertEqual(self.cluster.sqs(1, "CreateQueue", QueueName="q")[0], 200)


if __name__ == "__main__":
    unittest.main()
