# SPDX-License-Identifier: Apache-2.0
"""What SQS refuses of single parameters, row by row, with the sentence that says why."""
import json

from sqs_transcripts import ENTRY, GONE, MINIMAL, Failed, Refusal, without

STRING = {"DataType": "String", "StringValue": "v"}
WRONG_TYPE = "The request include parameter that is not valid for this queue type."
FIFO = {"QueueUrl": "{fifo}", "MessageBody": "hello", "MessageGroupId": "g",
        "MessageDeduplicationId": "d"}


def refusals():
    for part in (queues, attributes, redrive_policies, tags, permissions, sending, message_contents,
                 receiving, batches, settling, moves):
        yield from part()


def invalid(action, text, **more):
    return Refusal(action, {**MINIMAL[action], **more}, "INVALID_PARAMETER", text)


# ---- queues ----

def queues():
    yield Refusal("GetQueueUrl", {"QueueName": "{new.name}"}, "QUEUE_DOES_NOT_EXIST", *GONE)
    for name in ("a b", "a" * 81, "a.b", "caf\u00e9", "/async/x", "a.fifo", "eu-west-1:q"):
        yield invalid("CreateQueue", "Can only include alphanumeric characters, hyphens, or "
                                     "underscores. 1 to 80 in length", QueueName=name)
        if name != "a.fifo":
            yield Refusal("GetQueueUrl", {"QueueName": name}, "QUEUE_DOES_NOT_EXIST", *GONE)
    yield invalid("CreateQueue", "Queue name cannot be empty", QueueName="")
    yield Refusal("CreateQueue", {"QueueName": "{new.name}", "Attributes": {"FifoQueue": "true"}},
                  "INVALID_PARAMETER", "The name of a FIFO queue can only include alphanumeric "
                  "characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 "
                  "in length")
    for key, value in {"DelaySeconds": "6", "Policy": "{}", "KmsMasterKeyId": "k"}.items():
        yield Refusal("CreateQueue", {"QueueName": "{delayed.name}", "Attributes": {key: value}},
                      "QUEUE_NAME_EXISTS", "A queue already exists with the same name and a "
                      f"different value for attribute {key}")
    yield Refusal("CreateQueue", {"QueueName": "{deleted.name}"}, "QUEUE_DELETED_RECENTLY",
                  "You must wait 60 seconds after deleting a queue before you can create another "
                  "with the same name.")
    yield Refusal("PurgeQueue", {"QueueUrl": "{purged}"}, "PURGE_IN_PROGRESS",
                  "Only one PurgeQueue operation on {purged.name} is allowed every 60 seconds.")
    for action in ("ListQueues", "ListDeadLetterSourceQueues"):
        for value in (0, 1001, -1):
            yield invalid(action, "Value for parameter MaxResults is invalid. Reason: MaxResults "
                                  "must be an integer between 1 and 1000.", MaxResults=value)
        for token in ("x", "AAAA", "////"):
            yield invalid(action, "Invalid or expired next token.", MaxResults=1, NextToken=token)
    yield Refusal("Nonsense", {}, "INVALID_ACTION",
                  "The action Nonsense is not valid for this endpoint.")


# ---- attributes of queues ----

# Attribute: the range of its numbers.
RANGES = {"VisibilityTimeout": (0, 43200), "MaximumMessageSize": (1024, 1048576),
          "MessageRetentionPeriod": (60, 1209600), "DelaySeconds": (0, 900),
          "ReceiveMessageWaitTimeSeconds": (0, 20), "KmsDataKeyReusePeriodSeconds": (60, 86400)}
READ_ONLY = ("QueueArn", "CreatedTimestamp", "LastModifiedTimestamp", "ApproximateNumberOfMessages",
             "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


def attribute(key, value, error, text):
    """The same when a queue is made and when it is changed."""
    for action in ("CreateQueue", "SetQueueAttributes"):
        yield Refusal(action, {**MINIMAL[action], "Attributes": {key: value}}, error, text)


def attributes():
    bad = {key: (str(low - 1), str(high + 1), "", "x", "1.5", "99999999999")
           for key, (low, high) in RANGES.items()}
    bad |= {"SqsManagedSseEnabled": ("yes", ""), "Policy": ("{", "[]", "x", "x" * 20481)}
    for key, values in bad.items():
        for value in values:
            yield from attribute(key, value, "INVALID_ATTRIBUTE_VALUE",
                                 f"Invalid value for the parameter {key}.")
    for key in (*READ_ONLY, "Nonsense", "All", "ContentBasedDeduplication"):
        yield from attribute(key, "true", "INVALID_ATTRIBUTE_NAME", f"Unknown Attribute {key}.")
    for key in ("DeduplicationScope", "FifoThroughputLimit"):
        yield from attribute(key, "queue", "INVALID_ATTRIBUTE_NAME",
                             f"You can specify the {key} only when FifoQueue is set to true.")
    change = "SetQueueAttributes"
    for url, value in (("{queue}", "true"), ("{queue}", "false"), ("{fifo}", "false")):
        yield Refusal(change, {"QueueUrl": url, "Attributes": {"FifoQueue": value}},
                      "INVALID_ATTRIBUTE_VALUE", "Invalid value for the parameter FifoQueue. "
                      "Reason: Modifying queue type is not supported.")
    yield Refusal("CreateQueue", {"QueueName": "{new.name}", "Attributes": {"FifoQueue": "false"}},
                  "INVALID_ATTRIBUTE_NAME", "Unknown Attribute FifoQueue.")
    for key in ("ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"):
        yield Refusal(change, {"QueueUrl": "{fifo}", "Attributes": {key: "some"}},
                      "INVALID_ATTRIBUTE_VALUE", f"Invalid value for the parameter {key}.")
    yield Refusal(change, {"QueueUrl": "{fifo}",
                           "Attributes": {"FifoThroughputLimit": "perMessageGroupId"}},
                  "INVALID_ATTRIBUTE_VALUE", "Invalid value for the parameter FifoThroughputLimit. "
                  "Reason: To set FifoThroughputLimit to perMessageGroupId, the DeduplicationScope "
                  "must be messageGroup.")
    yield Refusal(change, {"QueueUrl": "{queue}", "Attributes": {
        "KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"}}, "INVALID_ATTRIBUTE_NAME",
        "You can use one type of server-side encryption (SSE) at one time. You can either enable "
        "KMS SSE or SQS SSE.")
    for action in ("GetQueueAttributes", "ReceiveMessage"):
        yield Refusal(action, {"QueueUrl": "{queue}", "AttributeNames": ["All", "nope"]},
                      "INVALID_ATTRIBUTE_NAME", "Unknown Attribute nope.")


def redrive_policies():
    for policy in ("x", "[]", "5", "{", " "):
        yield from attribute("RedrivePolicy", policy, "INVALID_ATTRIBUTE_VALUE",
                             "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy "
                             "is not a valid JSON map.")
    lacks = "Redrive policy does not contain mandatory attribute: "
    count = ("Invalid value for maxReceiveCount: %s, valid values are from 1 to 1000 both "
             "inclusive.")
    other, gone = "{other.arn}", "{gone.arn}"
    for policy, reason in (
            ({"maxReceiveCount": 1}, lacks + "deadLetterTargetArn."),
            ({"deadLetterTargetArn": other}, lacks + "maxReceiveCount."),
            *[({"deadLetterTargetArn": other, "maxReceiveCount": n}, count % n)
              for n in (0, 1001, "x", 1.5)],
            ({"deadLetterTargetArn": gone, "maxReceiveCount": 1},
             "Dead letter target does not exist."),
            ({"deadLetterTargetArn": "nonsense", "maxReceiveCount": 1},
             "Invalid value for deadLetterTargetArn."),
            ({"deadLetterTargetArn": 5, "maxReceiveCount": 1},
             "Invalid value for deadLetterTargetArn."),
            ({"deadLetterTargetArn": other, "maxReceiveCount": 1, "more": 1},
             "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn]."),
            ({"deadLetterTargetArn": "{fifo.arn}", "maxReceiveCount": 1},
             "Dead-letter queue must be same type of queue as the source.."),
            ({"deadLetterTargetArn": "{strict.arn}", "maxReceiveCount": 1},
             "The RedriveAllowPolicy of the dead letter target does not allow this queue.")):
        text = json.dumps(policy)
        yield from attribute("RedrivePolicy", text, "INVALID_PARAMETER", f"Value {text} for "
                             f"parameter RedrivePolicy is invalid. Reason: {reason}")
    text = json.dumps({"deadLetterTargetArn": "{queue.arn}", "maxReceiveCount": 1})
    yield Refusal("SetQueueAttributes", {"QueueUrl": "{queue}",
                                         "Attributes": {"RedrivePolicy": text}},
                  "INVALID_PARAMETER", f"Value {text} for parameter RedrivePolicy is invalid. "
                  "Reason: A queue cannot be its own dead letter target.")
    yield from redrive_allow_policies()


def redrive_allow_policies():
    for policy in ("x", "1", "[]", "{}", '{"redrivePermission":"some"}', '{"redrivePermission":5}',
                   '{"redrivePermission":"allowAll","more":1}',
                   '{"redrivePermission":"byQueue","sourceQueueArns":"arn"}',
                   '{"redrivePermission":"byQueue","sourceQueueArns":[5]}'):
        yield from attribute("RedriveAllowPolicy", policy, "INVALID_ATTRIBUTE_VALUE",
                             "Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon "
                             "SQS can't create the redrive allow policy, as it\u2019s in an "
                             "unsupported format.")
    eleven = json.dumps([f"arn{i}" for i in range(11)])
    for policy, why in (
            ('{"redrivePermission":"byQueue"}', "When you specify the byQueue permission type, you "
             "must also specify one or more sourceQueueArns values."),
            ('{"redrivePermission":"denyAll","sourceQueueArns":["a"]}', "To specify one or more "
             "source queue ARNs, you must set redrivePermission to byQueue."),
            ('{"redrivePermission":"byQueue","sourceQueueArns":%s}' % eleven,
             "The maximum number of source queue ARNs you can specify is 10.")):
        yield from attribute("RedriveAllowPolicy", policy, "INVALID_PARAMETER", f"Value {policy} "
                             "for parameter RedriveAllowPolicy is invalid. Reason: Amazon SQS can't "
                             f"create the redrive allow policy. {why}")


# ---- tags, permissions ----

def tags():
    many = {f"k{i}": "v" for i in range(51)}
    long_key = "Tag keys must be between 1 and 128 characters in length."
    for given, text in (({"": "v"}, long_key), ({"\u00e9" * 129: "v"}, long_key),
                        ({"k": "v" * 257},
                         "Tag values must be between 0 and 256 characters in length."),
                        ({"aws:k": "v"}, "Tag keys that begin with aws: are reserved.")):
        yield invalid("TagQueue", text, Tags=given)
        yield invalid("CreateQueue", text, tags=given)
    yield invalid("TagQueue", "Too many tags added for queue {queue.name}.", Tags=many)
    yield invalid("CreateQueue", "Too many tags added for queue {new.name}.", tags=many)
    yield invalid("TagQueue", "Too many tags added for queue {full_of_tags.name}.",
                  QueueUrl="{full_of_tags}")
    for action, name, form_name in (("TagQueue", "Tags", "Tag"), ("UntagQueue", "TagKeys", "TagKey")):
        yield Refusal(action, {"QueueUrl": "{queue}", name: {} if name == "Tags" else []},
                      "MISSING_PARAMETER", f"The request must contain the parameter {name}.",
                      f"The request must contain the parameter {form_name}.")


def permissions():
    rule = "for parameter Label is invalid. Reason:"
    yield invalid("AddPermission", f"Value here {rule} Already exists.", QueueUrl="{labelled}",
                  Label="here")
    yield invalid("RemovePermission", f"Value gone {rule} can't find label.", Label="gone")
    for action in ("AddPermission", "RemovePermission"):
        for label in ("a b", "x" * 81, "caf\u00e9"):
            yield invalid(action, f"Value {label} {rule} Can only include alphanumeric characters, "
                                  "hyphens, or underscores. 1 to 80 in length.", Label=label)
        yield Refusal(action, {**MINIMAL[action], "Label": ""}, "MISSING_PARAMETER",
                      "The request must contain the parameter Label.")
    for account in ("", "12345", "x" * 12, "1234567890123"):
        yield invalid("AddPermission", f"Value [{account}] for parameter PrincipalId is invalid. "
                                       "Reason: Unable to verify.", AWSAccountIds=[account])
    owner = "Only the queue owner is allowed to invoke this action."
    unknown = "Please refer to the appropriate WSDL for a list of valid actions."
    for action, reason in (("CreateQueue", owner), ("TagQueue", owner), ("SendMessageBatch", unknown),
                           ("Nonsense", unknown)):
        yield invalid("AddPermission", f"Value SQS:{action} for parameter ActionName is invalid. "
                                       f"Reason: {reason}", Actions=["SendMessage", action])
    yield Refusal("AddPermission", {**MINIMAL["AddPermission"], "Actions": ["SendMessage"] * 8},
                  "OVER_LIMIT", "8 Actions were found, maximum allowed is 7.")
    yield Refusal("AddPermission", {**MINIMAL["AddPermission"], "QueueUrl": "{full_of_labels}"},
                  "OVER_LIMIT", "21 Statements were found, maximum allowed is 20.")


# ---- sending ----

def message(more, error, text, in_batch=None, queue="{queue}"):
    """Alone and as an entry of a batch."""
    yield Refusal("SendMessage", {"QueueUrl": queue, "MessageBody": "x", **more}, error, text)
    yield Failed("SendMessageBatch", {"Id": "a", "MessageBody": "x", **more}, error,
                 in_batch or text, queue)


def sending():
    for value in (-1, 901):
        yield from message({"DelaySeconds": value}, "INVALID_PARAMETER",
                           f"Value {value} for parameter DelaySeconds is invalid. Reason: "
                           "DelaySeconds must be >= 0 and <= 900.")
    yield from message({"DelaySeconds": 2, "MessageGroupId": "g", "MessageDeduplicationId": "d"},
                       "INVALID_PARAMETER", "Value 2 for parameter DelaySeconds is invalid. Reason: "
                       + WRONG_TYPE, queue="{fifo}")
    yield from message({"MessageDeduplicationId": "d"}, "INVALID_PARAMETER",
                       "Value d for parameter MessageDeduplicationId is invalid. Reason: "
                       + WRONG_TYPE)
    for bad in ("", "group 123", "a" * 129, "\u00e9"):
        rule = ("is invalid. Reason: %s can only include alphanumeric and punctuation characters. "
                "1 to 128 in length.")
        name = "MessageGroupId"
        yield from message({name: bad}, "INVALID_PARAMETER",
                           f"Value {bad} for parameter {name} {rule % name}")
        name = "MessageDeduplicationId"
        yield from message({"MessageGroupId": "g", name: bad}, "INVALID_PARAMETER",
                           f"Value {bad} for parameter {name} {rule % name}", queue="{fifo}")
    # A FIFO queue refuses a batch whose entry lacks an id as a whole, and with another code.
    group = "The request must contain the parameter MessageGroupId."
    both = ("The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly")
    for lacking, single, text in (("MessageGroupId", "MISSING_PARAMETER", group),
                                  ("MessageDeduplicationId", "INVALID_PARAMETER", both)):
        yield Refusal("SendMessage", without(FIFO, lacking), single, text)
        entry = {"Id": "a", **without(without(FIFO, lacking), "QueueUrl")}
        yield Refusal("SendMessageBatch", {"QueueUrl": "{fifo}", "Entries": [entry]},
                      "INVALID_PARAMETER", text)


def message_contents():
    yield from message({"MessageBody": ""}, "MISSING_PARAMETER",
                       "The request must contain the parameter MessageBody.")
    illegal = ("Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to "
               "#xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
    for bad in ("\0", "a\x01", "\x0b", "\x1f", "\ufffe", "\uffff"):
        yield from message({"MessageBody": bad}, "INVALID_CONTENTS", illegal)
        yield from message({"MessageAttributes": {"a": {"DataType": "String", "StringValue": bad}}},
                           "INVALID_CONTENTS", illegal)
    size = "One or more parameters %s. Reason: Message must be shorter than 1024 bytes."
    yield from message({"MessageBody": "x" * 1025}, "INVALID_PARAMETER", size % "are invalid",
                       size % "cannot be validated", "{small}")
    yield from message({"MessageBody": "x" * 1001, "MessageAttributes": {
        "name": {"DataType": "String", "StringValue": "v" * 14}}}, "INVALID_PARAMETER",
        size % "are invalid", size % "cannot be validated", "{small}")
    yield Refusal("SendMessage", {"QueueUrl": "{queue}", "MessageBody": "x" * 1048577},
                  "INVALID_PARAMETER", "One or more parameters are invalid. Reason: Message must be "
                  "shorter than 1048576 bytes.")
    halves = [{"Id": "a", "MessageBody": "x" * 524288}, {"Id": "b", "MessageBody": "x" * 524289}]
    yield Refusal("SendMessageBatch", {"QueueUrl": "{queue}", "Entries": halves}, "BATCH_TOO_LONG",
                  "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.")
    yield from message_attributes()


def message_attributes():
    empty = "Message (user) attribute 'a' must contain a non-empty value of type '%s'."
    name = ("The message attribute name '%s' is invalid. Attribute name can contain A-Z, a-z, 0-9, "
            "underscore (_), hyphen (-), and period (.) characters.")
    kind = ("The message attribute 'a' has an invalid message attribute type, the set of supported "
            "type prefixes is Binary, Number, and String.")
    reserved = ("You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These "
                "strings are reserved for internal use.")
    number = "Can't cast the value of message (user) attribute 'a' to a number."
    values = [({"DataType": "String", "StringValue": ""}, empty % "String"),
              ({"DataType": "String"}, empty % "String"),
              ({"DataType": "Number.int"}, empty % "String"),
              ({"DataType": "Binary", "StringValue": "v"}, empty % "Binary"),
              ({"StringValue": "v"},
               "The message attribute 'a' must contain non-empty message attribute type."),
              ({"DataType": "Text", "StringValue": "v"}, kind),
              ({"DataType": "Stringy", "StringValue": "v"}, kind),
              ({"DataType": "Number." + "L" * 256, "StringValue": "1"}, kind),
              ({"DataType": "Number", "StringValue": "0x10"}, number),
              ({"DataType": "Number", "StringValue": "nan"}, number)]
    for value, text in values:
        yield from message({"MessageAttributes": {"a": value}}, "INVALID_PARAMETER", text)
    for bad in ("a b", ".a", "a.", "a..b", "a\u00a7", "\u4e16", "a!", 'a"'):
        yield from message({"MessageAttributes": {bad: STRING}}, "INVALID_PARAMETER", name % bad)
    for bad in ("AWS.x", "aWs.x", "Amazon.x", "AMAZON.x"):
        yield from message({"MessageAttributes": {bad: STRING}}, "INVALID_PARAMETER", reserved)
    yield from message({"MessageAttributes": {"a" * 257: STRING}}, "INVALID_PARAMETER",
                       "Length of message attribute name must be less than 256 bytes.")
    yield from message({"MessageAttributes": {f"a{i}": STRING for i in range(11)}},
                       "INVALID_PARAMETER",
                       "Number of message attributes [11] exceeds the allowed maximum [10].")
    yield from message({"MessageAttributes": {"a": {
        "DataType": "String", "StringValue": "v", "StringListValues": ["v"]}}}, "UNSUPPORTED",
        "Message attribute list values in SendMessage operation are not supported.")
    system = "Message (system) attribute 'AWSTraceHeader' must "
    for given, text in (({"Other": STRING}, "Message system attribute name 'Other' is invalid."),
                        ({"AWSTraceHeader": {"DataType": "Binary", "BinaryValue": "AP8="}},
                         system + "contain a non-empty value of type 'String'."),
                        ({"AWSTraceHeader": {"DataType": "String", "StringValue": "x" * 1025}},
                         system + "be shorter than 1024 bytes.")):
        yield from message({"MessageSystemAttributes": given}, "INVALID_PARAMETER", text)


# ---- receiving, batches, handles ----

def receiving():
    for name, values, rule in (("MaxNumberOfMessages", (0, 11, -1), "Must be between 1 and 10"),
                               ("WaitTimeSeconds", (-1, 21), "Must be >= 0 and <= 20"),
                               ("VisibilityTimeout", (-1, 43201), "Must be >= 0 and <= 43200")):
        for value in values:
            yield invalid("ReceiveMessage", f"Value {value} for parameter {name} is invalid. "
                                            f"Reason: {rule}, if provided.", **{name: value})
    rule = "for parameter ReceiveRequestAttemptId is invalid. Reason:"
    for bad in ("", "a b", "x" * 129):
        yield invalid("ReceiveMessage", f"Value {bad} {rule} ReceiveRequestAttemptId can only "
                                        "include alphanumeric and punctuation characters. 1 to 128 "
                                        "in length.", QueueUrl="{fifo}", ReceiveRequestAttemptId=bad)
    yield invalid("ReceiveMessage", f"Value a {rule} {WRONG_TYPE}", ReceiveRequestAttemptId="a")


def batches():
    for action, entry in ENTRY.items():
        def entries(*ids):
            return {"QueueUrl": "{queue}", "Entries": [{**entry, "Id": i} for i in ids]}
        yield Refusal(action, {"QueueUrl": "{queue}"}, "EMPTY_BATCH",
                      f"There should be at least one {action}RequestEntry in the request.")
        yield Refusal(action, entries(), "EMPTY_BATCH",
                      f"There should be at least one {action}RequestEntry in the request.")
        yield Refusal(action, entries(*[str(i) for i in range(20)]), "TOO_MANY_ENTRIES",
                      "Maximum number of entries per request are 10. You have sent 20.")
        yield Refusal(action, entries("a", "b", "a"), "BATCH_IDS_NOT_DISTINCT", "Id a repeated.")
        for bad in ("", "a b", "x" * 81, "\u00e9"):
            yield Refusal(action, entries(bad), "INVALID_BATCH_ID", "A batch entry id can only "
                          "contain alphanumeric characters, hyphens and underscores. It can be at "
                          "most 80 letters long.")
        for name in entry:
            if name in ("MessageBody", "VisibilityTimeout"):
                continue  # the entry fails, not the batch; or the queue's default is meant
            text = "The request must contain the parameter %s."
            yield Refusal(action, {"QueueUrl": "{queue}", "Entries": [without(entry, name)]},
                          "MISSING_PARAMETER", text % name,
                          text % f"{action}RequestEntry.1.{name}")


def settling():
    for bad in ("x", "{of_other}", "\u00e9<&>", "A" * 52, ""):
        text = f'The input receipt handle "{bad}" is not a valid receipt handle.'
        given = {"QueueUrl": "{queue}", "ReceiptHandle": bad}
        yield Refusal("DeleteMessage", given, "RECEIPT_INVALID", text)
        yield Refusal("ChangeMessageVisibility", {**given, "VisibilityTimeout": 1},
                      "RECEIPT_INVALID", text)
        entry = {"Id": "a", "ReceiptHandle": bad}
        yield Failed("DeleteMessageBatch", entry, "RECEIPT_INVALID", text)
        yield Failed("ChangeMessageVisibilityBatch", {**entry, "VisibilityTimeout": 1},
                     "RECEIPT_INVALID", text)
    handle = "Value %s for parameter ReceiptHandle is invalid. Reason: "
    gone = handle + "Message does not exist or is not available for visibility timeout change."
    for name, error, text in (
            ("{finished}", "INVALID_PARAMETER", gone % "{finished}"),
            ("{stale}", "INVALID_PARAMETER", gone % "{stale}"),
            ("{stale_returned}", "NOT_IN_FLIGHT", "The specified message isn't in flight.")):
        given = {"ReceiptHandle": name, "VisibilityTimeout": 1}
        yield Refusal("ChangeMessageVisibility", {"QueueUrl": "{queue}", **given}, error, text)
        yield Failed("ChangeMessageVisibilityBatch", {"Id": "a", **given}, error, text)
    for value in (-1, 43201):
        text = (f"Value {value} for parameter VisibilityTimeout is invalid. Reason: "
                "VisibilityTimeout must be an integer between 0 and 43200.")
        yield invalid("ChangeMessageVisibility", text, VisibilityTimeout=value)
        yield Failed("ChangeMessageVisibilityBatch", {
            **ENTRY["ChangeMessageVisibilityBatch"], "VisibilityTimeout": value},
            "INVALID_PARAMETER", text)
    expired = handle % "{expired}" + "The receipt handle has expired."
    given = {"QueueUrl": "{fifo}", "ReceiptHandle": "{expired}"}
    entry = {"Id": "a", "ReceiptHandle": "{expired}"}
    yield Refusal("DeleteMessage", given, "INVALID_PARAMETER", expired)
    yield Refusal("ChangeMessageVisibility", {**given, "VisibilityTimeout": 5}, "INVALID_PARAMETER",
                  expired)
    yield Failed("DeleteMessageBatch", entry, "INVALID_PARAMETER", expired, "{fifo}")
    yield Failed("ChangeMessageVisibilityBatch", {**entry, "VisibilityTimeout": 5},
                 "INVALID_PARAMETER", expired, "{fifo}")


# ---- moves ----

def moves():
    start, listing, cancel = ("StartMessageMoveTask", "ListMessageMoveTasks",
                              "CancelMessageMoveTask")
    form = ("You must use this format to specify the %s: "
            "arn:<partition>:<service>:<region>:<account-id>:<resource-id>")
    for arn in ("", "x", "arn:aws:sqs:us-east-1:queue"):
        yield invalid(start, form % "SourceArn", SourceArn=arn)
        yield invalid(listing, form % "SourceArn", SourceArn=arn)
        yield Refusal(start, {"SourceArn": "{dead.arn}", "DestinationArn": arn},
                      "INVALID_PARAMETER", form % "DestinationArn")
    gone = "The resource that you specified for the %s parameter doesn't exist."
    for action, given, text in (
            (start, {"SourceArn": "{gone.arn}"}, gone % "SourceArn"),
            (listing, {"SourceArn": "{gone.arn}"}, gone % "SourceArn"),
            (start, {"SourceArn": "{dead.arn}", "DestinationArn": "{gone.arn}"},
             gone % "DestinationArn"),
            (cancel, {"TaskHandle": "{task_of_gone}"}, gone % "SourceArn"),
            (cancel, {"TaskHandle": "{unknown_task}"}, "Task does not exist.")):
        yield Refusal(action, given, "RESOURCE_NOT_FOUND", text)
    yield invalid(start, "Source queue must be configured as a Dead Letter Queue.",
                  SourceArn="{queue.arn}")
    # Naming {source} makes {dead} a dead-letter queue.
    dead = {"SourceArn": "{dead.arn}", "x-source": "{source}"}
    yield invalid(start, "Source queue arn and destination queue arn cannot be the same.", **dead,
                  DestinationArn="{dead.arn}")
    yield invalid(start, "The source queue and destination queue must be of the same queue type.",
                  **dead, DestinationArn="{fifo.arn}")
    for rate in (0, 501, -1):
        yield invalid(start, "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: "
                             "You must enter a number that's between 1 and 500.", **dead,
                      MaxNumberOfMessagesPerSecond=rate)
    yield invalid(start, "There is already a task running. Only one active task is allowed for a "
                         "source queue arn at a given time.", **dead, **{"x-task": "{task}"})
    for value in (0, 11):
        yield invalid(listing, "Value for parameter MaxResults is invalid. Reason: You must enter a "
                               "number that's between 1 and 10.", MaxResults=value)
    for handle in ("", "x", "////", "A" * 5000, "e30="):
        yield invalid(cancel, "Value for parameter TaskHandle is invalid.", TaskHandle=handle)
    yield invalid(cancel, "Only active tasks can be cancelled.", TaskHandle="{ended_task}")
