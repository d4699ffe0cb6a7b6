# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a run, and when: a schedule made from a seed, and its execution.

A schedule is a list of steps {"at", "for" (s), "what", ...}; the same seed, length and shape of
cluster give the same one. It is printed at the start and may be given back (--schedule FILE) with
steps taken out, to find the one that matters. "leader" and "follower" in a step mean whoever that
is at the moment; the history says who it was.

A step is a class below: `begin` does the harm, `end` undoes it. Ends are safe to call at any time.
New kinds of harm are one class and one row of STEPS each.
"""

import random
import time

import cluster as programs
import net

QUIET_S = 3  # at the begin of a run
TICK_S = 0.1


class Step:
    """One kind of harm. `targets` says which nodes it may be aimed at, from `shape`: a dict with
    nodes (how many), clients and worker (names of hosts), disks, clocks and upgrade (whether they
    can), spares (hosts for new nodes)."""

    longest_s = 5

    @classmethod
    def possible(cls, shape):
        return True

    @classmethod
    def choose(cls, rng, shape):
        """More fields of the step."""
        return {"node": target(rng, shape)}

    def __init__(self, world, step):
        self.world = world
        self.cluster = world.cluster
        self.network = world.network
        self.step = step
        self.about = {}  # what was decided at the moment, for the history

    def pick(self):
        """The node that the step is aimed at."""
        wanted = self.step["node"]
        nodes = self.cluster.nodes
        if wanted == "leader":
            node = self.cluster.leader() or nodes[0]
        elif wanted == "follower":
            leader = self.cluster.leader()
            node = next(n for n in nodes[::-1] if n is not leader or len(nodes) == 1)
        else:
            node = self.cluster.node(wanted)
        self.about["node"] = node.host
        return node

    def others(self, node):
        return [n.host for n in self.cluster.nodes if n is not node]

    def begin(self):
        raise NotImplementedError

    def end(self):
        raise NotImplementedError


def target(rng, shape):
    names = [f"n{number}" for number in range(1, shape["nodes"] + 1)]
    return rng.choice(["leader", "leader", "follower", *names])


class Kill(Step):
    """kill -9, and a start on the same data."""

    def begin(self):
        self.node = self.pick()
        self.node.kill()

    def end(self):
        self.node.start()


class Lag(Kill):
    """A follower is away for long: with --bulk it comes back to a log that begins later, and must
    take over a snapshot."""

    longest_s = 30

    @classmethod
    def possible(cls, shape):
        return shape["nodes"] > 1

    @classmethod
    def choose(cls, rng, shape):
        return {"node": "follower"}


class KillAll(Step):
    longest_s = 3

    @classmethod
    def choose(cls, rng, shape):
        return {}

    def begin(self):
        for node in self.cluster.nodes:
            node.kill()

    def end(self):
        for node in self.cluster.nodes:
            node.start()


class KillMajority(KillAll):
    @classmethod
    def possible(cls, shape):
        return shape["nodes"] > 1

    def begin(self):
        leader = self.cluster.leader() or self.cluster.nodes[0]
        rest = [node for node in self.cluster.nodes if node is not leader]
        self.about["nodes"] = [node.host for node in [leader, *rest[: len(rest) // 2]]]
        for node in [leader, *rest[: len(rest) // 2]]:
            node.kill()


class Pause(Step):
    """SIGSTOP: alive for the kernel, dead for everybody who asks."""

    longest_s = 8

    def begin(self):
        self.node = self.pick()
        self.node.pause()

    def end(self):
        self.node.resume()


class Blinks(Step):
    """Many short SIGSTOPs of whoever leads: leaders that lead no more and do not know it."""

    def begin(self):
        end = time.monotonic() + self.step["for"]
        while time.monotonic() < end:
            node = self.pick()
            node.pause()
            time.sleep(self.step["blink_s"])
            node.resume()
            time.sleep(self.step["blink_s"])

    @classmethod
    def choose(cls, rng, shape):
        return {"node": "leader", "blink_s": round(rng.uniform(0.2, 1.2), 2)}

    def end(self):
        for node in self.cluster.nodes:
            node.resume()


class Cut(Step):
    """The node sees no other node, and none sees it; clients see all."""

    longest_s = 10

    @classmethod
    def possible(cls, shape):
        return shape["nodes"] > 1

    def pairs(self, node):
        return net.both_ways([node.host], self.others(node))

    def begin(self):
        self.cut = self.pairs(self.pick())
        self.network.drop(self.cut)

    def end(self):
        self.network.drop(self.cut, 0)


class CutOneWay(Cut):
    @classmethod
    def choose(cls, rng, shape):
        return {"node": target(rng, shape), "deaf": rng.random() < 0.5}

    def pairs(self, node):
        out = [(node.host, other) for other in self.others(node)]
        return [(b, a) for a, b in out] if self.step["deaf"] else out


class CutBridge(Cut):
    """Two nodes do not see each other; the others see both."""

    def pairs(self, node):
        return net.both_ways([node.host], self.others(node)[:1])


class CutAlone(Cut):
    """The node sees nobody at all."""

    @classmethod
    def possible(cls, shape):
        return True

    def pairs(self, node):
        rest = [host for host in self.network.addresses if host != node.host]
        return net.both_ways([node.host], rest)


class CutClients(Cut):
    """Some clients, or the worker, see some node no more, one way or both."""

    @classmethod
    def possible(cls, shape):
        return True

    @classmethod
    def choose(cls, rng, shape):
        host = rng.choice([*shape["clients"], *shape["worker"]])
        return {"node": target(rng, shape), "host": host, "ways": rng.choice([1, 2])}

    def pairs(self, node):
        # One way is the answers: the calls arrive and are done.
        back = [(node.host, self.step["host"])]
        return back if self.step["ways"] == 1 else net.both_ways([node.host], [self.step["host"]])


class Loss(Step):
    """A share of all packets is lost, between everybody."""

    longest_s = 8

    @classmethod
    def choose(cls, rng, shape):
        return {"share": rng.choice([0.01, 0.05, 0.2])}

    def pairs(self):
        hosts = [node.host for node in self.cluster.nodes]
        everybody = list(self.network.addresses)
        return [(a, b) for a in everybody for b in everybody
                if a != b and (a in hosts or b in hosts)]

    def begin(self):
        self.network.drop(self.pairs(), self.step["share"])

    def end(self):
        self.network.drop(self.pairs(), 0)


class Slow(Loss):
    """Packets are late, overtake each other or come twice."""

    @classmethod
    def choose(cls, rng, shape):
        return {
            "delay_ms": rng.choice([2, 20, 100]),
            "jitter_ms": rng.choice([0, 5, 50]),
            "reorder": rng.choice([0, 0.05, 0.3]),
            "duplicate": rng.choice([0, 0, 0.05]),
        }

    def begin(self):
        names = ("delay_ms", "jitter_ms", "reorder", "duplicate")
        self.network.delay(self.pairs(), *[self.step[name] for name in names])

    def end(self):
        self.network.undelay(self.pairs())


class DiskFull(Step):
    """The node's disk has little left: below the reserve, but not nothing."""

    longest_s = 8

    @classmethod
    def possible(cls, shape):
        return shape["disks"]

    @classmethod
    def choose(cls, rng, shape):
        return {"node": target(rng, shape), "free_mib": rng.choice([64, 128, 200])}

    def begin(self):
        self.node = self.pick()
        self.node.leave_free(self.step["free_mib"] << 20)

    def end(self):
        self.node.leave_free(None)


class DiskBrim(DiskFull):
    """Nothing at all is left. A broker that cannot write its log ends, and says so; with room again
    it starts and has everything."""

    longest_s = 3

    @classmethod
    def choose(cls, rng, shape):
        return {"node": target(rng, shape), "free_mib": 0}

    def begin(self):
        super().begin()
        self.node.may_end = True

    def end(self):
        super().end()
        self.node.may_end = False
        self.node.start()


class Clock(Step):
    """The node's wall clock jumps, and later jumps back."""

    longest_s = 10

    @classmethod
    def possible(cls, shape):
        return shape["clocks"]

    @classmethod
    def choose(cls, rng, shape):
        shift = rng.choice([0.2, 2, 30, 600, 90000]) * rng.choice([-1, 1])
        return {"node": target(rng, shape), "shift_s": shift}

    def begin(self):
        self.node = self.pick()
        self.node.set_clock(self.step["shift_s"])

    def end(self):
        self.node.set_clock(0)


class ClockRestart(Clock):
    """The node is killed and starts with a wrong clock, which is corrected later."""

    def begin(self):
        super().begin()
        self.node.kill()
        self.node.start()


class Rolling(Step):
    """SIGTERM, a start, and ready again, one node after another."""

    longest_s = 1

    @classmethod
    def choose(cls, rng, shape):
        return {}

    def begin(self):
        codes = {}
        for node in self.cluster.nodes:
            if not programs.alive(node.process) or node.paused:
                continue
            codes[node.host] = node.stop()
            node.start()
            programs.await_true(node.ready, programs.READY_S)
        self.about["codes"] = codes
        if any(code != 0 for code in codes.values()):
            self.world.history.write("crash", host="rolling restart", codes=codes)

    def end(self):
        pass


class Upgrade(Rolling):
    """A rolling restart that brings the programs of --bin where those of --old-bin ran."""

    @classmethod
    def possible(cls, shape):
        return shape["upgrade"]

    def begin(self):
        self.cluster.bin = self.cluster.new_bin  # of members that join later, too
        for node in self.cluster.nodes:
            node.bin = self.cluster.new_bin
        super().begin()


class Backup(Step):
    """A backup of the cluster as it is. It may fail, as when a leader goes; if it says that it is
    done, it is restored at the end of the run and must have what was confirmed before it began."""

    longest_s = 0.5

    @classmethod
    def choose(cls, rng, shape):
        return {}

    def begin(self):
        self.about["done"] = self.world.take_backup()

    def end(self):
        pass


class Member(Step):
    """A new node joins, and becomes a voter; then it or an older one is removed for good. A node's
    number is never used again."""

    longest_s = 6
    removal_s = 60

    @classmethod
    def possible(cls, shape):
        return shape["spares"] > 0

    @classmethod
    def choose(cls, rng, shape):
        return {"leaves": rng.choice(["new", "oldest", "leader"])}

    def begin(self):
        self.new = None
        number = max([node.number for node in self.cluster.nodes] + [self.cluster.founders]) + 1
        number = max(number, getattr(self.cluster, "next_number", 0))
        if f"n{number}" not in self.network.addresses:
            self.about["skipped"] = "no host is left"
            return
        self.cluster.next_number = number + 1
        members = self.cluster.members()
        self.new = programs.Node(self.cluster, number)
        self.new.joins = members
        if self.cluster.nodes[0].disk_bytes:
            self.new.mount(self.cluster.nodes[0].disk_bytes)
        self.new.set_clock(0)
        self.new.start()
        programs.await_true(self.new.listens, programs.READY_S)
        address = f"{self.new.address}:{programs.PEER_PORT}"
        self.about["added"] = self.cluster.change("add", number, address)
        self.about["node"] = self.new.host
        self.cluster.nodes.append(self.new)

    def end(self):
        if self.new is None:
            return
        leaver = self.new
        if self.about["added"] and self.step["leaves"] != "new":
            older = [node for node in self.cluster.nodes if node is not self.new]
            leader = self.cluster.leader()
            leaver = leader if self.step["leaves"] == "leader" and leader in older else older[0]
        end = time.monotonic() + self.removal_s
        while not self.cluster.change("remove", leaver.number):
            if time.monotonic() > end:
                self.world.note("crash", host=leaver.host, log=["it cannot be removed"])
                break
        self.about["removed"] = leaver.host
        self.cluster.nodes.remove(leaver)
        leaver.kill()


class WorkerKill(Step):
    @classmethod
    def possible(cls, shape):
        return bool(shape["worker"])

    @classmethod
    def choose(cls, rng, shape):
        return {"gently": rng.random() < 0.3}

    def begin(self):
        worker = self.cluster.worker
        if self.step["gently"]:
            worker.stop()
        else:
            worker.kill()

    def end(self):
        self.cluster.worker.start()


class WorkerPause(WorkerKill):
    longest_s = 8

    def begin(self):
        self.cluster.worker.pause()

    def end(self):
        self.cluster.worker.resume()


STEPS = {
    "kill": (4, Kill),
    "lag": (1, Lag),
    "kill-all": (1, KillAll),
    "kill-majority": (1, KillMajority),
    "pause": (3, Pause),
    "blinks": (1, Blinks),
    "cut": (3, Cut),
    "cut-one-way": (2, CutOneWay),
    "cut-bridge": (2, CutBridge),
    "cut-alone": (2, CutAlone),
    "cut-clients": (2, CutClients),
    "loss": (2, Loss),
    "slow": (2, Slow),
    "disk-full": (2, DiskFull),
    "disk-brim": (1, DiskBrim),
    "clock": (2, Clock),
    "clock-restart": (1, ClockRestart),
    "rolling": (2, Rolling),
    "upgrade": (2, Upgrade),
    "member": (1, Member),
    "backup": (1, Backup),
    "worker-kill": (1, WorkerKill),
    "worker-pause": (1, WorkerPause),
}


def make_schedule(seed, seconds, shape, only=()):
    """Steps one after another, with pauses, and now and then two at a time."""
    rng = random.Random(f"nemesis/{seed}")
    kinds = [k for k, (_, step) in STEPS.items() if step.possible(shape) and (not only or k in only)]
    weights = [STEPS[kind][0] for kind in kinds]
    steps = []
    at = QUIET_S
    while kinds and at < seconds - QUIET_S:
        kind = rng.choices(kinds, weights)[0]
        step = STEPS[kind][1]
        lasts = round(rng.uniform(0.3, step.longest_s), 1)
        steps.append({"at": round(at, 1), "for": lasts, "what": kind, **step.choose(rng, shape)})
        at += rng.uniform(0.2, 1.5) if rng.random() < 0.25 else lasts + rng.uniform(0.5, 4)
    return steps


class Nemesis:
    """Executes a schedule against a world: an object with cluster, network and history."""

    def __init__(self, world, schedule):
        self.world = world
        self.left = sorted(schedule, key=lambda step: step["at"])
        self.active = []  # (when it ends, Step)
        self.begun = time.monotonic()

    def note(self, step, phase):
        fields = {**step.step, **step.about, "step": step.step["what"], "phase": phase}
        del fields["what"]
        self.world.note("nemesis", **fields)

    def tick(self):
        """Do what is due. False when all is over."""
        now = time.monotonic() - self.begun
        for due, step in [item for item in self.active if item[0] <= now]:
            self.active.remove((due, step))
            self.finish(step)
        if self.left and self.left[0]["at"] <= now:
            about = self.left.pop(0)
            step = STEPS[about["what"]][1](self.world, about)
            step.begin()
            self.note(step, "begin")
            self.active.append((time.monotonic() - self.begun + about["for"], step))
        return bool(self.left or self.active)

    def finish(self, step):
        step.end()
        self.note(step, "end")

    def heal(self):
        """End everything that still goes on, whatever the schedule says."""
        self.world.network.heal()
        for process in [*self.world.cluster.nodes, self.world.cluster.worker]:
            if process is not None:
                process.resume()
                process.start()
        for _, step in self.active:
            self.finish(step)
        self.active = []
        self.left = []
