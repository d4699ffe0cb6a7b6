#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long sends are not acknowledged when the leader goes: figures for docs/benchmarks.md.

Three brokers with their defaults on the real disk; clients on all of them send 1,000 messages a
second, one by one, and go to another node when something goes wrong. Three things are done, each
--runs times, some seconds apart:

    kill       kill -9 of the node that leads the queue's shard
    handover   SIGTERM to it
    rolling    SIGTERM, a start and ready again, one node after another (once a run)

The gap is the longest time without any acknowledged send, from a second before until all is well
again; `gaps_began_ms` tells how long after the deed it began. `quiet_ms` is the same before, when
nothing happens: what the machine adds. Errors are
answers that clients did not get or did not like; a refused connection, where nothing was sent, is
counted apart. In the end all messages are received, and the checker looks for what is missing.
Prints one JSON object as the last line. Exit codes as those of tests/chaos/run.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import checker
import cluster as programs
import sandbox
import world
from history import now_us

ROOT = HERE.parents[1]
CONNECTIONS = 12  # of each client process
CALM_S = 4  # between two runs
BEFORE_US = 1_000_000
QUEUES = ["std"]


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--runs", type=int, default=10, help="of each kind (default 10)")
    add("--kinds", default="kill,handover,rolling", help="default kill,handover,rolling")
    add("--rate", type=float, default=1000.0, help="messages a second (default 1000)")
    add("--nodes", type=int, default=3, help="brokers (default 3)")
    add("--bin", default=os.environ.get("MILLRACE_BIN", str(ROOT / "build/release/bin")),
        help="folder of the programs (default MILLRACE_BIN, else build/release/bin)")
    add("--disk", choices=("memory", "real"), default="real", help="where data is kept")
    add("--seed", type=int, help="of the clients")
    add("--broker-option", dest="broker_options", action="append", default=[],
        metavar="OPTION=VALUE", help="another option for each broker")
    add("--out", help="folder for histories and diagnostics")
    add("--keep", action="store_true", help="keep that folder also when all is well")
    found = parser.parse_args()
    found.worker = found.clocks = False
    found.old_bin = None
    found.spares = 0
    return found


def tasks(host, rate):
    """Producers that hardly wait after an error, and consumers that keep the queue short."""
    producers = [
        {"kind": "produce", "name": f"{host}-p{number}", "queue": "std", "pause_s": 0.005,
         "rate": rate / CONNECTIONS, "size": 1000, "hop": 0}
        for number in range(CONNECTIONS)
    ]
    consumers = [
        {"kind": "consume", "name": f"{host}-r{number}", "queue": "std", "pause_s": 0.005,
         "plain": True, "hop": 0}
        for number in range(3)
    ]
    return producers + consumers


class Failover:
    def __init__(self, found, this):
        self.found = found
        self.world = this
        self.cluster = this.cluster
        self.spans = []  # (kind, begin, moment of the deed, end), in microseconds

    def calm(self):
        self.cluster.await_ready()
        end = time.monotonic() + CALM_S
        while time.monotonic() < end or self.cluster.leader(QUEUES[0]) is None:
            self.world.watch()
            time.sleep(0.1)

    def run(self, kind):
        self.calm()
        leader = self.cluster.leader(QUEUES[0])
        moment = now_us()
        getattr(self, kind)(leader)
        self.cluster.await_ready()
        time.sleep(1)
        self.spans.append((kind, moment - BEFORE_US, moment, now_us()))
        self.world.note("failover", kind=kind, node=leader.host)

    def kill(self, leader):
        leader.kill()
        time.sleep(3)
        leader.start()

    def handover(self, leader):
        leader.stop()
        time.sleep(2)
        leader.start()

    def rolling(self, _):
        for node in self.cluster.nodes:
            node.stop()
            node.start()
            programs.await_true(node.ready, programs.READY_S)


def longest_gap_ms(moments, begin, end):
    """How long, and how long after `begin` it began."""
    inside = [begin] + [moment for moment in moments if begin < moment < end] + [end]
    gap, start = max((b - a, a) for a, b in zip(inside, inside[1:]))
    return round(gap / 1000, 1), round((start - begin) / 1000, 1)


def figures(found, out, spans):
    events = checker.read(sorted(str(path) for path in out.glob("*.history")))
    calls = [e for e in events if e["op"] in ("send", "receive", "delete")]
    moments = sorted(e["end"] for e in calls if e["op"] == "send" and e["outcome"] == "ok")
    result = {}
    for kind in found.kinds.split(","):
        some = [span for span in spans if span[0] == kind]
        found_gaps = [longest_gap_ms(moments, moment, end) for _, _, moment, end in some]
        gaps = [gap for gap, _ in found_gaps]
        quiet = [longest_gap_ms(moments, begin, moment)[0] for _, begin, moment, _ in some]
        during = [e for e in calls if e["outcome"] != "ok"
                  and any(moment <= e["end"] <= end for _, _, moment, end in some)]
        errors = {}
        for event in during:
            name = f"{event['op']} {event['outcome']} {event['error']}"
            errors[name] = errors.get(name, 0) + 1
        result[kind] = {
            "gap_ms_median": statistics.median(gaps),
            "gap_ms_worst": max(gaps),
            "gaps_ms": gaps,
            "gaps_began_ms": [start for _, start in found_gaps],
            "quiet_ms": quiet,
            "errors": sum(e["error"] != "connect" for e in during),
            "refused_connections": sum(e["error"] == "connect" for e in during),
            "errors_by_kind": errors,
        }
    seconds = (moments[-1] - moments[0]) / 1e6
    result["acknowledged"] = len(moments)
    result["rate"] = round(len(moments) / seconds, 1)
    result["load"] = os.getloadavg()
    return result


def act(found, this):
    out = this.out
    try:
        rate = found.rate / len(world.CLIENT_HOSTS)
        this.start(QUEUES, {host: tasks(host, rate) for host in world.CLIENT_HOSTS})
        measured = Failover(found, this)
        for kind in found.kinds.split(","):
            for _ in range(found.runs):
                measured.run(kind)
        this.settle()
        this.drain()
        this.end()
    finally:
        this.close()
    code = world.judge(out)
    print(json.dumps({**figures(found, out, measured.spans), "promises_kept": code == 0}))
    return code


def inside(found, folder):
    try:
        return act(found, world.World(found, folder, found.out))
    except Exception:
        traceback.print_exc()
        return 2


def main():
    found = options()
    if found.seed is None:
        found.seed = random.SystemRandom().randrange(1_000_000)
    found.out = found.out or str(ROOT / f"build/chaos/failover-{os.getpid()}")
    found.out = pathlib.Path(found.out)
    title = f"tests/chaos/failover.py --runs {found.runs} --seed {found.seed}"
    more = ["--seed", str(found.seed), "--out", str(found.out)]
    return sandbox.run(title, more, found.out, lambda folder: inside(found, folder), found.keep)


if __name__ == "__main__":
    sys.exit(main())
