# SPDX-License-Identifier: Apache-2.0
"""What a transcript finds: queues, handles and tasks, made when it names them.

A text of a transcript names them in braces: {queue} is the URL of a new queue, {queue.name} its name
and {queue.arn} its ARN; every transcript has a world of its own. A parameter whose name begins with
"x-" is not sent: it is there for what it names to be made. What is in VALUES only stands in answers
and matches what no test can know."""
import base64
import json
import re
import uuid

from sqs_raw import call, harness

TOKEN = re.compile(r"\{([a-z_]+)(?:\.(name|arn))?\}")
VALUES = {
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "text": "[^<\"]+", "digits": "[0-9]+",
    "seconds": "[0-9]{10}", "milliseconds": "[0-9]{13}", "sequence": "[0-9]{20}",
    "handle": "[A-Za-z0-9+/=_-]{20,}", "token": "[A-Za-z0-9+/=]{20,}"}


def ask(action, **parameters):
    answer = call("json", action, parameters)
    assert answer.status == 200, (action, answer.body)
    return answer.result


class World:
    def __init__(self):
        self.made = {}

    def fill(self, value):
        """`value`, a text, list or map of them, with what it names put in."""
        if isinstance(value, dict):
            return {self.fill(k): self.fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v) for v in value]
        return TOKEN.sub(self.token, value) if isinstance(value, str) else value

    def pattern(self, template):
        """A pattern that matches the whole answer that `template` describes."""
        out, at = "", 0
        for match in TOKEN.finditer(template):
            name = match.group(1)
            out += re.escape(template[at:match.start()])
            out += VALUES[name] if name in VALUES else re.escape(self.token(match))
            at = match.end()
        return re.compile(out + re.escape(template[at:]), re.DOTALL)

    def token(self, match):
        name, part = match.groups()
        text = self.get(name)
        if part == "name":
            return text.rpartition("/")[2]
        return harness.queue_arn(text.rpartition("/")[2]) if part == "arn" else text

    def get(self, name):
        if name not in self.made:
            self.made[name] = getattr(self, "make_" + name)()
        return self.made[name]

    @staticmethod
    def create(suffix="", **attributes):
        name = harness.unique("w") + suffix
        return ask("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]

    # ---- queues ----

    def make_base(self):
        return self.get("queue").rpartition("/")[0].rpartition("/")[0]

    def make_queue(self):
        return self.create()

    make_other = make_queue

    def make_small(self):
        return self.create(MaximumMessageSize="1024")

    def make_fifo(self):
        return self.create(".fifo", FifoQueue="true")

    make_fifo_other = make_fifo

    def make_by_content(self):
        return self.create(".fifo", FifoQueue="true", ContentBasedDeduplication="true")

    def make_dead(self):
        return self.create()

    def make_source(self):
        """One whose dead-letter queue is {dead}."""
        arn = harness.queue_arn(self.get("dead").rpartition("/")[2])
        return self.create(RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": arn, "maxReceiveCount": 1}))

    def make_strict(self):
        """One that nobody may have as a dead-letter queue."""
        return self.create(RedriveAllowPolicy='{"redrivePermission":"denyAll"}')

    def make_delayed(self):
        return self.create(DelaySeconds="5")

    def make_labelled(self):
        """One with a permission of the label "here"."""
        url = self.create()
        ask("AddPermission", QueueUrl=url, Label="here", AWSAccountIds=["210987654321"],
            Actions=["SendMessage"])
        return url

    def make_tagged(self):
        url = self.create()
        ask("TagQueue", QueueUrl=url, Tags={"colour": "blue", "<&>": ""})
        return url

    def make_full_of_tags(self):
        url = self.create()
        ask("TagQueue", QueueUrl=url, Tags={f"k{i}": "v" for i in range(50)})
        return url

    def make_full_of_labels(self):
        url = self.create()
        for i in range(20):
            ask("AddPermission", QueueUrl=url, Label=f"l{i}", AWSAccountIds=["210987654321"],
                Actions=["SendMessage"])
        return url

    def make_purged(self):
        url = self.create()
        ask("PurgeQueue", QueueUrl=url)
        return url

    def make_deleted(self):
        url = self.create()
        ask("DeleteQueue", QueueUrl=url)
        return url

    def make_gone(self):
        return f"{self.get('base')}/{harness.ACCOUNT}/{harness.unique('none')}"

    make_new = make_gone

    def make_sent(self):
        """A queue with one message, which has attributes."""
        url = self.create()
        ask("SendMessage", QueueUrl=url, MessageBody="hello",
            MessageAttributes={"a": {"DataType": "String", "StringValue": "<&>"},
                               "b": {"DataType": "Binary", "BinaryValue": "AP8="}})
        return url

    # ---- handles: of a message in {queue}, or {fifo} ----

    def receive(self, queue, **more):
        more_send = {"MessageGroupId": "g", "MessageDeduplicationId": str(uuid.uuid4())}
        ask("SendMessage", QueueUrl=self.get(queue), MessageBody="x",
            **(more_send if queue == "fifo" else {}))
        (message,) = ask("ReceiveMessage", QueueUrl=self.get(queue), **more)["Messages"]
        return message["ReceiptHandle"]

    def make_held(self):
        return self.receive("queue")

    def make_of_other(self):
        return self.receive("other")

    def make_returned(self):
        return self.receive("queue", VisibilityTimeout=0)

    def make_stale(self):
        """Of a receive that another one came after, which has the message now."""
        handle = self.receive("queue", VisibilityTimeout=0)
        ask("ReceiveMessage", QueueUrl=self.get("queue"))
        return handle

    def make_stale_returned(self):
        """The same, but the message is visible again."""
        handle = self.receive("queue", VisibilityTimeout=0)
        ask("ReceiveMessage", QueueUrl=self.get("queue"), VisibilityTimeout=0)
        return handle

    def make_finished(self):
        handle = self.receive("queue")
        ask("DeleteMessage", QueueUrl=self.get("queue"), ReceiptHandle=handle)
        return handle

    def make_expired(self):
        return self.receive("fifo", VisibilityTimeout=0)

    # ---- move tasks: from {dead} ----

    def start_move(self, **more):
        for _ in range(3):
            ask("SendMessage", QueueUrl=self.get("source"), MessageBody="x")
            ask("ReceiveMessage", QueueUrl=self.get("source"), VisibilityTimeout=0)
            ask("ReceiveMessage", QueueUrl=self.get("source"))
        arn = harness.queue_arn(self.get("dead").rpartition("/")[2])
        return arn, ask("StartMessageMoveTask", SourceArn=arn, **more)["TaskHandle"]

    def make_task(self):
        """A move that takes its time."""
        return self.start_move(MaxNumberOfMessagesPerSecond=1)[1]

    def make_ended_task(self):
        arn, handle = self.start_move()
        harness.wait_for(lambda: ask("ListMessageMoveTasks", SourceArn=arn)["Results"][0][
            "Status"] == "COMPLETED", 20, "the end of a move")
        return handle

    @staticmethod
    def task_handle(arn):
        text = json.dumps({"taskId": str(uuid.uuid4()), "sourceArn": arn})
        return base64.b64encode(text.encode()).decode()

    def make_unknown_task(self):
        return self.task_handle(harness.queue_arn(self.get("queue").rpartition("/")[2]))

    def make_task_of_gone(self):
        return self.task_handle(harness.queue_arn(self.get("gone").rpartition("/")[2]))
