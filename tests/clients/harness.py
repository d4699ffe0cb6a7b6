# SPDX-License-Identifier: Apache-2.0
"""A broker and a worker for tests, and small tools that the tests share.

If MILLRACE_ENDPOINT is set, that broker is used as it is (with whatever worker it has). Else the
programs below MILLRACE_BIN (default: build/release/bin) are started on free ports of the loopback
interface with a data folder of their own, and stopped by their pids at the end of the process.

    MILLRACE_ENDPOINT   http://127.0.0.1:9324
    MILLRACE_BIN        folder with millrace-broker and millrace-worker
    MILLRACE_TEST_LOGS  folder to keep the programs' output in
"""
import atexit
import base64
import hashlib
import http.client
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import uuid
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGION = "us-east-1"
ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/test"
ACCESS_KEY_ID = "test"  # any will do, unless the broker checks signatures (signed.py)
SECRET_ACCESS_KEY = "test"
START_SECONDS = 30
STOP_SECONDS = 15


def free_ports(count):
    """Ports that were free a moment ago; they are asked for together, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Program:
    """A child process with its output in a file."""

    def __init__(self, name, arguments, folder):
        binary = pathlib.Path(os.environ.get("MILLRACE_BIN", ROOT / "build/release/bin")) / name
        if not binary.exists():
            raise FileNotFoundError(f"{binary} is missing: build it, or set MILLRACE_BIN")
        self.name = name
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen([str(binary), *arguments], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        return self.process.returncode

    def tail(self):
        return self.log_path.read_text(errors="replace")[-4000:]


class Broker:
    """A broker of our own, with a worker unless that is not wanted. With `tls`, an ssl.SSLContext,
    its public port is asked by https."""

    def __init__(self, worker=True, folder=None, broker_arguments=(), worker_arguments=(), tls=None):
        self.folder = folder or tempfile.mkdtemp(prefix="millrace-test-")
        self.own_folder = folder is None
        # Functions run as another user below the worker's data folder.
        os.chmod(self.folder, 0o711)
        self.broker_arguments = list(broker_arguments)
        self.worker_arguments = list(worker_arguments)
        self.tls = tls
        self.ports = free_ports(3)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.ports[0]}"
        self.worker = None
        self.broker = None
        try:
            self.start_broker()
            if worker:
                self.start_worker()
        except BaseException:
            self.stop()
            raise

    def start_broker(self):
        http_port, rpc_port, peer_port = self.ports
        self.broker = Program("millrace-broker", [
            "--node-id", "1", "--data-dir", os.path.join(self.folder, "broker"),
            "--http", f"127.0.0.1:{http_port}", "--rpc", f"127.0.0.1:{rpc_port}",
            "--peer", f"127.0.0.1:{peer_port}", *self.broker_arguments], self.folder)
        wait_for(self.is_ready, START_SECONDS, lambda: "broker not ready:\n" + self.broker.tail(),
                 self.broker)

    def start_worker(self, concurrency=20):
        folder = os.path.join(self.folder, "worker")
        os.makedirs(folder, exist_ok=True)
        self.worker = Program("millrace-worker", [
            "--brokers", f"127.0.0.1:{self.ports[1]}", "--data-dir", folder,
            "--memory", "4GiB", "--concurrency", str(concurrency), *self.worker_arguments],
            self.folder)
        wait_for(self.has_worker, START_SECONDS, lambda: "no worker:\n" + self.worker.tail(),
                 self.worker)

    def is_ready(self):
        try:
            return request(self.endpoint, "GET", "/health/ready", tls=self.tls).status == 200
        except OSError:
            return False

    def has_worker(self):
        return len(status(self.endpoint, self.tls).get("workers", [])) > 0

    def stop(self):
        for program in (self.worker, self.broker):
            if program is not None:
                program.stop()
        keep = os.environ.get("MILLRACE_TEST_LOGS")
        if keep:
            os.makedirs(keep, exist_ok=True)
            for log in pathlib.Path(self.folder).glob("*.log"):
                shutil.copy(log, os.path.join(keep, f"{os.path.basename(self.folder)}-{log.name}"))
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


_shared = None


def endpoint():
    """The endpoint for this test process; the programs behind it are started at the first call."""
    global _shared
    given = os.environ.get("MILLRACE_ENDPOINT")
    if given:
        return given.rstrip("/")
    if _shared is None:
        _shared = Broker()
        atexit.register(_shared.stop)
    return _shared.endpoint


def wait_for(condition, seconds, what="condition", program=None):
    """Poll until `condition()` is true and return that; fail with `what` when time is over or the
    program has ended."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        ended = program is not None and program.process.poll() is not None
        if ended or time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"{'program ended' if ended else 'timed out'}: {text}")
        time.sleep(0.05)


class Response:
    def __init__(self, raw, body):
        self.status = raw.status
        self.headers = {k.lower(): v for k, v in raw.getheaders()}
        self.body = body

    def json(self):
        return json.loads(self.body)


def request(base, method, path, body=None, headers=None, timeout=60, tls=None):
    """One HTTP request exactly as given: for wire tests, where an SDK would be too helpful."""
    url = urllib.parse.urlsplit(base)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout,
                                                 context=tls)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        raw = connection.getresponse()
        return Response(raw, raw.read())
    finally:
        connection.close()


def status(base, tls=None):
    return request(base, "GET", "/status", tls=tls).json()


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def zip_of(files):
    """A zip in memory: {name: text or bytes}; the name "bootstrap" is made executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if name == "bootstrap" else 0o644) << 16
            archive.writestr(info, content)
    return out.getvalue()


def zip_base64(files):
    return base64.b64encode(zip_of(files)).decode()


def sha256_base64(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def queue_arn(name):
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def function_arn(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def client_environment():
    """Environment for the command line and for node: no profile of whoever runs the tests, no
    proxy."""
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith("AWS_") and k.lower() not in ("http_proxy", "https_proxy")}
    kept.update(AWS_ACCESS_KEY_ID=ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY=SECRET_ACCESS_KEY,
                AWS_DEFAULT_REGION=REGION, AWS_REGION=REGION, AWS_CONFIG_FILE="/dev/null",
                AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true",
                AWS_PAGER="", NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")
    return kept


def boto(service, base=None):
    """A boto3 client; retries are off, so that every answer is seen."""
    import boto3
    from botocore.config import Config
    return boto3.client(service, endpoint_url=base or endpoint(), region_name=REGION,
                        aws_access_key_id=ACCESS_KEY_ID,
                        aws_secret_access_key=SECRET_ACCESS_KEY,
                        config=Config(retries={"max_attempts": 0}, read_timeout=90,
                                      proxies={}))


def serve():
    """For tests in other languages: start the programs, print the endpoint, stop when the standard
    input ends. Run as: python3 -c 'import harness; harness.serve()'"""
    import sys
    print(endpoint(), flush=True)
    sys.stdin.read()
