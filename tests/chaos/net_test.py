#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The network of a run does what it is told: else a nemesis would only seem to act.

Runs itself again inside the namespaces of sandbox.py; skipped, with the reason, where that is not
allowed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import net
import sandbox

ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 7000))
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(100)
    s.sendto(data, sender)
"""
ASK = """
import socket, sys, time
me, other, count, enough, wait = *sys.argv[1:3], *map(int, sys.argv[3:5]), float(sys.argv[5])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((me, 0))
begin = time.monotonic()
for number in range(count):
    s.sendto(b"%d" % number, (other, 7000))
    time.sleep(0.001)
got = []
try:
    while len(got) < enough:
        s.settimeout(max(0.001, begin + wait - time.monotonic()))
        got.append(int(s.recv(100)))
        if len(got) == 1:
            first = time.monotonic() - begin
except OSError:
    pass
print(len(got), int((first if got else 0) * 1000), got == sorted(got))
"""


def ask(sender, receiver, count=1, wait_s=0.5, enough=None):
    """(echoes that came back, milliseconds of the first, whether they came in order)"""
    addresses = (net.NETWORK + sender[1:], net.NETWORK + receiver[1:])
    command = [sys.executable, "-c", ASK, *addresses, str(count)]
    command += [str(enough or count), str(wait_s)]
    answer = net.sh(*net.inside(sender, *command)).split()
    return int(answer[0]), int(answer[1]), answer[2] == "True"


@unittest.skipUnless(sandbox.INSIDE in os.environ, "runs inside its own namespaces only")
class NetTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.network = net.Network({"n1": 1, "n2": 2, "n3": 3}, seed=1)
        cls.echoes = []
        for host, address in cls.network.addresses.items():
            command = net.inside(host, sys.executable, "-c", ECHO, address)
            echo = subprocess.Popen(command, stdout=subprocess.PIPE)
            echo.stdout.readline()
            cls.echoes.append(echo)

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes:
            echo.kill()
            echo.communicate()
        cls.network.close()
        for stream in (cls.network.relay.stdin, cls.network.relay.stdout):
            stream.close()

    def tearDown(self):
        self.network.heal()
        self.assertEqual(ask("n1", "n2")[0], 1)
        self.assertEqual(ask("n3", "n2")[0], 1)

    def test_a_cut_is_for_one_pair(self):
        self.network.drop(net.both_ways(["n1"], ["n2"]))
        self.assertEqual(ask("n1", "n2")[0], 0)
        self.assertEqual(ask("n2", "n1")[0], 0)
        self.assertEqual(ask("n1", "n3")[0], 1)
        self.assertEqual(ask("n3", "n2")[0], 1)

    def test_a_cut_may_be_one_way(self):
        """What arrives shows which way: the echo's counter of its namespace."""
        self.network.drop([("n2", "n1")])
        before = self.received("n2")
        self.assertEqual(ask("n1", "n2")[0], 0)
        self.assertEqual(self.received("n2"), before + 1)
        self.network.drop([("n2", "n1")], 0)
        self.network.drop([("n1", "n2")])
        before = self.received("n2")
        self.assertEqual(ask("n1", "n2")[0], 0)
        self.assertEqual(self.received("n2"), before)

    def received(self, host):
        """UDP datagrams that its programs have got."""
        lines = net.sh(*net.inside(host, "cat", "/proc/self/net/snmp")).splitlines()
        names, values = [line.split() for line in lines if line.startswith("Udp:")]
        return int(values[names.index("InDatagrams")])

    def test_loss(self):
        self.network.drop([("n1", "n2")], 0.5)
        came, _, _ = ask("n1", "n2", 200, 1.0)
        self.assertTrue(40 < came < 160, came)

    def test_delay(self):
        pairs = net.both_ways(["n1"], ["n2"])
        self.network.delay(pairs, 60, 20)
        came, first_ms, in_order = ask("n1", "n2", 50, 1.5)
        self.assertEqual((came, in_order), (50, True))
        self.assertGreaterEqual(first_ms, 80)
        self.assertLess(ask("n1", "n3")[1], 50)

    def test_reordering_and_duplicates(self):
        self.network.delay([("n1", "n2")], 30, 0, reorder=0.2, duplicate=0.2)
        came, _, in_order = ask("n1", "n2", 100, 1.5, 1000)
        self.assertGreater(came, 100)
        self.assertFalse(in_order)

    def test_our_own_address_is_never_cut(self):
        rest = [host for host in self.network.addresses if host != "n1"]
        self.network.drop(net.both_ways(["n1"], rest))
        answer = subprocess.run(
            [sys.executable, "-c", ASK, net.OURS, self.network.addresses["n1"], "1", "1", "0.5"],
            capture_output=True, encoding="utf-8",
        )
        self.assertEqual(answer.stdout.split()[0], "1")


class SandboxTest(unittest.TestCase):
    """From outside: nothing stays behind."""

    def setUp(self):
        reason = sandbox.why_not()
        if reason is not None:
            self.skipTest(reason)

    def test_the_network_inside(self):
        with tempfile.TemporaryDirectory() as out:
            code = sandbox.run("net_test", [], out, None, False)
        self.assertEqual(code, 0)

    def test_an_interrupted_run_leaves_nothing(self):
        programs = os.path.join(os.environ.get("MILLRACE_BIN", HERE.parents[1] /
                                               "build/release/bin"))
        if not os.path.exists(os.path.join(programs, "millrace-broker")):
            self.skipTest("the programs are not built")
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, TMPDIR=folder)
            out = os.path.join(folder, "out")
            run = subprocess.Popen(
                [str(HERE / "run"), "--minutes", "5", "--seed", "1", "--out", out],
                env=environment, stdout=subprocess.PIPE, encoding="utf-8",
            )
            for line in run.stdout:
                if "started" in line:
                    break
            inside = children(run.pid)
            self.assertGreater(len(inside), 5)
            run.terminate()
            run.communicate(timeout=20)
            self.assertEqual(os.listdir(folder), ["out"])
            end = time.monotonic() + 5
            while any(os.path.exists(f"/proc/{pid}") for pid in inside):
                self.assertLess(time.monotonic(), end, "processes are left")
                time.sleep(0.05)


def children(pid):
    """All descendants of a process."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def main():
    if sandbox.INSIDE in os.environ:
        sandbox.become_init()
        arguments = [sys.argv[0], "NetTest"]
    else:
        arguments = [sys.argv[0], "SandboxTest", "-v"]
    unittest.main(argv=arguments, verbosity=2)


if __name__ == "__main__":
    main()
