#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""SQS with boto3: a user's days with a queue."""
import hashlib
import json
import time
import unittest

from botocore.exceptions import ClientError

import harness
from harness import queue_arn, unique


class Queues(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sqs = harness.boto("sqs")

    def queue(self, **attributes):
        name = unique("q") + (".fifo" if "FifoQueue" in attributes else "")
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.addCleanup(self.delete_quietly, url)
        return name, url

    def delete_quietly(self, url):
        try:
            self.sqs.delete_queue(QueueUrl=url)
        except ClientError:
            pass

    def receive(self, url, **options):
        options = {"WaitTimeSeconds": 5, "MaxNumberOfMessages": 10, **options}
        return self.sqs.receive_message(QueueUrl=url, **options).get("Messages", [])

    def count(self, url):
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return tuple(int(found["ApproximateNumberOfMessages" + part])
                     for part in ("", "NotVisible", "Delayed"))

    def test_send_receive_delete(self):
        _, url = self.queue()
        body = "Grüße, 世界 & <tags> \"quoted\" \t\n"
        sent = self.sqs.send_message(
            QueueUrl=url, MessageBody=body,
            MessageAttributes={"kind": {"DataType": "String", "StringValue": "ü"},
                               "n": {"DataType": "Number.int", "StringValue": "42"},
                               "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}})
        self.assertEqual(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())
        got, = self.receive(url, AttributeNames=["All"], MessageAttributeNames=["All"])
        self.assertEqual((got["Body"], got["MessageId"]), (body, sent["MessageId"]))
        self.assertEqual(got["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"])
        self.assertEqual(got["MessageAttributes"]["raw"]["BinaryValue"], b"\x00\xff")
        self.assertEqual(got["MessageAttributes"]["n"]["DataType"], "Number.int")
        self.assertEqual(got["Attributes"]["ApproximateReceiveCount"], "1")
        self.assertEqual(self.count(url), (0, 1, 0))
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
        self.assertEqual(self.count(url), (0, 0, 0))

    def test_fifo(self):
        _, url = self.queue(FifoQueue="true", ContentBasedDeduplication="true")
        sent = [self.sqs.send_message(QueueUrl=url, MessageBody=f"{group}{n}", MessageGroupId=group)
                for n in range(3) for group in "ab"]
        again = self.sqs.send_message(QueueUrl=url, MessageBody="a0", MessageGroupId="a")
        self.assertEqual(again["MessageId"], sent[0]["MessageId"])
        numbers = [s["SequenceNumber"] for s in sent]
        self.assertEqual(numbers, sorted(set(numbers)))
        seen = {"a": [], "b": []}
        while len(seen["a"]) + len(seen["b"]) < 6:
            for got in self.receive(url, MaxNumberOfMessages=2, AttributeNames=["All"]):
                seen[got["Attributes"]["MessageGroupId"]].append(got["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
        self.assertEqual(seen, {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]})
        with self.assertRaises(ClientError) as caught:
            self.sqs.send_message(QueueUrl=url, MessageBody="no group")
        self.assertEqual(caught.exception.response["Error"]["Code"], "MissingParameter")

    def test_tags_and_permissions(self):
        _, url = self.queue()
        self.sqs.tag_queue(QueueUrl=url, Tags={"team": "ü", "x": "1"})
        self.sqs.untag_queue(QueueUrl=url, TagKeys=["x"])
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=url)["Tags"], {"team": "ü"})
        self.sqs.add_permission(QueueUrl=url, Label="l", AWSAccountIds=["123456789012"],
                                Actions=["SendMessage"])
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
        statement, = json.loads(found["Attributes"]["Policy"])["Statement"]
        self.assertEqual(statement["Principal"], {"AWS": "arn:aws:iam::123456789012:root"})
        self.sqs.remove_permission(QueueUrl=url, Label="l")
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
        self.assertNotIn("Attributes", found)

    def test_back_from_a_dead_letter_queue(self):
        dead_name, dead = self.queue()
        _, url = self.queue(RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(dead_name), "maxReceiveCount": 1}))
        self.assertEqual(self.sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"], [url])
        if not hasattr(self.sqs, "start_message_move_task"):
            self.skipTest("this boto3 is older than message move tasks")
        self.sqs.send_message(QueueUrl=url, MessageBody="poison")
        self.receive(url, VisibilityTimeout=0)
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])
        arn = queue_arn(dead_name)
        self.sqs.start_message_move_task(SourceArn=arn)
        harness.wait_for(lambda: self.sqs.list_message_move_tasks(SourceArn=arn)["Results"][0][
            "Status"] == "COMPLETED", 20, "the end of the move")
        got, = self.receive(url)
        self.assertEqual(got["Body"], "poison")
        with self.assertRaises(self.sqs.exceptions.ResourceNotFoundException):
            self.sqs.start_message_move_task(SourceArn=queue_arn(unique("none")))

    def test_batches(self):
        _, url = self.queue()
        entries = [{"Id": f"m{i}", "MessageBody": f"body {i}"} for i in range(10)]
        answer = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self.assertEqual({e["Id"] for e in answer["Successful"]}, {e["Id"] for e in entries})
        got = []
        while len(got) < 10:
            page = self.receive(url)
            self.assertTrue(page)
            got += page
        self.assertEqual(sorted(m["Body"] for m in got), sorted(f"body {i}" for i in range(10)))
        gone = self.sqs.delete_message_batch(QueueUrl=url, Entries=[
            {"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(got)])
        self.assertEqual(len(gone["Successful"]), 10)
        self.assertEqual(self.count(url), (0, 0, 0))

    def test_long_poll_wakes(self):
        import threading
        _, url = self.queue()
        got = []
        waiting = threading.Thread(target=lambda: got.extend(
            harness.boto("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]))
        begun = time.monotonic()
        waiting.start()
        time.sleep(0.5)
        self.sqs.send_message(QueueUrl=url, MessageBody="wake up")
        waiting.join(30)
        self.assertEqual([m["Body"] for m in got], ["wake up"])
        self.assertLess(time.monotonic() - begun, 19)

    def test_visibility(self):
        _, url = self.queue(VisibilityTimeout="1")
        self.sqs.send_message(QueueUrl=url, MessageBody="x")
        first, = self.receive(url)
        again, = self.receive(url, AttributeNames=["ApproximateReceiveCount"])
        self.assertEqual(again["Attributes"]["ApproximateReceiveCount"], "2")
        self.assertNotEqual(first["ReceiptHandle"], again["ReceiptHandle"])
        self.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"],
                                           VisibilityTimeout=600)
        self.assertEqual(self.receive(url, WaitTimeSeconds=2), [])
        self.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"],
                                           VisibilityTimeout=0)
        self.assertEqual(len(self.receive(url)), 1)

    def test_delay(self):
        _, url = self.queue()
        self.sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=2)
        self.assertEqual(self.count(url), (0, 0, 1))
        self.assertEqual(self.receive(url, WaitTimeSeconds=0), [])
        self.assertEqual(len(self.receive(url)), 1)

    def test_redrive_to_a_dead_letter_queue(self):
        dead_name, dead = self.queue()
        _, url = self.queue(VisibilityTimeout="0", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(dead_name), "maxReceiveCount": 2}))
        self.sqs.send_message(QueueUrl=url, MessageBody="poison", MessageAttributes={
            "a": {"DataType": "String", "StringValue": "kept"}})
        for _ in range(2):
            self.assertEqual(len(self.receive(url)), 1)
        self.assertEqual(self.receive(url, WaitTimeSeconds=1), [])
        moved, = self.receive(dead, MessageAttributeNames=["All"])
        self.assertEqual(moved["Body"], "poison")
        self.assertEqual(moved["MessageAttributes"]["a"]["StringValue"], "kept")

    def test_purge_list_and_settings(self):
        name, url = self.queue(DelaySeconds="1")
        self.assertEqual(self.sqs.get_queue_url(QueueName=name)["QueueUrl"], url)
        self.assertIn(url, self.sqs.list_queues(QueueNamePrefix=name)["QueueUrls"])
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
        self.sqs.send_message(QueueUrl=url, MessageBody="x")
        self.sqs.purge_queue(QueueUrl=url)
        self.assertEqual(self.count(url), (0, 0, 0))

    def test_hidden_queues_are_hidden(self):
        self.queue()
        urls = self.sqs.list_queues().get("QueueUrls", [])
        self.assertFalse([u for u in urls if "async" in u])

    def test_errors_are_the_modeled_ones(self):
        name, url = self.queue()
        with self.assertRaises(self.sqs.exceptions.QueueDoesNotExist):
            self.sqs.get_queue_url(QueueName=unique("none"))
        with self.assertRaises(self.sqs.exceptions.QueueDoesNotExist):
            self.sqs.send_message(QueueUrl=url + "-none", MessageBody="x")
        with self.assertRaises(self.sqs.exceptions.QueueNameExists):
            self.sqs.create_queue(QueueName=name, Attributes={"DelaySeconds": "7"})
        with self.assertRaises(self.sqs.exceptions.ReceiptHandleIsInvalid):
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")
        with self.assertRaises(self.sqs.exceptions.EmptyBatchRequest):
            self.sqs.send_message_batch(QueueUrl=url, Entries=[])
        with self.assertRaises(self.sqs.exceptions.BatchEntryIdsNotDistinct):
            self.sqs.send_message_batch(QueueUrl=url, Entries=[
                {"Id": "a", "MessageBody": "1"}, {"Id": "a", "MessageBody": "2"}])
        with self.assertRaises(ClientError) as caught:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "901"})
        self.assertEqual(caught.exception.response["Error"]["Code"], "InvalidAttributeValue")


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # boto3 closes its sockets when it likes
