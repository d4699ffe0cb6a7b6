# SPDX-License-Identifier: Apache-2.0
"""What surrounds a queue, in both protocols: tags, permissions, dead-letter queues and who may use
them. Each with what it answers, what it refuses, and that a refusal changed nothing."""
import json
import unittest

import sqs_raw
from sqs_raw import arn_of, harness, make_queue, name_of

INVALID = ("InvalidParameterValueException", "InvalidParameterValue")
OVER_LIMIT = ("OverLimit", "OverLimit")
ACCOUNT = "210987654321"


class Tags(sqs_raw.Calls):
    def tags(self, queue):
        return self.ok("ListQueueTags", {"QueueUrl": queue}).get("Tags", {})

    def test_tag_and_untag(self):
        url = make_queue()
        self.assertEqual(self.tags(url), {})
        self.assertEqual(self.ok("TagQueue", {"QueueUrl": url, "Tags": {"a": "1", "b": "<&>"}}), {})
        self.ok("TagQueue", {"QueueUrl": url, "Tags": {"b": "", "caf\u00e9": "\u20ac"}})
        self.assertEqual(self.tags(url), {"a": "1", "b": "", "caf\u00e9": "\u20ac"})
        self.assertEqual(self.ok("UntagQueue", {"QueueUrl": url, "TagKeys": ["a", "none"]}), {})
        self.assertEqual(self.tags(url), {"b": "", "caf\u00e9": "\u20ac"})
        self.ok("UntagQueue", {"QueueUrl": url, "TagKeys": ["b", "caf\u00e9"]})
        self.assertEqual(self.tags(url), {})

    def test_tags_and_attributes_leave_each_other_alone(self):
        url = make_queue({"DelaySeconds": "7"})
        self.ok("TagQueue", {"QueueUrl": url, "Tags": {"a": "1"}})
        self.ok("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"VisibilityTimeout": "9"}})
        shown = self.attributes(url, "DelaySeconds", "VisibilityTimeout")
        self.assertEqual(shown, {"DelaySeconds": "7", "VisibilityTimeout": "9"})
        self.assertEqual(self.tags(url), {"a": "1"})

    def test_limits(self):
        url = make_queue()
        fifty = {f"k{i}": "v" for i in range(50)}
        self.ok("TagQueue", {"QueueUrl": url, "Tags": fifty})
        self.ok("TagQueue", {"QueueUrl": url, "Tags": {"k0": "other"}})
        self.fails("TagQueue", {"QueueUrl": url, "Tags": {"one-more": "v"}}, INVALID,
                   f"Too many tags added for queue {name_of(url)}.")
        for tags in ({"": "v"}, {"\u00e9" * 129: "v"}, {"k": "\u00e9" * 257}, {"aws:x": "v"}):
            self.fails("TagQueue", {"QueueUrl": url, "Tags": tags}, INVALID)
        self.assertEqual(self.tags(url), {**fifty, "k0": "other"})
        self.ok("UntagQueue", {"QueueUrl": url, "TagKeys": ["k1"]})
        longest = {"\u00e9" * 128: "\U0001f600" * 256}  # limits count characters
        self.ok("TagQueue", {"QueueUrl": url, "Tags": longest})
        self.assertEqual(self.tags(url)["\u00e9" * 128], "\U0001f600" * 256)


class Permissions(sqs_raw.Calls):
    def add(self, url, label, accounts=(ACCOUNT,), actions=("SendMessage",)):
        return {"QueueUrl": url, "Label": label, "AWSAccountIds": list(accounts),
                "Actions": list(actions)}

    def policy(self, url):
        return self.attributes(url, "Policy").get("Policy")

    def test_life_of_a_policy(self):
        url = make_queue()
        self.assertEqual(self.ok("AddPermission", self.add(url, "one")), {})
        root = f"arn:aws:iam::{ACCOUNT}:root"
        one = {"Sid": "one", "Effect": "Allow", "Principal": {"AWS": root},
               "Action": "SQS:SendMessage", "Resource": arn_of(url)}
        self.assertEqual(json.loads(self.policy(url)), {
            "Version": "2008-10-17", "Id": f"{arn_of(url)}/SQSDefaultPolicy", "Statement": [one]})
        self.assertTrue(self.policy(url).startswith('{"Version":"2008-10-17","Id":'))
        self.ok("AddPermission", self.add(url, "two", [ACCOUNT, "000000000000"],
                                          ["ReceiveMessage", "*"]))
        two = {"Sid": "two", "Effect": "Allow", "Resource": arn_of(url),
               "Principal": {"AWS": [root, "arn:aws:iam::000000000000:root"]},
               "Action": ["SQS:ReceiveMessage", "SQS:*"]}
        self.assertEqual(json.loads(self.policy(url))["Statement"], [one, two])
        self.assertEqual(self.ok("RemovePermission", {"QueueUrl": url, "Label": "one"}), {})
        self.assertEqual(json.loads(self.policy(url))["Statement"], [two])
        self.ok("RemovePermission", {"QueueUrl": url, "Label": "two"})
        self.assertIsNone(self.policy(url))

    def test_a_policy_of_the_users_own(self):
        own = {"Sid": "own", "Effect": "Deny", "Principal": "*", "Action": "SQS:*",
               "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        url = make_queue({"Policy": json.dumps({"Version": "2012-10-17", "Statement": own})})
        self.ok("AddPermission", self.add(url, "new"))
        found = json.loads(self.policy(url))
        self.assertEqual((found["Version"], found["Statement"][0]), ("2012-10-17", own))
        self.assertEqual([s["Sid"] for s in found["Statement"]], ["own", "new"])
        self.ok("RemovePermission", {"QueueUrl": url, "Label": "own"})
        self.assertEqual(len(json.loads(self.policy(url))["Statement"]), 1)

    def test_twenty_statements(self):
        url = make_queue()
        for i in range(20):
            self.ok("AddPermission", self.add(url, f"label-{i}"))
        self.fails("AddPermission", self.add(url, "one-more"), OVER_LIMIT,
                   "21 Statements were found, maximum allowed is 20.", 403)
        self.assertEqual(len(json.loads(self.policy(url))["Statement"]), 20)


class DeadLetters(sqs_raw.Calls):
    def redrive(self, dead, count=3):
        return {"RedrivePolicy": json.dumps(
            {"deadLetterTargetArn": arn_of(dead), "maxReceiveCount": count})}

    def test_list_of_sources(self):
        dead = make_queue()
        listing = "ListDeadLetterSourceQueues"
        empty = {"queueUrls": []} if self.protocol == "json" else {}
        self.assertEqual(self.ok(listing, {"QueueUrl": dead}), empty)
        sources = sorted(make_queue(self.redrive(dead)) for _ in range(5))
        make_queue(self.redrive(make_queue()))
        self.assertEqual(self.ok(listing, {"QueueUrl": dead}), {"queueUrls": sources})
        found, token, pages = [], None, 0
        while pages == 0 or token:
            page = {"QueueUrl": dead, "MaxResults": 2, **({"NextToken": token} if token else {})}
            result = self.ok(listing, page)
            self.assertLessEqual(len(result["queueUrls"]), 2)
            found += result["queueUrls"]
            token, pages = result.get("NextToken"), pages + 1
        self.assertEqual((found, pages), (sources, 3))
        self.ok("SetQueueAttributes", {"QueueUrl": sources[0], "Attributes": {"RedrivePolicy": ""}})
        self.assertEqual(self.ok(listing, {"QueueUrl": dead}), {"queueUrls": sources[1:]})
        for value in (0, 1001):
            self.fails(listing, {"QueueUrl": dead, "MaxResults": value}, INVALID,
                       "Value for parameter MaxResults is invalid. Reason: MaxResults must "
                       "be an integer between 1 and 1000.")
        self.fails(listing, {"QueueUrl": dead, "NextToken": "////"}, INVALID,
                   "Invalid or expired next token.")

    def allow(self, url, policy):
        text = policy if isinstance(policy, str) else json.dumps(policy)
        self.ok("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"RedriveAllowPolicy": text}})
        self.assertEqual(self.attributes(url, "RedriveAllowPolicy").get("RedriveAllowPolicy", ""),
                         text)

    def test_who_may_use_a_dead_letter_queue(self):
        dead, friend, stranger = make_queue(), make_queue(), make_queue()

        def wants(url):
            return {"QueueUrl": url, "Attributes": self.redrive(dead)}

        def refused(url):
            text = wants(url)["Attributes"]["RedrivePolicy"]
            self.fails("SetQueueAttributes", wants(url), INVALID,
                       f"Value {text} for parameter RedrivePolicy is invalid. Reason: The "
                       "RedriveAllowPolicy of the dead letter target does not allow this queue.")
            self.assertNotIn("RedrivePolicy", self.attributes(url))

        self.allow(dead, {"redrivePermission": "denyAll"})
        refused(friend)
        name = harness.unique("wire")
        self.fails("CreateQueue", {"QueueName": name, "Attributes": self.redrive(dead)}, INVALID)
        self.allow(dead, {"redrivePermission": "byQueue", "sourceQueueArns": [arn_of(friend)]})
        refused(stranger)
        self.ok("SetQueueAttributes", wants(friend))
        self.allow(dead, {"redrivePermission": "allowAll"})
        self.ok("SetQueueAttributes", wants(stranger))
        self.allow(dead, "")
        self.ok("CreateQueue", {"QueueName": name, "Attributes": self.redrive(dead)})

    def test_where_a_redriven_message_came_from(self):
        dead = make_queue()
        url = make_queue(self.redrive(dead, 1))
        self.ok("SendMessage", {"QueueUrl": url, "MessageBody": "poison"})
        self.assertEqual(len(self.receive(url, VisibilityTimeout=0)), 1)
        self.assertEqual(self.receive(url), [])
        (message,) = self.receive(dead, AttributeNames=["All"], VisibilityTimeout=0,
                                  WaitTimeSeconds=10)
        self.assertEqual(message["Attributes"]["DeadLetterQueueSourceArn"], arn_of(url))
        (message,) = self.receive(dead, MessageSystemAttributeNames=["DeadLetterQueueSourceArn"],
                                  VisibilityTimeout=0)
        self.assertEqual(message["Attributes"], {"DeadLetterQueueSourceArn": arn_of(url)})
        self.ok("DeleteQueue", {"QueueUrl": url})
        (message,) = self.receive(dead, AttributeNames=["All"])
        self.assertNotIn("DeadLetterQueueSourceArn", message["Attributes"])


class JsonTags(Tags, unittest.TestCase):
    protocol = "json"


class QueryTags(Tags, unittest.TestCase):
    protocol = "query"


class JsonPermissions(Permissions, unittest.TestCase):
    protocol = "json"


class QueryPermissions(Permissions, unittest.TestCase):
    protocol = "query"


class JsonDeadLetters(DeadLetters, unittest.TestCase):
    protocol = "json"


class QueryDeadLetters(DeadLetters, unittest.TestCase):
    protocol = "query"


if __name__ == "__main__":
    unittest.main()
