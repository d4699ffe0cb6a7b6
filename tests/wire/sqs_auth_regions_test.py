# SPDX-License-Identifier: Apache-2.0
"""Signatures and policies with --regions separate: what is allowed on a queue is not allowed on the
queue of the same name in another region, however that one is named."""
import unittest

import signing
from signing import allow, error_of, harness, json_call, make_key, set_policy

HOME, AWAY = harness.REGION, "eu-west-1"


def arn(region, name):
    return f"arn:aws:sqs:{region}:{harness.ACCOUNT}:{name}"


class Regions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        signing.broker("--regions", "separate")

    def setUp(self):
        self.name = harness.unique("q")
        self.urls = {}
        for region in (HOME, AWAY):
            answer = json_call("CreateQueue", {"QueueName": self.name}, region=region)
            self.assertEqual(answer.status, 200, answer.body)
            self.urls[region] = answer.json()["QueueUrl"]
        self.assertNotEqual(self.urls[HOME], self.urls[AWAY])

    def cannot(self, key, action, parameters, region=HOME):
        answer = json_call(action, parameters, key, region=region)
        self.assertEqual(error_of(answer)[:2], ("AccessDenied", 403), (action, parameters, region))

    def can(self, key, action, parameters, region=HOME):
        answer = json_call(action, parameters, key, region=region)
        self.assertEqual(answer.status, 200, answer.body)

    def only_home(self, key):
        """The key, or nobody, may do everything to the queue in HOME and nothing to the one in AWAY."""
        self.can(key, "PurgeQueue", {"QueueUrl": self.urls[HOME]})
        for url in (self.urls[AWAY], f"/queue/{AWAY}/{harness.ACCOUNT}/{self.name}",
                    f"https://sqs.{AWAY}.amazonaws.com/{harness.ACCOUNT}/{self.name}",
                    f"http://{AWAY}.queue.localhost/{harness.ACCOUNT}/{self.name}"):
            self.cannot(key, "PurgeQueue", {"QueueUrl": url})

    def test_a_keys_policy(self):
        key = make_key(allow("sqs:*", arn(HOME, self.name)))
        self.only_home(key)
        self.cannot(key, "PurgeQueue", {"QueueUrl": self.urls[HOME]}, AWAY)  # it names no region
        self.can(key, "PurgeQueue", {"QueueUrl": self.name}, HOME)
        self.cannot(key, "PurgeQueue", {"QueueUrl": self.name}, AWAY)
        self.can(key, "GetQueueUrl", {"QueueName": self.name}, HOME)
        self.cannot(key, "GetQueueUrl", {"QueueName": self.name}, AWAY)
        self.cannot(key, "CreateQueue", {"QueueName": self.name}, AWAY)
        self.can(key, "ListMessageMoveTasks", {"SourceArn": arn(HOME, self.name)})
        for action in ("ListMessageMoveTasks", "StartMessageMoveTask"):
            self.cannot(key, action, {"SourceArn": arn(AWAY, self.name)})

    def test_the_other_way_round(self):
        key = make_key(allow("sqs:*", arn(AWAY, self.name)))
        self.can(key, "PurgeQueue", {"QueueUrl": self.urls[AWAY]})
        self.can(key, "PurgeQueue", {"QueueUrl": self.name}, AWAY)
        self.cannot(key, "PurgeQueue", {"QueueUrl": self.urls[HOME]})
        self.cannot(key, "PurgeQueue", {"QueueUrl": self.name}, HOME)

    def test_a_queues_policy(self):
        set_policy(self.urls[HOME], {"Effect": "Allow", "Principal": "*", "Action": "sqs:*",
                                     "Resource": "*"})
        self.only_home(make_key())

    def test_listing(self):
        key = make_key(allow("sqs:ListQueues", arn(HOME, "*")))
        self.can(key, "ListQueues", {}, HOME)
        self.cannot(key, "ListQueues", {}, AWAY)


if __name__ == "__main__":
    unittest.main()
