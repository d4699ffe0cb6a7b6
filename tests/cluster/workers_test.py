#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Functions while brokers die: workers find the leader, and what they run is not run twice."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, wait_for  # noqa: E402

NODES = (1, 2, 3)
FUNCTION = """
import time
def handler(event, context):
    seconds = float(event["Records"][0]["body"])
    print("begins", event["Records"][0]["messageId"], flush=True)
    time.sleep(seconds)
    print("ends", event["Records"][0]["messageId"], flush=True)
"""


class Workers(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3, workers=1)
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("the worker", lambda: self.leader_status()["workers"])

    def leader(self):
        """The node that says that it leads, and its status."""
        for node in NODES:
            status, about = self.cluster.get(node, "/status")
            if status == 200 and about.get("leads"):
                return node, about
        return None, {"workers": [], "functions": []}

    def leader_status(self):
        return self.leader()[1]

    def deploy(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "app.py"), "w", encoding="ascii") as file:
                file.write(FUNCTION)
            for words in (["queue", "create", "work", "--visibility", "60"],
                          ["function", "deploy", folder, "--name", "sleeper", "--runtime",
                           "python3.11", "--handler", "app.handler", "--timeout", "30", "--queue",
                           "work", "--batch-size", "1"]):
                done = subprocess.run(
                    [os.path.join(BIN, "millrace"), *words, "--endpoint",
                     f"http://127.0.0.1:{self.cluster.port}"],
                    capture_output=True, text=True, check=False, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)

    def log(self):
        path = os.path.join(self.cluster.dir, "worker-1/data/logs/sleeper.log")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.split()[-2] for line in file if "begins" in line or "ends" in line]

    def begun(self):
        return sum(word.endswith("begins") for word in self.log())

    def ended(self):
        return sum(word.endswith("ends") for word in self.log())

    def send(self, body):
        status, answer = self.cluster.sqs(3, "SendMessage", MessageBody=body,
                                          QueueUrl=self.cluster.queue_url("work"))
        self.assertEqual(status, 200, answer)

    def left(self, node):
        _, answer = self.cluster.sqs(node, "GetQueueAttributes", AttributeNames=["All"],
                                     QueueUrl=self.cluster.queue_url("work"))
        found = (answer or {}).get("Attributes", {})
        return sum(int(found.get(name, 1)) for name in (
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"))

    def test_a_leader_dies_while_functions_run(self):
        self.a_leader_goes("kill")

    def test_a_leader_is_stopped_while_functions_run(self):
        self.a_leader_goes("stop")

    def a_leader_goes(self, how):
        self.deploy()
        for _ in range(3):
            self.send("3")
        wait_for("the functions to begin", lambda: self.begun() == 3)
        old, _ = self.leader()
        self.cluster.script(how, str(old))
        began = time.monotonic()
        new = wait_for("another leader with the worker",
                       lambda: self.leader_status()["workers"] and self.leader()[0])
        self.assertLess(time.monotonic() - began, 10)
        wait_for("the queue to be empty", lambda: self.left(new) == 0)
        self.assertEqual((self.begun(), self.ended()), (3, 3))
        used = self.leader_status()["functions"][0]["usage"]["invocations"]
        self.assertEqual(used, 3)
        self.cluster.script("restart", str(old))
        wait_for("the old leader", lambda: self.cluster.get(old, "/health/ready")[0] == 200)
        self.send("0")
        wait_for("one more", lambda: self.ended() == 4)

    def invoke(self, node, seconds="0", name="direct"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}"
            "/2015-03-31/functions/sleeper/invocations",
            json.dumps({"Records": [{"body": seconds, "messageId": name}]}).encode())
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, answer.headers.get("X-Amz-Function-Error")
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def test_every_node_invokes(self):
        self.deploy()
        for node in NODES:
            self.assertEqual(self.invoke(node), (200, None))
        old, _ = self.leader()
        self.cluster.script("kill", str(old))
        for node in NODES:
            if node != old:
                wait_for("an invocation", lambda n=node: self.invoke(n) == (200, None))

    def invoke_while(self, nodes, disturb):
        """Invocations through some nodes while something is done to the leader: each has its
        answer, and none was run twice."""
        answers = {}

        def one(node):
            answers[node] = self.invoke(node, "4", f"through-{node}")
        threads = [threading.Thread(target=one, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        wait_for("the functions to begin", lambda: self.begun() == len(nodes))
        disturb()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, {node: (200, None) for node in nodes})
        self.assertEqual((self.begun(), self.ended()), (len(nodes), len(nodes)))
        wait_for("their usage", lambda: self.leader_status()["functions"][0]["usage"]
                 ["invocations"] == len(nodes))

    def test_invocations_outlive_their_leader(self):
        self.deploy()
        old, _ = self.leader()
        self.invoke_while([node for node in NODES if node != old],
                          lambda: self.cluster.script("kill", str(old)))

    def transfer(self):
        old, _ = self.leader()
        subprocess.run([os.path.join(BIN, "millrace"), "cluster", "transfer", "--endpoint",
                        f"http://127.0.0.1:{self.cluster.port + 10 * (old - 1)}"],
                       capture_output=True, check=False, timeout=60)
        wait_for("another leader", lambda: self.leader()[0] not in (None, old))

    def test_invocations_are_handed_over(self):
        """Also those whose caller is at the node that led."""
        self.deploy()
        self.invoke_while(NODES, self.transfer)

    def test_a_worker_and_its_leader_die_together(self):
        """Its messages are back after their short lease, not after the visibility timeout."""
        self.deploy()
        self.send("20")
        wait_for("the function to begin", lambda: self.begun() == 1)
        old, _ = self.leader()
        self.cluster.script("kill", "worker-1")
        self.cluster.script("kill", str(old))
        died = time.monotonic()
        self.cluster.script("restart", "worker-1")
        wait_for("the function to begin again", lambda: self.begun() == 2)
        self.assertLess(time.monotonic() - died, 25)  # the visibility timeout is 60 s


if __name__ == "__main__":
    unittest.main()
