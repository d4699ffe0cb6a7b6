# SPDX-License-Identifier: Apache-2.0
"""Regions: by default what a client signs for is not looked at; with --regions separate each region
has queues of its own. And the URLs of queues: how they are made, and which shapes are understood."""
import json
import os
import unittest

from sqs_raw import harness

HOME, AWAY = harness.REGION, "eu-west-1"
GONE = "com.amazonaws.sqs#QueueDoesNotExist"


def signed(region):
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{region}/sqs/aws4_request, "
                             "SignedHeaders=host, Signature=0"}


def arn(region, name):
    return f"arn:aws:sqs:{region}:{harness.ACCOUNT}:{name}"


@unittest.skipIf(os.environ.get("MILLRACE_ENDPOINT"), "needs brokers of its own")
class Regions(unittest.TestCase):
    arguments = []

    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(worker=False, broker_arguments=[
            "--aws-cooldowns", "off", *cls.arguments])
        cls.addClassCleanup(cls.broker.stop)

    def ask(self, region, action, parameters=None, status=200):
        response = harness.request(
            self.broker.endpoint, "POST", "/", json.dumps(parameters or {}).encode(),
            {"X-Amz-Target": f"AmazonSQS.{action}", **(signed(region) if region else {})})
        self.assertEqual(response.status, status, response.body)
        return json.loads(response.body) if response.body else {}

    def refused(self, region, action, parameters):
        return self.ask(region, action, parameters, 400)

    def query(self, path, region=None, method="GET"):
        return harness.request(self.broker.endpoint, method, path, None,
                               signed(region) if region else {})

    def create(self, region, name, **attributes):
        return self.ask(region, "CreateQueue", {"QueueName": name, "Attributes": attributes})[
            "QueueUrl"]

    def arn_of(self, region, url):
        found = self.ask(region, "GetQueueAttributes", {"QueueUrl": url,
                                                        "AttributeNames": ["QueueArn"]})
        return found["Attributes"]["QueueArn"]


class Same(Regions):
    def test_every_region_sees_the_same_queues(self):
        name = harness.unique("q")
        url = self.create(AWAY, name)
        self.assertEqual(url, f"{self.broker.endpoint}/{harness.ACCOUNT}/{name}")
        for region in (HOME, AWAY, None):
            self.assertEqual(self.ask(region, "GetQueueUrl", {"QueueName": name})["QueueUrl"], url)
            self.assertEqual(self.arn_of(region, url), arn(HOME, name))

    def test_any_shape_of_a_url(self):
        name = harness.unique("q")
        self.create(HOME, name)
        for url in (name, f"/1/{name}", f"http://elsewhere:1/123456789012/{name}",
                    f"https://sqs.{AWAY}.amazonaws.com/123456789012/{name}",
                    f"http://x/queue/{AWAY}/1/{name}", f"http://x/queue/{name}",
                    f"http://{AWAY}.queue.localhost/1/{name}/"):
            self.assertEqual(self.arn_of(HOME, url), arn(HOME, name), url)
        for path in (f"/1/{name}", f"/queue/{AWAY}/1/{name}", f"/queue/{name}"):
            answer = self.query(f"{path}?Action=GetQueueAttributes&AttributeName.1=QueueArn")
            self.assertIn(f"<Value>{arn(HOME, name)}</Value>".encode(), answer.body, path)


class Addresses(Regions):
    """Queue URLs are made so that the client that asked can dial them."""

    def url(self, broker, host):
        response = harness.request(broker.endpoint, "POST", "/", b'{"QueueName":"q"}', {
            "X-Amz-Target": "AmazonSQS.CreateQueue", "Host": host})
        return response.json()["QueueUrl"]

    def test_from_the_host_of_the_request(self):
        for host in ("localhost:9324", "queues.example", "[::1]:80", "broker-1.internal:1"):
            self.assertEqual(self.url(self.broker, host), f"http://{host}/{harness.ACCOUNT}/q")

    def test_from_the_public_url(self):
        broker = harness.Broker(worker=False, broker_arguments=[
            "--public-url", "https://queues.example", "--account-id", "123456789012",
            "--region", "eu-central-1"])
        self.addCleanup(broker.stop)
        self.assertEqual(self.url(broker, "localhost:1"), "https://queues.example/123456789012/q")
        found = harness.request(broker.endpoint, "GET", "/123456789012/q?Action=GetQueueAttributes"
                                                        "&AttributeName.1=QueueArn")
        self.assertIn(b"<Value>arn:aws:sqs:eu-central-1:123456789012:q</Value>", found.body)


class Separate(Regions):
    arguments = ["--regions", "separate"]

    def test_a_name_in_two_regions_is_two_queues(self):
        name = harness.unique("q")
        home, away = self.create(HOME, name), self.create(AWAY, name, DelaySeconds="0")
        self.assertEqual(home, f"{self.broker.endpoint}/{harness.ACCOUNT}/{name}")
        self.assertEqual(away, f"{self.broker.endpoint}/queue/{AWAY}/{harness.ACCOUNT}/{name}")
        self.assertEqual(self.create(None, name), home)
        self.assertEqual(self.ask(AWAY, "GetQueueUrl", {"QueueName": name})["QueueUrl"], away)
        self.assertEqual(self.arn_of(HOME, home), arn(HOME, name))
        self.assertEqual(self.arn_of(AWAY, away), arn(AWAY, name))
        self.ask(AWAY, "SendMessage", {"QueueUrl": name, "MessageBody": "away"})
        self.assertEqual(self.ask(HOME, "ReceiveMessage", {"QueueUrl": name}), {})
        # The region in a queue's URL counts before that of the signature.
        (message,) = self.ask(HOME, "ReceiveMessage", {"QueueUrl": away})["Messages"]
        self.assertEqual(message["Body"], "away")
        self.ask(HOME, "DeleteMessage", {"QueueUrl": away,
                                         "ReceiptHandle": message["ReceiptHandle"]})
        self.ask(AWAY, "DeleteQueue", {"QueueUrl": away})
        self.assertEqual(self.refused(AWAY, "GetQueueUrl", {"QueueName": name})["__type"], GONE)
        self.assertEqual(self.ask(HOME, "GetQueueUrl", {"QueueName": name})["QueueUrl"], home)

    def test_requests_without_a_signed_header(self):
        name = harness.unique("q")
        away = self.create(AWAY, name)
        path = away.removeprefix(self.broker.endpoint)
        sent = self.query(f"{path}?Action=SendMessage&MessageBody=x")
        self.assertEqual(sent.status, 200, sent.body)
        for slash in ("/", "%2F", "%2f"):
            scope = slash.join(["test", "20260101", AWAY, "sqs", "aws4_request"])
            found = self.query(f"/?Action=GetQueueUrl&QueueName={name}&X-Amz-Credential={scope}")
            self.assertIn(f"<QueueUrl>{away}</QueueUrl>".encode(), found.body)
        self.assertEqual(self.query(f"/?Action=GetQueueUrl&QueueName={name}").status, 400)
        for scope in ("test", "test/1", "test/1/", "test/1/UP/sqs", f"test/1/{'x' * 33}/sqs", "///"):
            self.assertEqual(self.query(
                f"/?Action=GetQueueUrl&QueueName={name}&X-Amz-Credential={scope}").status, 400)

    def test_lists(self):
        prefix = harness.unique("list")
        names = [f"{prefix}-{i}" for i in range(3)]
        urls = {region: [self.create(region, name) for name in names] for region in (HOME, AWAY)}
        for region in (HOME, AWAY):
            found, token = [], None
            while True:
                page = {"QueueNamePrefix": prefix, "MaxResults": 2}
                if token:
                    page["NextToken"] = token
                answer = self.ask(region, "ListQueues", page)
                found += answer["QueueUrls"]
                token = answer.get("NextToken")
                if token is None:
                    break
            self.assertEqual(found, urls[region])
            every = self.ask(region, "ListQueues")["QueueUrls"]
            self.assertLessEqual(set(urls[region]), set(every))
            self.assertFalse(set(every) & set(urls[AWAY if region == HOME else HOME]))
        for odd in (AWAY, f"{AWAY}:", f"{AWAY}:{prefix}", ":"):
            self.assertEqual(self.ask(HOME, "ListQueues", {"QueueNamePrefix": odd}), {})

    def test_a_key_is_no_name(self):
        name = harness.unique("q")
        self.create(AWAY, name)
        for action, given in (("GetQueueUrl", {"QueueName": f"{AWAY}:{name}"}),
                              ("PurgeQueue", {"QueueUrl": f"{AWAY}:{name}"}),
                              ("PurgeQueue", {"QueueUrl": f"http://h/1/{AWAY}:{name}"})):
            self.assertEqual(self.refused(HOME, action, given)["__type"], GONE)

    def test_dead_letter_queues_are_of_the_same_region(self):
        dead, name = harness.unique("dead"), harness.unique("q")
        home, away = self.create(HOME, dead), self.create(AWAY, dead)

        def policy(region):
            return json.dumps({"deadLetterTargetArn": arn(region, dead), "maxReceiveCount": 1})
        error = self.refused(AWAY, "CreateQueue", {
            "QueueName": name, "Attributes": {"RedrivePolicy": policy(HOME)}})
        self.assertIn("Dead letter target does not exist.", error["message"])
        url = self.create(AWAY, name, RedrivePolicy=policy(AWAY))
        shown = self.ask(AWAY, "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
        self.assertEqual(json.loads(shown["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"],
                         arn(AWAY, dead))
        self.assertEqual(self.ask(AWAY, "ListDeadLetterSourceQueues", {"QueueUrl": away}),
                         {"queueUrls": [url]})
        self.assertEqual(self.ask(HOME, "ListDeadLetterSourceQueues", {"QueueUrl": home}),
                         {"queueUrls": []})
        self.ask(AWAY, "SendMessage", {"QueueUrl": url, "MessageBody": "poison"})
        self.ask(AWAY, "ReceiveMessage", {"QueueUrl": url, "VisibilityTimeout": 0})
        self.assertEqual(self.ask(AWAY, "ReceiveMessage", {"QueueUrl": url}), {})
        (message,) = self.ask(AWAY, "ReceiveMessage", {
            "QueueUrl": away, "VisibilityTimeout": 0, "WaitTimeSeconds": 10,
            "AttributeNames": ["DeadLetterQueueSourceArn"]})["Messages"]
        self.assertEqual(message["Attributes"], {"DeadLetterQueueSourceArn": arn(AWAY, name)})
        self.ask(HOME, "StartMessageMoveTask", {"SourceArn": arn(AWAY, dead)})
        self.assertEqual(self.ask(HOME, "ListMessageMoveTasks", {"SourceArn": arn(AWAY, dead)})[
            "Results"][0]["SourceArn"], arn(AWAY, dead))

    def test_an_allow_list_names_regions(self):
        dead, name = harness.unique("dead"), harness.unique("q")
        target = self.create(AWAY, dead, RedriveAllowPolicy=json.dumps(
            {"redrivePermission": "byQueue", "sourceQueueArns": [arn(HOME, name)]}))
        policy = json.dumps({"deadLetterTargetArn": arn(AWAY, dead), "maxReceiveCount": 1})
        given = {"QueueName": name, "Attributes": {"RedrivePolicy": policy}}
        self.refused(AWAY, "CreateQueue", given)
        self.ask(AWAY, "SetQueueAttributes", {"QueueUrl": target, "Attributes": {
            "RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue",
                                              "sourceQueueArns": [arn(AWAY, name)]})}})
        self.ask(AWAY, "CreateQueue", given)


class Options(unittest.TestCase):
    def test_a_wrong_value_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "--regions must be same or separate"):
            harness.Broker(worker=False, broker_arguments=["--regions", "many"]).stop()


if __name__ == "__main__":
    unittest.main()
