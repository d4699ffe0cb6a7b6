# SPDX-License-Identifier: Apache-2.0
"""What tests of functions on a cluster share: deploying them, and what was run, where and when."""
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from cluster import BIN, ClusterCase, wait_for

NODES = (1, 2, 3)
FUNCTION = """
import time
def handler(event, context):
    for record in event["Records"]:
        seconds, _, name = record["body"].partition(" ")
        print("begins", name, time.time(), flush=True)
        time.sleep(float(seconds))
        print("ends", name, time.time(), flush=True)
"""


class FunctionsCase(ClusterCase):
    """`self.cluster` is a Cluster; a test's own."""
    cluster = None
    nodes = NODES

    # ---- who leads what ----

    def catalog_leader(self):
        for node in self.nodes:
            status, about = self.cluster.get(node, "/status")
            if status == 200 and about.get("leads"):
                return node, about
        return None, {"workers": [], "functions": [], "queues": []}

    def shard_leader(self, shard):
        """The node that says that it leads this shard; None while nobody does."""
        for node in self.nodes:
            status, about = self.cluster.get(node, "/status")
            if status == 200 and any(one["id"] == shard and one.get("leads")
                                     for one in about["shards"]):
                return node
        return None

    # ---- calls ----

    def call(self, node, action, **members):
        """As clients do, again while there is no leader."""
        wait_for(action, lambda: self.cluster.sqs(node, action, **members)[0] == 200)

    def send(self, node, queue, body, **members):
        status, _ = self.cluster.sqs(node, "SendMessage", MessageBody=body,
                                     QueueUrl=self.cluster.queue_url(queue), **members)
        return status == 200

    def lambda_call(self, node, method, path, **members):
        """Status and answer of one call of the Lambda API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}/2015-03-31/{path}",
            json.dumps(members).encode() if members else None, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except (OSError, ValueError):
            return 0, None

    def deploy(self, name, queue, batch, code=FUNCTION, node=1, timeout_s=30):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "app.py"), "w", encoding="ascii") as file:
                file.write(code)
            done = subprocess.run(
                [os.path.join(BIN, "millrace"), "function", "deploy", folder, "--name", name,
                 "--runtime", "python3.11", "--handler", "app.handler", "--timeout", str(timeout_s),
                 "--queue", queue, "--batch-size", str(batch),
                 "--endpoint", f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}"],
                capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)

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
        for node in self.nodes:
            status, about = self.cluster.get(node, "/status")
            for queue in about["queues"] if status == 200 else ():
                if queue["name"] == name and about["shards"][queue["shard"]].get("leads"):
                    return queue["visible"] + queue["in_flight"] + queue["delayed"]
        return None

    def kill_and_restart(self, node, away_s):
        self.cluster.script("kill", str(node))
        time.sleep(away_s)
        self.cluster.script("restart", str(node))
        wait_for(f"node {node} to be ready",
                 lambda: self.cluster.get(node, "/health/ready")[0] == 200)
