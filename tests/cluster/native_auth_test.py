# SPDX-License-Identifier: Apache-2.0
"""Keys of native connections in a cluster: any node proves them, and a key whose secret was replaced
through one node ends at the connections of the others."""
import os
import pathlib
import sys
import unittest
from unittest import mock

from cluster import Cluster, ClusterCase, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "wire"))
import native_auth_test as auth  # noqa: E402
import native_test as native  # noqa: E402
from signing import Key  # noqa: E402

OLD, NEW = Key("CLUSTERROOT", "the-first-secret-0123"), Key("CLUSTERROOT", "the-second-secret-4567")


def environment(key):
    return mock.patch.dict(os.environ, MILLRACE_ROOT_ACCESS_KEY_ID=key.id,
                           MILLRACE_ROOT_SECRET_ACCESS_KEY=key.secret)


class Replaced(ClusterCase):
    def setUp(self):
        self.cluster = Cluster(3, broker_args=["--auth", "required"])
        self.addCleanup(self.cluster.close)
        with environment(OLD):
            self.cluster.up()

    def connect(self, node, key):
        client = auth.Client(self.cluster.port + 10 * (node - 1) + 1, key)
        self.addCleanup(client.close)
        return client

    def welcome(self, node, key):
        try:
            client = self.connect(node, key)
        except ConnectionError:  # it is not there yet
            return None
        return client if client.first[0] == native.TYPE_WELCOME else None

    def test_a_secret_that_is_replaced(self):
        clients = {node: wait_for("the root key", lambda n=node: self.welcome(n, OLD)) for node in (1, 2, 3)}
        for client in clients.values():
            self.assertIsNone(client.call(native.LIST_QUEUES)[1])
        with environment(NEW):
            self.cluster.script("restart", "2")
        wait_for("the new secret", lambda: self.welcome(2, NEW))
        for node in 1, 3:
            wait_for("the new secret elsewhere", lambda n=node: self.welcome(n, NEW))
            result, error = clients[node].call(native.LIST_QUEUES)
            self.assertIsNone(result)
            self.assertEqual(error[1], b"InvalidSignatureException")
            refused = auth.fields(self.connect(node, OLD).first[1])
            self.assertEqual(refused[3], b"InvalidSignatureException")


if __name__ == "__main__":
    unittest.main()
