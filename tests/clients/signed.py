#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tests of boto3 and of the AWS CLI once more, against a broker that requires signatures; and a
function that calls the queues with a key of its own."""
import atexit
import json
import subprocess
import unittest

import harness

harness.ACCESS_KEY_ID = "SIGNEDROOT"
harness.SECRET_ACCESS_KEY = "signed/root+secret0123456789"

from botocore.exceptions import ClientError  # noqa: E402

import aws_cli  # noqa: E402
import boto3_lambda  # noqa: E402
import boto3_sqs  # noqa: E402


def setUpModule():
    harness._shared = harness.Broker(broker_arguments=[
        "--auth", "required", "--root-access-key-id", harness.ACCESS_KEY_ID,
        "--root-secret-access-key", harness.SECRET_ACCESS_KEY])
    atexit.register(harness._shared.stop)
    harness.wait_for(lambda: try_list(harness.boto("sqs")), 10, "the root key")


def try_list(client):
    try:
        return client.list_queues()
    except ClientError:
        return None


def cases_of(module):
    return {name: value for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, unittest.TestCase)}


for _module in (boto3_sqs, boto3_lambda, aws_cli):
    for _name, _case in cases_of(_module).items():
        globals()[f"Signed_{_module.__name__}_{_name}"] = type(_name, (_case,), {})
del _module, _name, _case

FUNCTION = """
import os, boto3
def handler(event, context):
    sqs = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    sqs.send_message(QueueUrl=event["queue"], MessageBody="from " + os.environ["AWS_ACCESS_KEY_ID"])
"""


class Function(unittest.TestCase):
    def millrace(self, *words):
        binary = str(harness.pathlib.Path(harness.os.environ.get(
            "MILLRACE_BIN", harness.ROOT / "build/release/bin")) / "millrace")
        done = subprocess.run([binary, *words, "--endpoint", harness.endpoint(), "--json"],
                              env=harness.client_environment(), capture_output=True, text=True,
                              timeout=60, input=self.input)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_with_a_key_of_its_own(self):
        sqs, functions = harness.boto("sqs"), harness.boto("lambda")
        queue, name = harness.unique("q"), harness.unique("f")
        url = sqs.create_queue(QueueName=queue)["QueueUrl"]
        self.input = json.dumps({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": harness.queue_arn(queue)}})
        key = self.millrace("key", "create", "--name", name, "--policy", "-")
        created = {"FunctionName": name, "Runtime": "python3.11", "Handler": "f.handler",
                   "Role": harness.ROLE, "Timeout": 20, "MemorySize": 256,
                   "Code": {"ZipFile": harness.zip_of({"f.py": FUNCTION})}}
        functions.create_function(**created)
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        event = json.dumps({"queue": url}).encode()
        refused = functions.invoke(FunctionName=name, Payload=event)
        self.assertIn(b"InvalidClientTokenId", refused["Payload"].read())
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}})
        functions.get_waiter("function_updated_v2").wait(FunctionName=name)
        done = functions.invoke(FunctionName=name, Payload=event)
        self.assertNotIn("FunctionError", done, done["Payload"].read())
        got, = sqs.receive_message(QueueUrl=url, AttributeNames=["SenderId"])["Messages"]
        self.assertEqual(got["Body"], "from " + key["AccessKeyId"])
        self.assertEqual(got["Attributes"]["SenderId"], key["AccessKeyId"])


if __name__ == "__main__":
    unittest.main()
