# SPDX-License-Identifier: Apache-2.0
"""Message move tasks in both protocols: back to each message's source, to one queue, listed,
cancelled. What is refused is in sqs_refusals.py."""
import base64
import json
import time
import unittest
import uuid

import sqs_raw
from sqs_raw import arn_of, harness, make_queue

INVALID = ("InvalidParameterValueException", "InvalidParameterValue")


def source_of(dead):
    return make_queue({"RedrivePolicy": json.dumps(
        {"deadLetterTargetArn": arn_of(dead), "maxReceiveCount": 1})})


class Moves(sqs_raw.Calls):
    def kill(self, url, dead, *bodies):
        """Send messages and let them go to the dead-letter queue."""
        before = self.counters(dead)[0]
        for body in bodies:
            self.ok("SendMessage", {"QueueUrl": url, "MessageBody": body})
            self.receive(url, VisibilityTimeout=0)
            self.assertEqual(self.receive(url), [])
        # They may have to go to another shard.
        harness.wait_for(lambda: self.counters(dead)[0] == before + len(bodies), 20,
                         "messages in the dead-letter queue")

    def start(self, dead, **more):
        return self.ok("StartMessageMoveTask", {"SourceArn": arn_of(dead), **more})["TaskHandle"]

    def list(self, dead, **more):
        return self.ok("ListMessageMoveTasks", {"SourceArn": arn_of(dead), **more}).get(
            "Results", [])

    def ended(self, dead):
        def latest():
            (task,) = self.list(dead)
            return task if task["Status"] != "RUNNING" else None
        return harness.wait_for(latest, 20, "the end of a move")

    def visible(self, url):
        return sorted(m["Body"] for m in self.receive(url, MaxNumberOfMessages=10))

    def test_back_to_each_source(self):
        dead = make_queue()
        one, two = source_of(dead), source_of(dead)
        self.kill(one, dead, "1a", "1b")
        self.kill(two, dead, "2a")
        begun = time.time() * 1000
        handle = self.start(dead)
        decoded = json.loads(base64.b64decode(handle))
        self.assertEqual(decoded["sourceArn"], arn_of(dead))
        uuid.UUID(decoded["taskId"])
        task = self.ended(dead)
        self.assertEqual(task["Status"], "COMPLETED")
        self.assertEqual(int(task["ApproximateNumberOfMessagesMoved"]), 3)
        self.assertEqual(int(task["ApproximateNumberOfMessagesToMove"]), 3)
        self.assertEqual(task["SourceArn"], arn_of(dead))
        self.assertAlmostEqual(int(task["StartedTimestamp"]), begun, delta=60000)
        for absent in ("TaskHandle", "DestinationArn", "MaxNumberOfMessagesPerSecond",
                       "FailureReason"):
            self.assertNotIn(absent, task)
        self.assertEqual((self.visible(one), self.visible(two)), (["1a", "1b"], ["2a"]))
        self.assertEqual(self.counters(dead), [0, 0, 0])

    def test_to_one_queue(self):
        dead, other = make_queue(), make_queue()
        self.kill(source_of(dead), dead, "x", "y")
        self.ok("SendMessage", {"QueueUrl": dead, "MessageBody": "sent here"})
        self.start(dead, DestinationArn=arn_of(other))
        task = self.ended(dead)
        self.assertEqual((task["Status"], task["DestinationArn"]), ("COMPLETED", arn_of(other)))
        self.assertEqual(self.visible(other), ["sent here", "x", "y"])

    def test_a_message_without_a_source(self):
        dead = make_queue()
        source_of(dead)
        self.ok("SendMessage", {"QueueUrl": dead, "MessageBody": "sent here"})
        self.start(dead)
        task = self.ended(dead)
        self.assertEqual((task["Status"], task["FailureReason"]),
                         ("FAILED", "CouldNotDetermineMessageSource"))
        self.assertEqual(self.visible(dead), ["sent here"])

    def test_a_slow_one_is_cancelled(self):
        dead = make_queue()
        source = source_of(dead)
        self.kill(source, dead, *[str(i) for i in range(10)])
        handle = self.start(dead, MaxNumberOfMessagesPerSecond=1)
        self.fails("StartMessageMoveTask", {"SourceArn": arn_of(dead)}, INVALID,
                   "There is already a task running. Only one active task is allowed for a source "
                   "queue arn at a given time.")
        (task,) = self.list(dead)
        self.assertEqual((task["Status"], task["TaskHandle"]), ("RUNNING", handle))
        self.assertEqual(int(task["MaxNumberOfMessagesPerSecond"]), 1)
        cancelled = self.ok("CancelMessageMoveTask", {"TaskHandle": handle})
        moved = int(cancelled["ApproximateNumberOfMessagesMoved"])
        self.assertLess(moved, 10)
        (task,) = self.list(dead)
        self.assertEqual(task["Status"], "CANCELLED")
        self.assertNotIn("TaskHandle", task)

        def settled():
            (latest,) = self.list(dead)
            arrived = int(latest["ApproximateNumberOfMessagesMoved"])
            return moved <= arrived and self.counters(dead)[0] == 10 - arrived
        harness.wait_for(settled, 20, "what had left by then to arrive")
        self.fails("CancelMessageMoveTask", {"TaskHandle": handle}, INVALID,
                   "Only active tasks can be cancelled.")

    def test_the_list(self):
        dead = make_queue()
        empty = {"Results": []} if self.protocol == "json" else {}
        self.assertEqual(self.ok("ListMessageMoveTasks", {"SourceArn": arn_of(dead)}), empty)
        source_of(dead)
        starts = []
        for _ in range(12):
            self.start(dead)
            starts.append(int(self.ended(dead)["StartedTimestamp"]))
        self.assertEqual(len(self.list(dead)), 1)
        tasks = self.list(dead, MaxResults=10)
        self.assertEqual([int(t["StartedTimestamp"]) for t in tasks], starts[:-11:-1])
        for value in (0, 11):
            self.fails("ListMessageMoveTasks", {"SourceArn": arn_of(dead), "MaxResults": value},
                       INVALID)

class JsonMoves(Moves, unittest.TestCase):
    protocol = "json"


class QueryMoves(Moves, unittest.TestCase):
    protocol = "query"


if __name__ == "__main__":
    unittest.main()
