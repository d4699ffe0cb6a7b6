# SPDX-License-Identifier: Apache-2.0
"""What the clients of a chaos run do: the queues, and the tasks of each client process.

| queue | what it is for |
|---|---|
| std | sends one by one and in batches, some delayed; receives, deletes, early and late returns |
| orders.fifo | groups with one producer each, who repeats a send until it is acknowledged |
| poison | some messages are never deleted: they must end in poison-dlq, and nothing else may |
| work | a function answers each message with one in `results` |
| bulk | large bodies, so that segments roll and snapshots are taken |
"""

import base64
import io
import json
import zipfile

import sqs

ACCOUNT, REGION = "000000000000", "us-east-1"
FUNCTION = "chaos-answer"

QUEUES = {
    "std": {"visibility_s": 3},
    "orders.fifo": {"visibility_s": 3, "fifo": True},
    "poison-dlq": {"visibility_s": 3},
    "poison": {"visibility_s": 2, "max_receives": 3, "dead_letters": "poison-dlq"},
    "results": {"visibility_s": 3},
    "work": {"visibility_s": 6, "answers": "results"},
    "bulk": {"visibility_s": 5},
}

# The function: standard library only, so that it starts fast. It tries every broker, and fails (so
# that its batch comes again) when none of them took the answers.
HANDLER = '''
import http.client, json, os

BROKERS = os.environ["BROKERS"].split(",")


def send(address, entries):
    connection = http.client.HTTPConnection(address, 9324, timeout=3)
    try:
        body = json.dumps({"QueueUrl": "results", "Entries": entries})
        headers = {"X-Amz-Target": "AmazonSQS.SendMessageBatch",
                   "Content-Type": "application/x-amz-json-1.0"}
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        text = response.read()
        return response.status == 200 and not json.loads(text).get("Failed")
    finally:
        connection.close()


def handler(event, context):
    entries = [{"Id": str(i), "MessageBody": "answer:" + record["body"]}
               for i, record in enumerate(event["Records"])]
    for address in BROKERS:
        try:
            if send(address, entries):
                return
        except OSError:
            pass
    raise RuntimeError("no broker took the answers")
'''


def queue_arn(name):
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def attributes(about):
    found = {"VisibilityTimeout": str(about["visibility_s"])}
    if about.get("fifo"):
        found["FifoQueue"] = "true"
    if "dead_letters" in about:
        target = queue_arn(about["dead_letters"])
        policy = {"deadLetterTargetArn": target, "maxReceiveCount": about["max_receives"]}
        found["RedrivePolicy"] = json.dumps(policy)
    return found


def must(answer):
    if not answer.ok:
        raise RuntimeError(f"setup: {answer.error} {answer.message}")
    return answer.data


def create_queues(address, names, history):
    for name in names:
        about = QUEUES[name]
        arguments = {"QueueName": name, "Attributes": attributes(about)}
        must(sqs.call(address, "CreateQueue", arguments))
        history.write("queue", queue=name, fifo=bool(about.get("fifo")),
                      visibility_ms=about["visibility_s"] * 1000,
                      max_receives=about.get("max_receives"),
                      dead_letters=about.get("dead_letters"), answers=about.get("answers"))


def create_function(address, brokers):
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", HANDLER)
    function = {
        "FunctionName": FUNCTION,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Role": f"arn:aws:iam::{ACCOUNT}:role/chaos",
        "Timeout": 5,
        "Code": {"ZipFile": base64.b64encode(code.getvalue()).decode()},
        "Environment": {"Variables": {"BROKERS": ",".join(brokers)}},
    }
    post(address, "/2015-03-31/functions", function)
    mapping = {"FunctionName": FUNCTION, "EventSourceArn": queue_arn("work"), "BatchSize": 10}
    post(address, "/2015-03-31/event-source-mappings/", mapping)


def post(address, path, document):
    status, text = sqs.request(address, "POST", path, json.dumps(document), timeout=15)
    if status >= 300:
        raise RuntimeError(f"setup: POST {path}: {status} {text[:300]}")


def tasks(client, rate, with_function, bulk_kib_s):
    """The tasks of one client process; `rate` is messages a second in all its producers."""
    found = [
        {"kind": "produce", "name": f"{client}-p1", "queue": "std", "rate": rate * 0.2},
        {"kind": "produce", "name": f"{client}-p2", "queue": "std", "rate": rate * 0.3,
         "batch": 10, "delayed": 0.1},
        {"kind": "produce", "name": f"{client}-p3", "queue": "poison", "rate": rate * 0.1,
         "poison": 0.2},
        {"kind": "consume", "name": f"{client}-r1", "queue": "std"},
        {"kind": "consume", "name": f"{client}-r2", "queue": "std"},
        {"kind": "consume", "name": f"{client}-r3", "queue": "poison"},
        {"kind": "consume", "name": f"{client}-r4", "queue": "orders.fifo"},
        {"kind": "consume", "name": f"{client}-r5", "queue": "orders.fifo"},
        {"kind": "consume", "name": f"{client}-r6", "queue": "poison-dlq", "late": True},
    ]
    for group in range(4):
        found.append({"kind": "order", "name": f"{client}-g{group}", "queue": "orders.fifo",
                      "rate": rate * 0.3 / 4})
    if with_function:
        found.append({"kind": "produce", "name": f"{client}-p4", "queue": "work",
                      "rate": rate * 0.1, "batch": 5})
        found.append({"kind": "consume", "name": f"{client}-r7", "queue": "results"})
    if bulk_kib_s > 0:
        found.append({"kind": "produce", "name": f"{client}-p5", "queue": "bulk",
                      "rate": bulk_kib_s / 128, "size": 128 << 10})
        found.append({"kind": "consume", "name": f"{client}-r8", "queue": "bulk"})
    return found
