# SPDX-License-Identifier: Apache-2.0
"""A cluster of real processes, through deploy/local-cluster.sh, in a folder of its own."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BIN = os.path.abspath(os.environ.get("MILLRACE_BIN", os.path.join(ROOT, "build/release/bin")))
SCRIPT = os.path.join(ROOT, "deploy/local-cluster.sh")
WAIT_S = 30  # only a failing test waits so long
LOG_LINES = 200  # of each process, beside a failed test


PORTS = range(20000, 32000, 100)  # the first ones of blocks; below those that the system hands out
blocks_taken = []


def take_block(base):
    """Nobody else's test uses these ports until this process ends; false: one does. The lock is a
    name that is no file."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0millrace-test-ports-{base}")
    except OSError:
        lock.close()
        return False
    blocks_taken.append(lock)
    return True


def free_ports(count):
    """The first of `count` ports in a row of which none is taken now, nor by another test before
    this one ends."""
    assert count <= PORTS.step
    for base in PORTS:
        if not take_block(base):
            continue
        sockets = []
        try:
            for port in range(base, base + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports")


def wait_for(what, condition):
    """Its value, when it is true. `what`: a text, or a function that gives it in the end."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {WAIT_S} s for {what() if callable(what) else what}")


class Cluster:
    def __init__(self, nodes, workers=0, ports=None, broker_args=()):
        self.dir = tempfile.mkdtemp(prefix="millrace-cluster-")
        os.chmod(self.dir, 0o711)
        self.port = free_ports(10 * (ports or nodes))
        self.nodes = nodes
        self.workers = workers
        self.broker_args = [word for one in broker_args for word in ("--broker-arg", one)]
        self.about = None
        self.last_lines = {}

    def script(self, *arguments, check=True):
        done = subprocess.run([SCRIPT, *arguments, "--data-dir", self.dir], capture_output=True,
                              text=True, check=False, env=dict(os.environ, MILLRACE_BIN=BIN))
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.stderr}{self.logs()}")
        return done

    def up(self):
        done = self.script("up", "--nodes", str(self.nodes), "--workers", str(self.workers),
                           "--base-port", str(self.port), *self.broker_args)
        self.about = json.loads(done.stdout)
        return self.about

    def status(self):
        return json.loads(self.script("status").stdout)

    def broker(self, node, data_dir, *arguments):
        """One that the script knows nothing of, at the ports of `node`; its log is among the others'.
        The caller ends it."""
        port = self.port + 10 * (node - 1)
        folder = os.path.join(self.dir, f"node-{node}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "log"), "ab") as log:
            return subprocess.Popen(
                [os.path.join(BIN, "millrace-broker"), "--node-id", str(node), "--data-dir",
                 data_dir, "--http", f"127.0.0.1:{port}", "--rpc", f"127.0.0.1:{port + 1}", "--peer",
                 f"127.0.0.1:{port + 2}", *arguments], stderr=log)

    def log_lines(self):
        """{process: lines} of all that this cluster's processes have written so far."""
        found = {}
        for folder in sorted(os.listdir(self.dir)):
            path = os.path.join(self.dir, folder, "log")
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    found[folder] = file.readlines()
        return found

    def logged(self, text):
        return any(text in line for lines in self.log_lines().values() for line in lines)

    def logs(self):
        """The ends of the logs, for people; also when the cluster is gone."""
        lines = self.log_lines() if os.path.isdir(self.dir) else self.last_lines
        return "".join(f"\n--- {folder}\n" + "".join(some[-LOG_LINES:])
                       for folder, some in lines.items())

    def get(self, node, path, timeout=5):
        """Status and JSON (or text) of a page of one node; (0, None) if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 10 * (node - 1)}{path}",
                                        timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, None
        except (OSError, ValueError):
            return 0, None

    def sqs(self, node, action, timeout=15, **members):
        """One SQS call through one node; (0, None) if it does not answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port + 10 * (node - 1)}/", json.dumps(members).encode(),
            {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except (OSError, ValueError):
            return 0, None

    def queue_url(self, name):
        return f"http://127.0.0.1:{self.port}/000000000000/{name}"

    def close(self):
        try:
            pids = self.status()["pids"]
            self.script("down")
            for pid in [*pids["broker"].values(), *pids["worker"].values()]:
                if pid is not None and os.path.exists(f"/proc/{pid}"):
                    wait_for(f"process {pid} to end", lambda p=pid: not running(p))
        finally:
            self.last_lines = self.log_lines()
            shutil.rmtree(self.dir, ignore_errors=True)


class ClusterCase(unittest.TestCase):
    """Tests of `self.cluster`: when one fails, what the processes logged is printed with it."""
    cluster = None

    def run(self, result=None):
        bad_before = bad_in(result)
        result = super().run(result)
        if bad_in(result) > bad_before and self.cluster is not None:
            print(f"\n--- logs of {self.id()}{self.cluster.logs()}", file=sys.stderr, flush=True)
        return result


def bad_in(result):
    return len(result.failures) + len(result.errors) if result is not None else 0


def running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
