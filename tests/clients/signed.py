#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tests of boto3 and of the AWS CLI once more, against a broker that requires signatures; and a
function that calls the queues with a key of its own."""
import atexit
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import unittest

import harness

harness.ACCESS_KEY_ID = "SIGNEDROOT"
harness.SECRET_ACCESS_KEY = "signed/root+secret0123456789"
ROOT_OPTIONS = ["--auth", "required", "--root-access-key-id", harness.ACCESS_KEY_ID,
                "--root-secret-access-key", harness.SECRET_ACCESS_KEY]

from botocore.exceptions import ClientError  # noqa: E402

import aws_cli  # noqa: E402
import boto3_lambda  # noqa: E402
import boto3_sqs  # noqa: E402


def setUpModule():
    harness._shared = harness.Broker(broker_arguments=ROOT_OPTIONS)
    atexit.register(harness._shared.stop)
    harness.wait_for(lambda: try_list(harness.boto("sqs")), 10, "the root key")


def try_list(client):
    try:
        return client.list_queues()
    except ClientError:
        return None


def open_to_functions(case):
    """The functions of those tests send to queues without an SDK, and so without a signature."""
    def queue(self, *arguments, **attributes):
        name, url = case.queue(self, *arguments, **attributes)
        policy = {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage",
                                "Resource": harness.queue_arn(name)}}
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
        return name, url
    return {"queue": queue}


class SignedQueues(boto3_sqs.Queues):
    pass


class SignedCommandLine(aws_cli.CommandLine):
    pass


SignedInvocations = type("SignedInvocations", (boto3_lambda.Invocations,),
                         open_to_functions(boto3_lambda.Invocations))
SignedTriggers = type("SignedTriggers", (boto3_lambda.Queues,), open_to_functions(boto3_lambda.Queues))

FUNCTION = """
import os, boto3
def handler(event, context):
    sqs = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    sqs.send_message(QueueUrl=event["queue"], MessageBody="from " + os.environ["AWS_ACCESS_KEY_ID"])
"""


BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))


def millrace(*words, text=None):
    done = subprocess.run([BIN / "millrace", *words, "--json"], env=harness.client_environment(),
                          capture_output=True, text=True, timeout=60, input=text)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


class OverTls(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="millrace-signed-tls-")
        self.addCleanup(shutil.rmtree, self.folder)
        millrace("tls", "init", "--dir", self.folder, "--hosts", "node+127.0.0.1")
        self.ca = os.path.join(self.folder, "ca.pem")
        node = os.path.join(self.folder, "node")
        self.broker = harness.Broker(worker=False, broker_arguments=ROOT_OPTIONS + [
            "--tls-cert", os.path.join(node, "cert.pem"), "--tls-key", os.path.join(node, "key.pem")],
            tls=ssl.create_default_context(cafile=self.ca))
        self.addCleanup(self.broker.stop)
        self.root = self.client("sqs", harness.ACCESS_KEY_ID, harness.SECRET_ACCESS_KEY)
        harness.wait_for(lambda: try_list(self.root), 10, "the root key")

    def client(self, service, key_id, secret):
        import boto3
        from botocore.config import Config
        return boto3.client(service, endpoint_url=self.broker.endpoint, region_name=harness.REGION,
                            verify=self.ca, aws_access_key_id=key_id, aws_secret_access_key=secret,
                            config=Config(retries={"max_attempts": 0}, proxies={}))

    def test_a_policy_that_wants_tls(self):
        policy = json.dumps({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "sqs:*", "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "true"}}}})
        key = millrace("key", "create", "--policy", "-", "--endpoint", self.broker.endpoint,
                       "--ca-file", self.ca, text=policy)
        sqs = self.client("sqs", key["AccessKeyId"], key["SecretAccessKey"])
        self.assertTrue(sqs.create_queue(QueueName="q")["QueueUrl"].startswith("https://"))

    def test_an_unsigned_payload(self):
        """For the Lambda API, as SDKs send large bodies over TLS."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        class Unsigned(SigV4Auth):
            def payload(self, request):
                return "UNSIGNED-PAYLOAD"

        credentials = Credentials(harness.ACCESS_KEY_ID, harness.SECRET_ACCESS_KEY)
        for service, path, expected in (("lambda", "/2015-03-31/functions/none/invocations", 404),
                                        ("sqs", "/?Action=ListQueues", 403)):
            request = AWSRequest("POST", self.broker.endpoint + path, data=b"{}", headers={
                "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})
            Unsigned(credentials, service, harness.REGION).add_auth(request)
            answer = harness.request(self.broker.endpoint, "POST", path, b"{}", dict(request.headers),
                                     tls=self.broker.tls)
            self.assertEqual(answer.status, expected, answer.body)


class Function(unittest.TestCase):
    def test_with_a_key_of_its_own(self):
        sqs, functions = harness.boto("sqs"), harness.boto("lambda")
        queue, name = harness.unique("q"), harness.unique("f")
        url = sqs.create_queue(QueueName=queue)["QueueUrl"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": harness.queue_arn(queue)}})
        key = millrace("key", "create", "--name", name, "--policy", "-", "--endpoint",
                       harness.endpoint(), text=policy)
        created = {"FunctionName": name, "Runtime": "python3.11", "Handler": "f.handler",
                   "Role": harness.ROLE, "Timeout": 60, "MemorySize": 1024,
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
