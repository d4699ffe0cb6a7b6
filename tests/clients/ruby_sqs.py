#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""AWS SDK for Ruby 1 (Debian's ruby-aws-sdk): the scenarios are in sqs.rb."""
import os
import subprocess
import unittest

import harness

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sqs.rb")


class Ruby(unittest.TestCase):
    def run_scenario(self, name):
        done = subprocess.run(["/usr/bin/ruby", "-W0", SCRIPT, harness.endpoint(), name],
                              env=harness.client_environment(), capture_output=True, text=True,
                              timeout=90, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_send_receive_delete(self):
        self.run_scenario("send_receive_delete")

    def test_batches(self):
        self.run_scenario("batches")

    def test_settings(self):
        self.run_scenario("settings")

    def test_errors(self):
        self.run_scenario("errors")


if __name__ == "__main__":
    unittest.main()
