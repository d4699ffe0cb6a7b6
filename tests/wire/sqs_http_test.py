# SPDX-License-Identifier: Apache-2.0
"""SQS beneath HTTP: broken requests, bodies that are too large, clients that go away, pipelining, and
the rules that only a broker with --aws-cooldowns on has."""
import hashlib
import json
import os
import struct
import socket
import threading
import time
import unittest

import sqs_raw
from sqs_raw import call, harness, make_queue

BODY_MAX = 8 << 20


def receive_all(connection):
    data = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def read_response(stream):
    status = int(stream.readline().split()[1])
    headers = {}
    while True:
        line = stream.readline().strip()
        if not line:
            break
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return status, headers, stream.read(int(headers.get(b"content-length", 0)))


class BadBytes(unittest.TestCase):
    def test_malformed_requests_end_the_connection(self):
        for request in (b"\x16\x03\x01\x00\xff", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n",
                        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            with self.subTest(request[:20]), sqs_raw.open_socket() as connection:
                connection.sendall(request)
                answer = receive_all(connection)
                self.assertTrue(answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:80])
        self.assertEqual(call("json", "ListQueues").status, 200)

    def test_a_cut_off_body_changes_nothing(self):
        url = make_queue()
        body = json.dumps({"QueueUrl": url, "MessageBody": "half"}).encode()
        with sqs_raw.open_socket() as connection:
            connection.sendall(sqs_raw.raw_json_head("SendMessage", len(body) + 10) + body)
        self.assertEqual(call("json", "ReceiveMessage",
                              {"QueueUrl": url, "WaitTimeSeconds": 1}).result, {})

    def test_other_paths(self):
        for method, path in (("GET", "/"), ("GET", "/nothing/here"), ("POST", "/abc/def"),
                             ("PUT", "/"), ("POST", "/1/2/3")):
            response = harness.request(sqs_raw.endpoint(), method, path)
            self.assertEqual(response.status, 404, path)
            self.assertIn("message", response.json())


class TooLarge(unittest.TestCase):
    def too_large(self, head):
        """Announce more than the limit, send only a little: the answer must not wait for the rest."""
        with sqs_raw.open_socket() as connection:
            connection.sendall(head + b"x" * 1000)
            stream = connection.makefile("rb")
            return read_response(stream)

    def test_json(self):
        status, headers, body = self.too_large(sqs_raw.raw_json_head("SendMessage", BODY_MAX + 1))
        self.assertEqual(status, 413)
        answer = json.loads(body)
        self.assertEqual(answer["__type"], "com.amazon.coral.service#RequestEntityTooLargeException")
        self.assertEqual(answer["message"], f"The request body is larger than {BODY_MAX} bytes.")
        self.assertEqual(len(headers[b"x-amzn-requestid"]), 36)

    def test_query(self):
        status, _, body = self.too_large(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: %d\r\n\r\n" % (1 << 40))
        self.assertEqual(status, 413)
        self.assertIn(b"<Code>RequestEntityTooLarge</Code>", body)

    def test_chunked(self):
        head = (b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with sqs_raw.open_socket() as connection:
            connection.sendall(head)
            try:
                for _ in range(40):
                    connection.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it stopped reading at the limit, as it should
            answer = receive_all(connection)
        self.assertTrue(answer == b"" or answer.startswith(b"HTTP/1.1 413"), answer[:80])

    def test_the_largest_body_is_read(self):
        body = b"{" + b" " * (BODY_MAX - 2) + b"}"
        self.assertEqual(sqs_raw.json_request("ListQueues", body).status, 200)


class Connections(unittest.TestCase):
    def test_pipelined_requests_are_answered_in_order(self):
        url = make_queue()
        requests = b""
        for i in range(5):
            body = json.dumps({"QueueUrl": url, "MessageBody": f"m{i}"}).encode()
            requests += sqs_raw.raw_json_head("SendMessage", len(body)) + body
        body = json.dumps({"QueueUrl": url, "MaxNumberOfMessages": 10}).encode()
        requests += sqs_raw.raw_json_head("ReceiveMessage", len(body)) + body
        with sqs_raw.open_socket() as connection:
            connection.sendall(requests)
            stream = connection.makefile("rb")
            for _ in range(5):
                status, _, answer = read_response(stream)
                self.assertEqual(status, 200)
                self.assertIn("MessageId", json.loads(answer))
            messages = json.loads(read_response(stream)[2])["Messages"]
        self.assertEqual([m["Body"] for m in messages], [f"m{i}" for i in range(5)])

    @staticmethod
    def send(url, texts):
        """Senders, each with a connection of its own and its request on the way."""
        senders = []
        for text in texts:
            body = json.dumps({"QueueUrl": url, "MessageBody": text}).encode()
            sender = sqs_raw.open_socket()
            sender.sendall(sqs_raw.raw_json_head("SendMessage", len(body)) + body)
            senders.append(sender)
        return senders

    def test_sends_that_come_together_are_told_their_own_digest(self):
        """Some of them have left by then, or are refused."""
        url = make_queue()
        kept = {}
        rounds = 10
        for i in range(rounds):
            texts = [f"{i}-{k}-" + "x" * (k * 211 % 1500) for k in range(30)]
            texts[13] = "\x01"
            for k, sender in enumerate(self.send(url, texts)):
                if k % 3 == 1 and k != 13:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                      struct.pack("ii", 1, 0))
                else:
                    status, _, answer = read_response(sender.makefile("rb"))
                    self.assertEqual(status, 400 if k == 13 else 200)
                    kept[texts[k]] = json.loads(answer).get("MD5OfMessageBody")
                sender.close()
        self.assertIsNone(kept.pop("\x01"))
        for text, md5 in kept.items():
            self.assertEqual(md5, hashlib.md5(text.encode()).hexdigest())
        found = call("json", "GetQueueAttributes", {
            "QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessages"]})
        count = int(found.result["Attributes"]["ApproximateNumberOfMessages"])
        self.assertTrue(len(kept) <= count <= rounds * 29, count)

    def leave(self, url, hard):
        """Begin a long poll, wait until it waits, go away."""
        body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}).encode()
        connection = sqs_raw.open_socket()
        connection.sendall(sqs_raw.raw_json_head("ReceiveMessage", len(body)) + body)
        time.sleep(0.2)
        if hard:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def test_a_client_that_left_takes_no_message(self):
        for hard in (False, True):
            with self.subTest(hard=hard):
                url = make_queue()
                for _ in range(3):
                    self.leave(url, hard)
                time.sleep(0.3)
                call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "mine"})
                answer = call("json", "ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 10,
                                                         "AttributeNames": ["All"]})
                (message,) = answer.result["Messages"]
                self.assertEqual(message["Body"], "mine")
                self.assertEqual(message["Attributes"]["ApproximateReceiveCount"], "1")

    def test_leaving_at_the_moment_of_the_send_loses_nothing(self):
        url = make_queue({"VisibilityTimeout": "30"})
        body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}).encode()
        rounds = 20
        for i in range(rounds):
            connection = sqs_raw.open_socket()
            connection.sendall(sqs_raw.raw_json_head("ReceiveMessage", len(body)) + body)
            time.sleep(0.02)
            send = json.dumps({"QueueUrl": url, "MessageBody": f"m{i}"}).encode()
            sender = sqs_raw.open_socket()
            sender.sendall(sqs_raw.raw_json_head("SendMessage", len(send)) + send)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            self.assertEqual(read_response(sender.makefile("rb"))[0], 200)
            sender.close()
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = call("json", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": names})
        counts = [int(found.result["Attributes"][n]) for n in names]
        self.assertEqual(sum(counts), rounds)  # visible again, or delivered to a dying socket


class Pages(unittest.TestCase):
    def test_health_and_metrics(self):
        endpoint = sqs_raw.endpoint()
        for path in ("/health/live", "/health/ready"):
            self.assertEqual(harness.request(endpoint, "GET", path).status, 200)
        self.assertEqual(harness.request(endpoint, "POST", "/metrics").status, 405)
        url = make_queue()
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        call("json", "SendMessage", {"QueueUrl": url})
        text = harness.request(endpoint, "GET", "/metrics").body.decode()
        name = url.rpartition("/")[2]
        self.assertIn(f'millrace_queue_messages_visible{{queue="{name}"}} 1\n', text)
        self.assertIn('action="SendMessage",code="MissingParameter"}', text)

    def test_status(self):
        url = make_queue()
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        status = harness.status(sqs_raw.endpoint())
        self.assertTrue(status["ready"])
        self.assertEqual(sorted(status), sorted(
            ["version", "node_id", "cluster_id", "ready", "leads", "leader", "leader_endpoint",
             "uptime_s", "feature_level", "program_feature_level", "features", "shard", "shards",
             "workers", "queues", "functions", "mappings"]))
        self.assertEqual(status["feature_level"], status["program_feature_level"])
        (queue,) = [q for q in status["queues"] if q["name"] == url.rpartition("/")[2]]
        self.assertEqual((queue["visible"], queue["in_flight"], queue["delayed"]), (1, 0, 0))
        self.assertGreater(status["shard"]["applied_index"], 0)
        self.assertFalse([q for q in status["queues"] if q["name"].startswith("/")])


@unittest.skipIf(os.environ.get("MILLRACE_ENDPOINT"), "needs a broker of its own")
class Stopping(unittest.TestCase):
    """A broker that is told to stop answers long polls at once instead of cutting them off."""

    def poll(self, broker, answers):
        body = "Action=ReceiveMessage&QueueUrl=q&WaitTimeSeconds=20"
        answers.append(harness.request(broker.endpoint, "POST", "/", body, {
            "Content-Type": "application/x-www-form-urlencoded"}))

    @staticmethod
    def waiting(broker):
        """In all shards."""
        text = harness.request(broker.endpoint, "GET", "/metrics").body.decode()
        return sum(int(line.split()[1]) for line in text.splitlines()
                   if line.startswith("millrace_shard_waiting_receives{"))

    def test_long_polls_are_answered_empty(self):
        broker = harness.Broker(worker=False)
        self.addCleanup(broker.stop)
        harness.request(broker.endpoint, "GET", "/?Action=CreateQueue&QueueName=q")
        answers = []
        polls = [threading.Thread(target=self.poll, args=(broker, answers), daemon=True)
                 for _ in range(5)]
        for thread in polls:
            thread.start()
        harness.wait_for(lambda: self.waiting(broker) == 5, 10)
        self.assertEqual(broker.broker.stop(), 0)
        for thread in polls:
            thread.join(10)
        self.assertEqual([a.status for a in answers], [200] * 5)
        for answer in answers:
            self.assertIn(b"<ReceiveMessageResult></ReceiveMessageResult>", answer.body)


class Cooldowns(unittest.TestCase):
    def call(self, broker, action, parameters):
        return harness.request(broker.endpoint, "POST", "/", json.dumps(parameters).encode(),
                               {"X-Amz-Target": f"AmazonSQS.{action}"})

    def test_on(self):
        broker = harness.Broker(worker=False, broker_arguments=["--aws-cooldowns", "on"])
        self.addCleanup(broker.stop)
        url = self.call(broker, "CreateQueue", {"QueueName": "q"}).json()["QueueUrl"]
        self.assertEqual(self.call(broker, "PurgeQueue", {"QueueUrl": url}).status, 200)
        again = self.call(broker, "PurgeQueue", {"QueueUrl": url})
        self.assertEqual((again.status, again.json()["message"]),
                         (403, "Only one PurgeQueue operation on q is allowed every 60 seconds."))
        self.assertEqual(self.call(broker, "DeleteQueue", {"QueueUrl": url}).status, 200)
        create = self.call(broker, "CreateQueue", {"QueueName": "q"})
        self.assertEqual((create.status, create.json()["__type"]),
                         (400, "com.amazonaws.sqs#QueueDeletedRecently"))

    def test_off(self):
        broker = harness.Broker(worker=False, broker_arguments=["--aws-cooldowns", "off"])
        self.addCleanup(broker.stop)
        url = self.call(broker, "CreateQueue", {"QueueName": "q"}).json()["QueueUrl"]
        for _ in range(2):
            self.assertEqual(self.call(broker, "PurgeQueue", {"QueueUrl": url}).status, 200)
        self.call(broker, "SendMessage", {"QueueUrl": url, "MessageBody": "old"})
        self.assertEqual(self.call(broker, "DeleteQueue", {"QueueUrl": url}).status, 200)
        self.assertEqual(self.call(broker, "CreateQueue", {"QueueName": "q"}).status, 200)
        self.assertEqual(self.call(broker, "ReceiveMessage", {"QueueUrl": url}).json(), {})


if __name__ == "__main__":
    unittest.main()
