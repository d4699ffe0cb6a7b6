# SPDX-License-Identifier: Apache-2.0
"""What the transcripts (sqs_refusals.py) do not hold: limits that are just kept, forged handles, and
requests that are no SQS requests: malformed, of wrong types, without an action."""
import json
import time
import unittest

import sqs_raw
from sqs_raw import call, harness, make_queue

INVALID = ("InvalidParameterValueException", "InvalidParameterValue")


class Errors(sqs_raw.Calls):
    def test_characters_that_are_legal(self):
        url = make_queue()
        for good in ("\t\n\r", "\x7f", "\ufffd", "\ud7ff", "\ue000", "\U0010ffff"):
            self.ok("SendMessage", {"QueueUrl": url, "MessageBody": good})

    def test_a_message_that_just_fits(self):
        attribute = {"name": {"DataType": "String", "StringValue": "v" * 14}}  # 24 bytes
        self.ok("SendMessage", {"QueueUrl": make_queue({"MaximumMessageSize": "1024"}),
                                "MessageBody": "x" * 1000, "MessageAttributes": attribute})
        halves = [{"Id": i, "MessageBody": "x" * 524288} for i in ("a", "b")]
        self.ok("SendMessageBatch", {"QueueUrl": make_queue(), "Entries": halves})

    def test_receipt_handles(self):
        url, other = make_queue(), make_queue()
        call("json", "SendMessage", {"QueueUrl": other, "MessageBody": "x"})
        handle = call("json", "ReceiveMessage",
                      {"QueueUrl": other}).result["Messages"][0]["ReceiptHandle"]
        forged = ("A" if handle[-1] != "A" else "B").join([handle[:20], handle[21:]])
        for bad in ("x", handle, forged, handle[:-1], handle + "A", "\u00e9<&>", "A" * 52):
            error = ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid")
            text = f'The input receipt handle "{bad}" is not a valid receipt handle.'
            with self.subTest(bad):
                self.fails("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": bad}, error, text)
                self.fails("ChangeMessageVisibility",
                           {"QueueUrl": url, "ReceiptHandle": bad, "VisibilityTimeout": 1}, error,
                           text)
        if forged != handle:
            self.fails("DeleteMessage", {"QueueUrl": other, "ReceiptHandle": forged},
                       ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"))

    def test_twelve_hours_in_all(self):
        url = make_queue()
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        handle = call("json", "ReceiveMessage", {
            "QueueUrl": url, "VisibilityTimeout": 43200}).result["Messages"][0]["ReceiptHandle"]
        time.sleep(1.2)
        change = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 43200}
        self.fails("ChangeMessageVisibility", change, INVALID,
                   "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total "
                   "VisibilityTimeout for the message is beyond the limit [43200 seconds].")
        change["VisibilityTimeout"] = 43190
        self.assertEqual(call(self.protocol, "ChangeMessageVisibility", change).status, 200)


class JsonErrors(Errors, unittest.TestCase):
    protocol = "json"

    def refuses(self, action, body, kind, text=None, status=400):
        response = sqs_raw.json_request(action, body)
        self.assertEqual(response.status, status, response.body)
        self.assertEqual(len(response.headers["x-amzn-requestid"]), 36)
        answer = response.json()
        self.assertEqual(answer["__type"], f"com.amazon.coral.service#{kind}")
        if text is not None:
            self.assertEqual(answer["message"], text)

    def test_unknown_operations(self):
        for action in ("Nonsense", "sendmessage", "SendMessage;", "", "x" * 5000):
            with self.subTest(action[:20]):
                self.refuses(action, b"{}", "UnknownOperationException")
        for target in ("AWSLambda.Invoke", "SendMessage", "AmazonSQS"):
            response = harness.request(sqs_raw.endpoint(), "POST", "/", b"{}",
                                       {"X-Amz-Target": target})
            self.assertEqual(response.status, 400)
            self.assertIn(b"UnknownOperationException", response.body)

    def test_malformed_documents(self):
        for body in (b"{", b"x", b"{}}", b"[1,", b"{\"QueueUrl\":\"\xff\"}", b"\0", b"'a'",
                     b"{\"a\":1,}", b"[" * 100000, b"{\"a\":" * 50000, b"[]," * 100000):
            with self.subTest(body[:20]):
                self.refuses("SendMessage", body, "SerializationException")

    def test_wrong_types(self):
        for body, text in (
                ({"QueueUrl": 1}, "NUMBER_VALUE can not be converted to a String"),
                ({"QueueUrl": ["q"]}, "START_ARRAY can not be converted to a String"),
                ({"DelaySeconds": "1"}, "STRING_VALUE can not be converted to an Integer"),
                ({"DelaySeconds": 1.5}, "DECIMAL_VALUE can not be converted to an Integer"),
                ({"DelaySeconds": True}, "TRUE_VALUE can not be converted to an Integer"),
                ({"MessageAttributes": []}, "START_ARRAY can not be converted to a Map"),
                ([], "START_ARRAY can not be converted to a Structure"),
                ("x", "STRING_VALUE can not be converted to a Structure")):
            self.refuses("SendMessage", json.dumps(body), "SerializationException", text)
        self.refuses("SendMessageBatch", '{"Entries":{}}', "SerializationException",
                     "START_OBJECT can not be converted to a List")
        self.refuses("CreateQueue", '{"Attributes":{"DelaySeconds":1}}', "SerializationException",
                     "NUMBER_VALUE can not be converted to a String")


class QueryErrors(Errors, unittest.TestCase):
    protocol = "query"

    def refuses(self, body, code, text=None, path="/", method="POST"):
        response = sqs_raw.form_request(body, path, method)
        answer = sqs_raw.Answer("query", response, "")
        self.assertEqual((response.status, answer.code), (400, code))
        self.assertEqual(answer.request_id, response.headers["x-amzn-requestid"])
        if text is not None:
            self.assertEqual(answer.message, text)

    def test_unknown_actions(self):
        self.refuses("Action=Nonsense", "InvalidAction",
                     "The action Nonsense is not valid for this endpoint.")
        self.refuses("Action=%3Cscript%3E%01", "InvalidAction",
                     "The action is not valid for this endpoint.")
        self.refuses("Action=", "InvalidAction")
        self.refuses(None, "InvalidAction", None, "/?Action=x", "GET")
        self.refuses("", "MissingAction", "The request must contain the parameter Action.")
        self.refuses("QueueUrl=x", "MissingAction")

    def test_malformed_forms(self):
        for body in (b"Action=%", b"Action=%zz", b"Action=ListQueues&x=%ff", b"%=1", b"\xff\xfe",
                     b"Action=ListQueues&" + b"a&" * 6000):
            with self.subTest(body[:20]):
                self.refuses(body, "MalformedQueryString")

    def test_wrong_types(self):
        for value in ("abc", "", "1.5", "+1", "99999999999", "%00"):
            self.refuses(f"Action=ReceiveMessage&QueueUrl=q&WaitTimeSeconds={value}",
                         "InvalidParameterValue")
        self.refuses("Action=ReceiveMessage&QueueUrl=q&WaitTimeSeconds=ab",
                     "InvalidParameterValue",
                     "Value ab for parameter WaitTimeSeconds is invalid. Reason: Must be an "
                     "integer.")
        self.refuses("Action=SendMessage&QueueUrl=q&MessageBody=x&MessageAttribute.1.Name=a&"
                     "MessageAttribute.1.Value.BinaryValue=***", "InvalidParameterValue")

    def test_get_of_a_queue_without_an_action(self):
        response = sqs_raw.form_request(None, "/000000000000/q", "GET")
        self.assertEqual((response.status, response.body),
                         (404, b"<UnknownOperationException/>\n"))


if __name__ == "__main__":
    unittest.main()
