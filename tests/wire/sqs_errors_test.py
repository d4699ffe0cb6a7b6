# SPDX-License-Identifier: Apache-2.0
"""Every error that the SQS API gives, in both protocols: code, type, status, sentence, and that a
refused request changed nothing."""
import json
import time
import unittest

import sqs_raw
from sqs_raw import call, harness, make_queue

PREFIX = "AWS.SimpleQueueService."
INVALID = ("InvalidParameterValueException", "InvalidParameterValue")
MISSING = ("MissingRequiredParameterException", "MissingParameter")
VALUE = ("InvalidAttributeValue", "InvalidAttributeValue")
NAME = ("InvalidAttributeName", "InvalidAttributeName")
CONTENTS = ("InvalidMessageContents", "InvalidMessageContents")
RESERVED = ("You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings "
            "are reserved for internal use.")
TYPE_ERROR = ("The message attribute 'a' has an invalid message attribute type, the set of supported "
              "type prefixes is Binary, Number, and String.")
class Errors(sqs_raw.Calls):
    # ---- queues ----

    def test_queue_does_not_exist(self):
        text = ("The specified queue does not exist." if self.protocol == "json" else
                "The specified queue does not exist for this wsdl version.")
        error = ("QueueDoesNotExist", PREFIX + "NonExistentQueue")
        url = f"http://localhost/1/{harness.unique('none')}"
        self.fails("GetQueueUrl", {"QueueName": "none-such"}, error, text)
        self.fails("GetQueueUrl", {"QueueName": "/async/x"}, error, text)
        entry = {"Id": "a", "MessageBody": "x", "ReceiptHandle": "h", "VisibilityTimeout": 0}
        for action, more in {
                "DeleteQueue": {}, "PurgeQueue": {}, "GetQueueAttributes": {},
                "ListQueueTags": {}, "ReceiveMessage": {}, "ListDeadLetterSourceQueues": {},
                "TagQueue": {"Tags": {"a": "b"}}, "UntagQueue": {"TagKeys": ["a"]},
                "AddPermission": {"Label": "l", "AWSAccountIds": ["000000000000"],
                                  "Actions": ["SendMessage"]},
                "RemovePermission": {"Label": "l"},
                "SetQueueAttributes": {"Attributes": {"DelaySeconds": "1"}},
                "SendMessage": {"MessageBody": "x"}, "SendMessageBatch": {"Entries": [entry]},
                "DeleteMessage": {"ReceiptHandle": "h"}, "DeleteMessageBatch": {"Entries": [entry]},
                "ChangeMessageVisibility": {"ReceiptHandle": "h", "VisibilityTimeout": 1},
                "ChangeMessageVisibilityBatch": {"Entries": [entry]}}.items():
            with self.subTest(action):
                self.fails(action, {"QueueUrl": url, **more}, error, text)

    def test_queue_url_without_a_queue(self):
        error = ("InvalidAddress", "InvalidAddress")
        self.fails("PurgeQueue", {"QueueUrl": "http://host"}, error,
                   "The address http://host is not valid for this endpoint.")

    def test_queue_names(self):
        for name in ("a b", "a" * 81, "a.b", "caf\u00e9", "/async/x", "a.fifo"):
            with self.subTest(name):
                self.fails("CreateQueue", {"QueueName": name}, INVALID,
                           "Can only include alphanumeric characters, hyphens, or underscores. "
                           "1 to 80 in length")
        self.fails("CreateQueue", {"QueueName": ""}, INVALID, "Queue name cannot be empty")

    def test_queue_exists_with_other_attributes(self):
        name = make_queue({"DelaySeconds": "5"}).rpartition("/")[2]
        error = ("QueueNameExists", "QueueAlreadyExists")
        text = "A queue already exists with the same name and a different value for attribute "
        for key, value in {"DelaySeconds": "6", "Policy": "{}", "KmsMasterKeyId": "k"}.items():
            self.fails("CreateQueue", {"QueueName": name, "Attributes": {key: value}}, error,
                       text + key)

    def test_attribute_values(self):
        url = make_queue()
        bad = {"VisibilityTimeout": ("-1", "43201", "x", "", "1.5"),
               "DelaySeconds": ("901", "99999999999"), "MaximumMessageSize": ("1023", "1048577"),
               "MessageRetentionPeriod": ("59", "1209601"),
               "ReceiveMessageWaitTimeSeconds": ("21",),
               "KmsDataKeyReusePeriodSeconds": ("59", "86401"), "SqsManagedSseEnabled": ("yes",),
               "Policy": ("{", "[]", "x")}
        for key, values in bad.items():
            for value in values:
                with self.subTest(key=key, value=value):
                    text = f"Invalid value for the parameter {key}."
                    given = {"Attributes": {key: value}}
                    self.fails("SetQueueAttributes", {"QueueUrl": url, **given}, VALUE, text)
                    name = harness.unique("q")
                    self.fails("CreateQueue", {"QueueName": name, **given}, VALUE, text)
                    self.fails("GetQueueUrl", {"QueueName": name},
                               ("QueueDoesNotExist", PREFIX + "NonExistentQueue"))
        self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {
            "KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"}}, NAME,
                   "You can use one type of server-side encryption (SSE) at one time. You can "
                   "either enable KMS SSE or SQS SSE.")

    def test_attribute_names(self):
        url = make_queue()
        for key in ("QueueArn", "CreatedTimestamp", "ApproximateNumberOfMessages", "Nonsense",
                    "All", "ContentBasedDeduplication"):
            self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {key: "1"}}, NAME,
                       f"Unknown Attribute {key}.")
        for key in ("DeduplicationScope", "FifoThroughputLimit"):
            self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {key: "queue"}}, NAME,
                       f"You can specify the {key} only when FifoQueue is set to true.")
        self.fails("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"FifoQueue": "true"}},
                   VALUE, "Invalid value for the parameter FifoQueue. Reason: Modifying queue type "
                          "is not supported.")
        self.fails("CreateQueue", {"QueueName": "q", "Attributes": {"FifoQueue": "false"}}, NAME,
                   "Unknown Attribute FifoQueue.")
        self.fails("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All", "nope"]}, NAME,
                   "Unknown Attribute nope.")
        self.fails("ReceiveMessage", {"QueueUrl": url, "AttributeNames": ["nope"]}, NAME,
                   "Unknown Attribute nope.")

    def test_redrive_policies(self):
        url = make_queue()
        name = url.rpartition("/")[2]
        none = harness.queue_arn("no-such-queue")
        dead = harness.queue_arn(make_queue().rpartition("/")[2])
        count = ("Invalid value for maxReceiveCount: %s, valid values are from 1 to 1000 both "
                 "inclusive.")
        for policy in ("x", "[]", "5", "{", " "):
            self.fails("SetQueueAttributes",
                       {"QueueUrl": url, "Attributes": {"RedrivePolicy": policy}}, VALUE,
                       "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is "
                       "not a valid JSON map.")
        for policy, reason in (
                ({"maxReceiveCount": 1}, "Redrive policy does not contain mandatory attribute: "
                                         "deadLetterTargetArn."),
                ({"deadLetterTargetArn": dead}, "Redrive policy does not contain mandatory "
                                                "attribute: maxReceiveCount."),
                ({"deadLetterTargetArn": dead, "maxReceiveCount": 0}, count % "0"),
                ({"deadLetterTargetArn": dead, "maxReceiveCount": 1001}, count % "1001"),
                ({"deadLetterTargetArn": dead, "maxReceiveCount": "x"}, count % "x"),
                ({"deadLetterTargetArn": dead, "maxReceiveCount": 1.5}, count % "1.5"),
                ({"deadLetterTargetArn": none, "maxReceiveCount": 1},
                 "Dead letter target does not exist."),
                ({"deadLetterTargetArn": "nonsense", "maxReceiveCount": 1},
                 "Invalid value for deadLetterTargetArn."),
                ({"deadLetterTargetArn": 5, "maxReceiveCount": 1},
                 "Invalid value for deadLetterTargetArn."),
                ({"deadLetterTargetArn": dead, "maxReceiveCount": 1, "more": 1},
                 "Only following attributes are supported: [maxReceiveCount, "
                 "deadLetterTargetArn]."),
                ({"deadLetterTargetArn": harness.queue_arn(name), "maxReceiveCount": 1},
                 "A queue cannot be its own dead letter target.")):
            text = policy if isinstance(policy, str) else json.dumps(policy)
            with self.subTest(text):
                self.fails("SetQueueAttributes",
                           {"QueueUrl": url, "Attributes": {"RedrivePolicy": text}}, INVALID,
                           f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}")

    def test_listing(self):
        for value in (0, 1001, -1):
            self.fails("ListQueues", {"MaxResults": value}, INVALID,
                       "Value for parameter MaxResults is invalid. Reason: MaxResults must "
                       "be an integer between 1 and 1000.")
        for token in ("x", "AAAA", "////"):
            self.fails("ListQueues", {"MaxResults": 1, "NextToken": token}, INVALID,
                       "Invalid or expired next token.")

    def test_tags(self):
        many = {f"k{i}": "v" for i in range(51)}
        self.fails("CreateQueue", {"QueueName": "q", "tags": many}, INVALID)
        self.fails("CreateQueue", {"QueueName": "q", "tags": {"": "v"}}, INVALID)

    # ---- missing parameters ----

    def test_missing_parameters(self):
        url = make_queue()
        cases = [("CreateQueue", {}, "QueueName"), ("GetQueueUrl", {}, "QueueName"),
                 ("SendMessage", {"QueueUrl": url}, "MessageBody"),
                 ("SendMessage", {"QueueUrl": url, "MessageBody": ""}, "MessageBody"),
                 ("SendMessage", {"MessageBody": "x"}, "QueueUrl"),
                 ("DeleteMessage", {"QueueUrl": url}, "ReceiptHandle"),
                 ("ChangeMessageVisibility", {"QueueUrl": url, "ReceiptHandle": "x"},
                  "VisibilityTimeout")]
        cases += [(action, {}, "QueueUrl") for action in (
            "DeleteQueue", "PurgeQueue", "GetQueueAttributes", "SetQueueAttributes",
            "ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch", "ListQueueTags", "TagQueue",
            "UntagQueue", "AddPermission", "RemovePermission", "ListDeadLetterSourceQueues")]
        cases += [("StartMessageMoveTask", {}, "SourceArn"),
                  ("ListMessageMoveTasks", {}, "SourceArn"),
                  ("CancelMessageMoveTask", {}, "TaskHandle"),
                  ("AddPermission", {"QueueUrl": url}, "Label"),
                  ("AddPermission", {"QueueUrl": url, "Label": "", "AWSAccountIds": ["1"],
                                     "Actions": ["x"]}, "Label"),
                  ("RemovePermission", {"QueueUrl": url}, "Label")]
        for action, parameters, name in cases:
            with self.subTest(action=action, name=name):
                self.fails(action, parameters, MISSING,
                           f"The request must contain the parameter {name}.")
        label = {"QueueUrl": url, "Label": "l"}
        for action, parameters, names in (
                ("SetQueueAttributes", {"QueueUrl": url}, ("Attributes", "Attribute")),
                ("TagQueue", {"QueueUrl": url}, ("Tags", "Tag")),
                ("TagQueue", {"QueueUrl": url, "Tags": {}}, ("Tags", "Tag")),
                ("UntagQueue", {"QueueUrl": url}, ("TagKeys", "TagKey")),
                ("UntagQueue", {"QueueUrl": url, "TagKeys": []}, ("TagKeys", "TagKey")),
                ("AddPermission", label, ("AWSAccountIds", "AWSAccountId")),
                ("AddPermission", {**label, "AWSAccountIds": ["000000000000"]},
                 ("Actions", "ActionName"))):
            name = names[self.protocol == "query"]
            with self.subTest(action=action, name=name):
                self.fails(action, parameters, MISSING,
                           f"The request must contain the parameter {name}.")
        name = "Id" if self.protocol == "json" else "SendMessageBatchRequestEntry.1.Id"
        self.fails("SendMessageBatch", {"QueueUrl": url, "Entries": [{"MessageBody": "x"}]},
                   MISSING, f"The request must contain the parameter {name}.")

    # ---- messages ----

    def refused_message(self, url, more, error, message=None, in_batch=None):
        entry = {"MessageBody": "x", **more}
        self.fails("SendMessage", {"QueueUrl": url, **entry}, error, message)
        batch = call(self.protocol, "SendMessageBatch",
                     {"QueueUrl": url, "Entries": [{"Id": "one", **entry}]})
        self.assertEqual(batch.status, 200)
        (failed,) = batch.result["Failed"]
        self.assertNotIn("Successful", batch.result)
        self.assertEqual((failed["Code"], failed["SenderFault"]), (error[1], True))
        if message is not None:
            self.assertEqual(failed["Message"], in_batch or message)

    def test_message_contents(self):
        url = make_queue()
        text = ("Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to "
                "#xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
        for bad in ("\0", "a\x01", "\x0b", "\x1f", "\ufffe", "\uffff"):
            with self.subTest(repr(bad)):
                self.refused_message(url, {"MessageBody": bad}, CONTENTS, text)
                self.refused_message(url, {"MessageAttributes": {
                    "a": {"DataType": "String", "StringValue": bad}}}, CONTENTS, text)
        for good in ("\t\n\r", "\x7f", "\ufffd", "\ud7ff", "\ue000", "\U0010ffff"):
            answer = call(self.protocol, "SendMessage", {"QueueUrl": url, "MessageBody": good})
            self.assertEqual(answer.status, 200, repr(good))

    def test_sizes(self):
        url = make_queue({"MaximumMessageSize": "1024"})
        text = "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
        entry = text.replace("are invalid", "cannot be validated")
        self.refused_message(url, {"MessageBody": "x" * 1025}, INVALID, text, entry)
        attribute = {"name": {"DataType": "String", "StringValue": "v" * 14}}  # 24 bytes
        self.refused_message(url, {"MessageBody": "x" * 1001, "MessageAttributes": attribute},
                             INVALID, text, entry)
        fits = {"QueueUrl": url, "MessageBody": "x" * 1000, "MessageAttributes": attribute}
        self.assertEqual(call(self.protocol, "SendMessage", fits).status, 200)
        big = make_queue()
        self.fails("SendMessage", {"QueueUrl": big, "MessageBody": "x" * 1048577}, INVALID,
                   "One or more parameters are invalid. Reason: Message must be shorter than 1048576 "
                   "bytes.")
        halves = [{"Id": "a", "MessageBody": "x" * 524288}, {"Id": "b", "MessageBody": "x" * 524289}]
        self.fails("SendMessageBatch", {"QueueUrl": big, "Entries": halves},
                   ("BatchRequestTooLong", PREFIX + "BatchRequestTooLong"),
                   "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 "
                   "bytes.")

    def test_message_attributes(self):
        url = make_queue()
        string = {"DataType": "String", "StringValue": "v"}
        name_text = ("The message attribute name '%s' is invalid. Attribute name can contain A-Z, "
                     "a-z, 0-9, underscore (_), hyphen (-), and period (.) characters.")
        cases = [
            ({"a": {"DataType": "String", "StringValue": ""}},
             "Message (user) attribute 'a' must contain a non-empty value of type 'String'."),
            ({"a": {"DataType": "String"}},
             "Message (user) attribute 'a' must contain a non-empty value of type 'String'."),
            ({"a": {"DataType": "Binary", "StringValue": "v"}},
             "Message (user) attribute 'a' must contain a non-empty value of type 'Binary'."),
            ({"a": {"StringValue": "v"}},
             "The message attribute 'a' must contain non-empty message attribute type."),
            ({"a": {"DataType": "Text", "StringValue": "v"}}, TYPE_ERROR),
            ({"a": {"DataType": "Stringy", "StringValue": "v"}}, TYPE_ERROR),
            ({"a": {"DataType": "Number", "StringValue": "0x10"}},
             "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a": {"DataType": "Number", "StringValue": "nan"}},
             "Can't cast the value of message (user) attribute 'a' to a number."),
            ({"a b": string}, name_text % "a b"), ({".a": string}, name_text % ".a"),
            ({"a..b": string}, name_text % "a..b"), ({"a\u00a7": string}, name_text % "a\u00a7"),
            ({"\u4e16": string}, name_text % "\u4e16"), ({"a!": string}, name_text % "a!"),
            ({"a" * 257: string}, "Length of message attribute name must be less than 256 bytes."),
            ({"AWS.x": string}, RESERVED), ({"aWs.x": string}, RESERVED),
            ({"AMAZON.x": string}, RESERVED),
            ({f"a{i}": string for i in range(11)},
             "Number of message attributes [11] exceeds the allowed maximum [10].")]
        for attributes, text in cases:
            with self.subTest(text):
                self.refused_message(url, {"MessageAttributes": attributes}, INVALID, text)
        self.refused_message(url, {"MessageSystemAttributes": {"Other": string}}, INVALID,
                             "Message system attribute name 'Other' is invalid.")
        # Not counted in the message's size, so only a limit of its own keeps it off the log.
        trace = {"DataType": "String", "StringValue": "x" * 3_000_000}
        self.refused_message(url, {"MessageSystemAttributes": {"AWSTraceHeader": trace}}, INVALID,
                             "Message (system) attribute 'AWSTraceHeader' must be shorter than "
                             "1024 bytes.")

    def test_message_parameters(self):
        url = make_queue()
        for value in (-1, 901):
            self.refused_message(url, {"DelaySeconds": value}, INVALID,
                                 f"Value {value} for parameter DelaySeconds is invalid. Reason: "
                                 "DelaySeconds must be >= 0 and <= 900.")
        rule = ("is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation "
                "characters. 1 to 128 in length.")
        for group in ("group 123", "a" * 129, "\u00e9"):
            self.refused_message(url, {"MessageGroupId": group}, INVALID,
                                 f"Value {group} for parameter MessageGroupId {rule}")
        self.refused_message(url, {"MessageDeduplicationId": "d"}, INVALID,
                             "Value d for parameter MessageDeduplicationId is invalid. Reason: The "
                             "request include parameter that is not valid for this queue type.")
        accepted = {"QueueUrl": url, "MessageBody": "x", "MessageGroupId": "tenant-1"}
        self.assertEqual(call(self.protocol, "SendMessage", accepted).status, 200)

    def test_receive_parameters(self):
        url = make_queue()
        for name, values, rule in (
                ("MaxNumberOfMessages", (0, 11, -1), "Must be between 1 and 10"),
                ("WaitTimeSeconds", (-1, 21), "Must be >= 0 and <= 20"),
                ("VisibilityTimeout", (-1, 43201), "Must be >= 0 and <= 43200")):
            for value in values:
                self.fails("ReceiveMessage", {"QueueUrl": url, name: value}, INVALID,
                           f"Value {value} for parameter {name} is invalid. Reason: {rule}, if "
                           "provided.")

    # ---- batches and handles ----

    def test_batches(self):
        url = make_queue()
        for action, more in (("SendMessageBatch", {"MessageBody": "x"}),
                             ("DeleteMessageBatch", {"ReceiptHandle": "h"}),
                             ("ChangeMessageVisibilityBatch",
                              {"ReceiptHandle": "h", "VisibilityTimeout": 1})):
            def entries(*ids):
                return {"QueueUrl": url, "Entries": [{"Id": i, **more} for i in ids]}
            with self.subTest(action):
                self.fails(action, entries(), ("EmptyBatchRequest", PREFIX + "EmptyBatchRequest"),
                           f"There should be at least one {action}RequestEntry in the request.")
                self.fails(action, entries(*[str(i) for i in range(20)]),
                           ("TooManyEntriesInBatchRequest",
                            PREFIX + "TooManyEntriesInBatchRequest"),
                           "Maximum number of entries per request are 10. You have sent 20.")
                self.fails(action, entries("a", "b", "a"),
                           ("BatchEntryIdsNotDistinct", PREFIX + "BatchEntryIdsNotDistinct"),
                           "Id a repeated.")
                for bad in ("", "a b", "x" * 81, "\u00e9"):
                    self.fails(action, entries(bad),
                               ("InvalidBatchEntryId", PREFIX + "InvalidBatchEntryId"),
                               "A batch entry id can only contain alphanumeric characters, hyphens "
                               "and underscores. It can be at most 80 letters long.")
        receive = call(self.protocol, "ReceiveMessage", {"QueueUrl": url})
        self.assertEqual(receive.result, {})  # none of the refused batches left a message

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

    def test_change_visibility(self):
        url = make_queue()
        call("json", "SendMessage", {"QueueUrl": url, "MessageBody": "x"})
        handle = call("json", "ReceiveMessage",
                      {"QueueUrl": url}).result["Messages"][0]["ReceiptHandle"]
        change = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0}
        self.fails("ChangeMessageVisibility", {**change, "VisibilityTimeout": 43201}, INVALID,
                   "Value 43201 for parameter VisibilityTimeout is invalid. Reason: "
                   "VisibilityTimeout must be an integer between 0 and 43200.")
        self.assertEqual(call(self.protocol, "ChangeMessageVisibility", change).status, 200)
        self.fails("ChangeMessageVisibility", change,
                   ("MessageNotInflight", PREFIX + "MessageNotInflight"),
                   "The specified message isn't in flight.")
        call("json", "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": handle})
        self.fails("ChangeMessageVisibility", change, INVALID,
                   f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does "
                   "not exist or is not available for visibility timeout change.")


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
