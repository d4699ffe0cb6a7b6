# SPDX-License-Identifier: Apache-2.0
"""The Celery application of celery_worker.py: its tasks, and how it finds the broker. Both the tests
and the worker processes import it; what they must agree on comes in the environment."""
import os
import time

from celery import Celery

NOTES = os.environ.get("CELERY_NOTES", "/nonexistent")

app = Celery("tasks", broker=os.environ.get("CELERY_BROKER", "sqs://"),
             backend="file://" + os.environ.get("CELERY_RESULTS", "/nonexistent"))
app.conf.update(
    task_default_queue=os.environ.get("CELERY_QUEUE", "celery"),
    broker_transport_options={"region": "us-east-1", "is_secure": False, "visibility_timeout": 60,
                              "wait_time_seconds": 1, "polling_interval": 0.1},
    worker_enable_remote_control=False, worker_send_task_events=False,
    worker_prefetch_multiplier=1, task_acks_late=True, task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True)


def note(text):
    """One line for each start of a task; whole, because appending a line is atomic."""
    with open(NOTES, "a") as notes:
        notes.write(text + "\n")


@app.task
def add(x, y):
    note(f"add {x} {y}")
    return x + y


@app.task
def echo(text):
    return text


@app.task(bind=True, max_retries=3)
def flaky(self, failures):
    note(f"flaky {self.request.retries}")
    if self.request.retries < failures:
        raise self.retry(countdown=1)
    return self.request.retries


@app.task
def slow(seconds, name):
    note(f"slow {name} {os.getpid()}")
    time.sleep(seconds)
    note(f"done {name}")
    return name
