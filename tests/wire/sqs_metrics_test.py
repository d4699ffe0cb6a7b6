# SPDX-License-Identifier: Apache-2.0
"""/metrics: that Prometheus can read all of it, and that the counts of a queue are what was done."""
import json
import re
import socket
import time
import unittest
import urllib.parse

import sqs_raw
from sqs_raw import call, harness, make_queue

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{[^}]*\})? (?P<value>\S+)')
LABELS = re.compile(r'\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,|(?=\})))*\}')
UNITS = ("seconds", "bytes", "total")


def scrape(endpoint=None):
    """{name with labels: value} after a look at the form of every line (the text format, and the
    naming rules that promtool checks)."""
    response = harness.request(endpoint or sqs_raw.endpoint(), "GET", "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.body.decode()
    assert text.endswith("\n")
    values, types, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, current, text_of_help = line.split(" ", 3)
            assert NAME.fullmatch(current) and current not in types, line
            assert text_of_help.endswith("."), line
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and kind in ("counter", "gauge", "summary"), line
            assert (kind == "counter") == name.endswith("_total"), line
            types[name] = kind
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample["labels"] is None or LABELS.fullmatch(sample["labels"]), line
            name = sample["name"]
            if types[current] == "summary":
                assert name in (current + "_sum", current + "_count"), line
            else:
                assert name == current, line
            key = name + (sample["labels"] or "")
            assert key not in values, f"twice: {key}"
            values[key] = float(sample["value"])
            assert values[key] >= 0, line
    return values


def of_queue(name, values):
    """The metrics of one queue, by their short names."""
    label = f'{{queue="{name}"}}'
    return {key[len("millrace_queue_"):-len(label)]: value for key, value in values.items()
            if key.endswith(label) and key.startswith("millrace_queue_")}


class Counts(unittest.TestCase):
    def metrics(self, url):
        return of_queue(url.rpartition("/")[2], scrape())

    def test_a_life_of_messages(self):
        url = make_queue()
        self.assertEqual(set(self.metrics(url).values()), {0})
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "abc"})
        call("query", "SendMessage", {"QueueUrl": url, "MessageBody": "x" * 7, "MessageAttributes": {
            "name": {"DataType": "String", "StringValue": "12"}}})  # 7 + 4 + 6 + 2 bytes
        call("json", "SendMessageBatch", {"QueueUrl": url, "Entries": [
            {"Id": "a", "MessageBody": "four"}, {"Id": "b", "MessageBody": "later", "DelaySeconds": 900},
            {"Id": "c", "MessageBody": "bad\ufffe"}]})
        call("json", "SendMessage", {"QueueUrl": url})  # refused: not counted
        received = call("json", "ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 2})
        messages = received.result["Messages"]
        call("json", "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": messages[0]["ReceiptHandle"]})
        self.assertEqual(self.metrics(url), {
            "messages_visible": 3 - len(messages), "messages_in_flight": len(messages) - 1,
            "messages_delayed": 1, "oldest_message_age_seconds": 0, "messages_sent_total": 4,
            "messages_received_total": len(messages), "messages_deleted_total": 1,
            "empty_receives_total": 0, "sent_message_size_bytes_sum": 3 + 19 + 4 + 5,
            "sent_message_size_bytes_count": 4})
        time.sleep(1.1)
        self.assertGreaterEqual(self.metrics(url)["oldest_message_age_seconds"], 1)

    def test_empty_receives(self):
        url = make_queue()
        for wait in (0, 1, 0):
            call("json", "ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": wait})
        self.assertEqual(self.metrics(url)["empty_receives_total"], 3)
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        call("json", "ReceiveMessage", {"QueueUrl": url})
        call("json", "ReceiveMessage", {"QueueUrl": url})  # the one there is, is in flight
        call("json", "ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 99})  # refused
        self.assertEqual(self.metrics(url)["empty_receives_total"], 4)

    def test_what_was_sent_before_counts_once(self):
        url = make_queue({"FifoQueue": "true"}, suffix=".fifo")
        for _ in range(3):
            call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "once", "MessageGroupId": "g",
                                         "MessageDeduplicationId": "d"})
        metrics = self.metrics(url)
        self.assertEqual((metrics["messages_sent_total"], metrics["sent_message_size_bytes_count"],
                          metrics["sent_message_size_bytes_sum"]), (1, 1, 4))

    def test_requests(self):
        call("json", "SendMessage", {"QueueUrl": make_queue()})
        key = '{family="sqs",action="SendMessage",code="MissingParameter"}'
        values = scrape()
        self.assertGreaterEqual(values["millrace_api_requests_total" + key], 1)
        self.assertGreater(values["millrace_api_request_seconds_total" + key], 0)
        self.assertGreaterEqual(values["millrace_queues"], 1)
        self.assertEqual(values["millrace_metrics_queues_left_out"], 0)


def of_function(name, values):
    label = f'{{function="{name}"}}'
    return {key[len("millrace_function_"):-len(label)]: value for key, value in values.items()
            if key.endswith(label)}


class Functions(unittest.TestCase):
    """Without a worker: an invocation waits for an environment until its client goes."""

    def make(self, broker, name):
        code = harness.zip_base64({"app.py": "def handler(event, context):\n    return event\n"})
        answer = harness.request(broker.endpoint, "POST", "/2015-03-31/functions", json.dumps({
            "FunctionName": name, "Runtime": "python3.11", "Role": harness.ROLE,
            "Handler": "app.handler", "Code": {"ZipFile": code}}))
        self.assertEqual(answer.status, 201, answer.body)

    def test_each_has_its_own(self):
        broker = harness.Broker(worker=False)
        self.addCleanup(broker.stop)
        for name in ("first", "second", "third"):
            self.make(broker, name)
        address = urllib.parse.urlsplit(broker.endpoint)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"POST /2015-03-31/functions/second/invocations HTTP/1.1\r\nHost: h\r\n"
                           b"Content-Length: 2\r\n\r\n{}")
            harness.wait_for(lambda: of_function("second", scrape(broker.endpoint))["waiting"] == 1, 20)
            values = scrape(broker.endpoint)
            self.assertEqual(of_function("second", values), {
                "running": 0, "waiting": 1, "invocations_total": 0, "errors_total": 0,
                "timeouts_total": 0, "throttles_total": 0, "cold_starts_total": 0,
                "duration_seconds_total": 0, "billed_gb_seconds_total": 0})
            for name in ("first", "third"):
                self.assertEqual(len(of_function(name, values)), 9)
                self.assertEqual(set(of_function(name, values).values()), {0})


class ManyQueues(unittest.TestCase):
    def test_the_number_shown_is_bounded(self):
        broker = harness.Broker(worker=False, broker_arguments=["--metrics-queues-max", "3"])
        self.addCleanup(broker.stop)
        for i in range(5):
            harness.request(broker.endpoint, "POST", "/", json.dumps({"QueueName": f"q{i}"}).encode(),
                            {"X-Amz-Target": "AmazonSQS.CreateQueue"})
        values = scrape(broker.endpoint)
        self.assertEqual([len(of_queue(f"q{i}", values)) > 0 for i in range(5)],
                         [True, True, True, False, False])
        self.assertEqual((values["millrace_queues"], values["millrace_metrics_queues_left_out"]), (5, 2))


if __name__ == "__main__":
    unittest.main()
