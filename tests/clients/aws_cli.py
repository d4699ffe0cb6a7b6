#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The AWS CLI, as someone at a terminal uses it: queues, and a function from zip to deletion."""
import base64
import json
import os
import subprocess
import tempfile
import unittest

import functions
import harness
from harness import ROLE, queue_arn, unique, wait_for, zip_of

AWS = os.environ.get("MILLRACE_AWS_CLI", "/usr/bin/aws")


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.endpoint = harness.endpoint()
        cls.folder = tempfile.TemporaryDirectory(prefix="millrace-cli-")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_aws(self, *words):
        return subprocess.run([AWS, "--endpoint-url", self.endpoint, "--output", "json", *words],
                              env=harness.client_environment(), capture_output=True, text=True,
                              timeout=90, stdin=subprocess.DEVNULL)

    def aws(self, *words):
        done = self.run_aws(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def refused(self, text, *words):
        done = self.run_aws(*words)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn(text, done.stderr)

    def file(self, name, content):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def test_queues(self):
        name = unique("q")
        url = self.aws("sqs", "create-queue", "--queue-name", name, "--attributes",
                       "VisibilityTimeout=60")["QueueUrl"]
        sent = self.aws("sqs", "send-message", "--queue-url", url, "--message-body", "hello",
                        "--message-attributes",
                        '{"a": {"DataType": "String", "StringValue": "x"}}')
        got, = self.aws("sqs", "receive-message", "--queue-url", url, "--wait-time-seconds", "5",
                        "--attribute-names", "All", "--message-attribute-names",
                        "All")["Messages"]
        self.assertEqual((got["Body"], got["MessageId"]), ("hello", sent["MessageId"]))
        self.assertEqual(got["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"])
        self.aws("sqs", "delete-message", "--queue-url", url, "--receipt-handle",
                 got["ReceiptHandle"])
        self.aws("sqs", "send-message-batch", "--queue-url", url, "--entries",
                 json.dumps([{"Id": str(i), "MessageBody": str(i)} for i in range(10)]))
        found = self.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names",
                         "All")["Attributes"]
        self.assertEqual((found["ApproximateNumberOfMessages"], found["VisibilityTimeout"],
                          found["QueueArn"]), ("10", "60", queue_arn(name)))
        self.assertIn(url, self.aws("sqs", "list-queues")["QueueUrls"])
        self.aws("sqs", "purge-queue", "--queue-url", url)
        self.aws("sqs", "delete-queue", "--queue-url", url)
        self.refused("NonExistentQueue", "sqs", "get-queue-url", "--queue-name", name)

    def test_a_function_from_zip_to_deletion(self):
        name = unique("f")
        package = self.file("code.zip", zip_of(functions.PYTHON_ECHO))
        made = self.aws("lambda", "create-function", "--function-name", name, "--runtime",
                        "python3.11", "--handler", "app.handler", "--role", ROLE, "--zip-file",
                        f"fileb://{package}", "--environment", "Variables={GREETING=hi}",
                        "--tags", "team=mill")
        self.assertEqual(made["State"], "Pending")
        self.aws("lambda", "wait", "function-active-v2", "--function-name", name)
        out = os.path.join(self.folder.name, "out.json")
        payload = self.file("in.json", b'{"n": 1}')
        answer = self.aws("lambda", "invoke", "--function-name", name, "--payload",
                          f"fileb://{payload}", "--log-type", "Tail", out)
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"]), (200, "$LATEST"))
        self.assertIn("REPORT RequestId:", base64.b64decode(answer["LogResult"]).decode())
        with open(out, encoding="utf-8") as f:
            result = json.load(f)
        self.assertEqual((result["event"], result["greeting"]), ({"n": 1}, "hi"))
        self.aws("lambda", "update-function-configuration", "--function-name", name, "--timeout",
                 "9", "--description", "changed")
        self.aws("lambda", "wait", "function-updated", "--function-name", name)
        shown = self.aws("lambda", "get-function", "--function-name", name)
        self.assertEqual((shown["Configuration"]["Timeout"], shown["Tags"]), (9, {"team": "mill"}))
        self.aws("lambda", "update-function-code", "--function-name", name, "--zip-file",
                 f"fileb://{package}", "--dry-run")
        listed = self.aws("lambda", "list-functions")["Functions"]
        self.assertIn(name, [f["FunctionName"] for f in listed])
        queue = unique("q")
        url = self.aws("sqs", "create-queue", "--queue-name", queue)["QueueUrl"]
        mapping = self.aws("lambda", "create-event-source-mapping", "--function-name", name,
                           "--event-source-arn", queue_arn(queue), "--batch-size", "5")
        self.aws("sqs", "send-message", "--queue-url", url, "--message-body", "work")
        wait_for(lambda: self.aws(
            "sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names",
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")["Attributes"]
            == {"ApproximateNumberOfMessages": "0",
                "ApproximateNumberOfMessagesNotVisible": "0"}, 30)
        self.aws("lambda", "delete-event-source-mapping", "--uuid", mapping["UUID"])
        self.aws("lambda", "delete-function", "--function-name", name)
        self.refused("ResourceNotFoundException", "lambda", "get-function", "--function-name", name)

    def test_refusals_are_readable(self):
        package = self.file("code.zip", zip_of(functions.PYTHON_ECHO))
        self.refused("Value cobol at 'runtime' failed to satisfy constraint", "lambda",
                     "create-function", "--function-name", unique("f"), "--runtime", "cobol",
                     "--handler", "a.b", "--role", ROLE, "--zip-file", f"fileb://{package}")
        self.refused("PublishVersion", "lambda", "publish-version", "--function-name", "f")


if __name__ == "__main__":
    unittest.main()
