#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dead-letter queues in other shards than their sources, on three brokers of which one after the
other is killed: each message gets there once, those of a FIFO group in order, and none is lost."""
import collections
import json
import os
import sys
import threading
import time
import unittest
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "clients")]
from cluster import Cluster, ClusterCase, wait_for  # noqa: E402
import place  # noqa: E402

NODES = (1, 2, 3)
SHARDS = 4
KILLS = 4
GROUPS = 3
BATCH = 10


class Stream:
    """Messages sent to one queue and received from it until they are redriven to another."""

    def __init__(self, cluster, source, dead, suffix):
        self.cluster = cluster
        self.fifo = suffix != ""
        self.source = place.name_in(source, SHARDS, "source", suffix)
        self.dead = place.name_in(dead, SHARDS, "dead", suffix)
        self.sure, self.maybe = [], set()
        self.sending = self.receiving = True
        self.threads = [threading.Thread(target=self.send),
                        threading.Thread(target=self.receive, args=(1,)),
                        threading.Thread(target=self.receive, args=(2,))]

    def create(self):
        policy = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:000000000000:{self.dead}",
                  "maxReceiveCount": 1}
        for name, attributes in ((self.dead, {}), (self.source,
                                                   {"RedrivePolicy": json.dumps(policy)})):
            if self.fifo:
                attributes["FifoQueue"] = "true"
            self.cluster.sqs(1, "CreateQueue", QueueName=name, Attributes=attributes)

    def send(self):
        number = 0
        while self.sending:
            body = str(number)
            more = {"MessageGroupId": str(number % GROUPS),
                    "MessageDeduplicationId": body} if self.fifo else {}
            status, _ = self.cluster.sqs(NODES[number % 3], "SendMessage", QueueUrl=self.source,
                                         MessageBody=body, **more)
            while self.fifo and status != 200:  # it is sent once, however often it is tried
                time.sleep(0.05)
                status, _ = self.cluster.sqs(NODES[number % 3 - 1], "SendMessage",
                                             QueueUrl=self.source, MessageBody=body, **more)
            if status == 200:
                self.sure.append(body)
            else:
                self.maybe.add(body)
            number += 1
            time.sleep(0.004)

    def receive(self, node):
        while self.receiving:
            status, answer = self.cluster.sqs(node, "ReceiveMessage", QueueUrl=self.source,
                                              MaxNumberOfMessages=10, VisibilityTimeout=0)
            node = node % 3 + 1 if status != 200 else node
            if not (answer or {}).get("Messages"):
                time.sleep(0.02)

    def size(self, name):
        told = self.cluster.sqs(1, "GetQueueAttributes", QueueUrl=name, AttributeNames=["All"])[1]
        return sum(int((told or {}).get("Attributes", {}).get(kind, 10**9)) for kind in (
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"))

    def drain(self):
        """All that is in the dead-letter queue, in order, by message id: a call without an answer
        may have leased some, which come back then."""
        found = {}

        def is_empty():
            answer = self.cluster.sqs(2, "ReceiveMessage", QueueUrl=self.dead,
                                      MaxNumberOfMessages=BATCH, VisibilityTimeout=5)[1] or {}
            messages = answer.get("Messages", [])
            for message in messages:
                found.setdefault(message["MessageId"], message["Body"])
            if messages:
                self.cluster.sqs(2, "DeleteMessageBatch", QueueUrl=self.dead, Entries=[
                    {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                    for i, message in enumerate(messages)])
            return not messages and self.size(self.dead) == 0

        wait_for("the dead-letter queue to be empty", is_empty)
        return list(found.values())


class Outbox(ClusterCase):
    @classmethod
    def setUpClass(cls):
        os.environ["MILLRACE_SHARDS"] = str(SHARDS)
        cls.cluster = Cluster(nodes=3)
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()

    def leader(self, shard):
        def known():
            for node in NODES:
                status, about = self.cluster.get(node, "/status")
                if status == 200 and about["shards"][shard]["leader"]:
                    return about["shards"][shard]["leader"]
            return None
        return wait_for(f"shard {shard} to have a leader", known)

    def outbox(self, node):
        """Messages on their way, as a node's metrics have it; once nobody sends any more."""
        def told():
            url = f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                rows = [line for line in answer.read().decode().splitlines()
                        if line.startswith("millrace_shard_outbox_messages{")]
            self.assertEqual(len(rows), 1 + SHARDS)
            return sum(int(row.split()[1]) for row in rows)
        wait_for(f"node {node} to see all arrive", lambda: told() == 0)
        return told()

    def kill_leader(self, shard):
        victim = self.leader(shard)
        self.cluster.script("kill", str(victim))
        time.sleep(0.5)
        self.cluster.script("restart", str(victim))
        wait_for(f"node {victim}", lambda: self.cluster.get(victim, "/health/ready")[0] == 200)

    def check(self, stream):
        found = stream.drain()
        counts = collections.Counter(found)
        twice = [body for body, count in counts.items() if count > 1]
        self.assertEqual(twice, [])
        self.assertEqual(set(stream.sure) - set(found), set(), "lost")
        self.assertEqual(set(found) - set(stream.sure) - stream.maybe, set())
        self.assertGreater(len(found), 50)
        for group in range(GROUPS if stream.fifo else 0):
            of_group = [int(body) for body in found if int(body) % GROUPS == group]
            self.assertEqual(of_group, sorted(of_group))

    def test_leaders_die_while_messages_are_redriven(self):
        streams = [Stream(self.cluster, 1, 3, ""), Stream(self.cluster, 2, 4, ".fifo")]
        for stream in streams:
            stream.create()
            for thread in stream.threads:
                thread.start()
        for i in range(KILLS):
            time.sleep(0.7)
            self.kill_leader((1, 4, 2, 3)[i % 4])
        for stream in streams:
            stream.sending = False
            stream.threads[0].join()
        try:
            for stream in streams:
                wait_for("the source to be empty and all to be there", lambda s=stream: (
                    s.size(s.source) == 0 and s.size(s.dead) >= len(s.sure)))
        finally:
            for stream in streams:
                stream.receiving = False
                for thread in stream.threads[1:]:
                    thread.join()
        self.assertEqual([self.outbox(node) for node in NODES], [0, 0, 0])
        for stream in streams:
            self.check(stream)

    def test_a_move_back_across_shards(self):
        stream = Stream(self.cluster, 3, 1, "")
        stream.create()
        for number in range(30):
            self.cluster.sqs(NODES[number % 3], "SendMessage", QueueUrl=stream.source,
                             MessageBody=str(number))

        def redriven():
            self.cluster.sqs(1, "ReceiveMessage", QueueUrl=stream.source, MaxNumberOfMessages=10,
                             VisibilityTimeout=0)
            return stream.size(stream.dead) == 30
        wait_for("all to be redriven", redriven)
        arn = f"arn:aws:sqs:us-east-1:000000000000:{stream.dead}"
        status, answer = self.cluster.sqs(2, "StartMessageMoveTask", SourceArn=arn)
        self.assertEqual(status, 200, answer)

        def done():
            (task,) = self.cluster.sqs(3, "ListMessageMoveTasks", SourceArn=arn)[1]["Results"]
            return task if task["Status"] != "RUNNING" else None
        task = wait_for("the move to end", done)
        self.assertEqual((task["Status"], task["ApproximateNumberOfMessagesMoved"]),
                         ("COMPLETED", 30))
        self.assertEqual((stream.size(stream.source), stream.size(stream.dead)), (30, 0))

    def test_a_dead_letter_queue_that_is_gone(self):
        stream = Stream(self.cluster, 4, 2, "")
        stream.create()
        self.cluster.sqs(1, "DeleteQueue", QueueUrl=stream.dead)
        self.cluster.sqs(1, "SendMessage", QueueUrl=stream.source, MessageBody="x")
        seen = []

        def delivered_often():
            answer = self.cluster.sqs(1, "ReceiveMessage", QueueUrl=stream.source,
                                      AttributeNames=["ApproximateReceiveCount"],
                                      VisibilityTimeout=0)[1]
            seen.extend(answer.get("Messages", []))
            return len(seen) >= 4
        wait_for("the message to be delivered again and again", delivered_often)
        self.assertEqual([m["Attributes"]["ApproximateReceiveCount"] for m in seen[:4]],
                         ["1", "2", "3", "4"])


if __name__ == "__main__":
    unittest.main()
