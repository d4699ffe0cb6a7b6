# SPDX-License-Identifier: Apache-2.0
"""A run's cluster, clients and history, and the phases that every run has:

    start      network, brokers, queues, worker, clients
    ...        what the run is about: run gives it to a nemesis, failover.py measures
    settle     all nodes are ready again; producers have their last acknowledgement
    drain      consumers empty the queues; dead-letter queues are counted first, and emptied last
    end        everybody ends, replicas are compared, the histories are complete

`judge` then asks the checker, which is a program of its own.
"""

import json
import pathlib
import subprocess
import sys
import time

import cluster as programs
import net
import sqs
import workload
from clients import name_of
from history import History, now_us

HERE = pathlib.Path(__file__).resolve().parent
DISK_BYTES = 1200 << 20
SETTLE_S = 60
DRAIN_S = 120
RESTORED_NUMBER = 90
CLIENT_HOSTS = {"c1": 31, "c2": 32}
WORKER_HOST = {"w1": 21}
NUMBERS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
           "ApproximateNumberOfMessagesDelayed")


def alike(positions):
    """Whether all nodes tell, and those that have a shard are equally far in it."""
    if None in positions:
        return False
    shards = set().union(*positions)
    return all(len({node[shard] for node in positions if shard in node}) == 1 for shard in shards)


class World:
    """options: nodes, bin, old_bin, seed, worker (whether), disk ("memory", "real"), clocks (whether they
    can be set), spares (hosts for nodes that join, from n4 on), broker_options. `folder` is for data, `out` for histories and diagnostics."""

    def __init__(self, options, folder, out):
        self.options = options
        self.folder = pathlib.Path(folder)
        self.out = pathlib.Path(out)
        self.history = History(self.out / "run.history")
        self.network = self.cluster = None
        self.clients = {}
        self.queues = []
        self.backups = []  # folder, and when it was begun and done
        self.begun = time.monotonic()

    # ---- history ----

    def note(self, op, **fields):
        """A line of the history that is shown as well."""
        self.history.write(op, time=now_us(), **fields)
        self.history.flush()
        self.say(json.dumps({"op": op, **fields}))

    def say(self, text):
        print(f"{time.monotonic() - self.begun:7.2f} {text}", flush=True)

    # ---- start ----

    def start(self, queues, tasks):
        """queues: names of workload.QUEUES; tasks: {client's host: its tasks}"""
        hosts = {f"n{number}": number for number in range(1, self.options.nodes + 1)}
        hosts |= {f"n{number}": number for number in range(4, 4 + self.options.spares)}
        hosts |= CLIENT_HOSTS | (WORKER_HOST if self.options.worker else {})
        self.queues = list(queues)
        self.network = net.Network(hosts, self.options.seed)
        self.cluster = programs.Cluster(
            self.network, self.folder, self.out, self.options.nodes, self.options.bin,
            self.options.old_bin, self.options.clocks,
            [f"--{option}" for option in self.options.broker_options],
        )
        if self.options.disk == "memory":
            for node in self.cluster.nodes:
                node.mount(DISK_BYTES)
        self.cluster.start()
        first = self.cluster.nodes[0].address
        workload.create_queues(first, self.queues, self.history)
        if self.options.worker:
            workload.create_function(first, [node.address for node in self.cluster.nodes])
            self.cluster.start_worker("w1")
        for host, some in tasks.items():
            self.start_client(host, some)
        self.say(f"started: {self.options.nodes} brokers")

    def start_client(self, host, tasks):
        spec = {
            "nodes": {node.host: node.address for node in self.cluster.nodes},
            "seed": f"{self.options.seed}/{host}",
            "history": str(self.out / f"{host}.history"),
            "tasks": tasks,
        }
        command = [sys.executable, "-B", str(HERE / "clients.py"), json.dumps(spec)]
        with open(self.out / f"{host}.log", "ab") as log:
            self.clients[host] = subprocess.Popen(
                net.inside(host, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, encoding="utf-8", start_new_session=True,
            )

    # ---- meanwhile ----

    def watch(self):
        """Programs that ended although nobody ended them: a finding, and they start again."""
        for process in self.cluster.crashed():
            code = process.process.returncode
            self.note("crash", host=process.host, code=code, log=process.tail())
            process.start()
        for host, client in self.clients.items():
            if client.poll() not in (None, 0):
                log = (self.out / f"{host}.log").read_text(errors="replace")
                raise RuntimeError(f"the client {host} ended:\n{log[-2000:]}")

    def tell_clients(self, phase):
        self.say(f"clients: {phase}")
        for client in self.clients.values():
            client.stdin.write(phase + "\n")
            client.stdin.flush()

    def take_backup(self):
        folder = self.folder / f"backup-{len(self.backups)}-{now_us()}"
        begun = now_us()
        done = self.cluster.backup(folder)
        if done:
            self.backups.append((folder, begun, now_us()))
        return done

    # ---- the last phases ----

    def settle(self):
        self.cluster.await_ready(SETTLE_S)
        self.await_level()
        self.tell_clients("stop")
        for client in self.clients.values():
            if client.stdout.readline().strip() != "stopped":
                raise RuntimeError("a client ended before its time")

    def await_level(self):
        """After an upgrade the cluster uses what all members know."""
        if all(node.bin == self.cluster.new_bin for node in self.cluster.nodes):
            level = programs.await_true(lambda: len(set(self.cluster.levels())) == 1 and
                                        self.cluster.levels()[0], SETTLE_S)
            known = (self.cluster.nodes[0].status() or {}).get("program_feature_level")
            if not level or not programs.await_true(
                    lambda: set(self.cluster.levels()) == {known}, SETTLE_S):
                self.note("crash", host="upgrade", log=[f"level {level}, programs {known}"])

    def drain(self):
        rows = [workload.QUEUES[name] for name in self.queues]
        dead = [row["dead_letters"] for row in rows if "dead_letters" in row]
        self.await_empty([name for name in self.queues if name not in dead])
        for name in dead:
            self.count(name, "settled")
        self.tell_clients("late")
        self.await_empty(dead)
        for name in self.queues:
            self.count(name, "drained")

    def numbers(self, node, queue):
        arguments = {"QueueUrl": queue, "AttributeNames": NUMBERS}
        answer = sqs.call(node.address, "GetQueueAttributes", arguments)
        return [int(answer.data["Attributes"][name]) for name in NUMBERS] if answer.ok else None

    def await_empty(self, names):
        """Until every node says so: one that answers and has fallen behind is a finding too."""
        end = time.monotonic() + DRAIN_S
        left = list(names)
        seen = {}
        while left and time.monotonic() < end:
            self.watch()
            for name in left:
                seen[name] = {n.host: self.numbers(n, name) for n in self.cluster.nodes}
            left = [n for n in left if any(found != [0, 0, 0] for found in seen[n].values())]
            time.sleep(0.2)
        for name in names:
            if name in left:
                self.note("drained", queue=name, outcome="fail", error=str(seen.get(name)))
            else:
                self.note("drained", queue=name, outcome="ok")

    def count(self, queue, when):
        for node in self.cluster.nodes:
            fields = {"queue": queue, "node": node.host, "when": when, "begin": now_us()}
            numbers = self.numbers(node, queue)
            if numbers is None:
                self.note("crash", host=node.host, log=[f"{queue}: no answer to a count"])
                continue
            visible, in_flight, delayed = numbers
            self.history.write("count", visible=visible, in_flight=in_flight, delayed=delayed,
                               end=now_us(), **fields)

    def end(self):
        self.tell_clients("end")
        for client in self.clients.values():
            client.stdin.close()
            client.wait()
        self.watch()
        self.compare_replicas()
        self.history.close()

    def compare_replicas(self):
        """When nothing moves any more all brokers are killed, and their data looked at."""
        seen = None
        for _ in range(int(SETTLE_S / 0.5)):
            before, seen = seen, [self.positions(node) for node in self.cluster.nodes]
            if seen == before and alike(seen):
                break
            time.sleep(0.5)
        else:
            self.note("drained", queue="(the log)", outcome="fail", error=str(seen))
        for node in self.cluster.nodes:
            node.kill()
        for node in self.cluster.nodes:
            for replica in node.inspect():
                self.note("replica", **replica)
        if self.backups:
            self.read_backup(*self.backups[-1])

    def read_backup(self, folder, begun, done):
        """What the last backup gives out, by an honest consumer."""
        node = programs.Restored(self.cluster, self.cluster.nodes[0], folder, RESTORED_NUMBER)
        node.set_clock(0)
        self.cluster.restored = node
        if not node.problem:
            node.start()
        if node.problem or not programs.await_true(node.ready, SETTLE_S):
            self.note("crash", host="restored", log=[node.problem, *node.tail()])
            return
        # What is received too often here is set aside here, too: those queues come last.
        dead = {workload.QUEUES[name].get("dead_letters") for name in self.queues}
        for queue in sorted(self.queues, key=lambda name: name in dead):
            names = self.read_queue(node, queue)
            self.history.write("restored", queue=queue, names=names, taken=begun, done=done)
        node.kill()

    def read_queue(self, node, queue):
        names = []
        empty = 0  # times in a row: messages may be on their way from another shard
        end = time.monotonic() + DRAIN_S
        while time.monotonic() < end and empty < 4:
            answer = sqs.call(node.address, "ReceiveMessage", {
                "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1})
            messages = answer.data.get("Messages", []) if answer.ok else []
            for message in messages:
                names.append(name_of(message["Body"]))
                sqs.call(node.address, "DeleteMessage", {
                    "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]})
            left = messages or self.numbers(node, queue) != [0, 0, 0]
            empty = 0 if left else empty + 1
        return names

    def positions(self, node):
        """How far it is in each shard that it has; None if it does not say."""
        shards = (node.status() or {}).get("shards")
        return shards and {shard["id"]: (shard["last_index"], shard["applied_index"])
                           for shard in shards if shard["here"]}

    def close(self):
        """End whatever still runs."""
        for client in self.clients.values():
            client.kill()
        if self.cluster is not None:
            self.cluster.close()
            if self.cluster.restored is not None:
                self.cluster.restored.kill()
        if self.network is not None:
            self.network.close()


def judge(out, prove=False):
    """The checker's verdict, and with `prove` whether it bites; its exit code."""
    histories = sorted(str(path) for path in pathlib.Path(out).glob("*.history"))
    verdict = ""
    for program in ("checker.py", "bite.py") if prove else ("checker.py",):
        checked = subprocess.run(
            [sys.executable, "-B", str(HERE / program), *histories],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8",
        )
        print(checked.stdout, end="", flush=True)
        verdict += checked.stdout
        if checked.returncode != 0:
            break
    (pathlib.Path(out) / "verdict").write_text(verdict)
    return checked.returncode
