# SPDX-License-Identifier: Apache-2.0
"""SQS requests as bytes, in both protocols, without an SDK that would help.

A test writes its parameters once, in the shape of the JSON protocol; `call` sends them as JSON or as a
form and gives the answer back in the JSON shape. The rules of the Query protocol are written here anew
and by hand, so that a mistake in the broker's tables cannot hide in a table shared with the tests.
"""
import atexit
import base64
import json
import os
import pathlib
import socket
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
LISTS = {"AttributeNames": "AttributeName", "MessageAttributeNames": "MessageAttributeName",
         "MessageSystemAttributeNames": "MessageSystemAttributeName", "TagKeys": "TagKey",
         "AWSAccountIds": "AWSAccountId", "Actions": "ActionName"}
MAPS = {"Attributes": ("Attribute", "Name"), "MessageAttributes": ("MessageAttribute", "Name"),
        "MessageSystemAttributes": ("MessageSystemAttribute", "Name"), "tags": ("Tag", "Key"),
        "Tags": ("Tag", "Key")}
XML_MAPS = {"Attribute": ("Attributes", "Name"), "MessageAttribute": ("MessageAttributes", "Name"),
            "Tag": ("Tags", "Key")}


_broker = None


def endpoint():
    """The broker that is tested; without MILLRACE_ENDPOINT one of our own, which needs no worker."""
    global _broker
    given = os.environ.get("MILLRACE_ENDPOINT")
    if given:
        return given.rstrip("/")
    if _broker is None:
        _broker = harness.Broker(worker=False)
        atexit.register(_broker.stop)
    return _broker.endpoint


class Answer:
    def __init__(self, protocol, response, action):
        self.status = response.status
        self.headers = response.headers
        self.body = response.body
        if protocol == "json":
            self.result = json.loads(response.body) if response.body else {}
            self.type = self.result.get("__type", "").rpartition("#")[2]
            self.code = self.headers.get("x-amzn-query-error", "").partition(";")[0]
            self.message = self.result.get("message")
        else:
            self.read_xml(action)

    def read_xml(self, action):
        root = ElementTree.fromstring(self.body)
        self.request_id = root.findtext(f".//{NAMESPACE}RequestId")
        self.result, self.type, self.code, self.message = {}, "", "", None
        if root.tag == f"{NAMESPACE}ErrorResponse":
            self.code = root.findtext(f"{NAMESPACE}Error/{NAMESPACE}Code")
            self.message = root.findtext(f"{NAMESPACE}Error/{NAMESPACE}Message")
            self.fault = root.findtext(f"{NAMESPACE}Error/{NAMESPACE}Type")
        else:
            assert root.tag == f"{NAMESPACE}{action}Response", root.tag
            result = root.find(f"{NAMESPACE}{action}Result")
            self.result = xml_value(result, action) if result is not None else {}


def xml_value(element, action):
    out = {}
    for child in element:
        name = child.tag.removeprefix(NAMESPACE)
        if name in XML_MAPS:
            target, key = XML_MAPS[name]
            value = child.find(f"{NAMESPACE}Value")
            value = xml_value(value, action) if len(value) else value.text or ""
            out.setdefault(target, {})[child.findtext(NAMESPACE + key)] = value
        elif name == "Message" and len(child):
            out.setdefault("Messages", []).append(xml_value(child, action))
        elif name == "ListMessageMoveTasksResultEntry":
            out.setdefault("Results", []).append(xml_value(child, action))
        elif name == f"{action}ResultEntry":
            out.setdefault("Successful", []).append(xml_value(child, action))
        elif name == "BatchResultErrorEntry":
            entry = xml_value(child, action)
            entry["SenderFault"] = entry["SenderFault"] == "true"
            out.setdefault("Failed", []).append(entry)
        elif name == "QueueUrl" and action == "ListQueues":
            out.setdefault("QueueUrls", []).append(child.text)
        elif name == "QueueUrl" and action == "ListDeadLetterSourceQueues":
            out.setdefault("queueUrls", []).append(child.text)
        else:
            out[name] = child.text or ""
    return out


def flatten_value(prefix, value):
    """A message attribute; its lists, which SQS refuses, are StringListValue.1 and so on."""
    pairs = []
    for part, text in value.items():
        if isinstance(text, list):
            pairs += [(f"{prefix}{part[:-1]}.{i + 1}", t) for i, t in enumerate(text)]
        else:
            pairs.append((prefix + part, text))
    return pairs


def flatten(action, parameters, prefix=""):
    """JSON-shaped parameters as the pairs of a form."""
    pairs = []
    for name, value in parameters.items():
        if name in LISTS:
            pairs += [(f"{prefix}{LISTS[name]}.{i + 1}", v) for i, v in enumerate(value)]
        elif name in MAPS:
            wire, key = MAPS[name]
            for i, (k, v) in enumerate(value.items()):
                at = f"{prefix}{wire}.{i + 1}."
                pairs.append((at + key, k))
                if isinstance(v, dict):
                    pairs += flatten_value(f"{at}Value.", v)
                else:
                    pairs.append((at + "Value", v))
        elif name == "Entries":
            for i, entry in enumerate(value):
                pairs += flatten(action, entry, f"{prefix}{action}RequestEntry.{i + 1}.")
        else:
            pairs.append((prefix + name, str(value)))
    return pairs


def json_request(action, body, headers=None):
    return harness.request(endpoint(), "POST", "/", body, {
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}",
        **(headers or {})})


def form_request(body, path="/", method="POST", headers=None):
    return harness.request(endpoint(), method, path, body, {
        "Content-Type": "application/x-www-form-urlencoded", **(headers or {})})


def call(protocol, action, parameters=None, headers=None):
    parameters = parameters or {}
    if protocol == "json":
        response = json_request(action, json.dumps(parameters).encode(), headers)
    else:
        form = [("Action", action), ("Version", "2012-11-05")] + flatten(action, parameters)
        response = form_request(urllib.parse.urlencode(form).encode(), headers=headers)
    answer = Answer(protocol, response, action)
    assert len(answer.headers.get("x-amzn-requestid", "")) == 36, answer.headers
    return answer


class Calls:
    """What the tests of both protocols share; `protocol` is set where a test case is made of it."""
    protocol = None

    def ok(self, action, parameters=None, headers=None):
        answer = call(self.protocol, action, parameters, headers)
        self.assertEqual(answer.status, 200, answer.body)
        content = "application/x-amz-json-1.0" if self.protocol == "json" else "text/xml"
        self.assertEqual(answer.headers["content-type"], content)
        if self.protocol == "query":
            self.assertEqual(answer.request_id, answer.headers["x-amzn-requestid"])
        return answer.result

    def fails(self, action, parameters, error, message=None, status=400):
        """`error`: the type in JSON and the code in Query."""
        answer = call(self.protocol, action, parameters)
        self.assertEqual(answer.status, status, answer.body)
        kind, code = error
        self.assertEqual(answer.code, code)
        if self.protocol == "json":
            self.assertEqual(answer.type, kind)
            self.assertEqual(answer.headers["x-amzn-query-error"], f"{code};Sender")
        else:
            self.assertEqual(answer.fault, "Sender")
            self.assertNotIn("x-amzn-query-error", answer.headers)
        if message is not None:
            self.assertEqual(answer.message, message)
        return answer

    def receive(self, queue, **parameters):
        return self.ok("ReceiveMessage", {"QueueUrl": queue, **parameters}).get("Messages", [])

    def attributes(self, queue, *names):
        """All attributes of a queue, or those."""
        wanted = {"QueueUrl": queue, "AttributeNames": list(names) or ["All"]}
        return self.ok("GetQueueAttributes", wanted).get("Attributes", {})

    def counters(self, queue):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                 "ApproximateNumberOfMessagesDelayed"]
        found = self.attributes(queue, *names)
        return [int(found[name]) for name in names]


def make_queue(attributes=None, suffix=""):
    """A new queue, made over the JSON protocol; its URL."""
    parameters = {"QueueName": harness.unique("wire") + suffix}
    if attributes:
        parameters["Attributes"] = attributes
    answer = call("json", "CreateQueue", parameters)
    assert answer.status == 200, answer.body
    return answer.result["QueueUrl"]


def name_of(url):
    return url.rpartition("/")[2]


def arn_of(url):
    return harness.queue_arn(name_of(url))


def open_socket():
    url = urllib.parse.urlsplit(endpoint())
    return socket.create_connection((url.hostname, url.port), timeout=30)


def raw_json_head(action, length):
    return (f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"X-Amz-Target: AmazonSQS.{action}\r\nContent-Length: {length}\r\n\r\n").encode()


def base64_text(data):
    return base64.b64encode(data).decode()
