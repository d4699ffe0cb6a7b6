#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/local-cluster.sh, and what a broker refuses at its start."""
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BIN, Cluster, ClusterCase, end, running, state_of, wait_for  # noqa: E402

EX_USAGE, EX_CONFIG = 64, 78


class Script(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=1, workers=1)
        self.addCleanup(self.cluster.close)

    def test_life(self):
        about = self.cluster.up()
        port = self.cluster.port
        self.assertEqual(about["endpoints"], [f"http://127.0.0.1:{port}"])
        self.assertEqual(about["brokers"], [f"127.0.0.1:{port + 1}"])
        pid = about["pids"]["broker"]["1"]
        self.assertEqual(self.cluster.get(1, "/health/ready")[0], 200)

        self.assertEqual(self.cluster.up()["pids"], about["pids"])  # nothing to do

        self.cluster.script("pause", "1")
        wait_for("the broker to be stopped", lambda: state_of(pid) == "T")
        self.cluster.script("resume", "1")
        wait_for("the broker to go on", lambda: state_of(pid) != "T")

        self.cluster.script("kill", "broker-1")
        wait_for("the broker to be dead", lambda: not running(pid))
        self.assertIsNone(self.cluster.status()["pids"]["broker"]["1"])
        self.assertNotEqual(self.cluster.script("pause", "1", check=False).returncode, 0)

        self.cluster.script("restart", "1")
        wait_for("the broker", lambda: self.cluster.get(1, "/health/ready")[0] == 200)
        self.assertNotEqual(self.cluster.status()["pids"]["broker"]["1"], pid)
        wait_for("the worker to come back",
                 lambda: len(self.cluster.get(1, "/status")[1]["workers"]) == 1)

        self.cluster.script("pause", "1")
        self.cluster.script("down")  # also what is paused
        self.assertEqual(self.cluster.status()["pids"], {"broker": {"1": None},
                                                         "worker": {"1": None}})

    def test_misuse(self):
        self.assertEqual(self.cluster.script("fly", check=False).returncode, EX_USAGE)
        self.assertNotEqual(self.cluster.script("kill", "7", check=False).returncode, 0)
        self.assertNotEqual(self.cluster.script("up", "--nodes", "x", check=False).returncode, 0)


class Refusals(unittest.TestCase):
    """A wrong command line, and a directory of someone else, end the broker with a reason."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-identity-")
        self.addCleanup(shutil.rmtree, self.dir)

    def command(self, folder, *arguments):
        return [os.path.join(BIN, "millrace-broker"), "--data-dir", os.path.join(self.dir, folder),
                "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--peer", "127.0.0.1:0",
                *arguments]

    def refused(self, folder, *arguments):
        done = subprocess.run(self.command(folder, *arguments), capture_output=True, text=True,
                              timeout=20, check=False)
        return done.returncode, done.stderr

    def run_until(self, folder, word, *arguments):
        with subprocess.Popen(self.command(folder, *arguments), stderr=subprocess.PIPE,
                              text=True) as broker:
            for line in broker.stderr:
                if word in line:
                    break
            else:
                self.fail(f"ended before it said {word}")
            end(broker)

    def test_lists(self):
        for arguments, word in [
                (["--cluster", "1=a:1,2=b"], "must look like"),
                (["--cluster", "1=a:1,1=b:1"], "twice"),
                (["--cluster", "2=a:1,3=b:1"], "does not contain"),
                (["--join", "1=a:1"], "names this node itself"),
                (["--join", "2=a:1", "--cluster", "1=a:1"], "give one of them")]:
            code, said = self.refused("x", *arguments)
            self.assertEqual(code, EX_USAGE, said)
            self.assertIn(word, said)
        self.assertFalse(os.path.exists(os.path.join(self.dir, "x")))

    def test_another_node(self):
        self.run_until("a", "event=leads")
        code, said = self.refused("a", "--node-id", "2")
        self.assertEqual(code, EX_CONFIG, said)
        self.assertIn("data_of_another_node", said)
        self.run_until("a", "event=leads")  # unharmed

    def test_another_cluster(self):
        for folder in "a", "b":
            self.run_until(folder, "event=known")
        shutil.copy(os.path.join(self.dir, "a/node.json"), os.path.join(self.dir, "b/node.json"))
        code, said = self.refused("b")
        self.assertEqual(code, EX_CONFIG, said)
        self.assertIn("data_of_another_cluster", said)

    def test_damaged_identity(self):
        self.run_until("a", "event=known")
        with open(os.path.join(self.dir, "a/node.json"), "r+", encoding="ascii") as file:
            file.truncate(20)
        code, said = self.refused("a")
        self.assertEqual(code, EX_CONFIG, said)
        self.assertIn("identity_unusable", said)


class Failure(unittest.TestCase):
    def test_the_logs_are_shown(self):
        class Failing(ClusterCase):
            def runTest(self):
                self.cluster = Cluster(nodes=1)
                self.addCleanup(self.cluster.close)
                self.cluster.up()
                self.fail("on purpose")

        with contextlib.redirect_stderr(io.StringIO()) as said:
            Failing().run(unittest.TestResult())
        self.assertIn("event=stopped", said.getvalue())


if __name__ == "__main__":
    unittest.main()
