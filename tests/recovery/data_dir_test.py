#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the programs do with a data folder that they cannot use, and with a disk that is full.

A refused start says which folder and why, and changes nothing. A full disk refuses sends; receives
and deletes go on, and what was confirmed is there afterwards. The full disk is a small tmpfs in a
mount namespace of its own, which needs root; where that is not allowed the test is skipped.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.request

import botocore.exceptions

import kill_test

BIN = kill_test.BIN
STOP_S = 30
NOBODY = 65534
EX_CANTCREAT = 73
FILE_SYSTEM_BYTES = 480 << 20  # more than the reserve of 256 MiB and what a start of all shards takes
PIECE_BYTES = 1 << 20


def ran(program, *arguments, **settings):
    """A program that is expected to give up by itself."""
    return subprocess.run(
        [BIN / program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        **settings,
    )


def may_mount():
    attempt = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(attempt, capture_output=True).returncode == 0


def free_bytes(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder, left_bytes):
    """Take space in `folder` until only `left_bytes` are free."""
    with open(folder / "fill", "ab", buffering=0) as out:
        while free_bytes(folder) > left_bytes:
            more = min(PIECE_BYTES, free_bytes(folder) - left_bytes)
            try:
                out.write(bytes(more))
            except OSError:
                return


class DataDirTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-data-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o711)

    def local(self):
        local = kill_test.Local(self.folder)
        self.addCleanup(local.close)
        return local

    def test_a_folder_has_one_of_each(self):
        local = self.local()
        local.start()
        data = self.folder / "data"
        ports = ["--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--peer", "127.0.0.1:0"]
        broker = ran("millrace-broker", "--data-dir", data / "broker", *ports)
        self.assertEqual(broker.returncode, EX_CANTCREAT)
        self.assertIn(str(data / "broker"), broker.stderr)
        self.assertIn(f"pid {local.told['broker_pid']}", broker.stderr)
        worker = ran(
            "millrace-worker", "--data-dir", data / "worker", "--brokers", "127.0.0.1:1"
        )
        self.assertEqual(worker.returncode, EX_CANTCREAT)
        self.assertIn(str(data / "worker"), worker.stderr)
        self.assertIn("in use", worker.stderr)
        second = ran("millrace", "local", "--data-dir", data, "--http", "127.0.0.1:0")
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(data), second.stderr)
        self.assertTrue(all(map(kill_test.alive, local.pids())))
        self.assertEqual(local.stop(), 0)

    def test_two_starts_at_the_same_moment(self):
        """One of them serves; the other says why it does not, and harms nothing."""
        command = [BIN / "millrace", "local", "--json", "--data-dir", self.folder / "data"]
        both = [
            subprocess.Popen(
                command + ["--http", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        for process in both:
            self.addCleanup(lambda p=process: p.poll() is None and p.kill())
        ended = lambda: [process for process in both if process.poll() is not None]
        self.assertTrue(kill_test.await_true(ended, kill_test.READY_S))
        loser = ended()[0]
        winner = both[1 - both.index(loser)]
        out, err = loser.communicate(timeout=STOP_S)
        self.assertEqual((loser.returncode, out), (1, b""))
        self.assertIn(b"--data-dir", err)
        self.assertIn(b"endpoint", winner.stdout.readline())
        winner.terminate()
        winner.communicate(timeout=STOP_S)
        self.assertEqual(winner.returncode, 0)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_a_folder_of_somebody_else(self):
        programs = self.folder / "bin"  # the build folder may be closed to others
        shutil.copytree(BIN, programs, ignore=shutil.ignore_patterns("*_test", "*_fuzz"))
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        ports = ["--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--peer", "127.0.0.1:0"]
        starts = {
            "millrace-broker": (EX_CANTCREAT, [*ports]),
            "millrace-worker": (EX_CANTCREAT, ["--brokers", "127.0.0.1:1"]),
            "millrace": (1, ["local", "--http", "127.0.0.1:0"]),
        }
        for name, (code, arguments) in starts.items():
            with self.subTest(name):
                seen = subprocess.run(
                    [programs / name, *arguments, "--data-dir", data],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    encoding="utf-8",
                    timeout=60,
                    user=NOBODY,
                    group=NOBODY,
                    extra_groups=[],
                )
                self.assertEqual(seen.returncode, code, seen.stderr)
                self.assertIn(str(data), seen.stderr)
                self.assertIn("denied", seen.stderr.lower())
        self.assertEqual(list(data.iterdir()), [])


class FullDiskTest(unittest.TestCase):
    def setUp(self):
        if not may_mount():
            self.skipTest("mounting is not allowed here")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-full-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.traces = open(self.folder / "traces", "w+b")
        self.addCleanup(self.traces.close)
        (self.folder / "disk").mkdir()
        self.broker = None
        self.addCleanup(lambda: self.broker is not None and self.broker.kill())

    def start(self):
        """A broker on a small file system that only it, and we through /proc, can see."""
        disk = self.folder / "disk"
        script = (
            f"mount -t tmpfs -o size={FILE_SYSTEM_BYTES} none {disk} && exec {BIN}/millrace-broker"
            f" --data-dir {disk}/data --http 127.0.0.1:0 --rpc 127.0.0.1:0 --peer 127.0.0.1:0"
        )
        self.broker = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stderr=self.traces,
        )
        self.assertTrue(kill_test.await_true(self.endpoint, kill_test.READY_S), self.traced())
        self.assertTrue(kill_test.await_true(self.is_ready, kill_test.READY_S), self.traced())
        self.disk = pathlib.Path(f"/proc/{self.broker.pid}/root{disk}")
        return kill_test.sqs_client(self.endpoint(), attempts=1)

    def traced(self):
        return (self.folder / "traces").read_text(errors="replace")

    def endpoint(self):
        words = [w for w in self.traced().split() if w.startswith("http=") and not w.endswith(":0")]
        return "http://" + words[0].removeprefix("http=") if words else None

    def is_ready(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(self.endpoint() + "/health/ready", timeout=5).status == 200
        except OSError:
            return False

    def test_sends_are_refused_and_the_rest_goes_on(self):
        sqs = self.start()
        url = sqs.create_queue(QueueName="full")["QueueUrl"]
        confirmed = set()

        def refused():
            body = f"message {len(confirmed)}"
            try:
                sqs.send_message(QueueUrl=url, MessageBody=body)
            except botocore.exceptions.ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "ServiceUnavailable")
                self.assertIn("disk", error.response["Error"]["Message"])
                return True
            confirmed.add(body)
            return False

        for _ in range(40):
            self.assertFalse(refused())
        fill(self.disk, 128 << 20)
        self.assertTrue(kill_test.await_true(refused, 30), "sends are not refused")
        fill(self.disk, 0)
        self.assertLess(free_bytes(self.disk), PIECE_BYTES)
        reply = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        seen = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        self.assertEqual((len(reply["Messages"]), len(seen)), (10, 10))
        for message in seen:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.assertTrue(refused())
        self.assertIsNone(self.broker.poll(), self.traced())

        (self.disk / "fill").unlink()
        self.assertTrue(kill_test.await_true(lambda: not refused(), 30), "still refused")
        left = kill_test.drain(sqs, url)
        self.assertEqual(set(left), confirmed - {message["Body"] for message in seen})
        self.broker.send_signal(signal.SIGTERM)
        self.assertEqual(self.broker.wait(timeout=STOP_S), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
