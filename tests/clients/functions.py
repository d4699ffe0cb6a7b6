# SPDX-License-Identifier: Apache-2.0
"""Functions that the client tests deploy: one of each runtime that behaves, and the hostile ones."""

PYTHON_ECHO = {"app.py": '''
import os
import sys


def handler(event, context):
    print("printed by the function")
    print("and by its error output", file=sys.stderr)
    if isinstance(event, dict) and "raise" in event:
        raise ValueError(event["raise"])
    return {"event": event, "greeting": os.environ.get("GREETING"),
            "request_id": context.aws_request_id, "name": context.function_name,
            "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
            "left_ms": context.get_remaining_time_in_millis()}
'''}

NODE_ECHO = {"index.js": '''
exports.handler = async (event, context) => {
  console.log("printed by the function");
  if (event.raise) throw new TypeError(event.raise);
  return { event, greeting: process.env.GREETING, request_id: context.awsRequestId,
           name: context.functionName };
};
'''}

# The Runtime API by hand, as any executable may speak it.
CUSTOM_ECHO = {"bootstrap": '''#!/usr/bin/python3
import http.client
import os

while True:
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event = answer.read()
    request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    print("printed by the function", flush=True)
    api.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response",
                b'{"event":' + event + b"}")
    api.getresponse().read()
    api.close()
'''}

# A batch from a queue: a body "bad" fails alone, "poison" fails the whole batch; everything else
# goes to the queue named in the environment.
CONSUMER = {"app.py": '''
import json
import os
import urllib.request


def send(body):
    data = json.dumps({"QueueUrl": os.environ["TARGET"], "MessageBody": body}).encode()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_SQS") or os.environ.get("AWS_ENDPOINT_URL") \\
        or os.environ["ENDPOINT"]
    call = urllib.request.Request(endpoint, data, {
        "X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=10).read()


def handler(event, context):
    failed = []
    for record in event["Records"]:
        if record["body"] == "poison":
            raise RuntimeError("poison")
        if record["body"] == "bad":
            failed.append({"itemIdentifier": record["messageId"]})
        else:
            send(json.dumps({"body": record["body"], "record": record}))
    return {"batchItemFailures": failed}
'''}

HOSTILE = {
    "endless output": ("app.handler", {"app.py": '''
import os


def handler(event, context):
    line = b"x" * 65536
    while True:
        os.write(1, line)
'''}),
    "fork bomb": ("app.handler", {"app.py": '''
import os
import time


def handler(event, context):
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
'''}),
    "never answers": ("app.handler", {"app.py": '''
import time


def handler(event, context):
    time.sleep(3600)
'''}),
    "exits at once": ("app.handler", {"app.py": '''
import os

os._exit(3)
'''}),
    "exits in the handler": ("app.handler", {"app.py": '''
import os


def handler(event, context):
    os._exit(7)
'''}),
    "handler missing": ("app.nothing", {"app.py": "def handler(event, context):\n    return 1\n"}),
    "module missing": ("elsewhere.handler", {"app.py": "x = 1\n"}),
    "syntax error": ("app.handler", {"app.py": "def handler(:\n"}),
    "answer too large": ("app.handler", {"app.py": '''
def handler(event, context):
    return "x" * (7 << 20)
'''}),
    "answer is not JSON": ("app.handler", {"app.py": '''
def handler(event, context):
    return object()
'''}),
}
