# SPDX-License-Identifier: Apache-2.0
"""Runs the transcripts of sqs_transcripts.py in every way that a request can come, on a world of its
own each time, and compares status, headers and body to the byte. After a refusal it looks whether
anything was changed."""
import json
import os
import unittest
import urllib.parse

import sqs_raw
import sqs_world
from sqs_raw import harness
from sqs_transcripts import ERRORS, Failed, Reply, common_refusals, replies, transcripts

QUERY_BYTES_MAX = 4000  # longer ones are not asked by GET
XML = '<?xml version="1.0"?>'
SPACE = ' xmlns="http://queue.amazonaws.com/doc/2012-11-05/"'
COOLDOWNS = ("QUEUE_DELETED_RECENTLY", "PURGE_IN_PROGRESS")


def xml_text(text):
    for char, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, escape)
    return text


def form(action, given):
    pairs = [("Action", action), ("Version", "2012-11-05"), *sqs_raw.flatten(action, given)]
    return urllib.parse.urlencode(pairs)


# ---- the ways of asking: (action, parameters) to a response, or None where it cannot be asked so ----

def by_json(action, given):
    return sqs_raw.json_request(action, json.dumps(given).encode())


def by_post(action, given):
    return sqs_raw.form_request(form(action, given).encode())


def by_get(action, given):
    query = form(action, given)
    return sqs_raw.form_request(None, "/?" + query, "GET") if fits(query) else None


def own_path(given):
    """The path of a queue's own address, and the parameters that are left."""
    url = urllib.parse.urlsplit(given.get("QueueUrl", ""))
    left = {k: v for k, v in given.items() if k != "QueueUrl"}
    return (url.path, left) if url.path else (None, left)


def by_post_to_queue(action, given):
    path, left = own_path(given)
    return sqs_raw.form_request(form(action, left).encode(), path) if path else None


def by_get_of_queue(action, given):
    path, left = own_path(given)
    query = form(action, left)
    return sqs_raw.form_request(None, f"{path}?{query}", "GET") if path and fits(query) else None


def by_json_to_queue(action, given):
    path, _ = own_path(given)
    return harness.request(sqs_raw.endpoint(), "POST", path, json.dumps(given).encode(), {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"AmazonSQS.{action}"}) if path else None


def fits(query):
    return len(query) <= QUERY_BYTES_MAX


# ---- what is expected ----

def json_error(wire, text):
    return f'{{"__type":"{wire.type}","message":{json.dumps(text, ensure_ascii=False)}}}'


def xml_error(wire, text):
    return (f"{XML}<ErrorResponse{SPACE}><Error><Type>{wire.fault}</Type><Code>{wire.query}</Code>"
            f"<Message>{xml_text(text)}</Message><Detail/></Error><RequestId>{{uuid}}</RequestId>"
            "</ErrorResponse>")


def xml_reply(action, xml):
    result = "" if xml is None else f"<{action}Result>{xml}</{action}Result>"
    return (f"{XML}<{action}Response{SPACE}>{result}<ResponseMetadata><RequestId>{{uuid}}"
            f"</RequestId></ResponseMetadata></{action}Response>")


def failed(row):
    """The Reply that a Failed stands for."""
    code, name = ERRORS[row.error].query, row.entry["Id"]
    text = json.dumps(row.text, ensure_ascii=False)
    return Reply(
        row.action, {"QueueUrl": row.queue, "Entries": [row.entry]},
        f'{{"Failed":[{{"Id":"{name}","SenderFault":true,"Code":"{code}","Message":{text}}}]}}',
        f"<BatchResultErrorEntry><Id>{name}</Id><SenderFault>true</SenderFault><Code>{code}</Code>"
        f"<Message>{xml_text(row.text)}</Message></BatchResultErrorEntry>")


class Way(sqs_raw.Calls):
    """Transcripts, asked in one way; `least` of them must be askable so."""
    protocol, ask, least = None, None, 0
    rows = transcripts

    def expected(self, row):
        """Status, body, x-amzn-query-error."""
        if isinstance(row, Failed):
            row = failed(row)
        if isinstance(row, Reply):
            body = row.json if self.protocol == "json" else xml_reply(row.action, row.xml)
            return 200, body, None
        wire = ERRORS[row.error]
        if self.protocol == "query":
            return wire.status, xml_error(wire, row.query_text or row.text), None
        modeled = wire.type.startswith("com.amazonaws.sqs#")
        header = f"{wire.query};{wire.fault}" if modeled else None
        return wire.status, json_error(wire, row.text), header

    @staticmethod
    def state(world, action, given):
        """What a refused request must leave as it was."""
        if action == "CreateQueue":
            return sqs_raw.call("json", "GetQueueUrl", {"QueueName": given.get("QueueName", "x")}).status
        if not action.startswith(("Send", "Set", "Tag", "AddP", "RemoveP")):
            return None
        queues = {name: url for name, url in world.made.items()
                  if name in ("queue", "fifo", "small", "labelled", "full_of_tags",
                              "full_of_labels")}
        return {name: (sqs_world.ask("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"]),
                       sqs_world.ask("ListQueueTags", QueueUrl=url))
                for name, url in queues.items()}

    def run_row(self, row):
        world = sqs_world.World()
        if isinstance(row, Failed):
            given = world.fill({"QueueUrl": row.queue, "Entries": [row.entry]})
        else:
            given = world.fill(row.given)
        given = {k: v for k, v in given.items() if not k.startswith("x-")}
        refusal = not isinstance(row, Reply)
        before = self.state(world, row.action, given) if refusal else None
        response = type(self).ask(row.action, given)
        if response is None:
            return False
        status, body, header = self.expected(row)
        self.assertEqual(response.status, status, response.body)
        self.assertTrue(world.pattern(body).fullmatch(response.body.decode()),
                        f"\n{response.body.decode()}\nis not\n{body}")
        kind = "application/x-amz-json-1.0" if self.protocol == "json" else "text/xml"
        self.assertEqual(response.headers["content-type"], kind)
        self.assertEqual(len(response.headers["x-amzn-requestid"]), 36)
        self.assertEqual(response.headers.get("x-amzn-query-error"), header)
        if refusal:
            self.assertEqual(self.state(world, row.action, given), before,
                             "a refused request changed something")
        return True

    def test_transcripts(self):
        ran = 0
        for row in type(self).rows():
            if os.environ.get("MILLRACE_ENDPOINT") and getattr(row, "error", "") in COOLDOWNS:
                continue  # that broker may be one without them
            with self.subTest(str(row)[:200]):
                ran += self.run_row(row)
        self.assertGreater(ran, self.least)


class Json(Way, unittest.TestCase):
    protocol, ask, least = "json", by_json, 500


class Post(Way, unittest.TestCase):
    protocol, ask, least = "query", by_post, 500


class Get(Way, unittest.TestCase):
    protocol, ask, least = "query", by_get, 450


# To a queue's own address: what comes in is read alike from there on, so the rules of single
# parameters are not asked again.

def of_a_queue():
    return [*replies(), *common_refusals()]


class JsonToQueue(Way, unittest.TestCase):
    protocol, ask, rows, least = "json", by_json_to_queue, of_a_queue, 50


class PostToQueue(Way, unittest.TestCase):
    protocol, ask, rows, least = "query", by_post_to_queue, of_a_queue, 50


class GetOfQueue(Way, unittest.TestCase):
    protocol, ask, rows, least = "query", by_get_of_queue, of_a_queue, 50

    def test_what_is_not_for_a_queues_own_path(self):
        for action in ("CreateQueue", "ListQueues"):
            response = sqs_raw.form_request(None, f"/000000000000/q?Action={action}&QueueName=x",
                                            "GET")
            self.assertEqual(response.status, 400)
            self.assertIn(f"<Code>InvalidAction</Code><Message>The action {action} is not valid for "
                          "this endpoint.</Message>".encode(), response.body)


if __name__ == "__main__":
    unittest.main()
