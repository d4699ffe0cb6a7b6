# SPDX-License-Identifier: Apache-2.0
"""FIFO queues in both protocols: what makes one, what a message needs, order and groups,
deduplication, repeated receives, and receipt handles that end."""
import hashlib
import json
import time
import unittest

import sqs_raw
from sqs_raw import arn_of, harness, make_queue

INVALID = ("InvalidParameterValueException", "InvalidParameterValue")
MISSING = ("MissingRequiredParameterException", "MissingParameter")
VALUE = ("InvalidAttributeValue", "InvalidAttributeValue")
NAME_RULE = ("The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
             "underscores, must end with .fifo suffix and be 1 to 80 in length")
NO_DEDUPLICATION = ("The queue should either have ContentBasedDeduplication enabled or "
                    "MessageDeduplicationId provided explicitly")


def make_fifo(**attributes):
    return make_queue({"FifoQueue": "true", **attributes}, ".fifo")


class Fifo(sqs_raw.Calls):
    def send(self, url, body, group="g", **more):
        return self.ok("SendMessage", {"QueueUrl": url, "MessageBody": body,
                                       "MessageGroupId": group, **more})

    def bodies(self, url, **parameters):
        return [m["Body"] for m in self.receive(url, MaxNumberOfMessages=10, **parameters)]

    def delete(self, url, message):
        self.ok("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]})

    # ---- queues ----

    def test_attributes(self):
        url = make_fifo()
        shown = self.attributes(url)
        self.assertEqual((shown["FifoQueue"], shown["ContentBasedDeduplication"],
                          shown["DeduplicationScope"], shown["FifoThroughputLimit"]),
                         ("true", "false", "queue", "perQueue"))
        high = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId",
                "ContentBasedDeduplication": "true"}
        self.ok("SetQueueAttributes", {"QueueUrl": url, "Attributes": {**high, "FifoQueue": "true"}})
        self.assertEqual(self.attributes(url, *high), high)
        self.fails("SetQueueAttributes",
                   {"QueueUrl": url, "Attributes": {"DeduplicationScope": "queue"}}, VALUE,
                   "Invalid value for the parameter FifoThroughputLimit. Reason: To set "
                   "FifoThroughputLimit to perMessageGroupId, the DeduplicationScope must be "
                   "messageGroup.")
        for key, value in {"DeduplicationScope": "x", "FifoThroughputLimit": "",
                           "ContentBasedDeduplication": "yes"}.items():
            self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {key: value}}, VALUE,
                       f"Invalid value for the parameter {key}.")
        self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"FifoQueue": "false"}},
                   VALUE, "Invalid value for the parameter FifoQueue. Reason: Modifying queue type "
                          "is not supported.")
        self.assertEqual(self.attributes(url, *high), high)

    def test_names(self):
        for name in ("a", "a.fif", ".fifo", "a b.fifo", "a.b.fifo", "x" * 76 + ".fifo"):
            self.fails("CreateQueue", {"QueueName": name, "Attributes": {"FifoQueue": "true"}},
                       INVALID, NAME_RULE)
        self.fails("CreateQueue", {"QueueName": "a.fifo"}, INVALID,
                   "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in "
                   "length")
        self.fails("CreateQueue", {"QueueName": "a.fifo", "Attributes": {"FifoQueue": "x"}}, INVALID)
        self.fails("CreateQueue", {"QueueName": "a", "Attributes": {"FifoQueue": "x"}}, VALUE,
                   "Invalid value for the parameter FifoQueue.")
        longest = harness.unique("n").ljust(75, "x") + ".fifo"
        url = self.ok("CreateQueue", {"QueueName": longest, "Attributes": {"FifoQueue": "true"}})
        self.assertEqual(self.ok("GetQueueUrl", {"QueueName": longest}), url)
        again = {"QueueName": longest, "Attributes": {"FifoQueue": "true"}}
        self.assertEqual(self.ok("CreateQueue", again), url)
        again["Attributes"]["ContentBasedDeduplication"] = "true"
        self.fails("CreateQueue", again, ("QueueNameExists", "QueueAlreadyExists"),
                   "A queue already exists with the same name and a different value for attribute "
                   "ContentBasedDeduplication")
        self.assertIn(url["QueueUrl"], self.ok("ListQueues", {"QueueNamePrefix": longest})[
            "QueueUrls"])

    def test_dead_letter_queues_are_of_the_same_type(self):
        for source, dead in ((make_fifo(), make_queue()), (make_queue(), make_fifo())):
            text = json.dumps({"deadLetterTargetArn": arn_of(dead), "maxReceiveCount": 1})
            self.fails("SetQueueAttributes",
                       {"QueueUrl": source, "Attributes": {"RedrivePolicy": text}}, INVALID,
                       f"Value {text} for parameter RedrivePolicy is invalid. Reason: Dead-letter "
                       "queue must be same type of queue as the source..")

    # ---- sending ----

    def test_what_a_message_needs(self):
        url = make_fifo()
        body = {"QueueUrl": url, "MessageBody": "x"}
        self.fails("SendMessage", body, MISSING,
                   "The request must contain the parameter MessageGroupId.")
        self.fails("SendMessage", {**body, "MessageGroupId": "g"}, INVALID, NO_DEDUPLICATION)
        self.fails("SendMessage", {"QueueUrl": url, "MessageBody": ""}, MISSING,
                   "The request must contain the parameter MessageBody.")
        whole = {**body, "MessageGroupId": "g", "MessageDeduplicationId": "d"}
        for name in ("MessageGroupId", "MessageDeduplicationId"):
            for bad in ("", "group 123", "a" * 129, "\u00e9"):
                self.fails("SendMessage", {**whole, name: bad}, INVALID,
                           f"Value {bad} for parameter {name} is invalid. Reason: {name} can only "
                           "include alphanumeric and punctuation characters. 1 to 128 in length.")
        self.fails("SendMessage", {**whole, "DelaySeconds": 2}, INVALID,
                   "Value 2 for parameter DelaySeconds is invalid. Reason: The request include "
                   "parameter that is not valid for this queue type.")
        self.assertEqual(self.counters(url), [0, 0, 0])
        sent = self.ok("SendMessage", {**whole, "DelaySeconds": 0})
        self.assertRegex(sent["SequenceNumber"], r"^\d{20}$")
        punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
        self.send(url, "y", punctuation, MessageDeduplicationId=punctuation)
        (first, second) = self.receive(url, MaxNumberOfMessages=10, AttributeNames=["All"])
        self.assertEqual(second["Attributes"]["MessageGroupId"], punctuation)
        self.assertEqual(second["Attributes"]["MessageDeduplicationId"], punctuation)
        self.assertEqual(first["Attributes"]["SequenceNumber"], sent["SequenceNumber"])
        self.assertEqual(first["MessageId"], sent["MessageId"])

    def test_batches(self):
        url = make_fifo()
        whole = {"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}

        def batch(*entries):
            return {"QueueUrl": url, "Entries": [{"Id": str(i), **e} for i, e in
                                                 enumerate(entries)]}
        for name, text in (("MessageGroupId",
                            "The request must contain the parameter MessageGroupId."),
                           ("MessageDeduplicationId", NO_DEDUPLICATION)):
            lacking = {k: v for k, v in whole.items() if k != name}
            self.fails("SendMessageBatch", batch(whole, lacking), INVALID, text)
        self.assertEqual(self.counters(url), [0, 0, 0])
        result = self.ok("SendMessageBatch", batch(
            whole, {**whole, "MessageDeduplicationId": "e", "MessageBody": "y"},
            {**whole, "MessageDeduplicationId": "e 2"}, {**whole, "MessageBody": "again"},
            {**whole, "MessageDeduplicationId": "f", "DelaySeconds": 1}))
        good = {e["Id"]: e for e in result["Successful"]}
        self.assertEqual(sorted(good), ["0", "1", "3"])
        self.assertLess(good["0"]["SequenceNumber"], good["1"]["SequenceNumber"])
        self.assertEqual((good["3"]["MessageId"], good["3"]["SequenceNumber"]),
                         (good["0"]["MessageId"], good["0"]["SequenceNumber"]))
        self.assertEqual(sorted(e["Id"] for e in result["Failed"]), ["2", "4"])
        self.assertEqual({e["Code"] for e in result["Failed"]}, {"InvalidParameterValue"})
        self.assertEqual(self.bodies(url), ["x", "y"])

    # ---- order ----

    def test_a_group_in_flight_waits(self):
        url = make_fifo(ContentBasedDeduplication="true")
        for body in ("a1", "a2", "b1", "a3"):
            self.send(url, body, body[0])
        (first,) = self.receive(url)
        self.assertEqual(first["Body"], "a1")
        self.assertEqual(self.bodies(url), ["b1"])
        self.send(url, "a4", "a")
        self.assertEqual(self.bodies(url), [])
        self.delete(url, first)
        self.assertEqual(self.bodies(url), ["a2", "a3", "a4"])

    def test_order_survives_a_return(self):
        url = make_fifo(ContentBasedDeduplication="true")
        for i in range(4):
            self.send(url, str(i))
        messages = self.receive(url, MaxNumberOfMessages=3)
        self.assertEqual([m["Body"] for m in messages], ["0", "1", "2"])
        self.delete(url, messages[1])
        for m in (messages[2], messages[0]):
            self.ok("ChangeMessageVisibility", {"QueueUrl": url, "VisibilityTimeout": 0,
                                                "ReceiptHandle": m["ReceiptHandle"]})
        self.assertEqual(self.bodies(url), ["0", "2", "3"])

    def test_a_long_poll_wakes_when_the_group_is_free(self):
        url = make_fifo(ContentBasedDeduplication="true")
        self.send(url, "1")
        self.send(url, "2")
        (first,) = self.receive(url, VisibilityTimeout=1)
        (again, second) = self.receive(url, WaitTimeSeconds=20, MaxNumberOfMessages=10)
        self.assertEqual((again["MessageId"], again["Body"], second["Body"]),
                         (first["MessageId"], "1", "2"))

    def test_a_delay_of_the_queue(self):
        url = make_fifo(ContentBasedDeduplication="true", DelaySeconds="1")
        self.send(url, "1")
        self.send(url, "2")
        self.assertEqual(self.bodies(url), [])
        self.assertEqual(self.counters(url), [0, 0, 2])
        self.assertEqual(self.receive(url, WaitTimeSeconds=20)[0]["Body"], "1")

    # ---- deduplication ----

    def test_duplicates_answer_as_the_first(self):
        url = make_fifo()
        first = self.send(url, "one", MessageDeduplicationId="d")
        again = self.send(url, "another body", MessageDeduplicationId="d")
        elsewhere = self.send(url, "one", "other-group", MessageDeduplicationId="d")
        for answer in (again, elsewhere):
            self.assertEqual((answer["MessageId"], answer["SequenceNumber"]),
                             (first["MessageId"], first["SequenceNumber"]))
        self.assertEqual(again["MD5OfMessageBody"], hashlib.md5(b"another body").hexdigest())
        (message,) = self.receive(url, MaxNumberOfMessages=10)
        self.assertEqual(message["Body"], "one")
        self.delete(url, message)
        self.send(url, "after the delete", MessageDeduplicationId="d")
        self.assertEqual(self.bodies(url), [])

    def test_by_content(self):
        url = make_fifo(ContentBasedDeduplication="true")
        first = self.send(url, "same")
        self.assertEqual(self.send(url, "same")["MessageId"], first["MessageId"])
        own = self.send(url, "same", MessageDeduplicationId="own")
        self.assertNotEqual(own["MessageId"], first["MessageId"])
        (message, _) = self.receive(url, MaxNumberOfMessages=10, AttributeNames=["All"])
        self.assertEqual(message["Attributes"]["MessageDeduplicationId"],
                         hashlib.sha256(b"same").hexdigest())

    def test_by_group(self):
        url = make_fifo(DeduplicationScope="messageGroup")
        first = self.send(url, "1", "a", MessageDeduplicationId="d")
        other = self.send(url, "2", "b", MessageDeduplicationId="d")
        self.assertNotEqual(other["MessageId"], first["MessageId"])
        again = self.send(url, "3", "b", MessageDeduplicationId="d")
        self.assertEqual(again["MessageId"], other["MessageId"])
        self.assertEqual(sorted(self.bodies(url)), ["1", "2"])

    # ---- receiving again ----

    def test_a_repeated_attempt(self):
        url = make_fifo(ContentBasedDeduplication="true")
        for i in range(3):
            self.send(url, str(i))
        attempt = {"ReceiveRequestAttemptId": "attempt-1", "MaxNumberOfMessages": 2}
        first = self.receive(url, **attempt)
        self.assertEqual([m["Body"] for m in first], ["0", "1"])
        self.assertEqual(self.receive(url, ReceiveRequestAttemptId="attempt-2"), [])
        again = self.receive(url, **attempt)
        self.assertEqual([(m["Body"], m["ReceiptHandle"]) for m in again],
                         [(m["Body"], m["ReceiptHandle"]) for m in first])
        self.delete(url, again[0])
        self.delete(url, again[1])
        self.assertEqual(self.bodies(url), ["2"])

    # ---- handles ----

    def test_expired_handles(self):
        url = make_fifo(ContentBasedDeduplication="true")
        self.send(url, "x")
        (old,) = self.receive(url, VisibilityTimeout=1)
        time.sleep(1.2)
        text = (f"Value {old['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: The "
                "receipt handle has expired.")
        handle = {"QueueUrl": url, "ReceiptHandle": old["ReceiptHandle"]}
        self.fails("DeleteMessage", handle, INVALID, text)
        self.fails("ChangeMessageVisibility", {**handle, "VisibilityTimeout": 5}, INVALID, text)
        batch = {"QueueUrl": url, "Entries": [{"Id": "a", "ReceiptHandle": old["ReceiptHandle"]}]}
        (failed,) = self.ok("DeleteMessageBatch", batch)["Failed"]
        self.assertEqual((failed["Code"], failed["Message"], failed["SenderFault"]),
                         ("InvalidParameterValue", text, True))
        (new,) = self.receive(url)
        self.fails("DeleteMessage", handle, INVALID, text)
        self.delete(url, new)
        self.delete(url, new)  # gone already is no error
        self.assertEqual(self.counters(url), [0, 0, 0])

    def test_redrive(self):
        dead = make_fifo()
        url = make_fifo(ContentBasedDeduplication="true", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": arn_of(dead), "maxReceiveCount": 1}))
        for body in ("poison", "after"):
            self.send(url, body)
        self.assertEqual(self.receive(url, VisibilityTimeout=0)[0]["Body"], "poison")
        self.assertEqual(self.bodies(url), ["after"])
        (message,) = self.receive(dead, AttributeNames=["All"], WaitTimeSeconds=10)
        self.assertEqual(message["Body"], "poison")
        self.assertEqual(message["Attributes"]["MessageGroupId"], "g")
        self.assertEqual(message["Attributes"]["DeadLetterQueueSourceArn"], arn_of(url))
        self.assertEqual(message["Attributes"]["MessageDeduplicationId"], message["MessageId"])

    # ---- standard queues ----

    def test_groups_on_a_standard_queue(self):
        url = make_queue()
        sent = self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "x",
                                       "MessageGroupId": "tenant"})
        self.assertNotIn("SequenceNumber", sent)
        (message,) = self.receive(url, AttributeNames=["All"])
        self.assertEqual(message["Attributes"]["MessageGroupId"], "tenant")
        for name in ("SequenceNumber", "MessageDeduplicationId"):
            self.assertNotIn(name, message["Attributes"])


class JsonFifo(Fifo, unittest.TestCase):
    protocol = "json"


class QueryFifo(Fifo, unittest.TestCase):
    protocol = "query"


if __name__ == "__main__":
    unittest.main()
