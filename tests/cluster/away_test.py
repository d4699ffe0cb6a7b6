#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Queues whose shards are on some of the brokers only: every broker answers for all of them, and what
fails between it and one that has them costs no message."""
import collections
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "wire"), os.path.join(HERE, "..", "clients"), HERE]
import place  # noqa: E402
import signing  # noqa: E402
import sqs_auth_policies_test as policies  # noqa: E402
from cluster import BIN, Cluster, ClusterCase, wait_for  # noqa: E402

NODES = (1, 2, 3)
SHARDS = 4
ALL = range(1, SHARDS + 1)
WIRE = os.path.join(HERE, "..", "wire")


def arn(name):
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def shards_of(cluster, node):
    """{shard: its nodes}, and those that are on this node; the catalog is not among them."""
    status, about = cluster.get(node, "/status")
    shards = about["shards"][1:] if status == 200 else []
    return ({shard["id"]: shard["replicas"] for shard in shards},
            {shard["id"] for shard in shards if shard["here"]})


def placed(cluster, count, nodes=NODES):
    """Wait until every node has what it is to have; {shard: its nodes}."""
    def settled():
        lists = None
        for node in nodes:
            lists, here = shards_of(cluster, node)
            if len(lists) < count or {s for s, on in lists.items() if node in on} != here:
                return None
        return lists
    return wait_for("the shards to be where they are to be", settled)


class Case(ClusterCase):
    def ask(self, node, action, **members):
        status, answer = self.cluster.sqs(node, action, **members)
        self.assertEqual(status, 200, (node, action, members, answer))
        return answer

    def bodies(self, node, name, **more):
        answer = self.ask(node, "ReceiveMessage", QueueUrl=name, MaxNumberOfMessages=10, **more)
        return [message["Body"] for message in answer.get("Messages", [])]


class Queues(Case):
    """One replica of each of four shards, on three brokers: none has them all."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3, broker_args=("--shards", str(SHARDS), "--replicas", "1"))
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()
        cls.lists = placed(cls.cluster, SHARDS)

    def lacking(self, shard):
        return next(node for node in NODES if node not in self.lists[shard])

    def test_what_one_has_answered_the_others_know(self):
        for shard in ALL:
            for first in range(3):
                name = place.name_in(shard, SHARDS)
                maker, other, third = (NODES[(first + i) % 3] for i in range(3))
                self.ask(maker, "CreateQueue", QueueName=name)
                self.ask(other, "SetQueueAttributes", QueueUrl=name,
                         Attributes={"VisibilityTimeout": "77"})
                told = self.ask(third, "GetQueueAttributes", QueueUrl=name,
                                AttributeNames=["VisibilityTimeout"])
                self.assertEqual(told["Attributes"], {"VisibilityTimeout": "77"})
                self.ask(third, "SendMessage", QueueUrl=name, MessageBody=name)
                (message,) = self.ask(other, "ReceiveMessage", QueueUrl=name)["Messages"]
                self.assertEqual(message["Body"], name)
                self.ask(maker, "DeleteMessage", QueueUrl=name,
                         ReceiptHandle=message["ReceiptHandle"])
                self.ask(other, "DeleteQueue", QueueUrl=name)
                self.assertEqual(self.cluster.sqs(third, "GetQueueUrl", QueueName=name)[0], 400)

    def test_lists_are_of_all_shards(self):
        made = sorted(place.name_in(shard, SHARDS, "list") for shard in ALL for _ in range(6))
        for i, name in enumerate(made):
            self.ask(NODES[i % 3], "CreateQueue", QueueName=name)
        for node in NODES:
            found, token = [], {}
            while token is not None:
                page = self.ask(node, "ListQueues", QueueNamePrefix="list", MaxResults=7, **token)
                found += [url.rpartition("/")[2] for url in page.get("QueueUrls", [])]
                token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
            self.assertEqual(found, made, node)
            shown = self.cluster.get(node, "/status")[1]["queues"]
            self.assertLessEqual(set(made), {queue["name"] for queue in shown}, node)
            self.assertEqual({queue["shard"] for queue in shown}, set(ALL))

    def test_dead_letters_of_another_shard(self):
        for shard in (1, 2):
            dead = place.name_in(shard, SHARDS, "dead")
            source = place.name_in(shard % SHARDS + 1, SHARDS, "source")
            self.ask(1, "CreateQueue", QueueName=dead)
            policy = json.dumps({"deadLetterTargetArn": arn(dead), "maxReceiveCount": 1})
            self.ask(2, "CreateQueue", QueueName=source, Attributes={"RedrivePolicy": policy})
            for node in NODES:
                found = self.ask(node, "ListDeadLetterSourceQueues", QueueUrl=dead)["queueUrls"]
                self.assertEqual([url.rpartition("/")[2] for url in found], [source])
                self.ask(node, "SendMessage", QueueUrl=source, MessageBody=str(node))
                self.assertEqual(self.bodies(node, source, VisibilityTimeout=0), [str(node)])
                self.assertEqual(self.bodies(node, source), [])  # it goes
                (message,) = self.ask(node, "ReceiveMessage", QueueUrl=dead, WaitTimeSeconds=20,
                                      VisibilityTimeout=0, timeout=30,
                                      MessageSystemAttributeNames=["All"])["Messages"]
                self.assertEqual(message["Body"], str(node))
                self.assertEqual(message["Attributes"]["DeadLetterQueueSourceArn"], arn(source))
                self.ask(node, "StartMessageMoveTask", SourceArn=arn(dead))
                (message,) = self.ask(node, "ReceiveMessage", QueueUrl=source, WaitTimeSeconds=20,
                                      timeout=30)["Messages"]
                self.assertEqual(message["Body"], str(node))
                self.ask(node, "DeleteMessage", QueueUrl=source,
                         ReceiptHandle=message["ReceiptHandle"])
                wait_for("the move to end", lambda n=node, d=dead: self.ask(
                    n, "ListMessageMoveTasks", SourceArn=arn(d))["Results"][0]["Status"] == "COMPLETED")

    def test_a_waiting_receive_is_served_through_any_node(self):
        name = place.name_in(1, SHARDS, "wait")
        self.ask(1, "CreateQueue", QueueName=name)
        got = {}

        def poll(node):
            got[node] = self.bodies(node, name, WaitTimeSeconds=20, timeout=40)
        polls = [threading.Thread(target=poll, args=(node,)) for node in NODES]
        for thread in polls:
            thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
        for node in NODES:
            self.ask(node, "SendMessage", QueueUrl=name, MessageBody=str(node))
        for thread in polls:
            thread.join()
        self.assertLess(time.monotonic() - begun, 10)  # and not when the waits are over
        self.assertEqual(sorted(sum(got.values(), [])), ["1", "2", "3"])

    def leave(self, node, name, after_s):
        """A receive whose client goes away; the body that it has been handed all the same, or None.
        It ends its half of the connection only, which is all that the broker sees of one that has gone
        until it answers, and so it knows what was on its way to it."""
        body = json.dumps({"QueueUrl": name, "WaitTimeSeconds": 20, "VisibilityTimeout": 600})
        with socket.create_connection(("127.0.0.1", self.cluster.port + 10 * (node - 1)),
                                      timeout=15) as client:
            client.sendall(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
                           "Content-Type: application/x-amz-json-1.0\r\n"
                           f"X-Amz-Target: AmazonSQS.ReceiveMessage\r\n\r\n{body}".encode())
            time.sleep(after_s)
            client.shutdown(socket.SHUT_WR)
            taken = re.search(rb'"Body":"([^"]*)"', b"".join(iter(lambda: client.recv(65536), b"")))
        return taken and taken.group(1).decode()

    def test_a_client_that_leaves_takes_nothing_along(self):
        name = place.name_in(1, SHARDS, "leave")
        node = self.lacking(1)
        self.ask(1, "CreateQueue", QueueName=name)
        self.leave(node, name, 0.3)
        time.sleep(0.3)
        self.ask(2, "SendMessage", QueueUrl=name, MessageBody="here")
        self.assertEqual(self.bodies(node, name, VisibilityTimeout=0), ["here"])

    def test_clients_that_leave_while_they_are_served(self):
        """Some leave before the messages are leased, some when they are on their way: what no client
        was handed must not stay leased for the ten minutes that were asked for."""
        name = place.name_in(1, SHARDS, "race")
        node = self.lacking(1)
        self.ask(1, "CreateQueue", QueueName=name)
        sent, found = set(), set()
        for number in range(60):
            leaver = threading.Thread(target=lambda n=number: found.add(
                self.leave(node, name, 0.005 + n * 0.0003)))
            leaver.start()
            time.sleep(0.01)
            self.ask(2, "SendMessage", QueueUrl=name, MessageBody=str(number))
            sent.add(str(number))
            leaver.join()

        def drain():
            found.update(self.bodies(node, name, VisibilityTimeout=60))
            return sent <= found
        wait_for(lambda: f"what was leased for those who left: {sent - found}", drain)

    def test_large_messages_at_once(self):
        name = place.name_in(2, SHARDS, "large")
        node = self.lacking(2)
        self.ask(1, "CreateQueue", QueueName=name)
        bodies = {str(i) * (1 << 20) for i in range(10)} | {"\u20ac" * 349525}

        def send(body):
            wait_for("a send", lambda: self.cluster.sqs(  # again, if brokers lost touch meanwhile
                node, "SendMessage", QueueUrl=name, MessageBody=body, timeout=60)[0] == 200)
        calls = [threading.Thread(target=send, args=(body,)) for body in bodies]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        found = set()
        wait_for("all of them", lambda: found.update(self.bodies(
            node, name, WaitTimeSeconds=5, timeout=60)) or len(found) >= len(bodies))
        self.assertTrue(found == bodies, [body[:1] for body in found])

    def test_the_native_protocol(self):
        """Through the broker that has the fewest; nothing is lost, and each body is what was sent."""
        here = {node: len(shards_of(self.cluster, node)[1]) for node in NODES}
        node = min(here, key=here.get)
        for more in ([], ["--fifo", "--groups", "4"], ["--batch", "10"]):
            done = subprocess.run(
                [os.path.join(BIN, "millrace"), "bench", "--mode", "cycle", "--queues", "8",
                 "--messages", "2000", "--inflight", "64", "--json", "--brokers",
                 f"127.0.0.1:{self.cluster.port + 10 * (node - 1) + 1}", *more],
                capture_output=True, text=True, check=False, timeout=120)
            self.assertEqual(done.returncode, 0, (more, done.stdout, done.stderr))

    def test_a_node_that_stops_lets_go_of_the_waiting(self):
        """The only broker that has the shard stops and comes back: the receive that waits through
        another one goes on waiting, and is served."""
        name = place.name_in(3, SHARDS, "stop")
        owner = self.lists[3][0]
        node = self.lacking(3)
        self.ask(node, "CreateQueue", QueueName=name)
        got = []
        poll = threading.Thread(target=lambda: got.extend(
            self.bodies(node, name, WaitTimeSeconds=20, timeout=40)))
        poll.start()
        time.sleep(0.3)
        self.cluster.script("restart", str(owner))
        wait_for("the broker", lambda: self.cluster.get(owner, "/health/ready")[0] == 200)
        wait_for("a send", lambda: self.cluster.sqs(
            node, "SendMessage", QueueUrl=name, MessageBody="late")[0] == 200)
        poll.join()
        self.assertEqual(got, ["late"])

    def go_on(self, node, queue, through):
        self.cluster.script("resume", str(node))
        wait_for("its queue", lambda: self.cluster.sqs(through, "GetQueueUrl", QueueName=queue)[0] == 200)
        wait_for("the broker", lambda: self.cluster.get(node, "/health/ready")[0] == 200)

    def test_a_silent_broker_holds_up_nothing_else(self):
        """The only broker of a shard says nothing. While a call waits for it, pages and calls about other
        queues are answered: the one about the cluster asks nobody, the status does not wait for long."""
        node = self.lacking(1)
        own = next(shard for shard in ALL if self.lists[shard] == [node])
        far, near = place.name_in(1, SHARDS, "far"), place.name_in(own, SHARDS, "near")
        for name in (far, near):
            self.ask(node, "CreateQueue", QueueName=name)
        silent = self.lists[1][0]
        self.cluster.script("pause", str(silent))
        ended = []
        waiting = threading.Thread(target=lambda: ended.append(self.cluster.sqs(
            node, "GetQueueAttributes", timeout=60, QueueUrl=far, AttributeNames=["All"])[0]))
        waiting.start()
        self.addCleanup(waiting.join)
        self.addCleanup(self.go_on, silent, far, node)
        time.sleep(0.3)  # it is there before all others
        for path in ("/admin/cluster", "/status", "/admin/cluster"):
            status, about = self.cluster.get(node, path, timeout=60)
            self.assertEqual(status, 200, path)
            shards = about["Shards" if path == "/admin/cluster" else "shards"]
            self.assertEqual(len(shards), SHARDS + 1)
            self.ask(node, "SendMessage", QueueUrl=near, MessageBody=path, timeout=60)
        self.assertEqual(ended, [])

    def test_the_wire_is_the_same(self):
        """To the byte, as of a broker that has everything."""
        node = self.lacking(1)
        address = f"http://127.0.0.1:{self.cluster.port + 10 * (node - 1)}"
        done = subprocess.run(
            [sys.executable, os.path.join(WIRE, "sqs_transcripts_test.py"), "Post"],
            env=dict(os.environ, MILLRACE_ENDPOINT=address), capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])


class Keys(policies.OfKeys):
    """Keys are known on every broker; what they may do to a queue is decided where the queue is."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3, broker_args=(
            "--shards", "2", "--replicas", "1", "--auth", "required", "--aws-cooldowns", "off",
            "--root-access-key-id", signing.ROOT_ID,
            "--root-secret-access-key", signing.ROOT_SECRET))
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()
        lists = placed(cls.cluster, 2)
        node = next(n for n in NODES if not any(n in on for on in lists.values()))
        before = signing.use(types.SimpleNamespace(
            endpoint=f"http://127.0.0.1:{cls.cluster.port + 10 * (node - 1)}"))
        cls.addClassCleanup(signing.use, before)
        wait_for("the root key", lambda: signing.json_call("ListQueues", {}).status == 200)


class Policies(policies.OfQueues):
    setUpClass = Keys.__dict__["setUpClass"]


class Losing(Case):
    """Five brokers, three replicas of one shard; one of those that have it is killed while messages are
    sent through the two that do not."""

    def setUp(self):
        self.cluster = Cluster(5, broker_args=("--shards", "1", "--replicas", "3"))
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        nodes = range(1, 6)
        self.replicas = placed(self.cluster, 1, nodes)[1]
        self.assertEqual(len(self.replicas), 3)
        self.away = [node for node in nodes if node not in self.replicas]
        self.leader = wait_for("the one to lead that is to", lambda: {
            self.cluster.get(n, "/status")[1]["shards"][1]["leader"] for n in self.replicas
        } == {self.replicas[0]} and self.replicas[0])

    def send_while_dies(self, name, victim, **more):
        """[(body, status, answer)] of what was sent before and after."""
        sending, answers = True, []

        def send(node, number):
            while sending:
                number += 10
                body = str(number)
                answers.append((body, *self.cluster.sqs(
                    node, "SendMessage", timeout=30, QueueUrl=name, MessageBody=body,
                    **{key: value % number for key, value in more.items()})))
        senders = [threading.Thread(target=send, args=(self.away[i % 2], i)) for i in range(4)]
        for sender in senders:
            sender.start()
        time.sleep(1)
        before = len(answers)
        self.cluster.script("kill", str(victim))
        wait_for("sends after that", lambda: len(answers) > before + 100)
        sending = False
        for sender in senders:
            sender.join()
        return answers

    def stored(self, name, **more):
        found = collections.Counter()
        while True:
            got = self.ask(self.away[0], "ReceiveMessage", QueueUrl=name, WaitTimeSeconds=1,
                           VisibilityTimeout=600, MaxNumberOfMessages=10, **more).get("Messages")
            if not got:
                return found
            found.update(message["Body"] for message in got)
            self.ask(self.away[1], "DeleteMessageBatch", QueueUrl=name, Entries=[
                {"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(got)])

    def test_the_leader_dies(self):
        """A follower carries on: nobody is told of an error, and nothing is stored twice."""
        self.ask(1, "CreateQueue", QueueName="q")
        answers = self.send_while_dies("q", self.leader)
        self.assertEqual([a for a in answers if a[1] != 200], [])
        self.assertEqual(self.stored("q"), collections.Counter(a[0] for a in answers))

    def test_the_one_that_is_asked_dies(self):
        """What a FIFO queue was sent is sent again, and stored once; of what another was sent nobody
        knows, and who sent it is told so."""
        asked = next(n for n in self.replicas[1:] if n != self.leader)
        self.ask(1, "CreateQueue", QueueName="q.fifo", Attributes={"FifoQueue": "true"})
        answers = self.send_while_dies("q.fifo", asked, MessageGroupId="%d",
                                       MessageDeduplicationId="%d")
        self.assertEqual([a for a in answers if a[1] != 200], [])
        self.assertEqual(self.stored("q.fifo"), collections.Counter(a[0] for a in answers))
        self.cluster.script("restart", str(asked))
        wait_for("it to be back", lambda: self.cluster.get(asked, "/health/ready")[0] == 200)
        self.ask(1, "CreateQueue", QueueName="q")
        answers = self.send_while_dies("q", asked)
        sure = collections.Counter(a[0] for a in answers if a[1] == 200)
        self.assertEqual({a[1] for a in answers} - {200}, {503} if len(sure) < len(answers) else set())
        self.assertLess(len(answers) - len(sure), 5)  # those that were under way
        stored = self.stored("q")
        self.assertEqual(sure - stored, collections.Counter())
        self.assertEqual(set(stored.values()), {1})


if __name__ == "__main__":
    unittest.main()
