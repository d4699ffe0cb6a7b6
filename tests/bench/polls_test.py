# SPDX-License-Identifier: Apache-2.0
"""A short run of polls.py: each poll gets its message, none is lost or doubled. No speed and no memory is
judged here."""
import argparse
import unittest

import polls

POLLS = 300


class Polls(unittest.TestCase):
    def run_with(self, **options):
        result = polls.measure(argparse.Namespace(**{
            "polls": POLLS, "protocol": "http", "connections": 1, "queues": 1, "idle_seconds": 0.1,
            **options}))
        self.assertEqual(result["messages"], POLLS)
        print(result, flush=True)

    def test_http(self):
        self.run_with(queues=7)

    def test_native_on_one_connection(self):
        self.run_with(protocol="native")

    def test_native_on_many_connections(self):
        self.run_with(protocol="native", connections=13, queues=7)


if __name__ == "__main__":
    unittest.main()
