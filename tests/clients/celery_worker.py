#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Celery over kombu's SQS transport: real workers that take tasks, acknowledge, retry, and die.

kombu creates the queue, sends with boto3 (Query protocol), and long-polls with pycurl on requests of
its own, to the queue's URL. Nothing of Celery is replaced: workers are `celery worker` processes."""
import os
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

import harness
from harness import unique, wait_for

TASK_SECONDS = 120  # on a machine that has much else to do


class Workers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="millrace-celery-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        os.mkdir(os.path.join(cls.folder, "results"))
        cls.queue = unique("celery")
        address = urllib.parse.urlsplit(harness.endpoint()).netloc
        cls.environment = harness.client_environment()
        cls.environment.update(
            CELERY_BROKER=f"sqs://test:test@{address}", CELERY_QUEUE=cls.queue,
            CELERY_RESULTS=os.path.join(cls.folder, "results"),
            CELERY_NOTES=os.path.join(cls.folder, "notes"), PYTHONDONTWRITEBYTECODE="1")
        os.environ.update(cls.environment)
        import celery_app
        cls.tasks = celery_app
        cls.sqs = harness.boto("sqs")

    def setUp(self):
        self.workers = []
        self.addCleanup(self.stop_all)
        open(os.path.join(self.folder, "notes"), "w").close()

    def start_worker(self):
        log_path = os.path.join(self.folder, f"worker-{len(self.workers)}.log")
        with open(log_path, "wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--concurrency", "2",
                 "--loglevel", "INFO", "--without-gossip", "--without-mingle",
                 "--without-heartbeat"], cwd=os.path.dirname(os.path.abspath(__file__)),
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        worker.log_path = log_path
        self.workers.append(worker)
        return worker

    def stop_all(self):
        for worker in self.workers:
            self.stop(worker)

    def stop(self, worker, how=signal.SIGTERM):
        """SIGTERM is Celery's warm shutdown; SIGKILL is for the whole family of processes."""
        if worker.poll() is not None:
            return worker.returncode
        if how == signal.SIGKILL:
            os.killpg(worker.pid, how)
        else:
            worker.send_signal(how)
        try:
            worker.wait(TASK_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        return worker.returncode

    def notes(self):
        with open(os.path.join(self.folder, "notes")) as notes:
            return notes.read().splitlines()

    def result(self, answer):
        try:
            return answer.get(timeout=TASK_SECONDS, interval=0.1)
        except Exception:
            with open(self.workers[-1].log_path, errors="replace") as log:
                sys.stderr.write(log.read()[-4000:])
            raise

    def counters(self):
        names = ["ApproximateNumberOfMessages" + n for n in ("", "NotVisible", "Delayed")]
        url = self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return [int(found[name]) for name in names]

    def set_visibility_timeout(self, seconds):
        """Of the queue, which kombu receives with."""
        url = self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=url,
                                      Attributes={"VisibilityTimeout": str(seconds)})

    def acknowledged(self):
        wait_for(lambda: self.counters() == [0, 0, 0], TASK_SECONDS, lambda: f"left: {self.counters()}")

    def test_tasks_run_are_retried_and_acknowledged(self):
        answers = [self.tasks.add.delay(i, i) for i in range(30)]
        text = "Gr\u00fc\u00dfe <&\"'> \U0001f600\r\n" * 100
        echoed = self.tasks.echo.delay(text)
        self.assertEqual(sum(self.counters()), 31)  # sent before any worker is there
        worker = self.start_worker()
        self.assertEqual([self.result(a) for a in answers], [2 * i for i in range(30)])
        self.assertEqual(self.result(echoed), text)
        self.acknowledged()
        self.assertEqual(sorted(self.notes()), sorted(f"add {i} {i}" for i in range(30)))
        self.assertEqual(self.result(self.tasks.flaky.delay(2)), 2)
        self.assertEqual(self.notes()[30:], ["flaky 0", "flaky 1", "flaky 2"])
        self.acknowledged()
        self.warm_shutdown(worker)

    def warm_shutdown(self, worker):
        """It finishes what it has begun."""
        answer = self.tasks.slow.delay(2, "last")
        wait_for(lambda: self.notes()[-1].startswith("slow last"), TASK_SECONDS, "its start")
        self.assertEqual(self.stop(worker), 0)
        self.assertEqual(answer.get(timeout=5), "last")
        self.acknowledged()

    def test_tasks_of_a_killed_worker_come_back(self):
        """Acknowledged late: what a killed worker held is visible again after its visibility
        timeout (6 s), and another worker does it."""
        answers = [self.tasks.slow.delay(2, name) for name in ("one", "two")]
        self.set_visibility_timeout(6)
        self.addCleanup(self.set_visibility_timeout, 60)
        worker = self.start_worker()
        wait_for(lambda: len(self.notes()) >= 2, TASK_SECONDS, lambda: f"started: {self.notes()}")
        self.stop(worker, signal.SIGKILL)
        self.assertNotIn("done one", self.notes())
        self.start_worker()
        self.assertEqual([self.result(a) for a in answers], ["one", "two"])
        self.acknowledged()
        for name in ("one", "two"):
            starts = [n for n in self.notes() if n.startswith(f"slow {name} ")]
            self.assertGreaterEqual(len(starts), 2, self.notes())
            self.assertIn(f"done {name}", self.notes())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
