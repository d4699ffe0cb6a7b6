#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lambda with boto3: functions of every runtime, invoked in every way, and fed by queues."""
import base64
import concurrent.futures
import json
import socket
import unittest
import urllib.parse

from botocore.exceptions import ClientError

import functions
import harness
from harness import ROLE, queue_arn, unique, wait_for, zip_of

RUNTIMES = {
    "python3.11": ("app.handler", functions.PYTHON_ECHO),
    "nodejs20.x": ("index.handler", functions.NODE_ECHO),
    "provided.al2023": ("bootstrap", functions.CUSTOM_ECHO),
}


class LambdaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = harness.boto("lambda")
        cls.sqs = harness.boto("sqs")

    def deploy(self, files, handler="app.handler", runtime="python3.11", **settings):
        name = unique("f")
        self.client.create_function(FunctionName=name, Runtime=runtime, Role=ROLE, Handler=handler,
                                    Code={"ZipFile": zip_of(files)}, **settings)
        self.addCleanup(self.delete_quietly, name)
        return name

    def delete_quietly(self, name):
        try:
            self.client.delete_function(FunctionName=name)
        except ClientError:
            pass

    def invoke(self, name, event=None, **options):
        answer = self.client.invoke(FunctionName=name, Payload=json.dumps(event or {}), **options)
        return answer, json.loads(answer["Payload"].read() or b"null")

    def queue(self, **attributes):
        name = unique("q")
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.addCleanup(self.sqs.delete_queue, QueueUrl=url)
        return name, url

    def counts(self, url):
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return (int(found["ApproximateNumberOfMessages"]),
                int(found["ApproximateNumberOfMessagesNotVisible"]))

    def drain(self, url, count, seconds=60):
        got = []

        def step():
            page = self.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1,
                                            MaxNumberOfMessages=10).get("Messages", [])
            for m in page:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
            got.extend(page)
            return len(got) >= count

        wait_for(step, seconds, lambda: f"{len(got)} of {count} messages")
        return got


class Invocations(LambdaTest):
    def test_every_runtime_answers_and_prints(self):
        for runtime, (handler, files) in RUNTIMES.items():
            with self.subTest(runtime):
                name = self.deploy(files, handler, runtime,
                                   Environment={"Variables": {"GREETING": "hi"}})
                event = {"text": "ü", "list": [1, None, 2.5]}
                answer, result = self.invoke(name, event, LogType="Tail")
                self.assertEqual(answer["StatusCode"], 200)
                self.assertNotIn("FunctionError", answer, result)
                self.assertEqual(answer["ExecutedVersion"], "$LATEST")
                self.assertEqual(result["event"], event)
                log = base64.b64decode(answer["LogResult"]).decode()
                request_id = answer["ResponseMetadata"]["RequestId"]
                self.assertIn(f"START RequestId: {request_id} Version: $LATEST", log)
                self.assertIn("printed by the function", log)
                self.assertIn(f"END RequestId: {request_id}", log)
                self.assertIn(f"REPORT RequestId: {request_id}", log)
                if runtime != "provided.al2023":
                    self.assertEqual((result["greeting"], result["name"], result["request_id"]),
                                     ("hi", name, request_id))
                    answer, result = self.invoke(name, {"raise": "on purpose"})
                    self.assertEqual(answer["FunctionError"], "Unhandled")
                    self.assertEqual(result["errorMessage"], "on purpose")
                    self.assertIn(result["errorType"], ("ValueError", "TypeError"))

    def test_waiters_and_updates(self):
        name = self.deploy(functions.PYTHON_ECHO)
        self.client.get_waiter("function_active_v2").wait(FunctionName=name)
        self.assertIsNone(self.invoke(name)[1]["greeting"])
        self.client.update_function_configuration(
            FunctionName=name, Environment={"Variables": {"GREETING": "new"}}, MemorySize=256)
        self.client.get_waiter("function_updated_v2").wait(FunctionName=name)
        result = self.invoke(name)[1]
        self.assertEqual((result["greeting"], int(result["memory"])), ("new", 256))
        self.client.update_function_code(FunctionName=name, ZipFile=zip_of(
            {"app.py": "def handler(event, context):\n    return 'second'\n"}))
        self.client.get_waiter("function_updated").wait(FunctionName=name)
        self.assertEqual(self.invoke(name)[1], "second")
        self.assertEqual(self.client.get_function(FunctionName=name)["Configuration"]["State"],
                         "Active")

    def test_event_and_dry_run(self):
        _, url = self.queue()
        name = self.deploy({"app.py": functions.CONSUMER["app.py"] + '''

def single(event, context):
    send(json.dumps({"event": event, "id": context.aws_request_id}))
'''}, "app.single", Environment={"Variables": {"TARGET": url, "ENDPOINT": harness.endpoint()}})
        answer = self.client.invoke(FunctionName=name, InvocationType="DryRun", Payload=b"{}")
        self.assertEqual(answer["StatusCode"], 204)
        answer = self.client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 1}')
        self.assertEqual((answer["StatusCode"], answer["Payload"].read()), (202, b""))
        got = json.loads(self.drain(url, 1)[0]["Body"])
        self.assertEqual(got, {"event": {"n": 1}, "id": answer["ResponseMetadata"]["RequestId"]})

    def test_an_empty_payload_is_an_empty_object(self):
        name = self.deploy(functions.PYTHON_ECHO)
        answer = self.client.invoke(FunctionName=name)
        self.assertEqual(json.loads(answer["Payload"].read())["event"], {})

    def test_client_context_reaches_the_function(self):
        name = self.deploy({"app.py": '''
def handler(event, context):
    return context.client_context.custom["k"]
'''})
        context = base64.b64encode(json.dumps({"custom": {"k": "ü\r\nX: 1"}}).encode()).decode()
        answer = self.client.invoke(FunctionName=name, ClientContext=context)
        self.assertEqual(json.loads(answer["Payload"].read()), "ü\r\nX: 1")

    def test_many_at_once(self):
        name = self.deploy(functions.PYTHON_ECHO)
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            results = list(pool.map(lambda n: self.invoke(name, {"n": n})[1], range(40)))
        self.assertEqual([r["event"]["n"] for r in results], list(range(40)))
        self.assertEqual(len({r["request_id"] for r in results}), 40)

    def running(self, name):
        found = [f for f in harness.status(harness.endpoint())["functions"] if f["name"] == name]
        return found[0]["running"]

    def test_a_client_that_leaves_ends_its_invocation(self):
        handler, files = functions.HOSTILE["never answers"]
        name = self.deploy(files, handler, Timeout=600)
        url = urllib.parse.urlsplit(harness.endpoint())
        with socket.create_connection((url.hostname, url.port)) as s:
            s.sendall(f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: x\r\n"
                      "Content-Length: 2\r\n\r\n{}".encode())
            wait_for(lambda: self.running(name) == 1, 20, "it does not run")
        wait_for(lambda: self.running(name) == 0, 20, "it still runs")

    def test_changes_at_the_same_time_are_all_kept(self):
        name = self.deploy(functions.PYTHON_ECHO)
        arn = harness.function_arn(name)
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda n: self.client.tag_resource(Resource=arn, Tags={f"k{n}": "v"}),
                          range(5)))
        self.assertEqual(len(self.client.list_tags(Resource=arn)["Tags"]), 5)

        def create(n):
            try:
                self.client.create_function(FunctionName=name + "x", Runtime="python3.11",
                                            Role=ROLE, Handler="app.handler", Description=str(n),
                                            Code={"ZipFile": zip_of({"app.py": f"n = {n}\n"})})
                return 1
            except self.client.exceptions.ResourceConflictException:
                return 0

        self.addCleanup(self.delete_quietly, name + "x")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(sum(pool.map(create, range(8))), 1)

    def test_errors_are_the_modeled_ones(self):
        errors = self.client.exceptions
        name = self.deploy(functions.PYTHON_ECHO)
        with self.assertRaises(errors.ResourceNotFoundException):
            self.client.invoke(FunctionName="nope")
        with self.assertRaises(errors.ResourceNotFoundException):
            self.client.get_function(FunctionName=name, Qualifier="7")
        with self.assertRaises(errors.ResourceConflictException):
            self.client.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE,
                                        Handler="a.b", Code={"ZipFile": zip_of({"a.py": ""})})
        with self.assertRaises(errors.InvalidParameterValueException):
            self.client.create_function(FunctionName=unique("f"), Runtime="python3.11", Role=ROLE,
                                        Handler="a.b", Code={"ZipFile": b"no zip"})
        with self.assertRaises(errors.PreconditionFailedException):
            self.client.update_function_configuration(FunctionName=name, RevisionId="old")
        with self.assertRaises(errors.InvalidRequestContentException):
            self.client.invoke(FunctionName=name, Payload=b"{")
        with self.assertRaises(errors.RequestTooLargeException):
            self.client.invoke(FunctionName=name, InvocationType="Event",
                               Payload=json.dumps("x" * (1 << 20)))


class Hostile(LambdaTest):
    """Each gives its own error, and the next invocation of another function still works."""

    def check(self, what, error_types, timeout=3):
        handler, files = functions.HOSTILE[what]
        name = self.deploy(files, handler, Timeout=timeout)
        answer, result = self.invoke(name, LogType="Tail")
        self.assertEqual(answer.get("FunctionError"), "Unhandled", result)
        self.assertIn(result["errorType"], error_types, result)
        self.assertIn("errorMessage", result)
        self.assertLessEqual(len(base64.b64decode(answer["LogResult"])), 4096)
        good = self.deploy(functions.PYTHON_ECHO)
        answer, result = self.invoke(good, {"still": "here"})
        self.assertNotIn("FunctionError", answer)
        self.assertEqual(result["event"], {"still": "here"})

    def test_endless_output(self):
        self.check("endless output", ["Sandbox.Timedout"])

    def test_fork_bomb(self):
        self.check("fork bomb", ["Sandbox.Timedout", "Runtime.ExitError"])

    def test_never_answers(self):
        self.check("never answers", ["Sandbox.Timedout"], timeout=1)

    def test_exits_at_once(self):
        self.check("exits at once", ["Runtime.ExitError"])

    def test_exits_in_the_handler(self):
        self.check("exits in the handler", ["Runtime.ExitError"])

    def test_handler_missing(self):
        self.check("handler missing", ["Runtime.HandlerNotFound"])

    def test_module_missing(self):
        self.check("module missing", ["Runtime.ImportModuleError"])

    def test_syntax_error(self):
        self.check("syntax error", ["Runtime.UserCodeSyntaxError"])

    def test_answer_too_large(self):
        self.check("answer too large", ["Function.ResponseSizeTooLarge"], timeout=20)

    def test_answer_is_not_json(self):
        self.check("answer is not JSON", ["Runtime.MarshalError"])


class Queues(LambdaTest):
    def consumer(self, target, **settings):
        return self.deploy(functions.CONSUMER, Environment={"Variables": {
            "TARGET": target, "ENDPOINT": harness.endpoint()}}, **settings)

    def map(self, queue, function, **settings):
        made = self.client.create_event_source_mapping(EventSourceArn=queue_arn(queue),
                                                       FunctionName=function, **settings)
        self.addCleanup(self.unmap_quietly, made["UUID"])
        wait_for(lambda: self.client.get_event_source_mapping(UUID=made["UUID"])["State"] in
                 ("Enabled", "Disabled"), 20)
        return made["UUID"]

    def unmap_quietly(self, uuid):
        try:
            self.client.delete_event_source_mapping(UUID=uuid)
        except ClientError:
            pass

    def send(self, url, bodies):
        for at in range(0, len(bodies), 10):
            answer = self.sqs.send_message_batch(QueueUrl=url, Entries=[
                {"Id": str(i), "MessageBody": b, "MessageAttributes": {
                    "n": {"DataType": "Number", "StringValue": str(at + i)}}}
                for i, b in enumerate(bodies[at:at + 10])])
            self.assertNotIn("Failed", answer)

    def test_a_queue_is_worked_off(self):
        _, target = self.queue()
        name, url = self.queue(VisibilityTimeout="60")
        self.map(name, self.consumer(target))
        bodies = [f"message {i} ü" for i in range(100)]
        self.send(url, bodies)
        got = [json.loads(m["Body"]) for m in self.drain(target, 100)]
        self.assertEqual(sorted(g["body"] for g in got), sorted(bodies))
        record = got[0]["record"]
        self.assertEqual((record["eventSource"], record["eventSourceARN"], record["awsRegion"]),
                         ("aws:sqs", queue_arn(name), harness.REGION))
        self.assertEqual(record["attributes"]["ApproximateReceiveCount"], "1")
        self.assertEqual(record["messageAttributes"]["n"]["dataType"], "Number")
        wait_for(lambda: self.counts(url) == (0, 0), 20, lambda: str(self.counts(url)))

    def test_partial_failures_go_back_alone(self):
        dead_name, dead = self.queue()
        _, target = self.queue()
        name, url = self.queue(VisibilityTimeout="3", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(dead_name), "maxReceiveCount": 2}))
        self.map(name, self.consumer(target), FunctionResponseTypes=["ReportBatchItemFailures"])
        self.send(url, ["good 1", "bad", "good 2"])
        self.assertEqual(sorted(json.loads(m["Body"])["body"] for m in self.drain(target, 2)),
                         ["good 1", "good 2"])
        self.assertEqual([m["Body"] for m in self.drain(dead, 1)], ["bad"])
        wait_for(lambda: self.counts(url) == (0, 0), 20)
        self.assertEqual(self.counts(target), (0, 0))

    def test_a_failing_batch_ends_in_the_dead_letter_queue(self):
        dead_name, dead = self.queue()
        _, target = self.queue()
        name, url = self.queue(VisibilityTimeout="3", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(dead_name), "maxReceiveCount": 2}))
        self.map(name, self.consumer(target), BatchSize=1)
        self.send(url, ["poison", "fine"])
        self.assertEqual([m["Body"] for m in self.drain(dead, 1)], ["poison"])
        self.assertEqual(json.loads(self.drain(target, 1)[0]["Body"])["body"], "fine")

    def test_disabling_stops_it(self):
        _, target = self.queue()
        name, url = self.queue(VisibilityTimeout="30")
        uuid = self.map(name, self.consumer(target), Enabled=False)
        self.send(url, ["x"])
        self.assertEqual(self.sqs.receive_message(QueueUrl=target, WaitTimeSeconds=2)
                         .get("Messages", []), [])
        self.assertEqual(self.counts(url), (1, 0))
        self.client.update_event_source_mapping(UUID=uuid, Enabled=True)
        self.drain(target, 1)
        self.client.delete_event_source_mapping(UUID=uuid)
        with self.assertRaises(self.client.exceptions.ResourceNotFoundException):
            self.client.get_event_source_mapping(UUID=uuid)
        with self.assertRaises(self.client.exceptions.InvalidParameterValueException):
            self.client.create_event_source_mapping(EventSourceArn=queue_arn("none"),
                                                    FunctionName=self.consumer(target))


del LambdaTest

if __name__ == "__main__":
    unittest.main(warnings="ignore")  # boto3 closes its sockets when it likes
