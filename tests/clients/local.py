#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace local` hands its options on: signatures and the root key, TLS on all ports, how long
connections are kept, the token for /metrics. By flags, by the environment, and by a file."""
import http.client
import json
import os
import pathlib
import select
import shutil
import signal
import ssl
import subprocess
import tempfile
import unittest

import harness

BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))
ROOT_ID, ROOT_SECRET = "LOCALROOTKEY", "local/root+secret0123456789"
TOKEN = "token-of-the-local-broker"
PROBE = "def handler(event, context):\n    return event\n"
START_SECONDS = 40


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-local-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o711)
        self.token = self.folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.process = None

    def environment(self, **more):
        kept = {k: v for k, v in harness.client_environment().items() if not k.startswith("MILLRACE_")}
        return {**kept, **more}

    def start(self, *arguments, **more):
        with open(self.folder / "traces", "ab") as traces:
            self.process = subprocess.Popen(
                [BIN / "millrace", "local", "--json", "--data-dir", self.folder / "data", "--http",
                 "127.0.0.1:0", "--concurrency", "2", *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=traces, env=self.environment(**more), start_new_session=True)
        self.addCleanup(self.stop)
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.fail("millrace local did not start:\n" + self.traces())
        self.told = json.loads(line)
        self.assertNotIn("worker_not_connected_yet", self.traces())
        return self.told["endpoint"]

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        self.assertEqual(status, 0, self.traces())

    def traces(self):
        return (self.folder / "traces").read_text(errors="replace")[-6000:]

    def misuse(self, *arguments):
        ended = subprocess.run([BIN / "millrace", "local", "--data-dir", self.folder / "data", *arguments],
                               env=self.environment(), capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 64, ended.stderr)
        return ended.stderr

    def boto(self, endpoint, key_id=ROOT_ID, secret=ROOT_SECRET, verify=None):
        import boto3
        from botocore.config import Config
        return boto3.client("sqs", endpoint_url=endpoint, region_name=harness.REGION, verify=verify,
                            aws_access_key_id=key_id, aws_secret_access_key=secret,
                            config=Config(retries={"max_attempts": 0}, proxies={}))


class Keys(Case):
    def check(self, endpoint):
        import botocore.exceptions
        self.assertIn("QueueUrl", self.boto(endpoint).create_queue(QueueName="q"))
        with self.assertRaises(botocore.exceptions.ClientError) as refused:
            self.boto(endpoint, secret="another").list_queues()
        self.assertEqual(refused.exception.response["Error"]["Code"], "SignatureDoesNotMatch")

    def test_the_root_key_is_in_no_command_line(self):
        endpoint = self.start("--auth", "required", "--root-access-key-id", ROOT_ID, "--metrics-auth", "required",
                              MILLRACE_ROOT_SECRET_ACCESS_KEY=ROOT_SECRET)
        self.check(endpoint)
        for name in ("pid", "broker_pid", "worker_pid"):
            line = pathlib.Path(f"/proc/{self.told[name]}/cmdline").read_bytes()
            self.assertNotIn(ROOT_SECRET.encode(), line)
        self.assertEqual(harness.request(endpoint, "GET", "/metrics").status, 401)
        self.stop()
        endpoint = self.start("--auth", "required")  # it is kept
        self.check(endpoint)
        self.assertEqual(harness.request(endpoint, "GET", "/metrics").status, 200)

    def test_misuse(self):
        self.assertIn("root key", self.misuse("--root-access-key-id", "X" * 10))
        self.assertIn("--tls-key", self.misuse("--tls-cert", "x"))
        self.assertIn("--tls-client-ca", self.misuse("--tls-client-ca", "x"))
        self.assertIn("--worker-tls-dir", self.misuse("--tls-dir", "x"))


class Pages(Case):
    def test_a_token_and_limits_of_connections(self):
        endpoint = self.start("--metrics-token-file", str(self.token), "--http-keepalive-requests", "2",
                              MILLRACE_HTTP_KEEPALIVE_TIMEOUT="1")
        self.assertEqual(harness.request(endpoint, "GET", "/metrics").status, 401)
        shown = {"Authorization": f"Bearer {TOKEN}"}
        self.assertEqual(harness.request(endpoint, "GET", "/metrics", headers=shown).status, 200)
        host, port = endpoint.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        said = []
        for _ in range(2):
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            said.append(response.getheader("Connection"))
            response.read()
        connection.close()
        self.assertEqual(said, ["keep-alive", "close"])
        connection.connect()
        self.assertEqual(connection.sock.recv(1), b"")  # idle for a second
        connection.close()


class Tls(Case):
    def setUp(self):
        super().setUp()
        made = subprocess.run([BIN / "millrace", "tls", "init", "--dir", self.folder / "tls", "--hosts",
                               "127.0.0.1+localhost"], env=self.environment(), capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.node = self.folder / "tls/127.0.0.1"

    def deploy(self, endpoint):
        """A function runs: so the worker has its link, over TLS."""
        app = self.folder / "app"
        app.mkdir()
        (app / "app.py").write_text(PROBE)
        common = ["--endpoint", endpoint, "--ca-file", str(self.node / "ca.pem"), "--tls-dir",
                  str(self.folder / "tls/client")]
        for words in (["function", "deploy", str(app), "--name", "f", "--runtime", "python3.11",
                       "--handler", "app.handler"],
                      ["function", "invoke", "f", "--payload", '{"a":1}']):
            ended = subprocess.run([BIN / "millrace", *words, *common], env=self.environment(),
                                   capture_output=True, text=True, timeout=120)
            self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn('"a"', ended.stdout)

    def test_on_all_ports(self):
        config = self.folder / "local.conf"
        config.write_text(f"tls-cert = {self.node}/cert.pem\ntls-key = {self.node}/key.pem\n"
                          f"tls-dir = {self.node}\nworker-tls-dir = {self.folder}/tls/worker\n")
        endpoint = self.start("--config", str(config))
        self.assertTrue(endpoint.startswith("https://"))
        sqs = self.boto(endpoint, verify=str(self.node / "ca.pem"))
        self.assertTrue(sqs.create_queue(QueueName="q")["QueueUrl"].startswith("https://"))
        status = harness.status(endpoint, ssl.create_default_context(cafile=self.node / "ca.pem"))
        self.assertEqual(len(status["workers"]), 1)
        self.assertIn("tls=yes", self.traces())
        self.deploy(endpoint)

    def test_only_for_clients_with_a_certificate(self):
        endpoint = self.start("--tls-cert", self.node / "cert.pem", "--tls-key", self.node / "key.pem",
                              "--tls-client-ca", self.node / "ca.pem", "--tls-dir", self.node,
                              "--worker-tls-dir", self.folder / "tls/worker")
        context = ssl.create_default_context(cafile=self.node / "ca.pem")
        with self.assertRaises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            harness.request(endpoint, "GET", "/health/live", tls=context)
        client = self.folder / "tls/client"
        context.load_cert_chain(client / "cert.pem", client / "key.pem")
        self.assertEqual(harness.request(endpoint, "GET", "/health/live", tls=context).status, 200)

    def test_a_certificate_for_another_name(self):
        """It is its own broker's, so that it starts all the same."""
        made = subprocess.run([BIN / "millrace", "tls", "init", "--dir", self.folder / "other", "--hosts",
                               "public.example"], env=self.environment(), capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        other = self.folder / "other/public.example"
        endpoint = self.start("--tls-cert", other / "cert.pem", "--tls-key", other / "key.pem")
        context = ssl.create_default_context(cafile=other / "ca.pem")
        context.check_hostname = False
        self.assertEqual(harness.request(endpoint, "GET", "/health/live", tls=context).status, 200)


if __name__ == "__main__":
    unittest.main()
