# SPDX-License-Identifier: Apache-2.0
"""Every action of SQS that Millrace serves, in both protocols, byte by byte."""
import hashlib
import json
import struct
import threading
import time
import unittest
import urllib.parse

import sqs_raw
from sqs_raw import call, harness, make_queue


def attributes_md5(attributes):
    """By the algorithm of the SQS developer guide, written independently of the broker."""
    digest = hashlib.md5()
    for name in sorted(attributes):
        kind, value = attributes[name]
        for text in (name.encode(), kind.encode()):
            digest.update(struct.pack(">I", len(text)) + text)
        digest.update(b"\2" if kind.startswith("Binary") else b"\1")
        data = value if isinstance(value, bytes) else value.encode()
        digest.update(struct.pack(">I", len(data)) + data)
    return digest.hexdigest()


class Actions(sqs_raw.Calls):
    # ---- queues ----

    def test_create_find_delete(self):
        name = harness.unique("q")
        url = self.ok("CreateQueue", {"QueueName": name, "tags": {"team": "a&b"}})["QueueUrl"]
        self.assertEqual(urllib.parse.urlsplit(url).path, f"/{harness.ACCOUNT}/{name}")
        self.assertEqual(self.ok("GetQueueUrl", {"QueueName": name})["QueueUrl"], url)
        self.assertEqual(self.ok("CreateQueue", {"QueueName": name})["QueueUrl"], url)
        tags = self.ok("ListQueueTags", {"QueueUrl": url})
        self.assertEqual(tags, {"Tags": {"team": "a&b"}})
        self.assertEqual(self.ok("DeleteQueue", {"QueueUrl": url}), {})
        gone = call(self.protocol, "GetQueueUrl", {"QueueName": name})
        self.assertEqual(gone.code, "AWS.SimpleQueueService.NonExistentQueue")

    def test_a_queue_by_any_address(self):
        url = make_queue()
        name = url.rpartition("/")[2]
        for address in (url, name, f"https://sqs.eu-west-1.amazonaws.com/123456789012/{name}",
                        f"http://localhost:1/queue/us-east-1/000000000000/{name}", f"/1/{name}/"):
            self.ok("SendMessage", {"QueueUrl": address, "MessageBody": "x"})
        self.assertEqual(self.counters(url)[0], 5)

    def test_list_with_pages(self):
        prefix = harness.unique("list")
        names = [f"{prefix}-{i}" for i in range(5)]
        urls = [self.ok("CreateQueue", {"QueueName": n})["QueueUrl"] for n in names]
        other = make_queue()
        self.assertEqual(self.ok("ListQueues", {"QueueNamePrefix": prefix})["QueueUrls"], urls)
        self.assertIn(other, self.ok("ListQueues")["QueueUrls"])
        self.assertEqual(self.ok("ListQueues", {"QueueNamePrefix": names[2]})["QueueUrls"],
                         [urls[2]])
        self.assertEqual(self.ok("ListQueues", {"QueueNamePrefix": prefix + "z"}), {})
        found, token, pages = [], None, 0
        while pages == 0 or token:
            page = {"QueueNamePrefix": prefix, "MaxResults": 2}
            if token:
                page["NextToken"] = token
            result = self.ok("ListQueues", page)
            self.assertLessEqual(len(result["QueueUrls"]), 2)
            found += result["QueueUrls"]
            token, pages = result.get("NextToken"), pages + 1
        self.assertEqual((found, pages), (urls, 3))

    def test_attributes(self):
        dead = make_queue()
        arn = harness.queue_arn(dead.rpartition("/")[2])
        policy = json.dumps({"Version": "2012-10-17", "Statement": []})
        given = {"VisibilityTimeout": "0", "DelaySeconds": "900", "MaximumMessageSize": "1024",
                 "MessageRetentionPeriod": "60", "ReceiveMessageWaitTimeSeconds": "20",
                 "Policy": policy, "KmsMasterKeyId": "alias/x",
                 "KmsDataKeyReusePeriodSeconds": "60",
                 "RedriveAllowPolicy": '{"redrivePermission":"allowAll"}',
                 "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn,
                                              "maxReceiveCount": "3"})}
        name = harness.unique("q")
        url = self.ok("CreateQueue", {"QueueName": name, "Attributes": given})["QueueUrl"]
        everything = {"QueueUrl": url, "AttributeNames": ["All"]}
        shown = self.ok("GetQueueAttributes", everything)["Attributes"]
        redrive = json.loads(shown.pop("RedrivePolicy"))
        self.assertEqual(redrive, {"deadLetterTargetArn": arn, "maxReceiveCount": 3})
        for key in given.keys() - {"RedrivePolicy"}:
            self.assertEqual(shown[key], given[key], key)
        self.assertEqual(shown["QueueArn"], harness.queue_arn(name))
        self.assertEqual(shown["SqsManagedSseEnabled"], "false")
        self.assertAlmostEqual(int(shown["CreatedTimestamp"]), time.time(), delta=60)
        self.assertEqual(shown["ApproximateNumberOfMessages"], "0")
        # The same again is the same queue; RedrivePolicy and Policy compare by meaning.
        again = {**given, "Policy": '{"Statement":[],"Version":"2012-10-17"}'}
        self.ok("CreateQueue", {"QueueName": name, "Attributes": again})
        self.ok("SetQueueAttributes", {"QueueUrl": url, "Attributes": {
            "VisibilityTimeout": "43200", "Policy": "", "RedrivePolicy": "",
            "SqsManagedSseEnabled": "true"}})
        shown = self.ok("GetQueueAttributes", everything)["Attributes"]
        self.assertEqual(shown["VisibilityTimeout"], "43200")
        self.assertEqual(shown["DelaySeconds"], "900")
        self.assertEqual(shown["SqsManagedSseEnabled"], "true")
        for key in ("Policy", "RedrivePolicy", "KmsMasterKeyId", "FifoQueue"):
            self.assertNotIn(key, shown)
        self.assertEqual(self.ok("GetQueueAttributes", {"QueueUrl": url}), {})
        one = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
        self.assertEqual(self.ok("GetQueueAttributes", one),
                         {"Attributes": {"QueueArn": harness.queue_arn(name)}})

    def test_default_attributes(self):
        url = make_queue()
        shown = self.ok("GetQueueAttributes",
                        {"QueueUrl": url, "AttributeNames": ["All"]})["Attributes"]
        for key, value in {"VisibilityTimeout": "30", "DelaySeconds": "0",
                           "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600",
                           "ReceiveMessageWaitTimeSeconds": "0",
                           "SqsManagedSseEnabled": "true"}.items():
            self.assertEqual(shown[key], value, key)

    def test_kinds_of_encryption(self):
        url = make_queue()
        keys = ("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")

        def given(*values):
            attributes = {k: v for k, v in zip(keys, values) if v is not None}
            self.ok("SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})
            shown = self.attributes(url, *keys)
            return tuple(shown.get(k) for k in keys)
        self.assertEqual(given("k", "6000", None), ("k", "6000", "false"))
        self.assertEqual(given("", "300", None), (None, None, "false"))
        self.assertEqual(given("k", "6000", None), ("k", "6000", "false"))
        self.assertEqual(given(None, None, "true"), (None, None, "true"))
        self.assertEqual(given("k", None, None), ("k", "300", "false"))

    def test_which_attributes_a_receive_shows(self):
        url = make_queue({"VisibilityTimeout": "0"})
        string = {"DataType": "String", "StringValue": "v"}
        names = {"Help.Me", "Hello", "General", "attr.1\u00f8\u00df\u00e4"}
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "x",
                                "MessageAttributes": {name: string for name in names}})
        for wanted, shown in (([], set()), (["All"], names), (["*"], names), ([".*"], names),
                              (["Foo", "Help"], set()), (["Hello", "General"], {"Hello", "General"}),
                              (["Foo", "Hello"], {"Hello"}), (["Hel.*"], {"Hello", "Help.Me"}),
                              (["AWS."], set()), (["..foo"], set())):
            (message,) = self.receive(url, MessageAttributeNames=wanted)
            self.assertEqual(set(message.get("MessageAttributes", {})), shown, wanted)
        # Both parameters for system attributes: Query looks at the older one only.
        (message,) = self.receive(url, AttributeNames=["SenderId"],
                                  MessageSystemAttributeNames=["SentTimestamp"])
        self.assertEqual(set(message["Attributes"]), {"SenderId"} if self.protocol == "query" else
                         {"SenderId", "SentTimestamp"})

    def test_purge(self):
        url = make_queue()
        for i in range(3):
            self.ok("SendMessage", {"QueueUrl": url, "MessageBody": str(i)})
        self.receive(url)
        self.ok("PurgeQueue", {"QueueUrl": url})
        self.assertEqual(self.counters(url), [0, 0, 0])

    # ---- messages ----

    def test_send_receive_delete(self):
        url = make_queue()
        body = "line\r\nend\t<&\"'> caf\u00e9 \U0001f600"
        sent = self.ok("SendMessage", {"QueueUrl": url, "MessageBody": body})
        self.assertEqual(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())
        self.assertNotIn("MD5OfMessageAttributes", sent)
        (message,) = self.receive(url)
        self.assertEqual(message["Body"], body)
        self.assertEqual(message["MessageId"], sent["MessageId"])
        self.assertEqual(message["MD5OfBody"], sent["MD5OfMessageBody"])
        self.assertNotIn("Attributes", message)
        self.assertEqual(self.receive(url), [])
        self.assertEqual(self.counters(url), [0, 1, 0])
        gone = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
        self.assertEqual(self.ok("DeleteMessage", gone), {})
        self.assertEqual(self.counters(url), [0, 0, 0])
        self.assertEqual(self.ok("DeleteMessage", gone), {})  # already gone is no error

    def test_attributes_of_messages(self):
        url = make_queue()
        attributes = {"b.text": ("String.custom", "v\u00e9"), "a-num": ("Number", "-1.5e3"),
                      "b.bin": ("Binary", b"\0\xff<")}
        wire = {}
        for name, (kind, value) in attributes.items():
            key = "BinaryValue" if isinstance(value, bytes) else "StringValue"
            text = sqs_raw.base64_text(value) if isinstance(value, bytes) else value
            wire[name] = {"DataType": kind, key: text}
        sent = self.ok("SendMessage", {
            "QueueUrl": url, "MessageBody": "x", "MessageAttributes": wire,
            "MessageSystemAttributes": {
                "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2"}}},
            {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/sqs/"
                              "aws4_request, SignedHeaders=host, Signature=00"})
        self.assertEqual(sent["MD5OfMessageAttributes"], attributes_md5(attributes))
        self.assertEqual(sent["MD5OfMessageSystemAttributes"],
                         attributes_md5({"AWSTraceHeader": ("String", "Root=1-2")}))
        wanted = [(["All"], attributes.keys()), ([".*"], attributes.keys()),
                  (["b.*"], ["b.text", "b.bin"]), (["a-num", "none"], ["a-num"]), ([], [])]
        for count, (names, expected) in enumerate(wanted, 1):
            (message,) = self.receive(url, VisibilityTimeout=0, MessageAttributeNames=names,
                                      AttributeNames=["All"])
            self.assertEqual(message.get("MessageAttributes", {}),
                             {name: wire[name] for name in expected})
            if expected:
                self.assertEqual(message["MD5OfMessageAttributes"],
                                 attributes_md5({name: attributes[name] for name in expected}))
            else:
                self.assertNotIn("MD5OfMessageAttributes", message)
            system = message["Attributes"]
            self.assertEqual(system["SenderId"], "AKIDEXAMPLE")
            self.assertEqual(system["AWSTraceHeader"], "Root=1-2")
            self.assertEqual(system["ApproximateReceiveCount"], str(count))
            self.assertAlmostEqual(int(system["SentTimestamp"]) / 1000, time.time(), delta=60)
            self.assertGreaterEqual(int(system["ApproximateFirstReceiveTimestamp"]),
                                    int(system["SentTimestamp"]))
        (message,) = self.receive(url, MessageSystemAttributeNames=["SenderId"])
        self.assertEqual(message["Attributes"], {"SenderId": "AKIDEXAMPLE"})

    def test_batches(self):
        url = make_queue()
        result = self.ok("SendMessageBatch", {"QueueUrl": url, "Entries": [
            {"Id": "good", "MessageBody": "1"},
            {"Id": "late", "MessageBody": "2", "DelaySeconds": 901},
            {"Id": "empty", "MessageBody": ""},
            {"Id": "fine_2", "MessageBody": "3", "MessageAttributes": {
                "a": {"DataType": "String", "StringValue": "v"}}}]})
        self.assertEqual([e["Id"] for e in result["Successful"]], ["good", "fine_2"])
        self.assertEqual(result["Successful"][0]["MD5OfMessageBody"],
                         hashlib.md5(b"1").hexdigest())
        self.assertEqual(result["Successful"][1]["MD5OfMessageAttributes"],
                         attributes_md5({"a": ("String", "v")}))
        self.assertEqual([(e["Id"], e["Code"], e["SenderFault"]) for e in result["Failed"]],
                         [("late", "InvalidParameterValue", True),
                          ("empty", "MissingParameter", True)])
        messages = self.receive(url, MaxNumberOfMessages=10)
        self.assertEqual(sorted(m["Body"] for m in messages), ["1", "3"])
        handles = [m["ReceiptHandle"] for m in messages]
        changed = self.ok("ChangeMessageVisibilityBatch", {"QueueUrl": url, "Entries": [
            {"Id": "a", "ReceiptHandle": handles[0], "VisibilityTimeout": 0},
            {"Id": "b", "ReceiptHandle": "junk", "VisibilityTimeout": 0},
            {"Id": "c", "ReceiptHandle": handles[1], "VisibilityTimeout": 43201}]})
        self.assertEqual(changed["Successful"], [{"Id": "a"}])
        self.assertEqual([(e["Id"], e["Code"]) for e in changed["Failed"]],
                         [("b", "ReceiptHandleIsInvalid"), ("c", "InvalidParameterValue")])
        self.assertEqual(self.counters(url), [1, 1, 0])
        deleted = self.ok("DeleteMessageBatch", {"QueueUrl": url, "Entries": [
            {"Id": "x", "ReceiptHandle": handles[0]}, {"Id": "y", "ReceiptHandle": handles[1]},
            {"Id": "z", "ReceiptHandle": ""}]})
        self.assertEqual(deleted["Successful"], [{"Id": "x"}, {"Id": "y"}])
        self.assertEqual(deleted["Failed"][0]["Code"], "ReceiptHandleIsInvalid")
        self.assertEqual(self.counters(url), [0, 0, 0])
        ten = [{"Id": str(i), "MessageBody": f"body {i}"} for i in range(10)]
        result = self.ok("SendMessageBatch", {"QueueUrl": url, "Entries": ten})
        self.assertEqual(len(result["Successful"]), 10)
        self.assertNotIn("Failed", result)
        self.assertEqual(len({e["MessageId"] for e in result["Successful"]}), 10)

    def test_visibility(self):
        url = make_queue()
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        (first,) = self.receive(url)
        self.ok("ChangeMessageVisibility", {"QueueUrl": url, "VisibilityTimeout": 0,
                                            "ReceiptHandle": first["ReceiptHandle"]})
        (second,) = self.receive(url)
        self.assertEqual(second["MessageId"], first["MessageId"])
        self.assertNotEqual(second["ReceiptHandle"], first["ReceiptHandle"])
        self.ok("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": first["ReceiptHandle"]})
        self.assertEqual(self.counters(url), [0, 0, 0])

    def test_delay(self):
        url = make_queue({"DelaySeconds": "1"})
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "later"})
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "now", "DelaySeconds": 0})
        self.assertEqual([m["Body"] for m in self.receive(url, MaxNumberOfMessages=10)], ["now"])
        self.assertEqual(self.counters(url), [0, 1, 1])
        (message,) = self.receive(url, WaitTimeSeconds=20)
        self.assertEqual(message["Body"], "later")

    def test_dead_letter_queue(self):
        dead = make_queue()
        arn = harness.queue_arn(dead.rpartition("/")[2])
        url = make_queue({"RedrivePolicy": json.dumps(
            {"deadLetterTargetArn": arn, "maxReceiveCount": 2})})
        sent = self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "poison"})
        for _ in range(2):
            self.assertEqual(len(self.receive(url, VisibilityTimeout=0)), 1)
        self.assertEqual(self.receive(url), [])
        (message,) = self.receive(dead, AttributeNames=["ApproximateReceiveCount"],
                                  WaitTimeSeconds=10)  # it may come from another shard
        self.assertEqual((message["MessageId"], message["Body"]), (sent["MessageId"], "poison"))
        self.assertEqual(message["Attributes"]["ApproximateReceiveCount"], "3")

    def test_largest_message(self):
        url = make_queue()
        body = "<" * 1048576  # six times as long in a form or in XML
        sent = self.ok("SendMessage", {"QueueUrl": url, "MessageBody": body})
        (message,) = self.receive(url)
        self.assertEqual(message["Body"], body)
        self.assertEqual(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())

    def test_an_answer_is_bounded(self):
        url = make_queue()
        for i in range(6):
            self.ok("SendMessage", {"QueueUrl": url, "MessageBody": str(i) + "x" * 1048000})
        first = self.receive(url, MaxNumberOfMessages=10)
        self.assertEqual([m["Body"][0] for m in first], ["0", "1", "2", "3"][:len(first)])
        self.assertIn(len(first), (3, 4))
        rest = self.receive(url, MaxNumberOfMessages=10)
        self.assertEqual(len(first) + len(rest), 6)

    # ---- long polls ----

    def test_long_poll_wakes_up(self):
        url = make_queue()
        got = []
        poll = threading.Thread(
            target=lambda: got.extend(self.receive(url, WaitTimeSeconds=20)), daemon=True)
        poll.start()
        time.sleep(0.3)
        self.assertTrue(poll.is_alive())
        begun = time.monotonic()
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "wake"})
        poll.join(15)
        self.assertFalse(poll.is_alive())
        self.assertLess(time.monotonic() - begun, 15)  # not by the end of the wait
        self.assertEqual([m["Body"] for m in got], ["wake"])

    def test_long_poll_wakes_up_for_a_returned_message(self):
        url = make_queue()
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "back"})
        (message,) = self.receive(url)
        got = []
        poll = threading.Thread(
            target=lambda: got.extend(self.receive(url, WaitTimeSeconds=20)), daemon=True)
        poll.start()
        time.sleep(0.3)
        self.ok("ChangeMessageVisibility", {"QueueUrl": url, "VisibilityTimeout": 0,
                                            "ReceiptHandle": message["ReceiptHandle"]})
        poll.join(15)
        self.assertEqual([m["Body"] for m in got], ["back"])

    def test_long_poll_wakes_up_when_a_delay_or_a_timeout_ends(self):
        url = make_queue()
        begun = time.monotonic()
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "later", "DelaySeconds": 1})
        (first,) = self.receive(url, WaitTimeSeconds=20, VisibilityTimeout=1)
        (again,) = self.receive(url, WaitTimeSeconds=20)
        self.assertEqual((first["Body"], again["Body"]), ("later", "later"))
        self.assertGreaterEqual(time.monotonic() - begun, 1.95)
        self.assertLess(time.monotonic() - begun, 20)  # not by the end of a wait

    def test_long_poll_by_the_queues_default(self):
        url = make_queue({"ReceiveMessageWaitTimeSeconds": "1"})
        begun = time.monotonic()
        self.assertEqual(self.receive(url), [])
        self.assertGreaterEqual(time.monotonic() - begun, 0.95)  # never early
        begun = time.monotonic()
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])


class JsonActions(Actions, unittest.TestCase):
    protocol = "json"

    def test_void_and_empty_bodies(self):
        url = make_queue()
        empty = sqs_raw.json_request("ReceiveMessage", json.dumps({"QueueUrl": url}))
        self.assertEqual((empty.status, empty.body), (200, b"{}"))
        void = sqs_raw.json_request("PurgeQueue", json.dumps({"QueueUrl": url}))
        self.assertEqual((void.status, void.body), (200, b""))
        self.assertEqual(sqs_raw.json_request("ListQueues", b"").status, 200)


class QueryActions(Actions, unittest.TestCase):
    protocol = "query"

    def test_the_queues_own_path(self):
        path = urllib.parse.urlsplit(make_queue()).path
        sent = sqs_raw.form_request("Action=SendMessage&MessageBody=a+b%2Bc", path)
        self.assertEqual(sent.status, 200, sent.body)
        got = sqs_raw.form_request(None, path + "?Action=ReceiveMessage", "GET")
        self.assertIn(b"<Body>a b+c</Body>", got.body)
        name = path.rpartition("/")[2]
        found = sqs_raw.form_request(None, f"/?Action=GetQueueUrl&QueueName={name}", "GET")
        self.assertIn(f"{path}</QueueUrl>".encode(), found.body)

    def test_a_carriage_return_survives_xml(self):
        url = make_queue()
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "a\r\nb\rc"})
        body = urllib.parse.urlencode({"Action": "ReceiveMessage", "QueueUrl": url})
        self.assertIn(b"<Body>a&#13;\nb&#13;c</Body>", sqs_raw.form_request(body).body)


if __name__ == "__main__":
    unittest.main()
