#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds packets for a while: what makes the network of net.py slow and unruly.

    relay.py SEED HOST=ADDRESS...     (in a namespace where `ip netns` knows these hosts)

Opens a TUN device (tun0) in each host's namespace. A packet that a host routes there is written to
the receiver's tun0 when its time has come. One line of JSON on the standard input sets how the
packets of one pair are treated: {"from", "to", "delay", "jitter" (s), "reorder", "duplicate"
(shares)}. Prints "ready" when packets may come; ends when the input does.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PACKET_BYTES_MAX = 65536
BURST = 64
HELD_MAX = 20000  # beyond it packets are lost, as in any router


def open_tun(host):
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/run/netns/{host}", os.O_RDONLY)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {host}")
    os.close(namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22s", b"tun0", IFF_TUN | IFF_NO_PI, b""))
    return tun


class Relay:
    def __init__(self, seed, hosts):
        self.random = random.Random(seed)
        self.tuns = {socket.inet_aton(address): open_tun(name) for name, address in hosts}
        self.rules = {}
        self.held = []  # (due, number, receiver's address, packet)
        self.last_due = {}
        self.number = 0

    def take_rule(self, line):
        rule = json.loads(line)
        pair = (socket.inet_aton(rule["from"]), socket.inet_aton(rule["to"]))
        self.rules[pair] = rule

    def hold(self, packet, now):
        if len(packet) < 20 or packet[0] >> 4 != 4 or len(self.held) >= HELD_MAX:
            return
        pair = (packet[12:16], packet[16:20])
        rule = self.rules.get(pair)
        if rule is None or pair[1] not in self.tuns:
            return
        due = now + max(0.0, rule["delay"] + self.random.uniform(-1, 1) * rule["jitter"])
        if self.random.random() < rule["reorder"]:
            due = now
        else:
            due = self.last_due[pair] = max(due, self.last_due.get(pair, 0.0))
        copies = 2 if self.random.random() < rule["duplicate"] else 1
        for _ in range(copies):
            self.number += 1
            heapq.heappush(self.held, (due, self.number, pair[1], packet))

    def release(self, now):
        while self.held and self.held[0][0] <= now:
            _, _, receiver, packet = heapq.heappop(self.held)
            try:
                os.write(self.tuns[receiver], packet)
            except OSError:
                pass  # the receiver's queue is full: lost

    def read_from(self, tun):
        now = time.monotonic()
        for _ in range(BURST):
            try:
                packet = os.read(tun, PACKET_BYTES_MAX)
            except OSError:
                return
            self.hold(packet, now)

    def run(self):
        poll = select.epoll()
        for tun in self.tuns.values():
            poll.register(tun, select.EPOLLIN)
        poll.register(0, select.EPOLLIN)
        lines = b""
        while True:
            wait = max(0.0, self.held[0][0] - time.monotonic()) if self.held else -1
            for fd, _ in poll.poll(wait):
                if fd != 0:
                    self.read_from(fd)
                    continue
                more = os.read(0, 65536)
                if not more:
                    return
                *whole, lines = (lines + more).split(b"\n")
                for line in whole:
                    self.take_rule(line)
            self.release(time.monotonic())


if __name__ == "__main__":
    relay = Relay(int(sys.argv[1]), [argument.split("=") for argument in sys.argv[2:]])
    print("ready", flush=True)
    relay.run()
