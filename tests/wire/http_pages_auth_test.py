# SPDX-License-Identifier: Apache-2.0
"""Who may read /metrics and /status: the token of --metrics-token-file, as Prometheus sends it, and keys
that are allowed it; /health is everybody's."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import signing
from signing import ROOT, allow, harness, make_key

TOKEN, OTHER = "prometheus-token.0123456789", "another_token+ABCDEFGH/=="
PAGES = ("/metrics", "/status")
BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="millrace-test-")
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "token"
        self.file.write_text(TOKEN + "\n")

    def get(self, path, authorization=None, method="GET"):
        headers = {"Authorization": authorization} if authorization else {}
        return harness.request(self.broker.endpoint, method, path, headers=headers)

    def assert_open(self, authorization, *paths):
        for path in paths or PAGES:
            self.assertEqual(self.get(path, authorization).status, 200, path)

    def assert_shut(self, authorization, status, *paths):
        for path in paths or PAGES:
            answer = self.get(path, authorization)
            self.assertEqual(answer.status, status, path)
            self.assertNotIn(b"millrace_", answer.body)
            self.assertEqual("www-authenticate" in answer.headers, status == 401)
            self.assertIn("Message", answer.json())


class Token(Case):
    def setUp(self):
        super().setUp()
        self.broker = harness.Broker(worker=False,
                                     broker_arguments=["--metrics-token-file", str(self.file)])
        self.addCleanup(self.broker.stop)

    def test_who_shows_it(self):
        self.assert_open(f"Bearer {TOKEN}")
        self.assert_open(f"bearer {TOKEN} ")
        self.assertEqual(self.get("/metrics", f"Bearer {TOKEN}", "HEAD").status, 200)
        self.assert_shut(None, 401)
        for wrong in (OTHER, TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "x" * 60000):
            self.assert_shut(f"Bearer {wrong}", 403)
        for other in ("Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer\t{TOKEN}"):
            self.assert_shut(other, 401)
        for path in ("/health/live", "/health/ready"):
            self.assertEqual(self.get(path).status, 200)
        self.assertEqual(self.get("/?Action=ListQueues").status, 200)

    def test_a_token_that_is_replaced(self):
        for text, good in ((OTHER, OTHER), ("short", OTHER), ("two tokens\nin one file!", OTHER),
                           ("", OTHER), (TOKEN, TOKEN)):
            self.file.write_text(text)
            self.assert_open(f"Bearer {good}")
            self.assert_shut(f"Bearer {TOKEN if good == OTHER else OTHER}", 403)
        self.file.unlink()
        self.assert_open(f"Bearer {TOKEN}")
        self.assertIn("metrics_token_not_reloaded", self.broker.broker.tail())
        self.assertNotIn(TOKEN, self.broker.broker.tail())

    def test_millrace_status(self):
        def status(*arguments, **more):
            environment = {**harness.client_environment(), **more}
            return subprocess.run([BIN / "millrace", "status", "--endpoint", self.broker.endpoint, *arguments],
                                  env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(status("--metrics-token-file", str(self.file)).returncode, 0)
        self.assertEqual(status(MILLRACE_METRICS_TOKEN_FILE=str(self.file)).returncode, 0)
        refused = status()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--metrics-token-file", refused.stderr)
        self.assertIn("cannot read", status("--metrics-token-file", "/nonexistent").stderr)


class Keys(Case):
    """Where signatures are checked, with or without a token."""

    def start(self, *arguments):
        self.broker = harness.Broker(worker=False, broker_arguments=[
            "--auth", "required", "--root-access-key-id", ROOT.id, "--root-secret-access-key",
            ROOT.secret, "--metrics-auth", "required", *arguments])
        self.addCleanup(self.broker.stop)
        before = signing.use(self.broker)
        self.addCleanup(lambda: signing.use(before))
        harness.wait_for(lambda: signing.json_call("ListQueues", {}).status == 200, 10, "the root key")

    def signed(self, path, key, service="millrace"):
        return signing.rest_call("GET", path, key=key, service=service).status

    def test_keys_and_what_they_are_allowed(self):
        self.start()
        cluster = f"arn:aws:iam::{harness.ACCOUNT}:cluster/*"
        reads = make_key(allow("millrace:GetMetrics", cluster))
        other = make_key(allow("sqs:*"))
        for path in PAGES:
            self.assertEqual(self.signed(path, ROOT), 200)
            self.assertEqual(self.signed(path, other), 403)
            self.assertEqual(self.signed(path, ROOT, "sqs"), 403)
            self.assertEqual(self.signed(path, signing.Key(ROOT.id, "wrong-secret")), 403)
        self.assertEqual(self.signed("/metrics", reads), 200)
        self.assertEqual(self.signed("/status", reads), 403)
        self.assert_shut(None, 401)
        self.assert_shut(f"Bearer {TOKEN}", 401)  # there is none
        ended = subprocess.run([BIN / "millrace", "status", "--endpoint", self.broker.endpoint],
                               env={**harness.client_environment(), "AWS_ACCESS_KEY_ID": ROOT.id,
                                    "AWS_SECRET_ACCESS_KEY": ROOT.secret},
                               capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def test_both(self):
        self.start("--metrics-token-file", str(self.file))
        self.assert_open(f"Bearer {TOKEN}")
        self.assertEqual(self.signed("/metrics", ROOT), 200)
        self.assert_shut(f"Bearer {OTHER}", 403)
        self.assertEqual(signing.json_call("ListQueues", {}, None).status, 403)
        answer = harness.request(self.broker.endpoint, "POST", "/", b"{}", {
            **signing.json_headers("ListQueues"), "Authorization": f"Bearer {TOKEN}"})
        self.assertNotEqual(answer.status, 200)  # the token is for pages only


class Options(Case):
    def end(self, *arguments):
        with tempfile.TemporaryDirectory(prefix="millrace-test-") as folder:
            ended = subprocess.run([BIN / "millrace-broker", "--data-dir", folder + "/data", "--http",
                                    "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--peer", "127.0.0.1:0", *arguments],
                                   capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stderr

    def test_refused(self):
        for bad in ("short", "a b" * 10, "x" * 1025, "", "caf\u00e9" * 8):
            self.file.write_text(bad)
            code, said = self.end("--metrics-token-file", str(self.file))
            self.assertEqual(code, 78, bad)
            self.assertIn("metrics_token_unusable", said)
        self.assertEqual(self.end("--metrics-token-file", "/nonexistent")[0], 78)
        code, said = self.end("--metrics-auth", "required")
        self.assertEqual(code, 78)
        self.assertIn("--metrics-token-file", said)
        self.assertEqual(self.end("--metrics-auth", "off", "--metrics-token-file", str(self.file))[0], 64)
        self.assertEqual(self.end("--metrics-auth", "maybe")[0], 64)


if __name__ == "__main__":
    unittest.main()
