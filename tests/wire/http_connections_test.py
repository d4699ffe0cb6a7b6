# SPDX-License-Identifier: Apache-2.0
"""Many idle connections: 10,000 that each had a request are kept and served again, cost little memory,
and hold nobody up; the same with TLS. Prints what a connection costs."""
import resource
import socket
import ssl
import tempfile
import time
import unittest

from sqs_raw import harness

COUNT = 10000
COUNT_TLS = 2000
SPARE = 200  # descriptors for everything else
GET = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"
BYTES_MAX = 8192        # of memory for an idle connection; measured: see docs/operations.md
BYTES_MAX_TLS = 65536


def descriptors():
    """How many connections this machine lets both processes have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(100, hard - SPARE)


def ask(connection):
    connection.sendall(GET)
    answer = b""
    while b'{"status":"live"}\n' not in answer:
        part = connection.recv(4096)
        assert part, answer
        answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
    return connection


def metric(broker, name):
    text = harness.request(broker.endpoint, "GET", "/metrics", tls=broker.tls).body.decode()
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


class Idle(unittest.TestCase):
    def setUp(self):
        self.connections = []
        self.addCleanup(lambda: [c.close() for c in self.connections])

    def connect(self, broker):
        connection = socket.create_connection(("127.0.0.1", broker.ports[0]), 20)
        if broker.tls:
            connection = broker.tls.wrap_socket(connection, server_hostname="127.0.0.1")
        return connection

    def hold(self, broker, count):
        """Open so many, see that all are kept and served; bytes of memory for each."""
        for _ in range(100):  # what the first ones cost once
            ask(self.connect(broker)).close()
        harness.wait_for(lambda: metric(broker, "millrace_api_connections") <= 1, 20)
        before = metric(broker, "process_resident_memory_bytes")
        for _ in range(count):
            self.connections.append(ask(self.connect(broker)))
        after = metric(broker, "process_resident_memory_bytes")
        self.assertGreaterEqual(metric(broker, "millrace_api_connections"), count)
        cpu = metric(broker, "process_cpu_seconds_total")
        time.sleep(1)
        idle_cpu = metric(broker, "process_cpu_seconds_total") - cpu
        for connection in self.connections[::97]:
            ask(connection)
        each = (after - before) / count
        print(f"\n{count} idle connections{' with TLS' if broker.tls else ''}: {each:.0f} bytes each, "
              f"{idle_cpu * 1000:.0f} ms of processor time in a second", flush=True)
        return each

    def test_plain(self):
        broker = harness.Broker(worker=False)
        self.addCleanup(broker.stop)
        self.assertLess(self.hold(broker, min(COUNT, descriptors())), BYTES_MAX)
        self.assertEqual(broker.broker.stop(), 0)  # and it stops at once, with all of them open

    def test_tls(self):
        folder = tempfile.TemporaryDirectory(prefix="millrace-test-")
        self.addCleanup(folder.cleanup)
        millrace = harness.Program("millrace", ["tls", "init", "--dir", folder.name + "/tls",
                                                "--hosts", "127.0.0.1"], folder.name)
        self.assertEqual(millrace.process.wait(20), 0)
        millrace.stop()
        own = folder.name + "/tls/127.0.0.1"
        broker = harness.Broker(
            worker=False, tls=ssl.create_default_context(cafile=own + "/ca.pem"),
            broker_arguments=["--tls-cert", own + "/cert.pem", "--tls-key", own + "/key.pem"])
        self.addCleanup(broker.stop)
        self.assertLess(self.hold(broker, min(COUNT_TLS, descriptors())), BYTES_MAX_TLS)


if __name__ == "__main__":
    unittest.main()
