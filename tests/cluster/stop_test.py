#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A broker that is told to stop while it is without a majority ends in order, whatever waits."""
import os
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, ClusterCase, running, wait_for  # noqa: E402

UNDER_WAY_S = 0.5


class StopTest(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(nodes=3)
        self.addCleanup(self.cluster.close)
        self.about = self.cluster.up()
        for node in (1, 2, 3):
            wait_for("the nodes", lambda n=node: self.cluster.get(n, "/health/ready")[0] == 200)

    def leader(self):
        return self.cluster.get(1, "/status")[1]["shard"]["leader"]

    def stop_alone(self, node):
        """Stop `node` while the others do not answer, and a receive has been proposed."""
        self.cluster.sqs(node, "CreateQueue", QueueName="stop")
        self.cluster.sqs(node, "SendMessage", QueueUrl="stop", MessageBody="here")
        others = [other for other in (1, 2, 3) if other != node]
        for other in others:
            self.cluster.script("pause", str(other))
        calls = [
            threading.Thread(target=self.cluster.sqs, args=(node, "ReceiveMessage"),
                             kwargs={"QueueUrl": "stop", "WaitTimeSeconds": wait_s})
            for wait_s in (0, 20)
        ]
        for call in calls:
            call.start()
        time.sleep(UNDER_WAY_S)
        pid = self.about["pids"]["broker"][str(node)]
        os.kill(pid, signal.SIGTERM)
        wait_for("the broker to end", lambda: not running(pid))
        for call in calls:
            call.join()
        for other in others:
            self.cluster.script("resume", str(other))
        self.assertFalse(self.cluster.logged("assertion failed"))
        self.assertTrue(self.cluster.logged("event=stopped code=0"))

    def test_a_leader(self):
        self.stop_alone(wait_for("a leader", self.leader))

    def test_a_follower(self):
        self.stop_alone(wait_for("a leader", self.leader) % 3 + 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
