# SPDX-License-Identifier: Apache-2.0
"""The network of a run: a namespace with an address for each host, a bridge between them, and what
can go wrong on the way.

    n1 10.77.0.1 ──veth──┐                    loss, cut    dropped by nft at the receiver
    n2 10.77.0.2 ──veth──┤ bridge ── us       delay        by relay.py: only while a pair of hosts
    w1 10.77.0.21 ─veth──┘ 10.77.0.254                     is slow is it routed through there

Everything is for one direction of one pair of hosts, so a partition may be one-way and a bridge
(two hosts that do not see each other, a third that sees both) is a matter of which pairs. The
address of ours is never cut: that is how the nodes are asked for their state.

There is no netem in this: many kernels are built without it, and the relay does the same on all of
them, for single pairs, with random numbers that come from the seed.
"""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NETWORK = "10.77.0."
OURS = NETWORK + "254"
MTU = 9000


def sh(*command, **settings):
    done = subprocess.run(command, capture_output=True, encoding="utf-8", **settings)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def inside(host, *command):
    """The command that runs `command` in the namespace of `host`; it keeps the process id."""
    return ["nsenter", f"--net=/run/netns/{host}", *command]


class Network:
    """hosts: {name: last number of its address}"""

    def __init__(self, hosts, seed):
        self.addresses = {name: NETWORK + str(number) for name, number in hosts.items()}
        self.cuts = {}  # (from, to): share of packets that are dropped, 0 < share <= 1
        self.slow = set()  # (from, to)
        sh("ip", "link", "add", "br0", "mtu", str(MTU), "type", "bridge")
        sh("ip", "address", "add", OURS + "/24", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        for name, address in self.addresses.items():
            self.add_host(name, address)
        self.relay = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "relay.py"), str(seed)]
            + [f"{name}={address}" for name, address in self.addresses.items()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        if self.relay.stdout.readline().strip() != "ready":
            raise RuntimeError("the relay did not start")
        for name in self.addresses:
            sh(*inside(name, "ip", "link", "set", "tun0", "mtu", str(MTU), "up"))

    def add_host(self, name, address):
        port = f"p-{name}"
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", port, "mtu", str(MTU), "type", "veth", "peer", "name", "eth0",
           "mtu", str(MTU), "netns", name)
        sh("ip", "link", "set", port, "master", "br0", "up")
        sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "-n", name, "address", "add", address + "/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        settings = [f"net.ipv4.conf.{which}.rp_filter=0" for which in ("all", "default", "eth0")]
        sh(*inside(name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", *settings))

    def drop(self, pairs, share=1.0):
        """Drop this share of the packets of each (from, to); 0 drops none."""
        pairs = list(pairs)
        for pair in pairs:
            if share > 0:
                self.cuts[pair] = share
            else:
                self.cuts.pop(pair, None)
        for receiver in {to for _, to in pairs}:
            self.write_rules(receiver)

    def write_rules(self, receiver):
        rules = []
        for (sender, to), share in sorted(self.cuts.items()):
            if to == receiver:
                chance = "" if share >= 1 else f"numgen random mod 1000 < {int(share * 1000)} "
                rules.append(f"ip saddr {self.addresses[sender]} {chance}drop")
        text = (
            "table inet chaos {}\ndelete table inet chaos\ntable inet chaos {\nchain input {\n"
            "type filter hook input priority 0;\n" + "\n".join(rules) + "\n}\n}\n"
        )
        sh(*inside(receiver, "nft", "-f", "-"), input=text)

    def delay(self, pairs, delay_ms, jitter_ms=0, reorder=0.0, duplicate=0.0):
        """Hold the packets of each (from, to) for delay +- jitter ms. Jitter keeps their order;
        `reorder` is the share that overtakes; `duplicate` the share that comes twice."""
        for sender, receiver in pairs:
            self.tell(sender, receiver, delay_ms, jitter_ms, reorder, duplicate)
            sh("ip", "-n", sender, "route", "replace", self.addresses[receiver] + "/32", "dev",
               "tun0", "src", self.addresses[sender])
            self.slow.add((sender, receiver))

    def undelay(self, pairs):
        for sender, receiver in pairs:
            if (sender, receiver) in self.slow:
                sh("ip", "-n", sender, "route", "del", self.addresses[receiver] + "/32")
                self.slow.discard((sender, receiver))

    def tell(self, sender, receiver, delay_ms, jitter_ms, reorder, duplicate):
        rule = {
            "from": self.addresses[sender],
            "to": self.addresses[receiver],
            "delay": delay_ms / 1000,
            "jitter": jitter_ms / 1000,
            "reorder": reorder,
            "duplicate": duplicate,
        }
        self.relay.stdin.write(json.dumps(rule) + "\n")
        self.relay.stdin.flush()

    def heal(self):
        self.drop(list(self.cuts), 0)
        self.undelay(list(self.slow))

    def close(self):
        if self.relay.poll() is None:
            self.relay.kill()
        self.relay.wait()


def both_ways(some, others):
    """Every pair between two groups of hosts, in both directions."""
    pairs = [(a, b) for a in some for b in others if a != b]
    return pairs + [(b, a) for a, b in pairs]


def available(preload):
    """The path of a library to preload, or None."""
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"):
        path = os.path.join(folder, preload)
        if os.path.exists(path):
            return path
    return None
