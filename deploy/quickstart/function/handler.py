# SPDX-License-Identifier: Apache-2.0
"""Parses stanzas of Debian's package database and sends what it found to the result queue.

Each record of the event is one stanza. One that cannot be parsed is reported in batchItemFailures,
so that it alone is delivered again and, after the queue's maxReceiveCount, set aside in the
dead-letter queue. Delivery is at least once, so an answer may be sent twice; whoever adds them up
counts each package once.
"""

import json
import os

import boto3

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
sqs = boto3.client(
    "sqs",
    endpoint_url=ENDPOINT,
    region_name=os.environ.get("AWS_REGION", "us-east-1"),
    aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "any"),
    aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "any"),
)
result_url = sqs.get_queue_url(QueueName=os.environ["RESULT_QUEUE"])["QueueUrl"]


def parse(stanza):
    """The fields of a stanza, by lower-case name; ValueError if it is none."""
    fields = {}
    name = None
    for number, line in enumerate(stanza.splitlines(), 1):
        if line[:1] in (" ", "\t") and name:
            fields[name] += "\n" + line.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"line {number} is no field: {line[:60]!r}")
        name = name.lower()
        fields[name] = value.strip()
    if "package" not in fields:
        raise ValueError("no Package field")
    return fields


def answer(record):
    fields = parse(record["body"])
    return {
        "run": record["messageAttributes"]["run"]["stringValue"],
        "package": fields["package"],
        "architecture": fields.get("architecture", ""),
        "version": fields.get("version", ""),
        "installed_size": int(fields.get("installed-size", "0")),
        "depends": sum(1 for name in fields.get("depends", "").split(",") if name.strip()),
    }


def send(answers):
    """Send (message id, answer) pairs; the ids of those that were not taken."""
    if not answers:
        return []
    entries = [
        {"Id": str(i), "MessageBody": json.dumps(found)} for i, (_, found) in enumerate(answers)
    ]
    reply = sqs.send_message_batch(QueueUrl=result_url, Entries=entries)
    return [answers[int(failed["Id"])][0] for failed in reply.get("Failed", [])]


def handler(event, context):
    answers, failed = [], []
    for record in event["Records"]:
        try:
            answers.append((record["messageId"], answer(record)))
        except ValueError as error:
            print(f"cannot parse {record['messageId']}: {error}")
            failed.append(record["messageId"])
    failed += send(answers)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
