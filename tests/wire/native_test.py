# SPDX-License-Identifier: Apache-2.0
"""The native protocol by hand: greeting, calls, the API's rules and errors, broken frames, clients that
leave, a broker that stops. Layouts: proto/rpc/link.h and proto/sqs/native.h. The numbers of actions
and members are written out here, because they may never change."""
import hashlib
import os
import signal
import socket
import struct
import unittest

import sqs_raw  # puts tests/clients on the path
from sqs_raw import harness

TYPE_HELLO, TYPE_REFUSED, TYPE_CLIENT_HELLO, TYPE_WELCOME, TYPE_CALL, TYPE_ANSWER = 1, 3, 32, 33, 34, 35
CREATE_QUEUE, GET_QUEUE_URL, LIST_QUEUES, DELETE_QUEUE, GET_ATTRIBUTES = 0, 1, 2, 3, 4
SEND, SEND_BATCH, RECEIVE, DELETE, DELETE_BATCH, CHANGE_VISIBILITY = 7, 8, 9, 10, 11, 12
HELLO = b"\x08\x01\x1a\x04test"  # protocol 1, name "test"


def crc_of_byte(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc


CRC_OF_BYTE = [crc_of_byte(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC_OF_BYTE[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def frame(kind, payload):
    return struct.pack("<IHBBI", len(payload), kind, 1, 0, crc32c(payload)) + payload


def member(tag, value):
    if isinstance(value, int):
        value = struct.pack("<i", value)
    if isinstance(value, str):
        value = value.encode()
    return struct.pack("<BI", tag, len(value)) + value


def structs(*items):
    return struct.pack("<I", len(items)) + b"".join(struct.pack("<I", len(i)) + i for i in items)


def members(data):
    found = {}
    while data:
        tag, length = struct.unpack_from("<BI", data)
        found[tag] = data[5:5 + length]
        data = data[5 + length:]
    return found


def items(data):
    (count,), data = struct.unpack_from("<I", data), data[4:]
    found = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data)
        found.append(members(data[4:4 + length]))
        data = data[4 + length:]
    return found


class Client:
    def __init__(self, port, greet=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.stream = self.socket.makefile("rb")
        self.id = 0
        if greet:
            self.socket.sendall(frame(TYPE_CLIENT_HELLO, HELLO))
            kind, _ = self.read()
            assert kind == TYPE_WELCOME, kind

    def read(self):
        """The next frame's type and payload; None when the connection has ended."""
        try:
            header = self.stream.read(12)
        except ConnectionResetError:
            return None
        if len(header) < 12:
            return None
        length, kind, version, _, crc = struct.unpack("<IHBBI", header)
        payload = self.stream.read(length)
        assert version == 1 and crc == crc32c(payload)
        return kind, payload

    def call_bytes(self, action, body=b""):
        self.id += 1
        return frame(TYPE_CALL, struct.pack("<IHH", self.id, action, 0) + body)

    def begin(self, action, *parts):
        self.socket.sendall(self.call_bytes(action, b"".join(parts)))
        return self.id

    def answer(self):
        """(id, result, error): the members of one of the two, the other None."""
        kind, payload = self.read()
        assert kind == TYPE_ANSWER
        number, refused = struct.unpack_from("<IB", payload)
        self.ask_node = int.from_bytes(payload[5:8], "little")
        found = members(payload[8:])
        return (number, None, found) if refused else (number, found, None)

    def call(self, action, *parts):
        number = self.begin(action, *parts)
        answered, result, error = self.answer()
        assert answered == number
        return result, error

    def close(self):
        self.stream.close()
        self.socket.close()


class Native(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(worker=False)
        cls.port = cls.broker.ports[1]

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def client(self, greet=True):
        client = Client(self.port, greet)
        self.addCleanup(client.close)
        return client

    def queue(self, client, *attributes):
        name = harness.unique("native") + (".fifo" if attributes else "")
        parts = [member(1, name)]
        if attributes:
            pairs = b"".join(struct.pack("<I", len(a)) + a.encode() for a in attributes)
            parts.append(member(2, struct.pack("<I", len(attributes) // 2) + pairs))
        result, error = client.call(CREATE_QUEUE, *parts)
        self.assertIsNone(error)
        self.assertTrue(result[1].decode().endswith("/" + name))
        return name

    def refused(self, outcome, code, status=400):
        result, error = outcome
        self.assertIsNone(result)
        self.assertEqual(error[1].decode(), code)
        self.assertTrue(error[2])
        self.assertEqual(struct.unpack("<i", error[3])[0], status)

    def http(self, action, parameters):
        os.environ["MILLRACE_ENDPOINT"] = self.broker.endpoint
        try:
            return sqs_raw.call("json", action, parameters).result
        finally:
            del os.environ["MILLRACE_ENDPOINT"]

    def test_both_protocols_see_the_same_messages(self):
        client = self.client()
        name = self.queue(client)
        attribute = member(1, "n") + member(3, b"\0\xff") + member(6, "Binary")
        sent, error = client.call(SEND, member(1, name), member(2, "caf\u00e9"),
                                  member(4, structs(attribute)))
        self.assertIsNone(error)
        got = self.http("ReceiveMessage", {"QueueUrl": name, "MessageAttributeNames": ["All"]})
        message = got["Messages"][0]
        self.assertEqual(message["Body"], "caf\u00e9")
        self.assertEqual(message["MessageId"], sent[4].decode())
        self.assertNotIn(1, sent)  # nobody wanted the MD5 of the body; it is made when somebody does
        self.assertEqual(message["MD5OfBody"], hashlib.md5("caf\u00e9".encode()).hexdigest())
        self.assertEqual(message["MD5OfMessageAttributes"], sent[2].decode())
        self.assertEqual(message["MessageAttributes"]["n"]["BinaryValue"], "AP8=")
        _, error = client.call(DELETE, member(1, name), member(2, message["ReceiptHandle"]))
        self.assertIsNone(error)
        self.http("SendMessage", {"QueueUrl": name, "MessageBody": "back"})
        result, _ = client.call(RECEIVE, member(1, name), member(7, 5))
        message = items(result[1])[0]
        self.assertEqual(message[4], b"back")
        self.assertEqual(message[3].decode(), hashlib.md5(b"back").hexdigest())
        _, error = client.call(CHANGE_VISIBILITY, member(1, name), member(2, message[2]), member(3, 0))
        self.assertIsNone(error)
        result, _ = client.call(RECEIVE, member(1, name))
        result, error = client.call(DELETE_BATCH, member(1, name),
                                    member(2, structs(member(1, "a") + member(2, items(result[1])[0][2]),
                                                      member(1, "b") + member(2, "forged"))))
        self.assertEqual(items(result[1])[0][1], b"a")
        self.assertEqual(items(result[2])[0][3], b"ReceiptHandleIsInvalid")

    def test_the_rules_are_the_apis(self):
        client = self.client()
        name = self.queue(client)
        self.refused(client.call(SEND, member(1, "no-such-queue"), member(2, "x")), "QueueDoesNotExist")
        self.refused(client.call(SEND, member(1, name)), "MissingRequiredParameterException")
        self.refused(client.call(SEND, member(1, name), member(2, "a\x01b")), "InvalidMessageContents")
        self.refused(client.call(SEND, member(1, name), member(2, "x"), member(3, 901)),
                     "InvalidParameterValueException")
        self.refused(client.call(SEND, member(1, name), member(2, "x" * 1048577)),
                     "InvalidParameterValueException")
        self.refused(client.call(RECEIVE, member(1, name), member(5, 11)),
                     "InvalidParameterValueException")
        self.refused(client.call(SEND_BATCH, member(1, name), member(2, structs())), "EmptyBatchRequest")
        eleven = [member(1, f"e{i}") + member(2, "x") for i in range(11)]
        self.refused(client.call(SEND_BATCH, member(1, name), member(2, structs(*eleven))),
                     "TooManyEntriesInBatchRequest")
        self.refused(client.call(999), "UnknownOperationException")
        self.refused(client.call(SEND, b"\x01\xff\xff\xff\xff"), "SerializationException")
        self.refused(client.call(SEND, member(1, name), member(2, b"\xff")), "SerializationException")
        result, error = client.call(RECEIVE, member(1, name))  # nothing was changed by any of it
        self.assertIsNone(error)
        self.assertNotIn(1, result)

    def test_illegal_characters_are_found_anywhere(self):
        client = self.client()
        name = self.queue(client)
        for bad in ("\x00", "\x1f", "\ufffe", "\uffff"):
            for before in range(20):
                body = "x" * before + bad + "y" * (20 - before)
                self.refused(client.call(SEND, member(1, name), member(2, body)), "InvalidMessageContents")
        good = "\t\n\r \x7f\u00e9\ufffd\ue000\U0010ffff" * 5
        self.assertIsNone(client.call(SEND, member(1, name), member(2, good))[1])

    def test_fifo(self):
        client = self.client()
        name = self.queue(client, "FifoQueue", "true")
        self.refused(client.call(SEND, member(1, name), member(2, "x")), "MissingRequiredParameterException")
        parts = [member(1, name), member(2, "x"), member(6, "g"), member(7, "d")]
        first, _ = client.call(SEND, *parts)
        again, _ = client.call(SEND, *parts)
        self.assertEqual(first[4], again[4])
        self.assertEqual(len(first[5]), 20)

    def test_many_calls_at_once(self):
        client = self.client()
        name = self.queue(client)
        first = client.id + 1
        client.socket.sendall(b"".join(
            client.call_bytes(SEND, member(1, name) + member(2, f"m{i}")) for i in range(500)))
        answers = [client.answer() for _ in range(500)]
        self.assertEqual(sorted(a[0] for a in answers), list(range(first, first + 500)))
        self.assertTrue(all(a[2] is None for a in answers))
        waiting = client.begin(RECEIVE, member(1, self.queue(client)), member(7, 20))
        result, _ = client.call(RECEIVE, member(1, name), member(5, 10))  # overtakes the one that waits
        self.assertEqual(len(items(result[1])), 10)
        self.assertNotEqual(waiting, client.id)

    def test_broken_frames_end_the_connection(self):
        good = frame(TYPE_CALL, struct.pack("<IHH", 1, LIST_QUEUES, 0))
        for bad in (good[:8] + b"\0\0\0\0" + good[12:], good[:6] + b"\2" + good[7:],
                    frame(TYPE_CALL, b"\1"), struct.pack("<IHBBI", 1 << 30, TYPE_CALL, 1, 0, 0),
                    struct.pack("<IHBBI", 9 << 20, TYPE_CALL, 1, 0, 0)):
            client = self.client()
            client.socket.sendall(bad)
            self.assertIsNone(client.read())
        client = self.client(greet=False)
        client.socket.sendall(good)  # before any greeting
        self.assertIsNone(client.read())
        self.assertIsNone(self.client().call(LIST_QUEUES)[1])

    def test_other_greetings(self):
        for hello in (b"\x08\x02", b"", b"\xff\xff\xff"):
            client = self.client(greet=False)
            client.socket.sendall(frame(TYPE_CLIENT_HELLO, hello))
            kind, reason = client.read()
            self.assertEqual(kind, TYPE_REFUSED)
            self.assertIn(b"protocol 1", reason)
            self.assertIsNone(client.read())
        client = self.client()
        client.socket.sendall(frame(99, b"from the future"))
        self.assertIsNone(client.call(LIST_QUEUES)[1])

    def test_a_client_that_leaves_takes_nothing_with_it(self):
        client = self.client()
        name = self.queue(client)
        leaver = Client(self.port)
        for _ in range(5):
            leaver.begin(RECEIVE, member(1, name), member(7, 20))
        self.assertIsNone(leaver.call(LIST_QUEUES)[1])  # so the receives wait by now
        leaver.close()
        client.call(LIST_QUEUES)
        client.call(SEND, member(1, name), member(2, "stays"))
        result, _ = client.call(RECEIVE, member(1, name), member(7, 10))
        self.assertEqual(items(result[1])[0][4], b"stays")

    def test_a_broker_that_stops_answers_what_waits(self):
        broker = harness.Broker(worker=False)
        try:
            client = Client(broker.ports[1])
            name = self.queue(client)
            number = client.begin(RECEIVE, member(1, name), member(7, 20))
            client.socket.sendall(client.call_bytes(SEND, member(1, self.queue(client)) + member(2, "x")))
            self.assertIsNone(client.answer()[2])
            broker.broker.process.send_signal(signal.SIGTERM)
            answered, result, error = client.answer()
            self.assertEqual((answered, result, error), (number, {}, None))
            self.assertIsNone(client.read())
            self.assertEqual(broker.broker.process.wait(15), 0)
            client.close()
        finally:
            broker.stop()


if __name__ == "__main__":
    unittest.main()
