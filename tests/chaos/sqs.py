# SPDX-License-Identifier: Apache-2.0
"""The public API as the chaos clients use it: one HTTP request at a time, nothing repeated, and an
honest word about what became of it.

    ok        the broker said yes
    fail      it was certainly not done: no connection, or an error that promises so
    unknown   anything else: the connection broke, time ran out, or the error leaves it open
"""

import asyncio
import http.client
import json

HTTP_PORT = 9324
JSON_TYPE = "application/x-amz-json-1.0"
ANSWER_S = 12.0  # for an answer, longer than the broker itself tries
CONNECT_S = 1.5
# What an error promises. ServiceUnavailable leaves open whether the call was done (its deadline may
# have passed on the way), unless the disk is full.
OPEN = ("ServiceUnavailable", "InternalFailure", "NotAnswered")
DISK_FULL = "nearly full"


class Answer:
    def __init__(self, outcome, error=None, data=None, message=None):
        self.outcome = outcome
        self.error = error
        self.data = data or {}
        self.message = message

    @property
    def ok(self):
        return self.outcome == "ok"


def short(code):
    """com.amazon.coral.service#ServiceUnavailableException is ServiceUnavailable, in a batch too."""
    return code.rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def outcome_of_error(code, message):
    if code in OPEN and DISK_FULL not in (message or ""):
        return "unknown"
    return "fail"


def answer_of(status, body):
    try:
        data = json.loads(body) if body else {}
    except ValueError:
        return Answer("unknown", "NoJson")
    if status == 200:
        return Answer("ok", data=data)
    code = short(str(data.get("__type", status)))
    message = data.get("message") or data.get("Message")
    return Answer(outcome_of_error(code, message), code, message=message)


def head(address, action, length):
    return (
        f"POST / HTTP/1.1\r\nHost: {address}:{HTTP_PORT}\r\nContent-Type: {JSON_TYPE}\r\n"
        f"X-Amz-Target: AmazonSQS.{action}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


class Connection:
    """One keep-alive connection to one node, opened when it is needed. One request at a time."""

    def __init__(self, address):
        self.address = address
        self.reader = None
        self.writer = None

    def usable(self):
        """Not closed by the other side, as far as can be seen: what every pool checks."""
        return self.writer is not None and not self.reader.at_eof() and not self.writer.is_closing()

    async def call(self, action, arguments, answer_s=ANSWER_S):
        body = json.dumps(arguments).encode()
        try:
            if not self.usable():
                await self.open()
        except (OSError, asyncio.TimeoutError) as error:
            self.close()
            return Answer("fail", "connect", message=str(error))
        try:
            self.writer.write(head(self.address, action, len(body)) + body)
            status, text = await asyncio.wait_for(self.read(), answer_s)
        except asyncio.TimeoutError:
            self.close()
            return Answer("unknown", "timeout")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self.close()
            return Answer("unknown", "broken", message=repr(error))
        return answer_of(status, text)

    async def open(self):
        self.close()
        opening = asyncio.open_connection(self.address, HTTP_PORT, limit=1 << 20)
        self.reader, self.writer = await asyncio.wait_for(opening, CONNECT_S)

    async def read(self):
        """One response: its status and body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, body

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def request(address, method, path, body=None, headers=None, timeout=5.0):
    """One blocking request of the program that runs the test; (status, bytes)."""
    connection = http.client.HTTPConnection(address, HTTP_PORT, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def call(address, action, arguments, timeout=ANSWER_S):
    """The same for an SQS action: an Answer."""
    headers = {"Content-Type": JSON_TYPE, "X-Amz-Target": f"AmazonSQS.{action}"}
    try:
        return answer_of(
            *request(address, "POST", "/", json.dumps(arguments), headers, timeout)
        )
    except (OSError, http.client.HTTPException) as error:
        return Answer("unknown", "broken", message=repr(error))
