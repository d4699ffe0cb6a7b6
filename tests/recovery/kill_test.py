#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of `millrace local` at random moments, and a start on the same data: nothing is lost.

MILLRACE_BIN is the folder of the programs (build/release/bin if not set); MILLRACE_SEED repeats the
moments of an earlier run. Each test has a data folder and ports of its own and leaves neither files
nor processes.
"""

import json
import os
import pathlib
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import boto3
import botocore.config

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", ROOT / "build/release/bin"))
JOB = ROOT / "deploy/quickstart/job.py"
SEED = int(os.environ.get("MILLRACE_SEED", time.time_ns() % 1_000_000))
READY_S = 60
GONE_S = 10
KILLS = 4


def alive(pid):
    """Whether the process runs; one that is dead and only waits to be reaped does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def await_true(what, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


class Local:
    """One `millrace local` after another on the same data and the same HTTP port."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.http = "127.0.0.1:0"
        self.process = None
        self.told = {}
        self.traces = open(self.folder / "traces", "ab")

    def start(self):
        self.process = subprocess.Popen(
            [BIN / "millrace", "local", "--json", "--data-dir", self.folder / "data"]
            + ["--http", self.http, "--concurrency", "8"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.traces,
            start_new_session=True,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], READY_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise AssertionError(f"millrace local did not start:\n{self.last_traces()}")
        self.told = json.loads(line)
        self.http = self.told["endpoint"].removeprefix("http://")
        return self.told["endpoint"]

    def pids(self):
        return [self.told[name] for name in ("pid", "broker_pid", "worker_pid")]

    def kill(self):
        """kill -9 of the process that leads; the kernel takes the others down."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.traces.close()

    def last_traces(self):
        text = (self.folder / "traces").read_text(errors="replace")
        return "\n".join(text.splitlines()[-30:])

    def leftovers(self):
        """Processes that have our data folder in their command line or environment."""
        found = []
        needle = str(self.folder).encode()
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                text = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
            except OSError:
                continue
            if needle in text and alive(int(proc.name)):
                found.append((int(proc.name), text[:200]))
        return found


def sqs_client(endpoint, attempts=5):
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    config = botocore.config.Config(retries=retries, proxies={})
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=config,
    )


def drain(sqs, url):
    bodies = []
    while True:
        reply = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        messages = reply.get("Messages", [])
        if not messages:
            return bodies
        bodies += [message["Body"] for message in messages]
        sqs.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                for i, message in enumerate(messages)
            ],
        )


class KillTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="millrace-kill-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        # Functions run as another user below the data folder.
        os.chmod(self.folder, 0o711)
        self.local = Local(self.folder)
        self.addCleanup(self.local.close)
        self.random = random.Random(SEED)

    def assert_gone(self, pids):
        self.assertTrue(
            await_true(lambda: not any(map(alive, pids)), GONE_S),
            f"still running after kill -9: {[pid for pid in pids if alive(pid)]}",
        )

    def test_everything_goes_down_and_starts_again_at_once(self):
        for _ in range(3):
            self.local.start()
            pids = self.local.pids()
            self.assertTrue(all(map(alive, pids)))
            self.local.kill()
            self.assert_gone(pids)
        self.local.start()
        self.assertEqual(self.local.stop(), 0)
        self.assertTrue(await_true(lambda: not self.local.leftovers(), GONE_S))

    def test_a_child_that_dies_is_started_again(self):
        sqs = sqs_client(self.local.start())
        url = sqs.create_queue(QueueName="kept")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="before")
        os.kill(self.local.told["broker_pid"], signal.SIGKILL)
        self.assert_gone([self.local.told["broker_pid"]])

        def answers():
            try:
                sqs.send_message(QueueUrl=url, MessageBody="after")
                return True
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                return False

        self.assertTrue(await_true(answers, READY_S), self.local.last_traces())
        self.assertLessEqual({"before", "after"}, set(drain(sqs, url)))
        self.assertEqual(self.local.stop(), 0)

    def test_what_was_confirmed_is_there_and_what_was_deleted_stays_deleted(self):
        confirmed, deleted = set(), set()
        for round_number in range(KILLS):
            sqs = sqs_client(self.local.start())
            url = sqs.create_queue(QueueName="ledger")["QueueUrl"]
            for i in range(self.random.randrange(20, 120)):
                body = f"{round_number}-{i}"
                sqs.send_message(QueueUrl=url, MessageBody=body)
                confirmed.add(body)
            # Seen again soon if it is not deleted, which it is.
            reply = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=5, VisibilityTimeout=1)
            for message in reply["Messages"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                deleted.add(message["Body"])
            sqs.close()
            self.local.kill()
        sqs = sqs_client(self.local.start())
        bodies = drain(sqs, url)
        self.assertEqual(set(bodies), confirmed - deleted)
        self.assertEqual(len(bodies), len(set(bodies)), "delivered twice before any timeout")
        self.assertEqual(self.local.stop(), 0)

    def test_a_clean_stop_and_a_busy_port_are_told(self):
        endpoint = self.local.start()
        second = subprocess.run(
            [BIN / "millrace", "local", "--data-dir", self.folder + "/other"]
            + ["--http", endpoint.removeprefix("http://")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        self.assertEqual(second.returncode, 1)
        self.assertIn("--http", second.stderr)
        self.assertEqual(second.stdout, "")
        third = subprocess.run(
            [BIN / "millrace", "local", "--data-dir", self.folder + "/data"]
            + ["--http", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        self.assertEqual(third.returncode, 1)
        self.assertIn("--data-dir", third.stderr)
        self.assertEqual(self.local.stop(), 0)

    def test_the_job_ends_with_the_same_sum(self):
        """The quickstart's job goes on through all of this and checks the sum itself."""
        endpoint = self.local.start()
        log = open(pathlib.Path(self.folder) / "job", "w+b")
        self.addCleanup(log.close)
        # A kill costs every message that is being worked on one of its receives, so the queue
        # allows more of them than there are kills.
        job = subprocess.Popen(
            ["/usr/bin/python3", "-B", JOB, "--endpoint", endpoint, "--deadline", "240"]
            + ["--max-receives", str(KILLS + 3), "--visibility", "6"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(lambda: job.poll() is None and job.kill())
        # The answers come within seconds: all the kills must, too.
        self.assertTrue(await_true(lambda: os.fstat(log.fileno()).st_size > 0, READY_S))
        for _ in range(KILLS):
            time.sleep(self.random.uniform(0.1, 1.2))
            self.assertIsNone(job.poll(), "the job ended before it was disturbed")
            pids = self.local.pids()
            self.local.kill()
            self.assert_gone(pids)
            time.sleep(self.random.uniform(0.0, 0.5))
            self.local.start()
        status = job.wait(timeout=300)
        log.seek(0)
        text = log.read().decode(errors="replace")
        print(text)
        self.assertEqual(status, 0, text + "\n" + self.local.last_traces())
        self.assertEqual(self.local.stop(), 0)
        self.assertTrue(
            await_true(lambda: not self.local.leftovers(), GONE_S), self.local.leftovers()
        )


if __name__ == "__main__":
    print(f"seed {SEED}; MILLRACE_SEED={SEED} repeats it", file=sys.stderr)
    unittest.main(verbosity=2, warnings="ignore")
