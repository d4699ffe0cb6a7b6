#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Event source mappings over the wire: states, limits, errors."""
import concurrent.futures
import pathlib
import sys
import unittest
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402
from harness import function_arn, queue_arn, unique  # noqa: E402
from lambda_functions import FUNCTIONS, WireTest  # noqa: E402

MAPPINGS = "/2015-03-31/event-source-mappings/"


class Mappings(WireTest):
    def queue(self, **attributes):
        name = unique("q")
        made = self.call("POST", "/", {"QueueName": name, "Attributes": attributes},
                         {"X-Amz-Target": "AmazonSQS.CreateQueue",
                          "Content-Type": "application/x-amz-json-1.0"})
        self.assertEqual(made.status, 200, made.body)
        return name

    def function(self, **settings):
        name = unique("f")
        self.create(name, **settings)
        return name

    def map(self, queue, function, **settings):
        return self.call("POST", MAPPINGS, {"EventSourceArn": queue_arn(queue),
                                            "FunctionName": function, **settings})

    def test_fifo_queues(self):
        name = unique("q") + ".fifo"
        made = self.call("POST", "/", {"QueueName": name, "Attributes": {"FifoQueue": "true"}},
                         {"X-Amz-Target": "AmazonSQS.CreateQueue",
                          "Content-Type": "application/x-amz-json-1.0"})
        self.assertEqual(made.status, 200, made.body)
        function = self.function()
        for settings, text in (
                ({"BatchSize": 11, "MaximumBatchingWindowInSeconds": 1},
                 "The maximum batch size for an Amazon SQS FIFO queue is 10."),
                ({"MaximumBatchingWindowInSeconds": 1},
                 "Batching window is not supported for FIFO queues")):
            answer = self.map(name, function, **settings)
            self.assertEqual((answer.status, answer.json()["message"]), (400, text))
        self.assertEqual(self.map(name, function, BatchSize=10).status, 202)

    def test_life(self):
        queue, function = self.queue(), self.function()
        answer = self.map(queue, function, BatchSize=5, Enabled=False,
                          FunctionResponseTypes=["ReportBatchItemFailures"],
                          ScalingConfig={"MaximumConcurrency": 2})
        self.assertEqual(answer.status, 202, answer.body)
        made = answer.json()
        self.assertEqual(made["State"], "Creating")
        self.assertEqual(str(uuid.UUID(made["UUID"])), made["UUID"])
        self.assertEqual(made["FunctionArn"], function_arn(function))
        self.assertEqual(made["EventSourceArn"], queue_arn(queue))
        path = MAPPINGS + made["UUID"]
        got = self.call("GET", path).json()
        self.assertEqual((got["State"], got["BatchSize"], got["ScalingConfig"]),
                         ("Disabled", 5, {"MaximumConcurrency": 2}))
        changed = self.call("PUT", path, {"Enabled": True, "ScalingConfig": {}, "BatchSize": 7})
        self.assertEqual(changed.status, 202, changed.body)
        self.assertEqual(changed.json()["State"], "Updating")
        got = self.call("GET", path).json()
        self.assertEqual((got["State"], got["BatchSize"]), ("Enabled", 7))
        self.assertNotIn("ScalingConfig", got)
        self.assertEqual(got["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        gone = self.call("DELETE", path)
        self.assertEqual((gone.status, gone.json()["State"]), (202, "Deleting"))
        for method in ("GET", "DELETE"):
            self.assert_error(self.call(method, path), 404, "ResourceNotFoundException",
                              "The resource you requested does not exist.")

    def test_parties_must_exist(self):
        queue, function = self.queue(), self.function()
        self.assert_error(self.map(queue, "nope"), 400, "InvalidParameterValueException",
                          "Function does not exist")
        self.assert_error(self.map("nope", function), 400, "InvalidParameterValueException",
                          "AWS.SimpleQueueService.NonExistentQueue")
        self.assert_error(
            self.call("POST", MAPPINGS, {"FunctionName": function}), 400,
            "InvalidParameterValueException", "Unrecognized event source")
        for arn, code in (("x", "ValidationException"),
                          ("arn:aws:kinesis:us-east-1:000000000000:stream/s",
                           "InvalidParameterValueException"),
                          ("arn:aws:sqs:us-east-1:000000000000:/async/" + function,
                           "InvalidParameterValueException")):
            self.assert_error(self.call("POST", MAPPINGS, {"EventSourceArn": arn,
                                                           "FunctionName": function}), 400, code)

    def test_one_mapping_for_a_pair(self):
        queue, function = self.queue(), self.function()
        first = self.map(queue, function).json()
        self.assert_error(
            self.map(queue, function_arn(function)), 409, "ResourceConflictException",
            f'An event source mapping with SQS arn (" {queue_arn(queue)} ") and function '
            f'(" {function} ") already exists. Please update or delete the existing mapping with '
            f'UUID {first["UUID"]}')

    def test_one_mapping_of_many_at_once(self):
        queue, function = self.queue(), self.function()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.map(queue, function), range(8)))
        self.assertEqual(sorted(answer.status for answer in answers), [202] + [409] * 7)

    def test_visibility_must_cover_the_timeout(self):
        queue, function = self.queue(VisibilityTimeout="5"), self.function(Timeout=6)
        text = "Queue visibility timeout: 5 seconds is less than Function timeout: 6 seconds"
        self.assert_error(self.map(queue, function), 400, "InvalidParameterValueException", text)
        configuration = f"{FUNCTIONS}/{function}/configuration"
        self.assertEqual(self.call("PUT", configuration, {"Timeout": 5}).status, 200)
        self.assertEqual(self.map(queue, function).status, 202)
        self.assert_error(self.call("PUT", configuration, {"Timeout": 6}), 400,
                          "InvalidParameterValueException", text)

    def test_limits(self):
        queue, function = self.queue(), self.function()
        cases = [
            ({"BatchSize": 0}, "ValidationException", "'batchSize'"),
            ({"BatchSize": 10001}, "ValidationException", "'batchSize'"),
            ({"BatchSize": 11}, "InvalidParameterValueException",
             "Maximum batch window in seconds must be greater than 0"),
            ({"MaximumBatchingWindowInSeconds": 301}, "ValidationException", "300"),
            ({"ScalingConfig": {"MaximumConcurrency": 1}}, "ValidationException",
             "greater than or equal to 2"),
            ({"ScalingConfig": {"MaximumConcurrency": 1001}}, "ValidationException", "1000"),
            ({"FunctionResponseTypes": ["Other"]}, "ValidationException", "[Other]"),
            ({"FunctionResponseTypes": [None]}, "ValidationException", "functionResponseTypes"),
            ({"Enabled": "yes"}, "SerializationException", "Enabled"),
            ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}},
             "InvalidParameterValueException", "FilterCriteria"),
        ]
        for settings, code, text in cases:
            with self.subTest(settings=settings):
                self.assert_error(self.map(queue, function, **settings), 400, code, text)
        listed = self.call("GET", f"{MAPPINGS}?FunctionName={function}").json()
        self.assertEqual(listed["EventSourceMappings"], [])
        good = self.map(queue, function, BatchSize=10000, MaximumBatchingWindowInSeconds=1,
                        FilterCriteria={"Filters": []})
        self.assertEqual(good.status, 202, good.body)

    def test_list(self):
        function, queues = self.function(), [self.queue() for _ in range(5)]
        made = [self.map(q, function).json()["UUID"] for q in queues]
        seen, marker = [], ""
        while True:
            page = self.call("GET", f"{MAPPINGS}?FunctionName={function}&MaxItems=2"
                                    f"&Marker={marker}").json()
            seen += [m["UUID"] for m in page["EventSourceMappings"]]
            if "NextMarker" not in page:
                break
            marker = page["NextMarker"]
        self.assertEqual(seen, made)
        arn = urllib.parse.quote(queue_arn(queues[3]), safe="")
        only = self.call("GET", f"{MAPPINGS}?EventSourceArn={arn}").json()
        self.assertEqual([m["UUID"] for m in only["EventSourceMappings"]], [made[3]])

    def test_deleting_the_function_deletes_its_mappings(self):
        queue, function = self.queue(), self.function()
        made = self.map(queue, function).json()
        self.assertEqual(self.call("DELETE", f"{FUNCTIONS}/{function}").status, 204)
        self.assertEqual(self.call("GET", MAPPINGS + made["UUID"]).status, 404)

    def test_unknown_mappings(self):
        for name in ("x", str(uuid.uuid4()), "%ff"):
            self.assert_error(self.call("GET", MAPPINGS + name), 404, "ResourceNotFoundException")


del WireTest

if __name__ == "__main__":
    unittest.main()
