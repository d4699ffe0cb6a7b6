#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Queue shards that are on some of the nodes: the dispatcher, on the catalog's leader, has others
elsewhere, and so have the couriers between them. Every message is worked on, usage is exact, FIFO
queues keep their order, dead letters and moves get there once, whoever is killed meanwhile."""
import json
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, wait_for  # noqa: E402
from functions import NODES, FunctionsCase  # noqa: E402

SHARDS = (1, 2, 3)
GROUPS = 2
PICKY = """
import time
def handler(event, context):
    failed = []
    for record in event["Records"]:
        kind, _, name = record["body"].partition(" ")
        origin = record["attributes"].get("DeadLetterQueueSourceArn", "none").split(":")[-1]
        print(kind, name, time.time(), origin, flush=True)
        if kind == "bad":
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""


class Load:
    """Messages to one queue, through all nodes, until the end; each again until it is stored."""

    def __init__(self, test, queue):
        self.test, self.queue = test, queue
        self.fifo = queue.endswith(".fifo")
        self.stop = threading.Event()
        self.sent = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.stop.is_set():
            name = f"{self.queue}/{number}"
            group = {"MessageGroupId": str(number % GROUPS)} if self.fifo else {}
            for node in (NODES * 100)[number % 3:]:
                if self.test.send(node, self.queue, f"0.01 {name}", **group):
                    break
            self.sent.append(name)
            number += 1
            time.sleep(0.04)

    def end(self):
        self.stop.set()
        self.thread.join()


class ElsewhereCase(FunctionsCase):
    def begin(self, nodes, shards, replicas):
        self.nodes = range(1, nodes + 1)
        self.cluster = Cluster(nodes=nodes, workers=2, broker_args=(
            "--shards", str(shards), "--replicas", str(replicas)))
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        wait_for("the workers", lambda: len(self.catalog_leader()[1]["workers"]) == 2)
        self.names = 0

    # ---- where queues are ----

    def shard_of(self, name):
        for node in self.nodes:
            status, about = self.cluster.get(node, "/status")
            for queue in about["queues"] if status == 200 else ():
                if queue["name"] == name:
                    return queue["shard"]
        return None

    def queue_in(self, shard, fifo=False, node=1, **attributes):
        """A new queue in this shard."""
        suffix = ".fifo" if fifo else ""
        if fifo:
            attributes.update(FifoQueue="true", ContentBasedDeduplication="true")
        while True:
            self.names += 1
            name = f"q{self.names}{suffix}"
            self.call(node, "CreateQueue", QueueName=name, Attributes=attributes)
            if wait_for(name, lambda n=name: self.shard_of(n)) == shard:
                return name
            self.call(node, "DeleteQueue", QueueUrl=self.cluster.queue_url(name))

    def replicas(self, shard):
        about = self.catalog_leader()[1]
        return next(one for one in about["shards"] if one["id"] == shard)["replicas"]

    def shards_away(self):
        """Those that are not on the catalog's leader."""
        leader = self.catalog_leader()[0]
        return [shard for shard in SHARDS if leader not in self.replicas(shard)]

    def arn(self, queue):
        return f"arn:aws:sqs:us-east-1:000000000000:{queue}"

    def map(self, node, queue, function, **members):
        status, answer = self.lambda_call(node, "POST", "event-source-mappings/",
                                          EventSourceArn=self.arn(queue), FunctionName=function,
                                          **members)
        self.assertEqual(status, 202, answer)

    def empty(self, queues):
        return all(self.left(queue) == 0 for queue in queues)

    # ---- what happened ----

    def check_plain(self, sent):
        ended = [name for _, name in self.events("plain", "ends")]
        self.assertEqual(sent, set(ended))
        # One message a run, so each delete is of a run that is counted, and of one that ended.
        wait_for("usage", lambda: (self.invocations("plain") or 0) >= len(sent))
        self.assertLessEqual(self.invocations("plain"), len(ended))

    def check_order(self, load):
        last = {}
        ended = [name for _, name in self.events("ordered", "ends")
                 if name.startswith(load.queue + "/")]
        self.assertEqual(set(load.sent), set(ended))
        for name in ended:
            number = int(name.rpartition("/")[2])
            before = last.get(number % GROUPS)
            if before is not None:  # again what was there, or the next one
                self.assertLessEqual(number, before + GROUPS, ended)
            last[number % GROUPS] = max(number, before or 0)

    def check_calm(self, queues):
        """While nobody dies each message is one run, and each run is counted once."""
        before, ran = self.invocations("plain"), len(self.events("plain", "ends"))
        for number in range(30):
            self.assertTrue(self.send(NODES[number % 3], queues[number // 3 % len(queues)],
                                      f"0 calm-{number}"))
        wait_for("the queues to be empty", lambda: self.empty(queues) and
                 len(self.events("plain", "ends")) >= ran + 30)
        wait_for("usage", lambda: self.invocations("plain") == before + 30)
        self.assertEqual(len(self.events("plain", "ends")), ran + 30)


class OneReplica(ElsewhereCase):
    """A node that dies takes its shards with it until it is back."""

    def setUp(self):
        self.begin(nodes=3, shards=3, replicas=1)

    def test_nodes_die_under_load(self):
        plain = [self.queue_in(shard, VisibilityTimeout="60") for shard in SHARDS]
        ordered = [self.queue_in(shard, fifo=True, VisibilityTimeout="60") for shard in SHARDS]
        self.deploy("plain", plain[0], 1, node=1)
        self.deploy("ordered", ordered[0], 5, node=2)
        for node in (2, 3):
            self.map(node, plain[node - 1], "plain", BatchSize=1)
            self.map(node, ordered[node - 1], "ordered", BatchSize=5)
        loads = [Load(self, queue) for queue in plain + ordered]
        try:
            wait_for("functions to run", lambda: len(self.events("plain", "ends")) > 30)
            first = wait_for("the catalog's leader", lambda: self.catalog_leader()[0])
            self.kill_and_restart(first, 2)
            leader = wait_for("the catalog's leader", lambda: self.catalog_leader()[0])
            self.kill_and_restart(next(node for node in NODES if node != leader), 1)
        finally:
            for load in loads:
                load.end()
        wait_for("the queues to be empty", lambda: self.empty(plain + ordered))
        self.check_plain({name for load in loads[:3] for name in load.sent})
        for load in loads[3:]:
            self.check_order(load)
        self.check_calm(plain)

    def test_dead_letters_and_moves_between_nodes(self):
        """Failed items go to a queue on another node, whose function is told where they are from;
        and those of a second one are moved back from there, and fail again."""
        away = self.shards_away()
        dead = [self.queue_in(shard, VisibilityTimeout="2") for shard in (away[1], away[0])]
        source = [self.queue_in(shard, VisibilityTimeout="2", RedrivePolicy=json.dumps(
            {"maxReceiveCount": 2, "deadLetterTargetArn": self.arn(queue)}))
            for shard, queue in zip(away, dead)]
        self.deploy("picky", source[0], 5, code=PICKY, timeout_s=2)
        self.deploy("undertaker", dead[0], 5, code=PICKY, node=2, timeout_s=2)
        uuid = self.mapping("picky", source[0])
        status, answer = self.lambda_call(3, "PUT", f"event-source-mappings/{uuid}",
                                          FunctionResponseTypes=["ReportBatchItemFailures"])
        self.assertEqual(status, 202, answer)
        self.map(2, source[1], "picky", BatchSize=5,
                 FunctionResponseTypes=["ReportBatchItemFailures"])
        for queue in source:
            for number in range(6):
                kind = "bad" if number % 2 else "good"
                self.assertTrue(self.send(NODES[number % 3], queue, f"{kind} {queue}/{number}"))
        bad = sorted(f"{source[0]}/{number}" for number in (1, 3, 5))
        wait_for("dead letters", lambda: sorted(
            name for _, name in self.events("undertaker", "bad")) == bad)
        self.assertEqual(self.origins("undertaker"), {source[0]})
        wait_for("the others", lambda: self.left(dead[1]) == 3 and self.left(source[1]) == 0)
        self.call(1, "StartMessageMoveTask", SourceArn=self.arn(dead[1]))
        wait_for("them to be moved, and to fail", lambda: len(
            [1 for _, name in self.events("picky", "bad") if name.startswith(source[1])]) == 12)
        wait_for("them to be back", lambda: self.left(dead[1]) == 3 and self.left(source[1]) == 0)
        good = sorted(name for _, name in self.events("picky", "good"))
        self.assertEqual(good, sorted(f"{queue}/{n}" for queue in source for n in (0, 2, 4)))

    def mapping(self, function, queue):
        _, answer = self.lambda_call(1, "GET", f"event-source-mappings/?FunctionName={function}")
        return next(one["UUID"] for one in answer["EventSourceMappings"]
                    if one["EventSourceArn"] == self.arn(queue))

    def origins(self, function):
        """Where the failed records of a function said that they were from."""
        found = set()
        for worker in (1, 2):
            path = os.path.join(self.cluster.dir, f"worker-{worker}/data/logs/{function}.log")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    found |= {line.split()[-1] for line in file if " bad " in f" {line}"}
        return found

    def test_a_missing_queue_is_refused_as_ever(self):
        shard = self.shards_away()[0]
        queue = self.queue_in(shard, VisibilityTimeout="30")
        self.deploy("f", queue, 1)
        self.call(2, "DeleteQueue", QueueUrl=self.cluster.queue_url(queue))
        for node in NODES:
            status, answer = self.lambda_call(node, "POST", "event-source-mappings/",
                                              EventSourceArn=self.arn(queue), FunctionName="f")
            self.assertEqual(status, 400, answer)
            self.assertIn("The specified queue does not exist", json.dumps(answer))
        short = self.queue_in(shard, VisibilityTimeout="10")
        for node in NODES:
            status, answer = self.lambda_call(node, "POST", "event-source-mappings/",
                                              EventSourceArn=self.arn(short), FunctionName="f")
            self.assertEqual(status, 400, answer)
            self.assertIn("Queue visibility timeout: 10 seconds is less than Function timeout: "
                          "30 seconds", json.dumps(answer))

    def test_a_worker_and_the_dispatcher_die_together(self):
        """Its messages are back after their short lease, not after the visibility timeout."""
        queue = self.queue_in(self.shards_away()[0], VisibilityTimeout="60")
        self.deploy("long", queue, 1)
        self.assertTrue(self.send(1, queue, "20 one"))
        wait_for("the function to begin", lambda: len(self.events("long", "begins")) == 1)
        busy = next(worker for worker in (1, 2) if os.path.exists(os.path.join(
            self.cluster.dir, f"worker-{worker}/data/logs/long.log")))
        leader = self.catalog_leader()[0]
        self.cluster.script("kill", f"worker-{busy}")
        self.cluster.script("kill", str(leader))
        died = time.monotonic()
        wait_for("the function to begin again", lambda: len(self.events("long", "begins")) == 2)
        self.assertLess(time.monotonic() - died, 25)  # the visibility timeout is 60 s


class ThreeOfFour(ElsewhereCase):
    """A shard goes on when one of its nodes dies for good, also for who has no replica of it."""

    def setUp(self):
        self.begin(nodes=4, shards=4, replicas=3)

    def test_a_replica_dies(self):
        leader = self.catalog_leader()[0]
        shard = next(one for one in range(1, 5) if leader not in self.replicas(one))
        plain = self.queue_in(shard, VisibilityTimeout="60")
        ordered = self.queue_in(shard, fifo=True, VisibilityTimeout="60")
        self.deploy("plain", plain, 1, node=leader)
        self.deploy("ordered", ordered, 5, node=leader)
        loads = [Load(self, queue) for queue in (plain, ordered)]
        try:
            wait_for("functions to run", lambda: len(self.events("plain", "ends")) > 20)
            victim = wait_for("the shard's leader", lambda: self.shard_leader(shard))
            self.assertNotEqual(victim, leader)
            self.cluster.script("kill", str(victim))
            ran = len(self.events("plain", "ends"))
            wait_for("functions to go on", lambda: len(self.events("plain", "ends")) > ran + 50)
        finally:
            for load in loads:
                load.end()
        wait_for("the queues to be empty", lambda: self.empty([plain, ordered]))
        self.check_plain(set(loads[0].sent))
        self.check_order(loads[1])


if __name__ == "__main__":
    unittest.main()
