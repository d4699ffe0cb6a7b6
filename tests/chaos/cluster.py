# SPDX-License-Identifier: Apache-2.0
"""The programs under test: brokers and a worker, each a real process in a namespace of its own.

A node knows whether it is meant to run. One that ended although it was meant to is a finding by
itself: `crashed` names it. All waiting is by looking, with a deadline.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

import net
import sqs

RPC_PORT, PEER_PORT = 9325, 9326
READY_S = 30
STOP_S = 60
CHANGE_S = 15
BACKUP_S = 30
FAKETIME = net.available("faketime/libfaketimeMT.so.1")


def alive(process):
    return process is not None and process.poll() is None


def await_true(condition, seconds, pause=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    return None


class Process:
    """A program in the namespace of `host`, with its diagnostics in OUT/host.log."""

    def __init__(self, host, out):
        self.host = host
        self.log_path = pathlib.Path(out) / f"{host}.log"
        self.process = None
        self.wanted = False  # meant to run
        self.may_end = False  # and nobody minds if it ends
        self.paused = False

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def start(self):
        if alive(self.process):
            return
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                net.inside(self.host, *map(str, self.command())),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )
        self.wanted = True

    def signal(self, signum):
        if alive(self.process):
            self.process.send_signal(signum)

    def kill(self):
        self.wanted = self.paused = False
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self):
        """SIGTERM; the exit code, or None if it had to be killed."""
        self.wanted = False
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def pause(self):
        self.paused = True
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.paused = False
        self.signal(signal.SIGCONT)

    def ended_by_itself(self):
        ended = self.process is not None and self.process.poll() is not None
        return self.wanted and ended and not self.may_end

    def tail(self, lines=15):
        return self.log_path.read_text(errors="replace").splitlines()[-lines:]


class Node(Process):
    def __init__(self, cluster, number):
        super().__init__(f"n{number}", cluster.out)
        self.cluster = cluster
        self.number = number
        self.address = cluster.network.addresses[self.host]
        self.bin = cluster.bin
        self.data = pathlib.Path(cluster.folder) / self.host
        self.clock_file = pathlib.Path(cluster.folder) / f"{self.host}.clock"
        self.joins = None  # members that this node asks to let it in
        self.disk_bytes = 0  # of its own file system, if it has one
        self.data.mkdir(exist_ok=True)

    def mount(self, size_bytes):
        """Give it a file system of its own, in memory, so that its disk can be full."""
        net.sh("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(self.data))
        self.disk_bytes = size_bytes

    def leave_free(self, free_bytes):
        """Shrink the file system until so much is free; None makes it as large as it was."""
        size = self.disk_bytes
        if free_bytes is not None:
            found = os.statvfs(self.data)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            size = min(size, max(used + free_bytes, 1 << 20))
        net.sh("mount", "-o", f"remount,size={size}", str(self.data))

    def set_clock(self, shift_s):
        """What its wall clock says, from now on (within a second) and when it starts again."""
        temporary = self.clock_file.with_suffix(".new")
        temporary.write_text(f"{shift_s:+.3f}s\n")
        os.replace(temporary, self.clock_file)

    def environment(self):
        environment = dict(os.environ)
        if self.cluster.clocks:
            environment.update(
                LD_PRELOAD=FAKETIME,
                FAKETIME_TIMESTAMP_FILE=str(self.clock_file),
                FAKETIME_DONT_FAKE_MONOTONIC="1",
                FAKETIME_CACHE_DURATION="1",
                NO_FAKE_STAT="1",
            )
        return environment

    def command(self):
        at = self.address
        command = [self.bin / "millrace-broker", "--node-id", self.number, "--data-dir"]
        command += [self.data / "data", "--http", f"{at}:{sqs.HTTP_PORT}"]
        command += ["--rpc", f"{at}:{RPC_PORT}", "--peer", f"{at}:{PEER_PORT}", "--auth", "off"]
        if self.joins is not None:
            command += ["--join", self.joins]
        elif self.cluster.founders > 1:
            command += ["--cluster", self.cluster.founding]
        return command + self.cluster.broker_arguments

    def ready(self):
        try:
            return sqs.request(self.address, "GET", "/health/ready", timeout=1.0)[0] == 200
        except OSError:
            return False

    def listens(self):
        try:
            return sqs.request(self.address, "GET", "/health/live", timeout=1.0)[0] == 200
        except OSError:
            return False

    def status(self):
        try:
            status, body = sqs.request(self.address, "GET", "/status", timeout=1.0)
            return json.loads(body) if status == 200 else None
        except (OSError, ValueError):
            return None

    def inspect(self):
        """What its data are, when it does not run: of each shard index and digest of the state, and
        problems, which are of them all together."""
        command = [self.bin / "millrace-inspect", "--verify", "--json", self.data / "data"]
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        try:
            report = json.loads(found.stdout)
            return [{"node": self.host, "shard": shard["name"],
                     "index": shard["state"]["applied_index"], "digest": shard["state"]["digest"],
                     "problems": report["problems"]} for shard in report["shards"]]
        except (ValueError, LookupError):
            problem = found.stderr.decode(errors="replace") or "no report"
            return [{"node": self.host, "shard": "", "index": 0, "digest": "",
                     "problems": [problem]}]


class Restored(Node):
    """A cluster of one node on what a backup holds, in the place of a node that runs no more."""

    def __init__(self, cluster, node, backup, number):
        super().__init__(cluster, node.number)
        self.bin = cluster.new_bin
        self.number = number
        self.data = pathlib.Path(f"{backup}-restored")
        self.data.mkdir()
        self.problem = ""
        command = [self.bin / "millrace", "restore", "--data-dir", self.data / "data", "--node-id",
                   number, "--peer", f"{self.address}:{PEER_PORT}", backup]
        done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL,
                              capture_output=True, encoding="utf-8")
        if done.returncode != 0:
            self.problem = done.stderr

    def command(self):
        at = self.address
        command = [self.bin / "millrace-broker", "--node-id", self.number, "--data-dir"]
        command += [self.data / "data", "--http", f"{at}:{sqs.HTTP_PORT}"]
        return command + ["--rpc", f"{at}:{RPC_PORT}", "--peer", f"{at}:{PEER_PORT}", "--auth",
                          "off"]


class Worker(Process):
    def __init__(self, cluster, host):
        super().__init__(host, cluster.out)
        self.cluster = cluster
        self.data = pathlib.Path(cluster.folder) / host
        self.data.mkdir(exist_ok=True)
        os.chmod(self.data, 0o711)  # functions run as another user below it

    def command(self):
        brokers = ",".join(f"{node.address}:{RPC_PORT}" for node in self.cluster.nodes)
        command = [self.cluster.bin / "millrace-worker", "--brokers", brokers]
        return command + ["--data-dir", self.data, "--memory", "2GiB", "--concurrency", "4",
                          "--grace", "3"]


class Cluster:
    """count brokers n1.. and, if wanted, a worker w1. `clocks`: their wall clocks can be set.
    They begin with the programs in old_bin, if it is given."""

    def __init__(self, network, folder, out, count, bin_folder, old_bin, clocks, arguments):
        self.network = network
        self.folder = folder
        self.out = out
        self.new_bin = pathlib.Path(bin_folder)
        self.bin = pathlib.Path(old_bin or bin_folder)
        self.clocks = clocks
        self.broker_arguments = list(arguments)
        self.nodes = [Node(self, number) for number in range(1, count + 1)]
        self.founders = count
        self.founding = self.members()
        self.worker = None
        self.restored = None  # of a backup, at the end

    def members(self):
        return ",".join(f"{n.number}={n.address}:{PEER_PORT}" for n in self.nodes)

    def start(self):
        for node in self.nodes:
            node.set_clock(0)
            node.start()
        self.await_ready()

    def start_worker(self, host):
        self.worker = Worker(self, host)
        self.worker.start()
        if not await_true(self.has_worker, READY_S):
            raise RuntimeError("no worker:\n" + "\n".join(self.worker.tail()))

    def has_worker(self):
        return any((node.status() or {}).get("workers") for node in self.nodes)

    def await_ready(self, seconds=READY_S):
        for node in self.nodes:
            if not await_true(node.ready, seconds):
                raise RuntimeError(f"{node.host} is not ready:\n" + "\n".join(node.tail()))

    def node(self, name):
        """That node; the first one if it is no member any more."""
        return next((node for node in self.nodes if node.host == name), self.nodes[0])

    def change(self, *arguments):
        """`millrace cluster ...` through any node that does it; whether one did."""
        for node in self.nodes:
            endpoint = ["--endpoint", f"http://{node.address}:{sqs.HTTP_PORT}"]
            command = [self.bin / "millrace", "cluster", *map(str, arguments), *endpoint]
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                                      timeout=CHANGE_S, encoding="utf-8")
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0 or "There is no such member" in done.stderr:
                return True
        return False

    def backup(self, folder):
        """`millrace backup` through any node that is there; whether it says that it is done."""
        for node in self.nodes:
            if not alive(node.process) or node.paused or not node.ready():
                continue
            command = [self.new_bin / "millrace", "backup", folder, "--endpoint",
                       f"http://{node.address}:{sqs.HTTP_PORT}"]
            try:
                done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL,
                                      capture_output=True, timeout=BACKUP_S, encoding="utf-8")
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0
        return False

    def levels(self):
        """The feature level in force, as each node says."""
        return [(node.status() or {}).get("feature_level") for node in self.nodes]

    def leader(self, queue=None):
        """The node that leads the catalog, or the shard of this queue, as most of those that answer
        say; None if nobody knows."""
        if len(self.nodes) == 1:
            return self.nodes[0]
        votes = {}
        for node in self.nodes:
            if alive(node.process) and not node.paused:
                term, leader = leader_in(node.status() or {}, queue)
                if leader:
                    votes.setdefault((term, leader), []).append(node)
        if not votes:
            return None
        number = max(votes, key=lambda key: (key[0], len(votes[key])))[1]
        return next((node for node in self.nodes if node.number == number), None)

    def followers(self):
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    def crashed(self):
        return [p for p in [*self.nodes, self.worker] if p is not None and p.ended_by_itself()]

    def close(self):
        for process in [self.worker, *self.nodes]:
            if process is not None:
                process.kill()


def leader_in(status, queue=None):
    """(term, node id of the leader) in a /status document; (0, 0) if it names none."""
    shard = status.get("shard", {})
    if queue is not None:
        of = next((q["shard"] for q in status.get("queues", []) if q["name"] == queue), None)
        shard = next((s for s in status.get("shards", []) if s["id"] == of), {})
    return shard.get("term", 0), shard.get("leader", 0)
