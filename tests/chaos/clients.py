#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client process: producers and consumers that share nothing but the queues, and a history.

    clients.py SPEC     JSON: {"nodes": {name: address}, "seed", "history", "tasks": [...]}

Each task is a client with one connection, which goes to another node when something went wrong, as
clients with several endpoints do. One line on the standard input for each phase of a run:

    stop    producers end; those who must know go on until their last send is acknowledged, and then
            consumers delete all that they receive
    late    the consumers that were held back (of dead-letter queues) begin
    end     everybody ends, and the history is complete

Prints "stopped" when the last producer has ended.
"""

import asyncio
import json
import random
import sys
import time

from history import History, digest, now_us
import sqs

PAUSE_S = 0.1  # after something went wrong
HOP = 0.02  # chance to change the node for no reason
WAIT_S = 1  # of a long poll
REPEAT_MAX_US = 200_000_000  # of a deduplicated send: well within five minutes
FAREWELL_S = 20


def body_of(name, size):
    text = name + "|"
    return text * max(1, size // len(text))


def name_of(body):
    """The name of a message, and what an answering function put before it."""
    return body.partition("|")[0]


class Client:
    """One task's connection and its part of the history."""

    def __init__(self, process, task):
        self.process = process
        self.task = task
        self.name = task["name"]
        self.queue = task["queue"]
        self.random = random.Random(f"{process.seed}/{self.name}")
        self.names = list(process.nodes)
        self.random.shuffle(self.names)
        self.number = 0
        self.connect()

    def connect(self):
        self.connection = sqs.Connection(self.process.nodes[self.names[0]])

    def hop(self):
        self.connection.close()
        self.names.append(self.names.pop(0))
        self.connect()

    async def call(self, action, arguments, answer_s=sqs.ANSWER_S):
        """(answer, the fields that each line of the history has)"""
        if self.random.random() < self.task.get("hop", HOP):
            self.hop()
        fields = {"client": self.name, "node": self.names[0], "queue": self.queue}
        fields["begin"] = now_us()
        answer = await self.connection.call(action, {"QueueUrl": self.queue, **arguments}, answer_s)
        fields["end"] = now_us()
        fields["outcome"] = answer.outcome
        if answer.error is not None:
            fields["error"] = answer.error
            if answer.message:
                fields["detail"] = answer.message
        if not answer.ok:
            self.hop()
            await asyncio.sleep(self.task.get("pause_s", PAUSE_S))
        return answer, fields

    async def batch(self, action, entries):
        """[(entry's reply, its fields)] in the order of the entries; each may fail by itself."""
        numbered = [{"Id": str(i), **entry} for i, entry in enumerate(entries)]
        answer, fields = await self.call(action, {"Entries": numbered})
        if not answer.ok:
            return [({}, fields)] * len(entries)
        replies = {reply["Id"]: reply for reply in answer.data.get("Successful", [])}
        refused = {reply["Id"]: reply for reply in answer.data.get("Failed", [])}
        found = []
        for entry in numbered:
            if entry["Id"] in replies:
                found.append((replies[entry["Id"]], fields))
                continue
            reply = refused.get(entry["Id"], {"Code": "NotAnswered"})
            code = sqs.short(reply["Code"])
            outcome = sqs.outcome_of_error(code, reply.get("Message"))
            found.append(({}, {**fields, "outcome": outcome, "error": code}))
        return found

    def note(self, op, fields, **more):
        self.process.history.write(op, **fields, **more)


class Producer(Client):
    due_s = 0.0

    def next_message(self):
        self.number += 1
        kind = "poison" if self.random.random() < self.task.get("poison", 0) else "m"
        message = {"name": f"{self.name}/{kind}{self.number}"}
        size = self.task.get("size") or self.random.choice((16, 100, 100, 1000, 4000))
        message["body"] = body_of(message["name"], size)
        if self.random.random() < self.task.get("delayed", 0):
            message["delay_s"] = self.random.randint(1, 3)
        return message

    def entry(self, message):
        entry = {"MessageBody": message["body"]}
        if "delay_s" in message:
            entry["DelaySeconds"] = message["delay_s"]
        if "group" in message:
            entry["MessageGroupId"] = message["group"]
            entry["MessageDeduplicationId"] = message["name"]
        return entry

    def note_send(self, message, reply, fields):
        more = {"name": message["name"], "body": digest(message["body"])}
        for key, value in (
            ("id", reply.get("MessageId")),
            ("sequence", reply.get("SequenceNumber")),
            ("group", message.get("group")),
            ("delay_ms", message.get("delay_s", 0) * 1000),
        ):
            if value:
                more[key] = value
        self.note("send", fields, **more)

    async def send(self, messages):
        if len(messages) == 1:
            answer, fields = await self.call("SendMessage", self.entry(messages[0]))
            self.note_send(messages[0], answer.data, fields)
            return answer.ok
        entries = [self.entry(message) for message in messages]
        results = await self.batch("SendMessageBatch", entries)
        for message, (reply, fields) in zip(messages, results):
            self.note_send(message, reply, fields)
        return True

    async def pause(self, count=1):
        """Until the next is due, by the task's rate; what was missed is not made up for."""
        period_s = count / self.task["rate"] * self.random.uniform(0.5, 1.5)
        self.due_s = max(self.due_s + period_s, time.monotonic())
        await asyncio.sleep(self.due_s - time.monotonic())

    async def run(self):
        count = self.task.get("batch", 1)
        while not self.process.stopped.is_set():
            await self.send([self.next_message() for _ in range(count)])
            await self.pause(count)


class OrderProducer(Producer):
    """The only producer of its group: sends the next when the one before is acknowledged."""

    async def run(self):
        while not self.process.stopped.is_set():
            message = {**self.next_message(), "group": self.name}
            begun = now_us()
            while not await self.send([message]):
                if now_us() - begun > REPEAT_MAX_US:
                    return
            await self.pause()


class Consumer(Client):
    """Receives, and then deletes most, returns some early, holds some longer, forgets some."""

    async def receive(self):
        visibility_s = self.random.choice((2, 3, 4))
        arguments = {
            "MaxNumberOfMessages": self.random.choice((1, 5, 10, 10)),
            "VisibilityTimeout": visibility_s,
            "WaitTimeSeconds": WAIT_S,
            "MessageSystemAttributeNames": ["All"],
        }
        answer, fields = await self.call("ReceiveMessage", arguments, sqs.ANSWER_S + WAIT_S)
        messages = answer.data.get("Messages", [])
        self.note("receive", fields, visibility_ms=visibility_s * 1000,
                  messages=[self.noted(message) for message in messages])
        return messages

    def noted(self, message):
        about = message.get("Attributes", {})
        noted = {
            "name": name_of(message["Body"]),
            "body": digest(message["Body"]),
            "id": message["MessageId"],
            "handle": digest(message["ReceiptHandle"]),
            "count": int(about["ApproximateReceiveCount"]),
        }
        for key, attribute in (("group", "MessageGroupId"), ("sequence", "SequenceNumber")):
            if attribute in about:
                noted[key] = about[attribute]
        return noted

    def note_change(self, op, message, fields, **more):
        self.note(op, fields, id=message["MessageId"], name=name_of(message["Body"]),
                  handle=digest(message["ReceiptHandle"]), **more)

    async def delete(self, messages):
        entries = [{"ReceiptHandle": message["ReceiptHandle"]} for message in messages]
        left = []
        if len(messages) == 1:
            _, fields = await self.call("DeleteMessage", entries[0])
            results = [({}, fields)]
        else:
            results = await self.batch("DeleteMessageBatch", entries)
        for message, (_, fields) in zip(messages, results):
            self.note_change("delete", message, fields)
            if fields["outcome"] == "unknown" or fields.get("error") == "connect":
                left.append(message)
        return left

    async def change(self, message, timeout_s):
        entry = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": timeout_s}
        _, fields = await self.call("ChangeMessageVisibility", entry)
        self.note_change("visibility", message, fields, timeout_ms=timeout_s * 1000)

    async def handle(self, messages):
        """Most are deleted together; a consumer of a FIFO queue keeps the order of a group."""
        deletes = []
        draining = self.process.stopped.is_set()
        given_up = set()
        for message in messages:
            group = message.get("Attributes", {}).get("MessageGroupId")
            dice = 0.0 if draining or self.task.get("plain") else self.random.random()
            if "/poison" in message["Body"] and self.queue == "poison":
                dice = self.random.uniform(0.88, 1.0)
            if group in given_up:
                continue
            if dice < 0.85:
                deletes.append(message)
                continue
            if group is not None:
                given_up.add(group)
            if dice < 0.94:
                await self.change(message, self.random.choice((0, 0, 1)))
            elif dice < 0.97 and "/poison" not in message["Body"]:
                await self.change(message, 5)
                deletes.append(message)
        for _ in range(5):
            if deletes:
                deletes = await self.delete(deletes)

    async def run(self):
        if self.task.get("late"):
            await self.process.late.wait()
        while not self.process.ended.is_set():
            messages = await self.receive()
            if messages:
                await self.handle(messages)


KINDS = {"produce": Producer, "order": OrderProducer, "consume": Consumer}


class Process:
    def __init__(self, spec):
        self.nodes = spec["nodes"]
        self.seed = spec["seed"]
        self.history = History(spec["history"])
        self.tasks = spec["tasks"]
        self.stopped = asyncio.Event()
        self.late = asyncio.Event()
        self.ended = asyncio.Event()

    async def phases(self):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        phases = {b"stop": self.stopped, b"late": self.late, b"end": self.ended}
        while line := await reader.readline():
            phases[line.strip()].set()
        for phase in phases.values():
            phase.set()

    async def flush(self):
        while not self.ended.is_set():
            await asyncio.sleep(0.5)
            self.history.flush()

    async def run(self):
        listening = asyncio.create_task(self.phases())
        flushing = asyncio.create_task(self.flush())
        clients = [KINDS[task["kind"]](self, task) for task in self.tasks]
        running = {asyncio.create_task(client.run()): client for client in clients}
        producing = [task for task, client in running.items() if isinstance(client, Producer)]
        if producing:
            await asyncio.gather(*producing)
        await self.stopped.wait()
        print("stopped", flush=True)
        await self.ended.wait()
        _, late = await asyncio.wait(running, timeout=FAREWELL_S)
        for task in [*late, flushing, listening]:
            task.cancel()
        for task in running:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception()
        self.history.close()


if __name__ == "__main__":
    asyncio.run(Process(json.loads(sys.argv[1])).run())
