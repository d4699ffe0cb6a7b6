#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What receives that wait cost a broker: memory and processor time while nothing comes, and how long it
takes to wake all of them. Starts a broker of its own, has N receives wait (over HTTP, one on each
connection; natively, spread over --connections), then sends N messages, and sees that each poll is
answered with one message and each message is answered once. One JSON object on standard output.

    MILLRACE_BIN=build/release/bin /usr/bin/python3 tests/bench/polls.py --polls 10000 [--protocol native
        --connections 100]

bytes_per_poll is the growth of the broker's resident memory; the kernel's sockets are not in it.
"""
import argparse
import json
import os
import pathlib
import resource
import selectors
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "wire"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402
import native_test as native  # noqa: E402

WAIT_S = 20          # of a receive, the most there is
VISIBILITY_S = 3600  # no message comes back while this runs
PATIENCE_S = 120     # for a poll to be answered with a message
WARM = 200           # polls that end empty before anything is measured
SPARE = 500          # descriptors for everything else


def json_request(action, **parameters):
    body = json.dumps(parameters).encode()
    return (b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.%s\r\n"
            b"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"
            % (action.encode(), len(body))) + body


class Connection:
    """One that does not block; `answers` yields the queue and the bodies of each answer that is here."""

    def __init__(self, port):
        self.queues = {}  # of polls that were not answered, by number
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setblocking(False)
        self.got = b""

    def say(self, data):
        self.socket.setblocking(True)
        self.socket.sendall(data)
        self.socket.setblocking(False)

    def read(self):
        try:
            part = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        if not part:
            raise AssertionError("the broker closed a connection")
        self.got += part


class Http(Connection):
    polls = 1

    def poll(self, queue, wait_s):
        self.queues[0] = queue
        self.say(json_request("ReceiveMessage", QueueUrl=queue, WaitTimeSeconds=wait_s,
                              VisibilityTimeout=VISIBILITY_S))

    def answers(self):
        self.read()
        while True:
            head, end, rest = self.got.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            assert head.startswith(b"HTTP/1.1 200 "), (head, rest)
            self.got = rest[length:]
            yield self.queues.pop(0), [m["Body"] for m in json.loads(rest[:length]).get("Messages", [])]


class Native(Connection):
    def __init__(self, port, polls):
        super().__init__(port)
        self.polls = polls
        self.calls = 0
        self.say(native.frame(native.TYPE_CLIENT_HELLO, native.HELLO))
        while not self.frames():
            time.sleep(0.001)

    def poll(self, queue, wait_s):
        self.calls += 1
        self.queues[self.calls] = queue
        self.say(native.frame(native.TYPE_CALL, struct.pack("<IHH", self.calls, native.RECEIVE, 0)
                              + native.member(1, queue) + native.member(6, VISIBILITY_S)
                              + native.member(7, wait_s)))

    def frames(self):
        self.read()
        found = []
        while len(self.got) >= 12:
            length, kind = struct.unpack_from("<IH", self.got)
            if len(self.got) < 12 + length:
                break
            found.append((kind, self.got[12:12 + length]))
            self.got = self.got[12 + length:]
        return found

    def answers(self):
        for kind, payload in self.frames():
            assert kind == native.TYPE_ANSWER and payload[4] == 0, payload
            result = native.members(payload[8:])
            bodies = [m[4].decode() for m in native.items(result[1])] if 1 in result else []
            yield self.queues.pop(struct.unpack_from("<I", payload)[0]), bodies


class Watch:
    """The broker's process from outside."""

    def __init__(self, pid):
        self.pid = pid

    def memory(self):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, options, broker):
        self.options = options
        self.broker = broker
        self.watch = Watch(broker.broker.process.pid)
        self.selector = selectors.DefaultSelector()
        self.connections = []
        self.queues = [f"polls-{i}" for i in range(options.queues)]
        self.empty = 0      # answers without a message: that poll was asked again
        self.answered = []  # bodies
        for queue in self.queues:
            self.ask("CreateQueue", QueueName=queue)

    def ask(self, action, **parameters):
        answer = harness.request(self.broker.endpoint, "POST", "/", json.dumps(parameters),
                                 {"X-Amz-Target": f"AmazonSQS.{action}",
                                  "Content-Type": "application/x-amz-json-1.0"})
        assert answer.status == 200, answer.body
        return answer.json() if answer.body else {}

    def connect(self, polls):
        port = self.broker.ports[0 if self.options.protocol == "http" else 1]
        return Http(port) if self.options.protocol == "http" else Native(port, polls)

    def warm(self):
        """What the first polls cost once: they end empty."""
        connections = [self.connect(1) for _ in range(WARM if self.options.protocol == "http" else 1)]
        for i in range(WARM):
            connections[i % len(connections)].poll(self.queues[0], 1)
        left = WARM
        until = time.monotonic() + PATIENCE_S
        while left > 0:
            assert time.monotonic() < until, f"{left} polls of a second were not answered"
            left -= sum(len(list(connection.answers())) for connection in connections)
            time.sleep(0.05)
        for connection in connections:
            connection.socket.close()

    def begin(self):
        """All polls, in turns over the queues, and all of them waiting."""
        count = self.options.polls
        connections = count if self.options.protocol == "http" else self.options.connections
        begun = 0
        for i in range(connections):
            connection = self.connect(count // connections + (i < count % connections))
            for _ in range(connection.polls):
                connection.poll(self.queues[begun % len(self.queues)], WAIT_S)
                begun += 1
            self.connections.append(connection)
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.ask("ListQueues")  # the broker has read what came before it
        time.sleep(0.5)

    def take(self, timeout):
        for key, _ in self.selector.select(timeout):
            for queue, bodies in key.data.answers():
                self.answered += bodies
                self.empty += not bodies
                if not bodies:
                    key.data.poll(queue, WAIT_S)

    def wake(self):
        """As many messages as polls, ten in a call, each queue as many as it has polls."""
        count = self.options.polls
        sender = Http(self.broker.ports[0])
        sent = 0
        for q, queue in enumerate(self.queues):
            bodies = [f"{q} {i}" for i in range(count // len(self.queues) + (q < count % len(self.queues)))]
            for at in range(0, len(bodies), 10):
                sender.say(json_request("SendMessageBatch", QueueUrl=queue, Entries=[
                    {"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[at:at + 10])]))
                while b'"Successful"' not in sender.got:
                    self.take(0)
                    sender.read()
                assert b'"Failed":[' not in sender.got or b'"Failed":[]' in sender.got, sender.got
                sender.got = b""
            sent += len(bodies)
        sender.socket.close()
        until = time.monotonic() + PATIENCE_S
        while len(self.answered) < sent:
            assert time.monotonic() < until, f"{sent - len(self.answered)} of {sent} polls got no message"
            self.take(1)
        return sent

    def run(self):
        self.warm()
        memory = self.watch.memory()
        self.begin()
        each = (self.watch.memory() - memory) / self.options.polls
        cpu = self.watch.cpu()
        time.sleep(self.options.idle_seconds)
        idle = self.watch.cpu() - cpu
        cpu, began = self.watch.cpu(), time.monotonic()
        sent = self.wake()
        took, cpu = time.monotonic() - began, self.watch.cpu() - cpu
        self.take(0.2)  # more than that there must not be
        assert len(self.answered) == sent, f"{len(self.answered)} messages for {sent}"
        assert len(set(self.answered)) == sent, "a message was answered twice"
        return {"protocol": self.options.protocol, "polls": self.options.polls,
                "connections": len(self.connections), "queues": len(self.queues),
                "bytes_per_poll": round(each), "idle_cpu_percent": round(idle / self.options.idle_seconds
                                                                         * 100, 2),
                "wake_seconds": round(took, 3), "wake_cpu_us_per_poll": round(cpu / sent * 1e6, 1),
                "empty_answers": self.empty, "messages": sent}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--polls", type=int, default=10000)
    parser.add_argument("--protocol", choices=["http", "native"], default="http")
    parser.add_argument("--connections", type=int, default=1, help="native ones")
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--idle-seconds", type=float, default=3)
    return parser.parse_args()


def measure(options):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the broker's too, which it inherits
    if options.protocol == "http" and options.polls + SPARE > hard:
        raise SystemExit(f"{options.polls} connections need more than the {hard} descriptors that are allowed")
    broker = harness.Broker(worker=False)
    bench = None
    try:
        bench = Bench(options, broker)
        return bench.run()
    finally:
        for connection in bench.connections if bench else []:
            connection.socket.close()
        broker.stop()


if __name__ == "__main__":
    print(json.dumps(measure(arguments())))
