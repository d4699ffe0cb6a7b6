# SPDX-License-Identifier: Apache-2.0
"""How long a connection is kept: --http-keepalive-timeout and --http-keepalive-requests, as flags, in the
environment and in a file."""
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest
from unittest import mock

from sqs_raw import harness

SOME = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"


def connect(broker):
    connection = http.client.HTTPConnection("127.0.0.1", broker.ports[0], timeout=20)
    connection.connect()
    return connection


def ask(connection, action, parameters):
    connection.request("POST", "/", json.dumps(parameters),
                       {"X-Amz-Target": f"AmazonSQS.{action}"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return response.getheader("Connection"), json.loads(response.read() or b"{}")


class KeepAlive(unittest.TestCase):
    def broker(self, *arguments):
        broker = harness.Broker(worker=False, broker_arguments=arguments)
        self.addCleanup(broker.stop)
        return broker

    def assert_ends_idle(self, broker, most):
        connection = connect(broker)
        self.addCleanup(connection.close)
        ask(connection, "ListQueues", {})
        start = time.monotonic()
        self.assertEqual(connection.sock.recv(1), b"")
        self.assertLess(time.monotonic() - start, most)

    def test_idle_connections_end_and_waiting_ones_do_not(self):
        broker = self.broker("--http-keepalive-timeout", "1")
        connection = connect(broker)
        self.addCleanup(connection.close)
        _, queue = ask(connection, "CreateQueue", {"QueueName": "q"})
        self.assertEqual(ask(connection, "ReceiveMessage", {**queue, "WaitTimeSeconds": 3}),
                         ("keep-alive", {}))
        self.assertEqual(ask(connection, "ListQueues", {})[0], "keep-alive")
        self.assert_ends_idle(broker, 15)

    def test_requests_of_a_connection(self):
        broker = self.broker("--http-keepalive-requests", "3")
        for _ in range(2):
            connection = connect(broker)
            said = [ask(connection, "ListQueues", {})[0] for _ in range(3)]
            self.assertEqual(said, ["keep-alive", "keep-alive", "close"])
            connection.close()

    def test_no_limit_by_default(self):
        broker = self.broker()
        connection = connect(broker)
        self.addCleanup(connection.close)
        for _ in range(2000):
            connection.sock.sendall(SOME)
            self.assertIn(b"keep-alive", connection.sock.recv(4096))

    def test_from_environment_and_file(self):
        with mock.patch.dict(os.environ, MILLRACE_HTTP_KEEPALIVE_TIMEOUT="1"):
            self.assert_ends_idle(self.broker(), 15)
        with tempfile.TemporaryDirectory(prefix="millrace-test-") as folder:
            path = pathlib.Path(folder) / "broker.conf"
            path.write_text("http-keepalive-requests = 1\n")
            connection = connect(self.broker("--config", str(path)))
            self.addCleanup(connection.close)
            self.assertEqual(ask(connection, "ListQueues", {})[0], "close")

    def test_values(self):
        binary = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))
        for option, value in (("--http-keepalive-timeout", "0"), ("--http-keepalive-timeout", "x"),
                              ("--http-keepalive-requests", "-1")):
            ended = subprocess.run([binary / "millrace-broker", "--data-dir", "/nonexistent", option, value],
                                   capture_output=True, text=True, timeout=20)
            self.assertEqual(ended.returncode, 64, option)
            self.assertIn(option, ended.stderr)


if __name__ == "__main__":
    unittest.main()
