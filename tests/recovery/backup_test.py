#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace backup`, `millrace restore` and `millrace cluster recover` with real brokers.

What was confirmed before a backup began is in it, once, in order and with its body; a backup that is
damaged or was not finished is refused by name and leaves nothing behind; a broker that lost the
others goes on alone, and they cannot come back on their old data.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cluster"))
import cluster as clusters  # noqa: E402

BIN = pathlib.Path(clusters.BIN)
MESSAGES = 120
GROUPS = 5
LARGE_BYTES = 200_000


def millrace(*arguments):
    return subprocess.run(
        [BIN / "millrace", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


class Load:
    """Sends to one queue until it is stopped; what was confirmed, in order."""

    def __init__(self, cluster, url):
        self.confirmed = []
        self.ending = False
        self.thread = threading.Thread(target=self.run, args=(cluster, url))
        self.thread.start()

    def run(self, cluster, url):
        number = 0
        while not self.ending:
            number += 1
            body = f"load-{number}"
            status, _ = cluster.sqs(1 + number % 3, "SendMessage", QueueUrl=url, MessageBody=body)
            if status == 200:
                self.confirmed.append(body)

    def stop(self):
        self.ending = True
        self.thread.join()


class BackupTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-backup-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def cluster(self, nodes):
        cluster = clusters.Cluster(nodes)
        self.addCleanup(cluster.close)
        cluster.up()
        return cluster

    def call(self, cluster, node, action, **members):
        status, reply = cluster.sqs(node, action, **members)
        self.assertEqual(status, 200, f"{action}: {reply}{cluster.logs()}")
        return reply

    def queue(self, cluster, name, **attributes):
        self.call(cluster, 1, "CreateQueue", QueueName=name, Attributes=attributes)
        return cluster.queue_url(name)

    def drain(self, cluster, node, url, count, seconds=20):
        """Bodies in the order in which they came; each is deleted."""
        bodies = []
        end = time.monotonic() + seconds
        while len(bodies) < count and time.monotonic() < end:
            reply = self.call(cluster, node, "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10,
                              WaitTimeSeconds=1)
            for message in reply.get("Messages", []):
                bodies.append(message["Body"])
                self.call(cluster, node, "DeleteMessage", QueueUrl=url,
                          ReceiptHandle=message["ReceiptHandle"])
        rest = self.call(cluster, node, "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10)
        return bodies + [message["Body"] for message in rest.get("Messages", [])]

    def send_all(self, cluster):
        urls = {
            "plain": self.queue(cluster, "plain"),
            "order.fifo": self.queue(cluster, "order.fifo", FifoQueue="true"),
            "later": self.queue(cluster, "later"),
            "flight": self.queue(cluster, "flight", VisibilityTimeout="6"),
            "load": self.queue(cluster, "load"),
        }
        for number in range(MESSAGES):
            body = f"plain-{number}-" + "x" * (LARGE_BYTES if number % 25 == 0 else 10)
            self.call(cluster, 1 + number % 3, "SendMessage", QueueUrl=urls["plain"],
                      MessageBody=body)
            self.call(cluster, 1, "SendMessage", QueueUrl=urls["order.fifo"],
                      MessageBody=f"{number % GROUPS}:{number}",
                      MessageGroupId=str(number % GROUPS), MessageDeduplicationId=str(number))
        for number in range(5):
            self.call(cluster, 2, "SendMessage", QueueUrl=urls["later"], MessageBody=f"l{number}",
                      DelaySeconds=4)
            self.call(cluster, 3, "SendMessage", QueueUrl=urls["flight"], MessageBody=f"f{number}")
        return urls

    def deploy(self, cluster):
        """A function that no worker runs yet, and a queue that triggers it."""
        code = self.folder / "code"
        code.mkdir()
        (code / "app.py").write_text("def handler(event, context):\n    return event['n'] + 1\n")
        done = millrace("function", "deploy", code, "--endpoint", cluster.about["endpoints"][0],
                        "--name", "adder", "--runtime", "python3.11", "--handler", "app.handler",
                        "--queue", "work")
        self.assertEqual(done.returncode, 0, done.stderr + cluster.logs())

    def runs(self, cluster):
        """The function's code and trigger are there: a worker runs it."""
        status, reply = cluster.get(1, "/2015-03-31/event-source-mappings/")
        self.assertEqual(status, 200)
        self.assertEqual([mapping["FunctionArn"].rpartition(":")[2]
                          for mapping in reply["EventSourceMappings"]], ["adder"])
        worker = subprocess.Popen(
            [BIN / "millrace-worker", "--brokers", f"127.0.0.1:{cluster.port + 1}", "--data-dir",
             pathlib.Path(cluster.dir) / "worker"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            done = millrace("function", "invoke", "adder", "--endpoint",
                            cluster.about["endpoints"][0], "--payload", '{"n": 41}')
            self.assertEqual((done.returncode, done.stdout.strip()), (0, "42"), done.stderr)
        finally:
            worker.terminate()
            worker.wait(timeout=60)

    def backup(self, cluster, name, node=1):
        target = self.folder / name
        endpoint = cluster.about["endpoints"][node - 1]
        done = millrace("backup", "--endpoint", endpoint, target)
        self.assertEqual(done.returncode, 0, done.stderr + cluster.logs())
        return target

    def restored(self, backup, node_id=11):
        """A cluster of one broker on what `millrace restore` makes of the backup."""
        cluster = clusters.Cluster(1, ports=2)
        self.addCleanup(cluster.close)
        folder = pathlib.Path(cluster.dir) / f"broker-{node_id}"
        folder.mkdir()
        peer = f"127.0.0.1:{cluster.port + 2}"
        done = millrace("restore", "--data-dir", folder / "data", "--node-id", node_id, "--peer",
                        peer, backup)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.command(folder, node_id, cluster.port)
        cluster.up()
        return cluster

    def command(self, folder, node_id, port, *more):
        """What local-cluster.sh starts."""
        words = [BIN / "millrace-broker", "--node-id", node_id, "--data-dir", folder / "data",
                 "--http", f"127.0.0.1:{port}", "--rpc", f"127.0.0.1:{port + 1}",
                 "--peer", f"127.0.0.1:{port + 2}", *more]
        folder.mkdir(exist_ok=True)
        (folder / "command").write_text("".join(f"{word}\n" for word in words))

    def joins(self, cluster, node_id, first):
        """A broker with an empty directory becomes a member, and gets everything."""
        self.command(pathlib.Path(cluster.dir) / f"broker-{node_id}", node_id, cluster.port + 10,
                     "--join", f"{first}=127.0.0.1:{cluster.port + 2}")
        cluster.script("restart", str(node_id))
        done = millrace("cluster", "add", node_id, f"127.0.0.1:{cluster.port + 12}", "--endpoint",
                        cluster.about["endpoints"][0])
        self.assertEqual(done.returncode, 0, done.stderr)
        clusters.wait_for("the new member to be ready",
                          lambda: cluster.get(2, "/health/ready")[0] == 200)

    def cluster_id(self, cluster, old):
        found = cluster.get(1, "/status")[1]["cluster_id"]
        return found if found != old else None

    def test_old_and_new_cluster_do_not_talk(self):
        """Also when a node of the old one is told to join the new one by mistake."""
        cluster = self.cluster(3)
        self.queue(cluster, "plain")
        again = self.restored(self.backup(cluster, "copy"))
        clusters.wait_for("the restored one", lambda: again.get(1, "/health/ready")[0] == 200)
        again.script("restart", "11")  # its own data are its own cluster's still
        clusters.wait_for("it again", lambda: again.get(1, "/health/ready")[0] == 200)
        folder = pathlib.Path(cluster.dir) / "broker-3"
        cluster.script("stop", "3")
        self.command(folder, 3, cluster.port + 20, "--join", f"11=127.0.0.1:{again.port + 2}")
        cluster.script("restart", "3")
        clusters.wait_for("the refusal", lambda: "reason=CLUSTER" in
                          (folder / "log").read_text().rpartition("listening")[2])
        self.assertEqual(len(again.get(1, "/admin/cluster")[1]["Members"]), 1)

    def test_a_backup_can_be_slowed_down(self):
        cluster = self.cluster(1)
        url = self.queue(cluster, "plain")
        for _ in range(15):  # what the broker cannot compress
            body = base64.b64encode(os.urandom(150_000)).decode()
            self.call(cluster, 1, "SendMessage", QueueUrl=url, MessageBody=body)
        began = time.monotonic()
        done = millrace("backup", "--rate", "1", "--endpoint", cluster.about["endpoints"][0],
                        self.folder / "slow")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(time.monotonic() - began, 2.9)  # 3 MB, however fast the machine is

    def test_a_restored_cluster_has_what_was_confirmed(self):
        cluster = self.cluster(3)
        urls = self.send_all(cluster)
        taken = self.call(cluster, 2, "ReceiveMessage", QueueUrl=urls["flight"],
                          MaxNumberOfMessages=10, WaitTimeSeconds=2)["Messages"]
        key = millrace("key", "create", "--endpoint", cluster.about["endpoints"][0], "--json",
                       "--name", "ops")
        self.assertEqual(key.returncode, 0, key.stderr)
        self.deploy(cluster)
        load = Load(cluster, urls["load"])
        try:
            clusters.wait_for("some load", lambda: len(load.confirmed) > 20)
            before = list(load.confirmed)
            backup = self.backup(cluster, "copy", node=2)
        finally:
            load.stop()
        self.assertGreater(len(load.confirmed), len(before))
        old_id = cluster.get(1, "/status")[1]["cluster_id"]
        cluster.script("down")

        again = self.restored(backup)
        new_id = clusters.wait_for("the new cluster's id", lambda: self.cluster_id(again, old_id))
        self.joins(again, 12, 11)
        self.assertEqual(again.get(2, "/status")[1]["cluster_id"], new_id)
        identity = pathlib.Path(again.dir) / "broker-11/data/node.json"
        self.assertNotIn("restored_from", json.loads(identity.read_text()))
        plain = self.drain(again, 2, urls["plain"], MESSAGES)
        self.assertEqual(sorted(plain), sorted(
            f"plain-{number}-" + "x" * (LARGE_BYTES if number % 25 == 0 else 10)
            for number in range(MESSAGES)))
        ordered = self.drain(again, 1, urls["order.fifo"], MESSAGES)
        self.assertEqual(len(ordered), MESSAGES)
        for group in range(GROUPS):
            numbers = [int(body.split(":")[1]) for body in ordered if body.startswith(f"{group}:")]
            self.assertEqual(numbers, list(range(group, MESSAGES, GROUPS)))
        # A receipt handle of the old cluster is one of the new.
        self.call(again, 1, "DeleteMessage", QueueUrl=urls["flight"],
                  ReceiptHandle=taken[0]["ReceiptHandle"])
        flight = self.drain(again, 1, urls["flight"], 5 - 1)
        self.assertEqual(sorted(flight + [taken[0]["Body"]]), [f"f{n}" for n in range(5)])
        self.assertEqual(sorted(self.drain(again, 1, urls["later"], 5)),
                         [f"l{n}" for n in range(5)])
        counts = self.call(again, 1, "GetQueueAttributes", QueueUrl=urls["load"],
                           AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        loaded = self.drain(again, 1, urls["load"], int(counts["ApproximateNumberOfMessages"]))
        self.assertEqual(set(before) - set(loaded), set(), "confirmed before the backup, and lost")
        self.assertEqual(set(loaded) - set(load.confirmed), set())
        self.assertEqual(len(loaded), len(set(loaded)))
        keys = millrace("key", "list", "--endpoint", again.about["endpoints"][0], "--json")
        self.assertIn(json.loads(key.stdout)["AccessKeyId"], keys.stdout)
        self.runs(again)

    def test_bad_backups_are_refused_by_name(self):
        cluster = self.cluster(1)
        url = self.queue(cluster, "plain")
        for number in range(20):
            self.call(cluster, 1, "SendMessage", QueueUrl=url, MessageBody=f"m{number}")
        backup = self.backup(cluster, "good")
        again = millrace("backup", "--endpoint", cluster.about["endpoints"][0], backup)
        self.assertEqual(again.returncode, 1)
        self.assertIn("is not an empty folder: it is a backup", again.stderr)
        manifest = json.loads((backup / "manifest.json").read_text())
        self.assertEqual(len(manifest["Shards"]), 5)
        names = [f"shard-{shard['ShardId']}/{file['Name']}" for shard in manifest["Shards"]
                 for file in shard["Files"]]
        self.assertGreaterEqual(len(names), 5)
        for name in [*names, "manifest.json"]:
            copy = self.folder / "bad"
            shutil.copytree(backup, copy)
            with open(copy / name, "r+b") as file:
                file.seek(os.path.getsize(copy / name) // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
            self.refused(copy, name)
            shutil.rmtree(copy)
        (backup / names[-1]).rename(self.folder / "kept")
        self.refused(backup, names[-1])
        (self.folder / "kept").rename(backup / names[-1])
        (backup / "manifest.json").rename(backup / "manifest.json.new")
        self.refused(backup, "not finished")
        again = millrace("backup", "--endpoint", cluster.about["endpoints"][0], backup)
        self.assertEqual(again.returncode, 1)
        self.assertIn("a backup into it was not finished", again.stderr)

    def admin(self, cluster, node, method, path):
        request = urllib.request.Request(cluster.about["endpoints"][node - 1] + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def test_only_the_leader_gives_one_and_one_at_a_time(self):
        cluster = self.cluster(2)
        leader = clusters.wait_for("a leader", lambda: cluster.get(1, "/admin/cluster")[1]["Leader"])
        other = 3 - leader
        status, reply = self.admin(cluster, other, "POST", "/admin/backup")
        self.assertEqual(status, 409)
        self.assertEqual(json.loads(reply)["LeaderEndpoint"], cluster.about["endpoints"][leader - 1])
        status, reply = self.admin(cluster, leader, "POST", "/admin/backup")
        self.assertEqual(status, 201)
        begun = json.loads(reply)
        path = f"/admin/backup/{begun['Backup']}"
        name = begun["Files"][-1]["Name"]
        second = millrace("backup", "--endpoint", cluster.about["endpoints"][0],
                          self.folder / "second")
        self.assertEqual(second.returncode, 1)
        self.assertIn("Another backup is under way", second.stderr)
        self.assertFalse((self.folder / "second").exists())
        for bad in ("../meta-1", "segments/../../meta-1", "meta-1", "segments"):
            self.assertEqual(self.admin(cluster, leader, "GET", f"{path}/{bad}?offset=0")[0], 404)
        self.assertEqual(self.admin(cluster, leader, "GET", f"{path}/{name}?offset=-1")[0], 400)
        status, piece = self.admin(cluster, leader, "GET", f"{path}/{name}?offset=0")
        self.assertEqual((status, piece[:8]), (200, b"MRSEGMT1"))
        self.assertEqual(len(piece), begun["Files"][-1]["Bytes"])
        moved = millrace("cluster", "transfer", "--endpoint", cluster.about["endpoints"][0])
        self.assertEqual(moved.returncode, 0, moved.stderr)
        self.assertEqual(self.admin(cluster, leader, "GET", f"{path}/{name}?offset=0")[0], 404)
        links = pathlib.Path(cluster.dir) / f"broker-{leader}/data/shard-0/backup"
        clusters.wait_for("its links to go", lambda: not links.exists())

    def refused(self, backup, words):
        target = self.folder / "target"
        done = millrace("restore", "--data-dir", target, "--node-id", 5, "--peer", "127.0.0.1:1",
                        backup)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(words), done.stderr)
        self.assertFalse(target.exists(), "a refused backup left something behind")

    def test_one_of_three_goes_on_alone(self):
        cluster = self.cluster(3)
        url = self.queue(cluster, "plain")
        for number in range(50):
            self.call(cluster, 1 + number % 3, "SendMessage", QueueUrl=url, MessageBody=f"m{number}")
        data = pathlib.Path(cluster.dir) / "broker-1/data"
        running = millrace("cluster", "recover", "--data-dir", data, "--yes")
        self.assertNotEqual(running.returncode, 0)
        self.assertIn("stop it first", running.stderr)
        applied = cluster.get(1, "/admin/cluster")[1]["LastIndex"]
        clusters.wait_for("node 1 to have it all", lambda: cluster.get(1, "/admin/cluster")[1]
                          ["AppliedIndex"] >= applied)
        cluster.script("down")
        shutil.rmtree(os.path.join(cluster.dir, "broker-3"))

        told = millrace("cluster", "recover", "--data-dir", data)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("WHAT MAY BE LOST", told.stdout)
        self.assertIn("--yes", told.stderr)
        done = millrace("cluster", "recover", "--data-dir", data, "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)

        old = pathlib.Path(cluster.dir) / "broker-2"
        old.rename(pathlib.Path(cluster.dir) / "aside")
        cluster.up()
        self.call(cluster, 1, "SendMessage", QueueUrl=url, MessageBody="after")
        # One of the old members comes back on its data: it is refused, and changes nothing.
        (pathlib.Path(cluster.dir) / "aside").rename(old)
        cluster.script("restart", "2")
        clusters.wait_for("node 2 to be refused", lambda: "is known with other data" in
                          (old / "log").read_text().rpartition("listening")[2])
        self.assertEqual(cluster.get(2, "/health/ready")[0], 503)
        members = cluster.get(1, "/admin/cluster")[1]["Members"]
        self.assertEqual([member["NodeId"] for member in members], [1])
        self.assertEqual(sorted(self.drain(cluster, 1, url, 51)),
                         sorted([f"m{n}" for n in range(50)] + ["after"]))


if __name__ == "__main__":
    unittest.main()
