#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's job: this machine's package database through a queue and a function.

Every stanza of /var/lib/dpkg/status becomes a message (SendMessageBatch). A Python function, deployed
here as a zip and attached to the queue, parses it and sends its answer to a result queue. One message
cannot be parsed on purpose: it must end in the dead-letter queue, alone. The answers are added up and
compared with what dpkg-query says.

Delivery is at least once, and the broker may be killed and started again meanwhile, so: each message
carries the run's id, answers are counted once by package and architecture, and every call is made
again until it works or the deadline passes.
"""

import argparse
import concurrent.futures
import io
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
import zipfile

import boto3
import botocore.config
import botocore.exceptions

HERE = pathlib.Path(__file__).resolve().parent
NOT_INSTALLED = re.compile(r"^Status: .* not-installed$", re.MULTILINE)
STATUS_FILE = pathlib.Path("/var/lib/dpkg/status")
QUEUE, RESULTS, FAILED = "quickstart-packages", "quickstart-results", "quickstart-failed"
FUNCTION = "quickstart-parse"
POISON = "this line is no field of a stanza, and so it cannot be parsed"
BATCH = 10
BATCH_BYTES = 900_000  # below SQS's 1 MiB for a batch, attributes included
FUNCTION_TIMEOUT_S = 5
RETRY_PAUSE_S = 0.3
# The API has these names for "try again": everything else is a mistake of ours.
TRANSIENT_STATUS = 500


class Late(Exception):
    pass


class Broker:
    """Calls that are repeated until they work: the broker may be starting again."""

    def __init__(self, endpoint, deadline):
        self.endpoint = endpoint.rstrip("/")
        self.deadline = deadline
        config = botocore.config.Config(
            connect_timeout=3,
            read_timeout=15,
            retries={"max_attempts": 2, "mode": "standard"},
            max_pool_connections=16,
            proxies={},
        )
        common = dict(
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=config,
        )
        self.sqs = boto3.client("sqs", **common)
        self.functions = boto3.client("lambda", **common)

    def call(self, method, **arguments):
        while True:
            try:
                return method(**arguments)
            except botocore.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < TRANSIENT_STATUS:
                    raise
                why = error
            except (botocore.exceptions.BotoCoreError, OSError) as error:
                why = error
            if time.monotonic() > self.deadline:
                raise Late(f"the broker does not answer: {why}")
            time.sleep(RETRY_PAUSE_S)

    def status(self):
        """GET /status, or None while the broker does not answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.endpoint + "/status", timeout=5) as reply:
                return json.load(reply)
        except (OSError, ValueError):
            return None


class Gauges:
    """What /status tells of the function: totals as what they grew by since the start, also across
    a restart of the broker that begins them at zero again; the peak as the largest seen."""

    TOTALS = ("invocations", "errors", "timeouts", "throttles", "cold_starts", "gb_seconds")

    def __init__(self, broker):
        self.broker = broker
        self.last = None
        self.grown = dict.fromkeys(self.TOTALS, 0)
        self.peak = 0
        self.running = 0

    def sample(self):
        status = self.broker.status()
        if status is None:
            return
        rows = [row for row in status.get("functions", []) if row.get("name") == FUNCTION]
        row = rows[0] if rows else {}
        usage = row.get("usage", {})
        now = {name: usage.get(name, 0) for name in self.TOTALS}
        if self.last is not None:
            for name in self.TOTALS:
                restarted = now[name] < self.last[name]
                self.grown[name] += now[name] if restarted else now[name] - self.last[name]
        self.last = now
        self.running = row.get("running", 0)
        self.peak = max(self.peak, self.running, row.get("running_peak", 0))


def stanzas():
    """The stanzas of the packages that dpkg-query lists."""
    text = STATUS_FILE.read_text(encoding="utf-8", errors="replace")
    found = [stanza for stanza in text.split("\n\n") if stanza.strip()]
    return [stanza for stanza in found if not NOT_INSTALLED.search(stanza)]


def expected():
    """What dpkg-query says: {(package, architecture): (version, installed size)}."""
    form = "${Package}\t${Architecture}\t${Version}\t${Installed-Size}\n"
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", form], check=True, capture_output=True, encoding="utf-8"
    ).stdout
    rows = (line.split("\t") for line in listed.splitlines())
    return {(name, arch): (version, int(size or 0)) for name, arch, version, size in rows}


def batches(bodies):
    batch, size = [], 0
    for body in bodies:
        length = len(body.encode()) + 200
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch


def make_queue(broker, name, attributes):
    """A queue of that name, empty, with these attributes, whether it was there before or not."""
    url = broker.call(broker.sqs.create_queue, QueueName=name)["QueueUrl"]
    broker.call(broker.sqs.set_queue_attributes, QueueUrl=url, Attributes=attributes)
    broker.call(broker.sqs.purge_queue, QueueUrl=url)
    return url


def queue_arn(broker, url):
    reply = broker.call(
        broker.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"]
    )
    return reply["Attributes"]["QueueArn"]


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((HERE / "function").glob("*.py")):
            archive.write(path, path.name)
    return out.getvalue()


def settle(broker):
    while True:
        found = broker.call(broker.functions.get_function_configuration, FunctionName=FUNCTION)
        if found.get("State") != "Pending" and found.get("LastUpdateStatus") != "InProgress":
            return
        if time.monotonic() > broker.deadline:
            raise Late("the function does not become active")
        time.sleep(RETRY_PAUSE_S)


def make_function(broker):
    settings = dict(
        FunctionName=FUNCTION,
        Runtime="python3.11",
        Handler="handler.handler",
        Role="arn:aws:iam::000000000000:role/quickstart",
        Timeout=FUNCTION_TIMEOUT_S,
        MemorySize=256,
        Environment={"Variables": {"RESULT_QUEUE": RESULTS}},
    )
    code = zipped()
    try:
        broker.call(broker.functions.create_function, Code={"ZipFile": code}, **settings)
    except broker.functions.exceptions.ResourceConflictException:
        settle(broker)
        broker.call(
            broker.functions.update_function_code, FunctionName=FUNCTION, ZipFile=code
        )
        settle(broker)
        broker.call(broker.functions.update_function_configuration, **settings)
    settle(broker)


def make_mapping(broker, arn):
    settings = dict(
        FunctionName=FUNCTION,
        BatchSize=BATCH,
        Enabled=True,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    api = broker.functions
    find = dict(FunctionName=FUNCTION, EventSourceArn=arn)
    while True:
        there = broker.call(api.list_event_source_mappings, **find)["EventSourceMappings"]
        if there:
            broker.call(api.update_event_source_mapping, UUID=there[0]["UUID"], **settings)
            return
        try:
            broker.call(api.create_event_source_mapping, EventSourceArn=arn, **settings)
            return
        except api.exceptions.ResourceConflictException:
            # A creation that was repeated, because its answer was lost, had worked.
            time.sleep(RETRY_PAUSE_S)


class Sender:
    def __init__(self, broker, url, run):
        self.broker, self.url, self.run = broker, url, run
        self.sent = 0
        self.lock = threading.Lock()

    def send(self, bodies):
        """Send one batch, whole: what is refused for the moment is sent again."""
        left = {str(i): body for i, body in enumerate(bodies)}
        attributes = {"run": {"DataType": "String", "StringValue": self.run}}
        while left:
            entries = [
                {"Id": i, "MessageBody": body, "MessageAttributes": attributes}
                for i, body in left.items()
            ]
            reply = self.broker.call(
                self.broker.sqs.send_message_batch, QueueUrl=self.url, Entries=entries
            )
            for failed in reply.get("Failed", []):
                if failed["SenderFault"]:
                    raise RuntimeError(f"a message was refused: {failed}")
            done = [entry["Id"] for entry in reply.get("Successful", [])]
            for i in done:
                del left[i]
            with self.lock:
                self.sent += len(done)


class Collector:
    """Receives answers and what was set aside, and deletes what it has counted."""

    def __init__(self, broker, results_url, failed_url, run):
        self.broker, self.run = broker, run
        self.results_url, self.failed_url = results_url, failed_url
        self.answers = {}
        self.set_aside = set()
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def take(self, url, wait_s, count):
        reply = self.broker.call(
            self.broker.sqs.receive_message,
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_s,
            MessageAttributeNames=["All"],
        )
        messages = reply.get("Messages", [])
        with self.lock:
            for message in messages:
                count(message)
        if messages:
            entries = [
                {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                for i, message in enumerate(messages)
            ]
            self.broker.call(
                self.broker.sqs.delete_message_batch, QueueUrl=url, Entries=entries
            )

    def count_answer(self, message):
        found = json.loads(message["Body"])
        if found["run"] == self.run:
            self.answers[(found["package"], found["architecture"])] = (
                found["version"],
                found["installed_size"],
            )

    def count_set_aside(self, message):
        if message.get("MessageAttributes", {}).get("run", {}).get("StringValue") == self.run:
            self.set_aside.add(message["Body"])

    def collect(self, url, count):
        while not self.stop.is_set():
            self.take(url, 1, count)


def show(line):
    print(line, flush=True)


class Progress:
    """A line twice a second while answers come. Then one that says what is waited for: the message
    that cannot be parsed is given its attempts, one visibility timeout apart."""

    BUSY_S = 0.5

    def __init__(self, sender, collector, gauges, wanted, attempts):
        self.sender, self.collector, self.gauges = sender, collector, gauges
        self.wanted, self.attempts = wanted, attempts
        self.begun = time.monotonic()
        self.said = self.begun
        self.answered_s = None

    def elapsed(self):
        return time.monotonic() - self.begun

    def tell(self, at_once=False):
        now = time.monotonic()
        answered = len(self.collector.answers) >= self.wanted
        first_answered = answered and self.answered_s is None
        if first_answered:
            self.answered_s = self.elapsed()
        busy = not answered and now - self.said >= self.BUSY_S
        if at_once or first_answered or busy:
            self.said = now
            show(
                f"  {self.elapsed():5.1f} s   sent {self.sender.sent:5}   answered"
                f" {len(self.collector.answers):5} of {self.wanted}   set aside"
                f" {len(self.collector.set_aside)}   running {self.gauges.running}"
            )
        if first_answered and not at_once:
            show(
                "            all answered; waiting for the message that cannot be parsed to use up"
                f" its {self.attempts} attempts"
            )


def follow(broker, progress, sending, collecting):
    """Until everything is sent, answered and set aside, a thread failed, or it is too late."""
    collector = progress.collector
    while True:
        progress.gauges.sample()
        for thread in sending + collecting:
            if thread.done() and thread.exception() is not None:
                raise thread.exception()
        if collector.set_aside - {POISON}:
            raise RuntimeError("messages that can be parsed were set aside")
        complete = (
            all(thread.done() for thread in sending)
            and len(collector.answers) >= progress.wanted
            and collector.set_aside
        )
        progress.tell(at_once=complete)
        if complete:
            return
        if time.monotonic() > broker.deadline:
            raise Late("not everything was answered in time")
        time.sleep(0.25)


def check(collector, wanted):
    """Sentences about what is wrong, an empty list if nothing is."""
    wrong = []
    for what, keys in (
        ("was not answered", wanted.keys() - collector.answers.keys()),
        ("is unknown to dpkg-query", collector.answers.keys() - wanted.keys()),
    ):
        wrong += [f"{name}:{arch} {what}" for name, arch in sorted(keys)[:5]]
        if len(keys) > 5:
            wrong.append(f"... and {len(keys) - 5} more: {what}")
    for key in wanted.keys() & collector.answers.keys():
        if wanted[key] != collector.answers[key]:
            wrong.append(f"{key}: {collector.answers[key]}, but dpkg-query says {wanted[key]}")
    if collector.set_aside != {POISON}:
        wrong.append(f"the dead-letter queue holds {len(collector.set_aside)} messages, not one")
    return wrong


def report(progress, wanted):
    grown = progress.gauges.grown
    collector = progress.collector
    total = sum(size for _, size in collector.answers.values())
    dpkg = sum(size for _, size in wanted.values())
    set_aside = len(collector.set_aside)
    rows = (
        ("messages sent", f"{progress.sender.sent}"),
        ("processed", f"{len(collector.answers)}"),
        ("in the dead-letter queue", f"{set_aside} (unparsable on purpose, tried several times)"),
        ("sum of Installed-Size", f"{total} KiB (dpkg-query says {dpkg} KiB)"),
        ("peak concurrency", f"{progress.gauges.peak}"),
        ("time until all were answered", f"{progress.answered_s or 0:.1f} s"),
        ("time taken in all", f"{progress.elapsed():.1f} s"),
        ("invocations", f"{grown['invocations']}"),
        ("cold starts", f"{grown['cold_starts']}"),
        ("billed", f"{grown['gb_seconds']:.3f} GB-seconds"),
    )
    show("")
    for name, value in rows:
        show(f"  {name:30}{value}")
    show("")


def prepare(broker, args):
    """Queues, function and mapping; the URLs of the three queues."""
    failed_url = make_queue(broker, FAILED, {"VisibilityTimeout": "30"})
    results_url = make_queue(broker, RESULTS, {"VisibilityTimeout": "30"})
    redrive = {
        "deadLetterTargetArn": queue_arn(broker, failed_url),
        "maxReceiveCount": args.max_receives,
    }
    url = make_queue(
        broker,
        QUEUE,
        {"VisibilityTimeout": str(args.visibility), "RedrivePolicy": json.dumps(redrive)},
    )
    make_function(broker)
    make_mapping(broker, queue_arn(broker, url))
    return url, results_url, failed_url


def run_job(broker, args, bodies, wanted):
    """Everything sent and collected; the progress, complete or not, and what stopped it."""
    run = uuid.uuid4().hex
    url, results_url, failed_url = prepare(broker, args)
    sender = Sender(broker, url, run)
    collector = Collector(broker, results_url, failed_url, run)
    progress = Progress(sender, collector, Gauges(broker), len(wanted), args.max_receives)
    progress.gauges.sample()
    stopped_by = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=args.threads + 3) as pool:
        collecting = [
            pool.submit(collector.collect, results_url, collector.count_answer),
            pool.submit(collector.collect, results_url, collector.count_answer),
            pool.submit(collector.collect, failed_url, collector.count_set_aside),
        ]
        sending = [pool.submit(sender.send, batch) for batch in batches(bodies)]
        try:
            follow(broker, progress, sending, collecting)
        except (Late, RuntimeError, botocore.exceptions.ClientError) as error:
            stopped_by = error
        finally:
            collector.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    progress.gauges.sample()
    return progress, stopped_by


def read_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint", default="http://127.0.0.1:9324")
    parser.add_argument("--deadline", type=float, default=300, metavar="S")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="that send")
    parser.add_argument(
        "--visibility", type=int, default=FUNCTION_TIMEOUT_S + 1, metavar="S", help="of the queue"
    )
    parser.add_argument("--max-receives", type=int, default=3, metavar="N")
    return parser.parse_args()


def main():
    args = read_args()
    broker = Broker(args.endpoint, time.monotonic() + args.deadline)
    wanted = expected()
    bodies = stanzas()
    bodies.insert(len(bodies) // 2, POISON)
    show(f"{len(bodies) - 1} stanzas of {STATUS_FILE}, and one that is none, go to {args.endpoint}")
    try:
        progress, stopped_by = run_job(broker, args, bodies, wanted)
    except (Late, botocore.exceptions.ClientError) as error:
        show(f"job.py: cannot prepare queues and function: {error}")
        return 1
    report(progress, wanted)
    wrong = check(progress.collector, wanted)
    if stopped_by is not None:
        wrong.insert(0, str(stopped_by))
    for sentence in wrong:
        show(f"job.py: WRONG: {sentence}")
    if not wrong:
        show("Every package was answered exactly as dpkg-query knows it.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
