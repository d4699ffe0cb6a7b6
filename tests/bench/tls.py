#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS costs a broker: its processor time for a request, with TLS and without, on connections that
stay and on new ones. The time is the broker's own (/metrics), so the client's does not count; requests
that never get to the disk show the transport alone. Each row is measured in rounds, plain and TLS in
turn, and the least is printed: other programs only ever add.

    MILLRACE_BIN=build/release/bin /usr/bin/python3 tests/bench/tls.py [--requests 20000]
"""
import argparse
import pathlib
import socket
import ssl
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402


ROUNDS = 5
LIVE = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"
UPLOAD = b"POST /health/live HTTP/1.1\r\nHost: h\r\nContent-Length: 64000\r\n\r\n" + b"x" * 64000
SEND = b'{"QueueUrl":"q","MessageBody":"' + b"x" * 1000 + b'"}'
SEND = (b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % len(SEND)) + SEND


def ask(connection, request):
    connection.sendall(request)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer or not answer.endswith((b"}", b"}\n")):
        answer += connection.recv(65536)
    assert answer[9:12] in (b"200", b"405"), answer


class Bench:
    def __init__(self, broker):
        self.broker = broker
        self.session = None
        harness.request(broker.endpoint, "GET", "/?Action=CreateQueue&QueueName=q", tls=broker.tls)

    def connect(self, resume=False):
        raw = socket.create_connection(("127.0.0.1", self.broker.ports[0]))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.broker.tls is None:
            return raw
        return self.broker.tls.wrap_socket(raw, server_hostname="127.0.0.1",
                                           session=self.session if resume else None)

    def cpu(self):
        text = harness.request(self.broker.endpoint, "GET", "/metrics", tls=self.broker.tls).body
        for line in text.decode().splitlines():
            if line.startswith("process_cpu_seconds_total "):
                return float(line.split()[1])
        raise AssertionError("no process_cpu_seconds_total")

    def kept(self, request, count):
        """Microseconds for a request on a connection that stays."""
        connection = self.connect()
        for _ in range(20):
            ask(connection, request)
        before = self.cpu()
        for _ in range(count):
            ask(connection, request)
        spent = self.cpu() - before
        connection.close()
        return spent / count * 1e6

    def fresh(self, request, count, resume=False):
        """The same, with a connection for each."""
        if resume:
            first = self.connect()
            ask(first, request)
            self.session = first.session
            first.close()
        before = self.cpu()
        for _ in range(count):
            connection = self.connect(resume)
            ask(connection, request)
            assert self.broker.tls is None or connection.session_reused == resume
            connection.close()
        return (self.cpu() - before) / count * 1e6


def row(name, measure, plain, tls):
    """`plain` may be None."""
    values = [(measure(plain) if plain else 0, measure(tls)) for _ in range(ROUNDS)]
    print(f"{name:44} {min(v[0] for v in values):9.1f} {min(v[1] for v in values):9.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20000)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        made = harness.Program("millrace", ["tls", "init", "--dir", folder + "/tls", "--hosts",
                                            "127.0.0.1"], folder)
        assert made.process.wait(30) == 0, made.tail()
        made.stop()
        own = folder + "/tls/127.0.0.1"
        context = ssl.create_default_context(cafile=own + "/ca.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        brokers = [harness.Broker(worker=False),
                   harness.Broker(worker=False, tls=context, broker_arguments=[
                       "--tls-cert", own + "/cert.pem", "--tls-key", own + "/key.pem"])]
        try:
            plain, tls = (Bench(broker) for broker in brokers)
            print("microseconds of the broker's processor           plain       TLS")
            row("GET of 20 bytes, connection kept", lambda b: b.kept(LIVE, count), plain, tls)
            row("POST of 64,000 bytes, connection kept", lambda b: b.kept(UPLOAD, count // 10), plain, tls)
            row("SendMessage of 1,000 bytes, connection kept", lambda b: b.kept(SEND, count // 10), plain,
                tls)
            row("GET of 20 bytes, new connection", lambda b: b.fresh(LIVE, count // 20), plain, tls)
            # Python resumes TLS 1.2 with less ado than 1.3; the work is the same but for a key exchange.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            row("the same, session resumed (TLS 1.2)", lambda b: b.fresh(LIVE, count // 20, True), None,
                tls)
        finally:
            for broker in brokers:
                broker.stop()


if __name__ == "__main__":
    main()
