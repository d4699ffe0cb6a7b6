# SPDX-License-Identifier: Apache-2.0
"""Transcripts of SQS: what is asked and what is answered, to the byte, in both protocols.

    Reply(action, given, json, xml)         the body in JSON; what <ActionResult> holds in XML (None:
                                            an action without a result)
    Refusal(action, given, error, text)     an error of ERRORS with this sentence; `query_text` where
                                            the Query protocol words it otherwise
    Failed(action, entry, error, text)      a batch of one entry that fails by itself, in a 200

`given` is in the shape of the JSON protocol; what stands in braces is made by sqs_world.py. ERRORS is
written by hand from what AWS answers, not read from the broker's table, which it is compared with.
Refusals of single parameters are in sqs_refusals.py. sqs_transcripts_test.py runs all of them in
every way that a request can come, and sqs_coverage_test.py fails when a row of the broker's tables
has none here."""
import base64
import collections
import hashlib
import struct

Reply = collections.namedtuple("Reply", "action given json xml")
Refusal = collections.namedtuple("Refusal", "action given error text query_text", defaults=[None])
Failed = collections.namedtuple("Failed", "action entry error text queue", defaults=["{queue}"])
Wire = collections.namedtuple("Wire", "type query status fault", defaults=[400, "Sender"])


def sqs(name, query=None, status=400):
    return Wire("com.amazonaws.sqs#" + name, query or name, status)


def long(name, query=None, status=400):
    return sqs(name, "AWS.SimpleQueueService." + (query or name), status)


def framework(name, query=None, status=400, fault="Sender"):
    return Wire("com.amazon.coral.service#" + name, query or name, status, fault)


# Error: its type in JSON, its code in Query (and in x-amzn-query-error), its HTTP status.
ERRORS = {
    "QUEUE_DOES_NOT_EXIST": long("QueueDoesNotExist", "NonExistentQueue"),
    "QUEUE_NAME_EXISTS": sqs("QueueNameExists", "QueueAlreadyExists"),
    "QUEUE_DELETED_RECENTLY": long("QueueDeletedRecently"),
    "PURGE_IN_PROGRESS": long("PurgeQueueInProgress", status=403),
    "EMPTY_BATCH": long("EmptyBatchRequest"),
    "TOO_MANY_ENTRIES": long("TooManyEntriesInBatchRequest"),
    "BATCH_IDS_NOT_DISTINCT": long("BatchEntryIdsNotDistinct"),
    "INVALID_BATCH_ID": long("InvalidBatchEntryId"),
    "BATCH_TOO_LONG": long("BatchRequestTooLong"),
    "NOT_IN_FLIGHT": long("MessageNotInflight"),
    "RESOURCE_NOT_FOUND": sqs("ResourceNotFoundException", status=404),
    "UNSUPPORTED": long("UnsupportedOperation"),
    "OVER_LIMIT": sqs("OverLimit", status=403),
    "INVALID_ADDRESS": sqs("InvalidAddress"),
    "INVALID_ATTRIBUTE_NAME": sqs("InvalidAttributeName"),
    "INVALID_ATTRIBUTE_VALUE": sqs("InvalidAttributeValue"),
    "RECEIPT_INVALID": sqs("ReceiptHandleIsInvalid"),
    "INVALID_CONTENTS": sqs("InvalidMessageContents"),
    "INVALID_PARAMETER": sqs("InvalidParameterValueException", "InvalidParameterValue"),
    "MISSING_PARAMETER": sqs("MissingRequiredParameterException", "MissingParameter"),
    "MISSING_ACTION": framework("UnknownOperationException", "MissingAction"),
    "INVALID_ACTION": framework("UnknownOperationException", "InvalidAction"),
    "SERIALIZATION": framework("SerializationException"),
    "MALFORMED_QUERY": framework("SerializationException", "MalformedQueryString"),
    "TOO_LARGE": framework("RequestEntityTooLargeException", "RequestEntityTooLarge", 413),
    "THROTTLED": sqs("RequestThrottled", status=403),
    "ACCESS_DENIED": framework("AccessDeniedException", "AccessDenied", 403),
    "MISSING_TOKEN": framework("MissingAuthenticationTokenException", "MissingAuthenticationToken",
                               403),
    "INCOMPLETE_SIGNATURE": framework("IncompleteSignatureException", "IncompleteSignature"),
    "UNKNOWN_KEY": framework("UnrecognizedClientException", "InvalidClientTokenId", 403),
    "BAD_SIGNATURE": framework("InvalidSignatureException", "SignatureDoesNotMatch", 403),
    "REQUEST_EXPIRED": framework("RequestExpired"),
    "UNAVAILABLE": framework("ServiceUnavailableException", "ServiceUnavailable", 503, "Receiver"),
    "INTERNAL": framework("InternalFailure", status=500, fault="Receiver"),
}

# Errors that no well-formed request to a healthy broker without keys brings about, and the test that
# has them.
ELSEWHERE = {
    "MISSING_ACTION": "tests/wire/sqs_errors_test.py:test_unknown_actions",
    "SERIALIZATION": "tests/wire/sqs_errors_test.py:test_wrong_types",
    "MALFORMED_QUERY": "tests/wire/sqs_errors_test.py:test_malformed_forms",
    "TOO_LARGE": "tests/wire/sqs_http_test.py:class TooLarge",
    "ACCESS_DENIED": "tests/wire/sqs_auth_policies_test.py:test_every_action_asks",
    "MISSING_TOKEN": "tests/wire/sqs_auth_signatures_test.py:test_not_signed",
    "INCOMPLETE_SIGNATURE": "tests/wire/sqs_auth_signatures_test.py:test_incomplete",
    "UNKNOWN_KEY": "tests/wire/sqs_auth_signatures_test.py:test_unknown_key",
    "BAD_SIGNATURE": "tests/wire/sqs_auth_signatures_test.py:test_wrong_secret",
    "REQUEST_EXPIRED": "tests/wire/sqs_auth_signatures_test.py:test_good_until_it_expires",
    "THROTTLED": "tests/unit/sqs/answer_test.c:errors_of_the_broker",
    "UNAVAILABLE": "tests/unit/sqs/answer_test.c:errors_of_the_broker",
    "INTERNAL": "tests/unit/sqs/answer_test.c:errors_of_the_broker",
}

# The least that each action wants.
ENTRY = {
    "SendMessageBatch": {"Id": "a", "MessageBody": "hello"},
    "DeleteMessageBatch": {"Id": "a", "ReceiptHandle": "{held}"},
    "ChangeMessageVisibilityBatch": {"Id": "a", "ReceiptHandle": "{held}", "VisibilityTimeout": 9},
}
MINIMAL = {
    "CreateQueue": {"QueueName": "{new.name}"},
    "GetQueueUrl": {"QueueName": "{queue.name}"},
    "ListQueues": {"QueueNamePrefix": "{queue.name}"},
    "DeleteQueue": {"QueueUrl": "{queue}"},
    "GetQueueAttributes": {"QueueUrl": "{queue}"},
    "SetQueueAttributes": {"QueueUrl": "{queue}", "Attributes": {"DelaySeconds": "5"}},
    "PurgeQueue": {"QueueUrl": "{queue}"},
    "SendMessage": {"QueueUrl": "{queue}", "MessageBody": "hello"},
    "SendMessageBatch": {"QueueUrl": "{queue}", "Entries": [ENTRY["SendMessageBatch"]]},
    "ReceiveMessage": {"QueueUrl": "{queue}"},
    "DeleteMessage": {"QueueUrl": "{queue}", "ReceiptHandle": "{held}"},
    "DeleteMessageBatch": {"QueueUrl": "{queue}", "Entries": [ENTRY["DeleteMessageBatch"]]},
    "ChangeMessageVisibility": {"QueueUrl": "{queue}", "ReceiptHandle": "{held}",
                                "VisibilityTimeout": 9},
    "ChangeMessageVisibilityBatch": {"QueueUrl": "{queue}",
                                     "Entries": [ENTRY["ChangeMessageVisibilityBatch"]]},
    "TagQueue": {"QueueUrl": "{queue}", "Tags": {"a": "b"}},
    "UntagQueue": {"QueueUrl": "{queue}", "TagKeys": ["a"]},
    "ListQueueTags": {"QueueUrl": "{queue}"},
    "AddPermission": {"QueueUrl": "{queue}", "Label": "l", "AWSAccountIds": ["210987654321"],
                      "Actions": ["SendMessage"]},
    "RemovePermission": {"QueueUrl": "{labelled}", "Label": "here"},
    "ListDeadLetterSourceQueues": {"QueueUrl": "{queue}"},
    "StartMessageMoveTask": {"SourceArn": "{dead.arn}"},
    "CancelMessageMoveTask": {"TaskHandle": "{task}"},
    "ListMessageMoveTasks": {"SourceArn": "{dead.arn}"},
}

HELLO = "5d41402abc4b2a76b9719d911017c592"
SENT = f'"MD5OfMessageBody":"{HELLO}","MessageId":"{{uuid}}"'
SENT_XML = f"<MD5OfMessageBody>{HELLO}</MD5OfMessageBody><MessageId>{{uuid}}</MessageId>"
NUMBERED = SENT + ',"SequenceNumber":"{sequence}"'
NUMBERED_XML = SENT_XML + "<SequenceNumber>{sequence}</SequenceNumber>"
TRACE = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
MESSAGE = ('"MessageId":"{uuid}","ReceiptHandle":"{handle}","MD5OfBody":"' + HELLO +
           '","Body":"hello"')
MESSAGE_XML = ("<MessageId>{uuid}</MessageId><ReceiptHandle>{handle}</ReceiptHandle><MD5OfBody>" +
               HELLO + "</MD5OfBody><Body>hello</Body>")


def md5(attributes):
    """As the SQS developer guide has it: names sorted, each part behind its length."""
    def part(data):
        return struct.pack(">I", len(data)) + data
    out = b""
    for name, a in sorted(attributes.items()):
        binary = "BinaryValue" in a
        value = base64.b64decode(a["BinaryValue"]) if binary else a["StringValue"].encode()
        out += part(name.encode()) + part(a["DataType"].encode())
        out += (b"\2" if binary else b"\1") + part(value)
    return hashlib.md5(out).hexdigest()


TWO = {"a": {"DataType": "String", "StringValue": "<&>"},
       "b": {"DataType": "Binary", "BinaryValue": "AP8="}}
MD5S = [("MD5OfMessageBody", HELLO), ("MD5OfMessageAttributes", md5(TWO)),
        ("MD5OfMessageSystemAttributes", md5(TRACE))]
ONE_MD5 = md5({"a": TWO["a"]})
LISTED = '"Successful":[{"Id":"a"}]'


def replies():
    """Every action, with the least that it wants and with all that it knows."""
    def least(action, json, xml, **more):
        return Reply(action, {**MINIMAL[action], **more}, json, xml)

    def nothing(action, **more):
        return least(action, "", None, **more)
    url, url_xml = '{"QueueUrl":"%s"}', "<QueueUrl>%s</QueueUrl>"
    new = "{base}/000000000000/{new.name}"
    return [
        least("CreateQueue", url % new, url_xml % new),
        least("CreateQueue", url % new, url_xml % new, Attributes={"VisibilityTimeout": "7"},
              tags={"a": "b"}),
        Reply("CreateQueue", {"QueueName": "{queue.name}"}, url % "{queue}", url_xml % "{queue}"),
        Reply("CreateQueue", {"QueueName": "{new.name}.fifo", "Attributes": {"FifoQueue": "true"}},
              url % (new + ".fifo"), url_xml % (new + ".fifo")),
        least("GetQueueUrl", url % "{queue}", url_xml % "{queue}"),
        least("GetQueueUrl", url % "{queue}", url_xml % "{queue}",
              QueueOwnerAWSAccountId="000000000000"),
        least("ListQueues", '{"QueueUrls":["{queue}"]}', url_xml % "{queue}"),
        least("ListQueues", '{"QueueUrls":["{queue}"]}', url_xml % "{queue}", MaxResults=1000),
        Reply("ListQueues", {"QueueNamePrefix": "{new.name}"}, "{}", ""),
        nothing("DeleteQueue"),
        nothing("PurgeQueue"),
        least("GetQueueAttributes", "{}", ""),
        least("GetQueueAttributes", '{"Attributes":{"QueueArn":"{queue.arn}"}}',
              "<Attribute><Name>QueueArn</Name><Value>{queue.arn}</Value></Attribute>",
              AttributeNames=["QueueArn"]),
        Reply("GetQueueAttributes", {"QueueUrl": "{delayed}", "AttributeNames": ["All"]},
              '{"Attributes":{' + ",".join(f'"{k}":"{v}"' for k, v in ALL_ATTRIBUTES) + "}}",
              "".join(f"<Attribute><Name>{k}</Name><Value>{v}</Value></Attribute>"
                      for k, v in ALL_ATTRIBUTES)),
        nothing("SetQueueAttributes"),
        least("SendMessage", "{" + SENT + "}", SENT_XML),
        least("SendMessage", "{" + SENT + "}", SENT_XML, DelaySeconds=900, MessageGroupId="tenant"),
        least("SendMessage",
              "{" + ",".join(f'"{k}":"{v}"' for k, v in MD5S) + ',"MessageId":"{uuid}"}',
              "".join(f"<{k}>{v}</{k}>" for k, v in MD5S) + "<MessageId>{uuid}</MessageId>",
              MessageAttributes=TWO, MessageSystemAttributes=TRACE),
        Reply("SendMessage", {"QueueUrl": "{fifo}", "MessageBody": "hello", "MessageGroupId": "g",
                              "MessageDeduplicationId": "d", "DelaySeconds": 0},
              "{" + NUMBERED + "}", NUMBERED_XML),
        Reply("SendMessage", {"QueueUrl": "{by_content}", "MessageBody": "hello",
                              "MessageGroupId": "g"}, "{" + NUMBERED + "}", NUMBERED_XML),
        least("SendMessageBatch", '{"Successful":[{"Id":"a",' + SENT + "}]}",
              "<SendMessageBatchResultEntry><Id>a</Id>" + SENT_XML +
              "</SendMessageBatchResultEntry>"),
        least("ReceiveMessage", "{}", ""),
        Reply("ReceiveMessage", {"QueueUrl": "{sent}"}, '{"Messages":[{' + MESSAGE + "}]}",
              "<Message>" + MESSAGE_XML + "</Message>"),
        Reply("ReceiveMessage",
              {"QueueUrl": "{sent}", "MaxNumberOfMessages": 10, "VisibilityTimeout": 43200,
               "WaitTimeSeconds": 20, "MessageSystemAttributeNames": ["All"],
               "MessageAttributeNames": ["a"]},
              '{"Messages":[{' + MESSAGE + ',"Attributes":{"SenderId":"{text}","SentTimestamp":'
              '"{milliseconds}","ApproximateReceiveCount":"1","ApproximateFirstReceiveTimestamp":'
              '"{milliseconds}"},"MD5OfMessageAttributes":"' + ONE_MD5 +
              '","MessageAttributes":{"a":{"StringValue":"<&>","DataType":"String"}}}]}',
              "<Message>" + MESSAGE_XML + "<Attribute><Name>SenderId</Name><Value>{text}</Value>"
              "</Attribute><Attribute><Name>SentTimestamp</Name><Value>{milliseconds}</Value>"
              "</Attribute><Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value>"
              "</Attribute><Attribute><Name>ApproximateFirstReceiveTimestamp</Name><Value>"
              "{milliseconds}</Value></Attribute><MD5OfMessageAttributes>" +
              ONE_MD5 + "</MD5OfMessageAttributes><MessageAttribute>"
              "<Name>a</Name><Value><StringValue>&lt;&amp;&gt;</StringValue><DataType>String"
              "</DataType></Value></MessageAttribute></Message>"),
        Reply("ReceiveMessage", {"QueueUrl": "{fifo}", "ReceiveRequestAttemptId": "try-1"}, "{}",
              ""),
        nothing("DeleteMessage"),
        nothing("DeleteMessage", ReceiptHandle="{finished}"),
        nothing("DeleteMessage", ReceiptHandle="{returned}"),
        least("DeleteMessageBatch", "{" + LISTED + "}",
              "<DeleteMessageBatchResultEntry><Id>a</Id></DeleteMessageBatchResultEntry>"),
        nothing("ChangeMessageVisibility"),
        nothing("ChangeMessageVisibility", VisibilityTimeout=0),
        nothing("ChangeMessageVisibility", ReceiptHandle="{returned}"),
        least("ChangeMessageVisibilityBatch", "{" + LISTED + "}",
              "<ChangeMessageVisibilityBatchResultEntry><Id>a</Id>"
              "</ChangeMessageVisibilityBatchResultEntry>"),
        nothing("TagQueue"),
        nothing("UntagQueue"),
        least("ListQueueTags", "{}", ""),
        Reply("ListQueueTags", {"QueueUrl": "{tagged}"}, '{"Tags":{"<&>":"","colour":"blue"}}',
              "<Tag><Key>&lt;&amp;&gt;</Key><Value></Value></Tag>"
              "<Tag><Key>colour</Key><Value>blue</Value></Tag>"),
        nothing("AddPermission"),
        nothing("RemovePermission"),
        least("ListDeadLetterSourceQueues", '{"queueUrls":[]}', ""),
        Reply("ListDeadLetterSourceQueues", {"QueueUrl": "{dead}", "MaxResults": 1,
                                             "NextToken": "QQ==", "x-source": "{source}"},
              '{"queueUrls":["{source}"]}', url_xml % "{source}"),
        least("StartMessageMoveTask", '{"TaskHandle":"{token}"}',
              "<TaskHandle>{token}</TaskHandle>", DestinationArn="{other.arn}",
              MaxNumberOfMessagesPerSecond=500, **{"x-source": "{source}"}),
        least("CancelMessageMoveTask", '{"ApproximateNumberOfMessagesMoved":{digits}}',
              "<ApproximateNumberOfMessagesMoved>{digits}</ApproximateNumberOfMessagesMoved>"),
        least("ListMessageMoveTasks", '{"Results":[]}', ""),
    ]


ALL_ATTRIBUTES = [
    ("VisibilityTimeout", "30"), ("MaximumMessageSize", "1048576"),
    ("MessageRetentionPeriod", "345600"), ("ApproximateNumberOfMessages", "0"),
    ("ApproximateNumberOfMessagesNotVisible", "0"), ("ApproximateNumberOfMessagesDelayed", "0"),
    ("CreatedTimestamp", "{seconds}"), ("LastModifiedTimestamp", "{seconds}"),
    ("QueueArn", "{delayed.arn}"), ("DelaySeconds", "5"), ("ReceiveMessageWaitTimeSeconds", "0"),
    ("SqsManagedSseEnabled", "true")]


def without(given, name):
    return {k: v for k, v in given.items() if k != name}


GONE = ("The specified queue does not exist.",
        "The specified queue does not exist for this wsdl version.")
FORM_NAMES = {"Attributes": "Attribute", "Tags": "Tag", "TagKeys": "TagKey",
              "AWSAccountIds": "AWSAccountId", "Actions": "ActionName"}


def common_refusals():
    """What is refused in the same words whatever the action: queues that are not there, addresses
    that name none, and each parameter that is left out."""
    for action, given in MINIMAL.items():
        if "QueueUrl" in given:
            yield Refusal(action, {**given, "QueueUrl": "{gone}"}, "QUEUE_DOES_NOT_EXIST", *GONE)
            yield Refusal(action, {**given, "QueueUrl": "http://host"}, "INVALID_ADDRESS",
                          "The address http://host is not valid for this endpoint.")
        for name in given:
            if name not in ("Entries", "QueueNamePrefix"):
                yield Refusal(action, without(given, name), "MISSING_PARAMETER",
                              f"The request must contain the parameter {name}.",
                              "The request must contain the parameter "
                              f"{FORM_NAMES.get(name, name)}.")


def transcripts():
    import sqs_refusals
    return [*replies(), *common_refusals(), *sqs_refusals.refusals()]
