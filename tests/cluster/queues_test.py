#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Queues in every shard of three brokers: each broker answers for all of them, whoever leads them,
and knows what the others have answered."""
import json
import os
import sys
import threading
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
# The native_auth_test of tests/wire is meant, which this folder has one of, too.
sys.path[:0] = [os.path.join(HERE, "..", "wire"), os.path.join(HERE, "..", "clients"), HERE]
from cluster import Cluster, ClusterCase, wait_for  # noqa: E402
import native_auth_test as native_auth  # noqa: E402
import place  # noqa: E402
import signing  # noqa: E402

NODES = (1, 2, 3)
SHARDS = 4
ALL = range(1, SHARDS + 1)


class Queues(ClusterCase):
    @classmethod
    def setUpClass(cls):
        os.environ["MILLRACE_SHARDS"] = str(SHARDS)
        cls.cluster = Cluster(nodes=3)
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()

    def ask(self, node, action, **members):
        status, answer = self.cluster.sqs(node, action, **members)
        self.assertEqual(status, 200, (node, action, members, answer))
        return answer

    def leaders(self, node):
        status, about = self.cluster.get(node, "/status")
        return [shard["leader"] for shard in about["shards"]] if status == 200 else []

    def test_an_answer_names_the_leader(self):
        """The native protocol's hint whom to ask next, from every node and for a queue of each shard."""
        clients = [native_auth.native.Client(self.cluster.port + 10 * (node - 1) + 1) for node in NODES]
        queues = {shard: place.name_in(shard, SHARDS) for shard in ALL}
        for client in clients:
            self.addCleanup(client.close)
        for name in queues.values():
            self.ask(1, "CreateQueue", QueueName=name)

        def named(client, name):
            _, error = client.call(native_auth.native.SEND, native_auth.native.member(1, name),
                                   native_auth.native.member(2, "x"))
            self.assertIsNone(error)
            return client.ask_node

        def all_agree():
            leaders = self.leaders(1)
            return all({named(client, name) for client in clients} == {leaders[shard]}
                       for shard, name in queues.items())
        wait_for("all nodes to name the leader of each shard", all_agree)

    def names(self, node, prefix, **more):
        listed = self.ask(node, "ListQueues", QueueNamePrefix=prefix, **more).get("QueueUrls", [])
        return [url.rpartition("/")[2] for url in listed]

    def test_what_one_has_answered_the_others_know(self):
        for round_number in range(10):
            names = {shard: place.name_in(shard, SHARDS) for shard in ALL}
            for shard, name in names.items():
                maker, other, third = (NODES[(shard + round_number + i) % 3] for i in range(3))
                self.ask(maker, "CreateQueue", QueueName=name)
                self.ask(other, "SetQueueAttributes", QueueUrl=name,
                         Attributes={"VisibilityTimeout": str(round_number)})
                told = self.ask(third, "GetQueueAttributes", QueueUrl=name,
                                AttributeNames=["VisibilityTimeout"])
                self.assertEqual(told["Attributes"], {"VisibilityTimeout": str(round_number)})
                self.ask(third, "SendMessage", QueueUrl=name, MessageBody=name)
                (message,) = self.ask(other, "ReceiveMessage", QueueUrl=name,
                                      VisibilityTimeout=60)["Messages"]
                self.assertEqual(message["Body"], name)
                self.ask(maker, "DeleteMessage", QueueUrl=name,
                         ReceiptHandle=message["ReceiptHandle"])
                self.ask(other, "DeleteQueue", QueueUrl=name)
                self.assertEqual(self.cluster.sqs(third, "GetQueueUrl", QueueName=name)[0], 400)

    def test_lists_are_of_all_shards_at_once(self):
        made = []
        for round_number in range(4):
            for shard in ALL:
                made.append(place.name_in(shard, SHARDS, "list"))
                self.ask(NODES[len(made) % 3], "CreateQueue", QueueName=made[-1])
                node = NODES[(len(made) + 1) % 3]
                self.assertEqual(self.names(node, "list"), sorted(made), round_number)

    def test_a_target_in_another_shard_is_seen_at_once(self):
        for shard in ALL:
            dead = place.name_in(shard, SHARDS, "dead")
            source = place.name_in(shard % SHARDS + 1, SHARDS, "source")
            policy = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:000000000000:{dead}",
                      "maxReceiveCount": 3}
            maker, other, third = (NODES[(shard + i) % 3] for i in range(3))
            self.ask(maker, "CreateQueue", QueueName=dead)
            self.ask(other, "CreateQueue", QueueName=source,
                     Attributes={"RedrivePolicy": json.dumps(policy)})
            found = self.ask(third, "ListDeadLetterSourceQueues", QueueUrl=dead)["queueUrls"]
            self.assertEqual([url.rpartition("/")[2] for url in found], [source])

    def test_a_waiting_receive_is_served_through_any_node(self):
        names = {shard: place.name_in(shard, SHARDS, "wait") for shard in ALL}
        for name in names.values():
            self.ask(1, "CreateQueue", QueueName=name)
        answers = {}
        polls = []
        for shard, name in names.items():
            for node in NODES:
                def poll(node=node, name=name):
                    answers[node, name] = self.cluster.sqs(
                        node, "ReceiveMessage", QueueUrl=name, WaitTimeSeconds=20, timeout=40)
                polls.append(threading.Thread(target=poll))
                polls[-1].start()
        for name in names.values():
            for node in NODES:
                self.ask(node, "SendMessage", QueueUrl=name, MessageBody=name)
        for thread in polls:
            thread.join()
        for (node, name), (status, answer) in answers.items():
            self.assertEqual((status, [m["Body"] for m in answer.get("Messages", [])]),
                             (200, [name]), (node, answer))

    def test_everybody_tells_the_same_of_the_shards(self):
        def agreed():
            told = [self.leaders(node) for node in NODES]
            return told[0] if told[0] == told[1] == told[2] and 0 not in told[0] else None
        leaders = wait_for("the nodes to agree on who leads", agreed)
        self.assertEqual(len(leaders), 1 + SHARDS)
        for node in NODES:
            _, view = self.cluster.get(node, "/admin/cluster")
            self.assertEqual([s["ShardId"] for s in view["Shards"]], [0, *ALL])


class Keys(ClusterCase):
    """Keys and policies of keys are of the catalog, policies of queues of the queues' shards."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(nodes=3)
        os.environ.update({"MILLRACE_SHARDS": str(SHARDS), "MILLRACE_AUTH": "required",
                           "MILLRACE_ROOT_ACCESS_KEY_ID": signing.ROOT_ID,
                           "MILLRACE_ROOT_SECRET_ACCESS_KEY": signing.ROOT_SECRET})
        cls.addClassCleanup(cls.cluster.close)
        try:
            cls.cluster.up()
        finally:
            for name in ("AUTH", "ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY"):
                del os.environ[f"MILLRACE_{name}"]
        for node in NODES:
            cls.through(node)
            wait_for("the root key",
                     lambda: signing.json_call("ListQueues", {}).status == 200)

    @classmethod
    def through(cls, node):
        """What is signed goes to this node from now on."""
        signing.use(types.SimpleNamespace(
            endpoint=f"http://127.0.0.1:{cls.cluster.port + 10 * (node - 1)}"))

    def code(self, node, action, key, **members):
        self.through(node)
        answer = signing.json_call(action, members, key)
        return None if answer.status == 200 else signing.error_of(answer)[0]

    def native_send(self, node, key, name):
        """By a connection that proves the key to this node."""
        client = native_auth.Client(self.cluster.port + 10 * (node - 1) + 1, key)
        self.addCleanup(client.close)
        return client.call(native_auth.native.SEND, native_auth.native.member(1, name),
                           native_auth.native.member(2, "x"))[1]

    def test_a_new_key_is_known_to_every_node(self):
        for round_number in range(20):
            self.through(NODES[round_number % 3])
            key = signing.make_key(signing.allow("sqs:*"))
            other = NODES[(round_number + 1) % 3]
            error = self.native_send(other, key, "no-queue")
            self.assertEqual(error[1].decode(), "QueueDoesNotExist", error)

    def test_what_is_allowed_through_one_is_allowed_through_the_others(self):
        for round_number in range(4):
            for shard in ALL:
                name = place.name_in(shard, SHARDS, "keys")
                maker, other, third = (NODES[(shard + round_number + i) % 3] for i in range(3))
                self.assertIsNone(self.code(maker, "CreateQueue", signing.ROOT, QueueName=name))
                self.through(other)
                key = signing.make_key()
                send = {"QueueUrl": name, "MessageBody": "x"}
                self.assertEqual(self.code(third, "SendMessage", key, **send), "AccessDenied")
                self.through(maker)
                answer = signing.set_policy(name, {
                    "Effect": "Allow", "Principal": {"AWS": key.arn}, "Action": "sqs:SendMessage",
                    "Resource": "*"})
                self.assertEqual(answer.status, 200, answer.body)
                self.assertIsNone(self.code(other, "SendMessage", key, **send))
                self.assertIsNone(self.native_send(other, key, name))
                self.through(third)
                self.assertEqual(signing.admin("DELETE", f"/{key.id}").status, 204)
                self.assertEqual(self.code(maker, "SendMessage", key, **send),
                                 "InvalidClientTokenId")


class Losing(ClusterCase):
    """A broker that leads some shards dies: the others go on, with every queue."""

    def test_a_node_dies(self):
        os.environ["MILLRACE_SHARDS"] = str(SHARDS)
        cluster = self.cluster = Cluster(nodes=3)
        self.addCleanup(cluster.close)
        cluster.up()
        names = {shard: place.name_in(shard, SHARDS) for shard in ALL}
        for shard, name in names.items():
            self.assertEqual(cluster.sqs(1, "CreateQueue", QueueName=name)[0], 200)
            self.assertEqual(cluster.sqs(2, "SendMessage", QueueUrl=name, MessageBody=name)[0], 200)
        victim = wait_for("a leader of shard 1",
                          lambda: cluster.get(1, "/status")[1]["shards"][1]["leader"])
        cluster.script("kill", str(victim))
        alive = [node for node in NODES if node != victim]

        def works(node, name):
            status, answer = cluster.sqs(node, "SendMessage", QueueUrl=name, MessageBody="more")
            return status == 200 and answer
        for name in names.values():
            for node in alive:
                wait_for(f"node {node} to take messages of {name}",
                         lambda n=node, q=name: works(n, q))
        for name in names.values():
            found = []
            while len(found) < 3:
                status, answer = cluster.sqs(alive[len(found) % 2], "ReceiveMessage", QueueUrl=name,
                                             WaitTimeSeconds=5)
                self.assertEqual(status, 200, answer)
                found += [message["Body"] for message in answer["Messages"]]
            self.assertEqual(found, [name, "more", "more"])
        status, answer = cluster.sqs(alive[0], "ListQueues")
        self.assertEqual((status, len(answer["QueueUrls"])), (200, SHARDS))


if __name__ == "__main__":
    unittest.main()
