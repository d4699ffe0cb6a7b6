# SPDX-License-Identifier: Apache-2.0
"""Queues that are known to live in different shards: nobody who calls can tell."""
import json
import os
import unittest

from sqs_raw import harness
import place

SHARDS = 4
ALL = range(1, SHARDS + 1)
GONE = "com.amazonaws.sqs#QueueDoesNotExist"


class Brokers(unittest.TestCase):
    arguments = []

    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(worker=False, broker_arguments=cls.arguments)
        cls.addClassCleanup(cls.broker.stop)

    def ask(self, action, status=200, **parameters):
        response = harness.request(
            self.broker.endpoint, "POST", "/", json.dumps(parameters).encode(),
            {"X-Amz-Target": f"AmazonSQS.{action}"})
        self.assertEqual(response.status, status, response.body)
        return json.loads(response.body) if response.body else {}

    def refused(self, action, **parameters):
        return self.ask(action, 400, **parameters)

    def create(self, name, **attributes):
        return self.ask("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]

    def names(self, **parameters):
        """All names that ListQueues tells, page by page."""
        found, more = [], {}
        while True:
            page = self.ask("ListQueues", **parameters, **more)
            found += [url.rpartition("/")[2] for url in page.get("QueueUrls", [])]
            if "NextToken" not in page:
                return found
            more = {"NextToken": page["NextToken"]}

    def shards(self):
        """Of each queue, as the broker says."""
        return {q["name"]: q["shard"] for q in harness.status(self.broker.endpoint)["queues"]}

    @staticmethod
    def arn(name):
        return harness.queue_arn(name)

    @classmethod
    def policy(cls, name, receives=1):
        return json.dumps({"deadLetterTargetArn": cls.arn(name), "maxReceiveCount": receives})


@unittest.skipIf(os.environ.get("MILLRACE_ENDPOINT"), "needs a broker of its own")
class Shards(Brokers):
    arguments = ["--shards", str(SHARDS), "--aws-cooldowns", "on"]

    def setUp(self):
        self.prefix = harness.unique("s")
        self.queues = {shard: place.name_in(shard, SHARDS, self.prefix) for shard in ALL}

    def create_all(self):
        return {shard: self.create(name) for shard, name in self.queues.items()}

    def test_a_name_says_the_shard(self):
        self.create_all()
        there = self.shards()
        for shard, name in self.queues.items():
            self.assertEqual(there[name], shard)

    def test_the_status_and_the_metrics_are_of_all_shards(self):
        self.create_all()
        status = harness.status(self.broker.endpoint)
        self.assertEqual([s["id"] for s in status["shards"]], [0, *ALL])
        for shard in status["shards"]:
            self.assertTrue(shard["ready"] and shard["leads"] and shard["leader"] == 1, shard)
        text = harness.request(self.broker.endpoint, "GET", "/metrics").body.decode()
        for shard in (0, *ALL):
            self.assertIn(f'\nmillrace_shard_leads{{shard="{shard}"}} 1\n', text)
        for name in self.queues.values():
            self.assertIn(f'\nmillrace_queue_messages_visible{{queue="{name}"}} 0\n', text)
        shown = [line for line in text.splitlines() if line.startswith("millrace_queues ")]
        self.assertEqual(shown, [f"millrace_queues {len(self.names())}"])

    def test_a_message_in_each(self):
        for shard, url in self.create_all().items():
            self.ask("SendMessage", QueueUrl=url, MessageBody=str(shard))
        for shard, name in self.queues.items():
            (message,) = self.ask("ReceiveMessage", QueueUrl=name)["Messages"]
            self.assertEqual(message["Body"], str(shard))
            handle = {"QueueUrl": name, "ReceiptHandle": message["ReceiptHandle"]}
            self.ask("ChangeMessageVisibility", VisibilityTimeout=60, **handle)
            self.ask("DeleteMessage", **handle)
            self.assertEqual(self.ask("ReceiveMessage", QueueUrl=name), {})

    def test_a_handle_is_of_its_own_queue_only(self):
        urls = self.create_all()
        self.ask("SendMessage", QueueUrl=urls[1], MessageBody="x")
        (message,) = self.ask("ReceiveMessage", QueueUrl=urls[1])["Messages"]
        for shard in (2, 3, 4):
            # The queue's number in its shard, and the message's in its queue, may be the same.
            self.ask("SendMessage", QueueUrl=urls[shard], MessageBody="other")
            self.ask("ReceiveMessage", QueueUrl=urls[shard], VisibilityTimeout=0)
            for action, more in (("DeleteMessage", {}),
                                 ("ChangeMessageVisibility", {"VisibilityTimeout": 0})):
                refused = self.refused(action, QueueUrl=urls[shard],
                                       ReceiptHandle=message["ReceiptHandle"], **more)
                self.assertEqual(refused["__type"], "com.amazonaws.sqs#ReceiptHandleIsInvalid")
            batch = self.ask("DeleteMessageBatch", QueueUrl=urls[shard], Entries=[
                {"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}])
            self.assertEqual(batch["Failed"][0]["Code"], "ReceiptHandleIsInvalid")
            (other,) = self.ask("ReceiveMessage", QueueUrl=urls[shard])["Messages"]
            self.assertEqual(other["Body"], "other")

    def test_lists_are_in_the_order_of_names(self):
        made = sorted(place.name_in(shard, SHARDS, f"{self.prefix}-{letter}")
                      for letter in "abcd" for shard in ALL)
        for name in reversed(made):
            self.create(name)
        self.assertEqual({self.shards()[name] for name in made}, set(ALL))
        self.assertEqual(self.names(QueueNamePrefix=self.prefix), made)
        for size in (1, 3, 4, 16, 17):
            self.assertEqual(self.names(QueueNamePrefix=self.prefix, MaxResults=size), made, size)
        self.assertEqual(self.names(QueueNamePrefix=f"{self.prefix}-b"), made[4:8])
        # The prefix may be the whole name of a queue, which comes first.
        self.assertEqual(self.names(QueueNamePrefix=made[5], MaxResults=1), made[5:6])
        # A page goes on behind its last name, though that queue is gone by then.
        page = self.ask("ListQueues", QueueNamePrefix=self.prefix, MaxResults=2)
        self.ask("DeleteQueue", QueueUrl=made[1])
        rest = self.names(QueueNamePrefix=self.prefix, NextToken=page["NextToken"])
        self.assertEqual(rest, made[2:])

    def test_the_sources_of_a_dead_letter_queue_are_anywhere(self):
        dead = place.name_in(3, SHARDS, self.prefix + "-dead")
        self.create(dead)
        for name in self.queues.values():
            self.create(name, RedrivePolicy=self.policy(dead))
        self.create(place.name_in(1, SHARDS, self.prefix))
        found = []
        page = {}
        while not found or "NextToken" in page:
            page = self.ask("ListDeadLetterSourceQueues", QueueUrl=dead, MaxResults=1,
                            **({"NextToken": page["NextToken"]} if found else {}))
            found += [url.rpartition("/")[2] for url in page["queueUrls"]]
        self.assertEqual(found, sorted(self.queues.values()))

    def test_a_redrive_policy_is_checked_where_its_target_is(self):
        urls = self.create_all()
        for shard, url in urls.items():
            target = self.queues[shard % SHARDS + 1]
            self.ask("SetQueueAttributes", QueueUrl=url,
                     Attributes={"RedrivePolicy": self.policy(target)})
            gone = place.name_in(shard % SHARDS + 1, SHARDS, self.prefix)
            error = self.refused("SetQueueAttributes", QueueUrl=url,
                                 Attributes={"RedrivePolicy": self.policy(gone)})
            self.assertIn("Dead letter target does not exist.", error["message"])
            fifo = place.name_in(shard % SHARDS + 1, SHARDS, self.prefix, ".fifo")
            self.create(fifo, FifoQueue="true")
            error = self.refused("SetQueueAttributes", QueueUrl=url,
                                 Attributes={"RedrivePolicy": self.policy(fifo)})
            self.assertIn("must be same type of queue", error["message"])

    def test_who_may_have_a_queue_of_another_shard_as_its_dead_letter_queue(self):
        dead = place.name_in(1, SHARDS, self.prefix + "-dead")
        good, bad = self.queues[2], self.queues[3]
        allow = {"redrivePermission": "byQueue", "sourceQueueArns": [self.arn(good)]}
        self.create(dead, RedriveAllowPolicy=json.dumps(allow))
        self.create(good, RedrivePolicy=self.policy(dead))
        error = self.refused("CreateQueue", QueueName=bad,
                             Attributes={"RedrivePolicy": self.policy(dead)})
        self.assertIn("does not allow this queue", error["message"])

    def test_a_move_needs_a_dead_letter_queue_and_a_queue_to_go_to(self):
        dead, source, other = self.queues[1], self.queues[2], self.queues[3]
        self.create_all()
        error = self.refused("StartMessageMoveTask", SourceArn=self.arn(dead))
        self.assertIn("must be configured as a Dead Letter Queue", error["message"])
        self.ask("SetQueueAttributes", QueueUrl=source,
                 Attributes={"RedrivePolicy": self.policy(dead)})
        gone = place.name_in(4, SHARDS, self.prefix)
        error = self.ask("StartMessageMoveTask", 404, SourceArn=self.arn(dead),
                         DestinationArn=self.arn(gone))
        self.assertIn("for the DestinationArn parameter doesn't exist", error["message"])
        fifo = place.name_in(4, SHARDS, self.prefix, ".fifo")
        self.create(fifo, FifoQueue="true")
        error = self.refused("StartMessageMoveTask", SourceArn=self.arn(dead),
                             DestinationArn=self.arn(fifo))
        self.assertIn("must be of the same queue type", error["message"])
        self.assertEqual(self.ask("ListMessageMoveTasks", SourceArn=self.arn(other)),
                         {"Results": []})

    def kill(self, source, dead, *bodies):
        """Send them to one queue, and have them all in its dead-letter queue."""
        for body in bodies:
            self.ask("SendMessage", QueueUrl=source, MessageBody=body)

        def dead_by_now():
            self.ask("ReceiveMessage", QueueUrl=source, VisibilityTimeout=0,
                     MaxNumberOfMessages=10)
            return self.count(dead) == len(bodies)
        harness.wait_for(dead_by_now, 20, "all in the dead-letter queue")

    def count(self, name):
        told = self.ask("GetQueueAttributes", QueueUrl=name,
                        AttributeNames=["ApproximateNumberOfMessages"])
        return int(told["Attributes"]["ApproximateNumberOfMessages"])

    def bodies(self, name, most):
        found = []
        while len(found) < most:
            answer = self.ask("ReceiveMessage", QueueUrl=name, WaitTimeSeconds=5)
            if not answer:
                break
            found += [message["Body"] for message in answer["Messages"]]
        return sorted(found)

    def test_a_redriven_message_tells_from_which_queue_it_came(self):
        dead = place.name_in(2, SHARDS, self.prefix + "-dead")
        self.create(dead)
        for shard, name in self.queues.items():
            self.create(name, RedrivePolicy=self.policy(dead))
            self.kill(name, dead, str(shard))
            (message,) = self.ask("ReceiveMessage", QueueUrl=dead, WaitTimeSeconds=5,
                                  MessageSystemAttributeNames=["All"])["Messages"]
            self.assertEqual((message["Body"], message["Attributes"]["DeadLetterQueueSourceArn"]),
                             (str(shard), self.arn(name)))
            self.ask("DeleteMessage", QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])

    def move(self, dead, count, **more):
        self.ask("StartMessageMoveTask", SourceArn=self.arn(dead), **more)

        def task():
            return self.ask("ListMessageMoveTasks", SourceArn=self.arn(dead))["Results"][0]
        harness.wait_for(lambda: task()["Status"] == "COMPLETED", 20, lambda: str(task()))
        self.assertEqual(task()["ApproximateNumberOfMessagesMoved"], count)
        self.assertEqual(task().get("DestinationArn"), more.get("DestinationArn"))

    def test_moves_go_to_any_shard_and_back_to_where_each_came_from(self):
        dead = place.name_in(3, SHARDS, self.prefix + "-dead")
        self.create(dead)
        for shard, name in self.queues.items():
            self.create(name, RedrivePolicy=self.policy(dead, 5))
        for shard, name in self.queues.items():
            other = place.name_in(shard, SHARDS, self.prefix + "-other")
            self.create(other)
            self.ask("SendMessage", QueueUrl=dead, MessageBody=str(shard))
            self.move(dead, 1, DestinationArn=self.arn(other))
            self.assertEqual(self.bodies(other, 1), [str(shard)])
        for shard, name in self.queues.items():
            self.ask("SetQueueAttributes", QueueUrl=name,
                     Attributes={"RedrivePolicy": self.policy(dead, 1)})
            self.ask("SendMessage", QueueUrl=name, MessageBody=str(shard))
            self.ask("ReceiveMessage", QueueUrl=name, VisibilityTimeout=0)
            self.ask("ReceiveMessage", QueueUrl=name, VisibilityTimeout=0)
        harness.wait_for(lambda: self.count(dead) == SHARDS, 20, "all in the dead-letter queue")
        self.move(dead, SHARDS)
        for shard, name in self.queues.items():
            self.assertEqual(self.bodies(name, 1), [str(shard)])

    def test_settings_tags_and_permissions_in_each(self):
        for name in self.queues.values():
            url = self.create(name, VisibilityTimeout="7")
            self.ask("TagQueue", QueueUrl=url, Tags={"a": "b"})
            self.assertEqual(self.ask("ListQueueTags", QueueUrl=url)["Tags"], {"a": "b"})
            self.ask("UntagQueue", QueueUrl=url, TagKeys=["a"])
            self.ask("AddPermission", QueueUrl=url, Label="l", AWSAccountIds=["123456789012"],
                     Actions=["SendMessage"])
            self.ask("RemovePermission", QueueUrl=url, Label="l")
            self.ask("SetQueueAttributes", QueueUrl=url, Attributes={"DelaySeconds": "3"})
            told = self.ask("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
            self.assertEqual((told["VisibilityTimeout"], told["DelaySeconds"], told["QueueArn"]),
                             ("7", "3", self.arn(name)))
            self.assertEqual(self.ask("GetQueueUrl", QueueName=name)["QueueUrl"], url)
            self.assertEqual(self.create(name, VisibilityTimeout="7"), url)
            self.assertEqual(
                self.refused("CreateQueue", QueueName=name,
                             Attributes={"VisibilityTimeout": "8"})["__type"],
                "com.amazonaws.sqs#QueueNameExists")

    def test_purging_and_deleting(self):
        urls = self.create_all()
        for url in urls.values():
            self.ask("SendMessage", QueueUrl=url, MessageBody="x")
        self.ask("PurgeQueue", QueueUrl=urls[1])
        self.ask("DeleteQueue", QueueUrl=urls[2])
        self.assertEqual(self.refused("SendMessage", QueueUrl=urls[2], MessageBody="x")["__type"],
                         GONE)
        self.assertEqual(self.refused("CreateQueue", QueueName=self.queues[2])["__type"],
                         "com.amazonaws.sqs#QueueDeletedRecently")
        self.assertEqual(self.ask("ReceiveMessage", QueueUrl=urls[1]), {})
        for shard in (3, 4):
            (message,) = self.ask("ReceiveMessage", QueueUrl=urls[shard])["Messages"]
            self.assertEqual(message["Body"], "x")

    def test_all_is_there_after_a_restart(self):
        urls = self.create_all()
        for shard, url in urls.items():
            self.ask("SendMessage", QueueUrl=url, MessageBody=str(shard))
        self.broker.broker.stop()
        self.broker.start_broker()
        self.assertEqual(self.names(QueueNamePrefix=self.prefix), sorted(self.queues.values()))
        for shard, url in urls.items():
            (message,) = self.ask("ReceiveMessage", QueueUrl=url)["Messages"]
            self.assertEqual(message["Body"], str(shard))

    def test_the_number_of_shards_stays_what_it_was(self):
        urls = self.create_all()
        self.broker.broker.stop()
        self.broker.broker_arguments[1] = "9"
        self.addCleanup(self.broker.broker_arguments.__setitem__, 1, str(SHARDS))
        self.broker.start_broker()
        self.assertEqual(len(harness.status(self.broker.endpoint)["shards"]), 1 + SHARDS)
        for url in urls.values():
            self.ask("SendMessage", QueueUrl=url, MessageBody="x")


@unittest.skipIf(os.environ.get("MILLRACE_ENDPOINT"), "needs a broker of its own")
class Regions(Brokers):
    """A region with queues of its own is part of a queue's name to the core, so of its place."""
    arguments = ["--shards", str(SHARDS), "--regions", "separate"]
    away = "eu-west-1"

    def ask(self, action, status=200, **parameters):
        credential = f"test/20260101/{self.away}/sqs/aws4_request"
        response = harness.request(
            self.broker.endpoint, "POST", "/", json.dumps(parameters).encode(),
            {"X-Amz-Target": f"AmazonSQS.{action}",
             "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, Signature=0"})
        self.assertEqual(response.status, status, response.body)
        return json.loads(response.body) if response.body else {}

    def test_queues_of_another_region(self):
        names = {shard: place.name_in(shard, SHARDS, region=self.away) for shard in ALL}
        for shard, name in names.items():
            url = self.create(name)
            self.assertEqual(self.shards()[f"{self.away}:{name}"], shard)
            self.ask("SendMessage", QueueUrl=url, MessageBody=str(shard))
        self.assertEqual(self.names(MaxResults=2), sorted(names.values()))
        for shard, name in names.items():
            (message,) = self.ask("ReceiveMessage", QueueUrl=name)["Messages"]
            self.assertEqual(message["Body"], str(shard))


@unittest.skipIf(os.environ.get("MILLRACE_ENDPOINT"), "needs a broker of its own")
class OneForAll(Brokers):
    """--shards 0, and all data of before there were any: the catalog holds the queues, too."""
    arguments = ["--shards", "0"]

    def test_queues_in_the_catalog(self):
        names = [harness.unique("z") for _ in range(5)]
        for name in names:
            self.ask("SendMessage", QueueUrl=self.create(name), MessageBody=name)
        self.assertEqual({self.shards()[name] for name in names}, {0})
        self.assertEqual(self.names(QueueNamePrefix="z", MaxResults=2), sorted(names))
        self.broker.broker.stop()
        self.broker.broker_arguments[1] = str(SHARDS)
        self.addCleanup(self.broker.broker_arguments.__setitem__, 1, "0")
        self.broker.start_broker()
        self.assertEqual(len(harness.status(self.broker.endpoint)["shards"]), 1)
        for name in names:
            (message,) = self.ask("ReceiveMessage", QueueUrl=name)["Messages"]
            self.assertEqual(message["Body"], name)


if __name__ == "__main__":
    unittest.main()
