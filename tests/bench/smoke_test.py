# SPDX-License-Identifier: Apache-2.0
"""millrace bench against a broker, short: each mode over each protocol runs, its result has all its
keys, and nothing was lost, doubled, damaged or out of order. Rates are printed and not judged."""
import json
import os
import pathlib
import subprocess
import sys
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
import harness  # noqa: E402

KEYS = ("rate", "mb_per_s", "p50_us", "p99_us", "p999_us", "max_us", "client_cpu_us_per_msg",
        "server_cpu_us_per_msg", "server_rss_mb", "errors", "lost", "duplicates", "longest_gap_ms",
        "messages", "seconds", "mode", "protocol")
MODES = {
    "produce": "--messages 3000 --batch 3",
    "cycle": "--messages 3000",
    "drain": "--messages 3000 --batch 10",
    "latency": "--rate 500 --seconds 1",
    "backlog": "--messages 3000 --batch 10",
    "queues": "--queues 40 --messages 1000",
    "failover": "--rate 500 --seconds 1",
}


def bench(broker, *arguments):
    program = pathlib.Path(os.environ.get("MILLRACE_BIN", ROOT / "build/release/bin")) / "millrace"
    return subprocess.Popen(
        [program, "bench", "--json", "--brokers", f"127.0.0.1:{broker.ports[1]}", "--endpoint",
         broker.endpoint, "--inflight", "64", "--server-pids", str(broker.broker.process.pid),
         *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process):
    out, err = process.communicate(timeout=90)
    if process.returncode != 0:
        raise AssertionError(f"exit {process.returncode}\n{out}\n{err}")
    return json.loads(out)


class Smoke(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(worker=False)

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def sound(self, result, errors=0):
        for key in KEYS:
            self.assertIn(key, result)
        for key in ("lost", "duplicates", "corrupt", "disordered"):
            self.assertEqual(result[key], 0, result)
        self.assertEqual(result["errors"], errors, result)
        self.assertGreater(result["messages"], 0)
        self.assertGreater(result["p50_us"], 0)
        self.assertLessEqual(result["p50_us"], result["p99_us"])
        self.assertLessEqual(result["p999_us"], result["max_us"])
        self.assertGreater(result["server_rss_mb"], 0)
        print("%-8s %-6s %9.0f/s  p50 %6d us  server %5.1f us" %
              (result["mode"], result["protocol"], result["rate"], result["p50_us"],
               result["server_cpu_us_per_msg"]), file=sys.stderr)

    def test_every_mode_over_both_protocols(self):
        for protocol in ("native", "http"):
            for mode, arguments in MODES.items():
                with self.subTest(protocol=protocol, mode=mode):
                    self.sound(result_of(bench(self.broker, "--protocol", protocol, "--mode", mode,
                                               *arguments.split())))

    def test_fifo_queues_keep_their_order(self):
        for protocol in ("native", "http"):
            with self.subTest(protocol=protocol):
                self.sound(result_of(bench(self.broker, "--protocol", protocol, "--fifo", "--batch", "10",
                                           "--groups", "5", "--messages", "1000")))

    def test_large_bodies(self):
        for protocol in ("native", "http"):
            with self.subTest(protocol=protocol):
                self.sound(result_of(bench(self.broker, "--protocol", protocol, "--size", "262144",
                                           "--messages", "100")))

    def test_many_queues(self):
        """tests/bench/queues.py compares what it made with what it is shown, also after a restart."""
        done = subprocess.run([sys.executable, ROOT / "tests/bench/queues.py", "--queues", "300", "--fifo",
                               "--skip-speed", "--idle-seconds", "0.2"],
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        for key in ("bytes", "bytes_used", "idle_ms_per_s", "pages", "live_ms_max", "restart_s"):
            self.assertIn(key, result)
        print("300 queues:", done.stdout, file=sys.stderr)

    def test_no_queue_is_left(self):
        result_of(bench(self.broker, "--messages", "10"))
        self.assertEqual(harness.status(self.broker.endpoint)["queues"], [])

    def test_a_killed_broker_loses_nothing(self):
        broker = harness.Broker(worker=False)
        try:
            for protocol in ("native", "http"):
                process = bench(broker, "--protocol", protocol, "--mode", "failover", "--seconds", "3",
                                "--rate", "300", "--kill-pid", str(broker.broker.process.pid))
                restart = threading.Thread(target=self.restart_when_dead, args=(broker,))
                restart.start()
                result = result_of(process)
                restart.join()
                self.assertEqual(result["lost"], 0, result)
                self.assertEqual(result["corrupt"], 0, result)
                self.assertGreater(result["errors"], 0, "nothing was killed")
                self.assertGreater(result["server_cpu_us_per_msg"], 0)
        finally:
            broker.stop()

    def restart_when_dead(self, broker):
        broker.broker.process.wait(60)
        broker.start_broker()


if __name__ == "__main__":
    unittest.main()
