# SPDX-License-Identifier: Apache-2.0
"""Native connections with an access key: the challenge and its proof by hand (proto/sigv4/proof.h), every
way to get it wrong, what the key may then do, and `millrace bench` as a client that does it right."""
import hashlib
import hmac
import json
import os
import pathlib
import ssl
import struct
import subprocess
import tempfile
import time
import unittest

import native_test as native
import signing
import place
from signing import ROOT, Key, admin, allow, deny, harness, json_call, make_key, make_queue, set_policy

TYPE_CHALLENGE, TYPE_PROOF = 36, 37
NONCE = bytes(range(32))


def field(number, value):
    """A protobuf field of bytes."""
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value)]) + value


def fields(data):
    found, at = {}, 0
    while at < len(data):
        number, kind = data[at] >> 3, data[at] & 7
        assert kind == 2, "bytes only here"
        length, at, shift = 0, at + 1, 0
        while True:
            length |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 128:
                break
        found[number] = data[at:at + length]
        at += length
    return found


def hello(key_id, nonce=NONCE, region=harness.REGION):
    return native.HELLO + field(4, key_id) + field(5, region) + field(6, nonce)


def proof_of(key, time_text, broker_nonce, nonce=NONCE, region=harness.REGION):
    secret = ("AWS4" + key.secret).encode()
    for part in (time_text[:8], region, "millrace-native", "aws4_request"):
        secret = signing.digest(secret, part)
    text = "\n".join(["MILLRACE-PROOF-1", time_text, key.id, region, broker_nonce.hex(), nonce.hex()])
    return hmac.new(secret, text.encode(), hashlib.sha256).digest()


class Client(native.Client):
    """As that one, with a key; `make` makes the proof from what the broker asks."""

    def __init__(self, port, key, make=None, **said):
        super().__init__(port, greet=False)
        self.socket.sendall(native.frame(native.TYPE_CLIENT_HELLO, hello(key.id, **said)))
        self.first = self.read()
        if self.first[0] != TYPE_CHALLENGE:
            return
        asked = fields(self.first[1])
        self.asked = asked[2].decode(), asked[1]
        assert len(self.asked[1]) == 32
        self.proof = (make or proof_of)(key, *self.asked, **({} if make else said))
        if self.proof is not None:
            self.socket.sendall(native.frame(TYPE_PROOF, field(1, self.proof)))
            self.first = self.read()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = signing.broker()
        cls.port = cls.broker.ports[1]

    def connect(self, key, make=None, **said):
        client = Client(self.port, key, make, **said)
        self.addCleanup(client.close)
        return client

    def welcome(self, key, **said):
        client = self.connect(key, **said)
        self.assertEqual(client.first[0], native.TYPE_WELCOME, client.first)
        return client

    def turned_away(self, client, code, reason=""):
        kind, payload = client.first
        self.assertEqual(kind, native.TYPE_REFUSED)
        said = fields(payload)
        self.assertEqual(said.get(3, b"").decode(), code)
        self.assertIn(reason, said[1].decode())
        self.assertIsNone(client.read())

    def can(self, client, action, *parts):
        result, error = client.call(action, *parts)
        self.assertIsNone(error)
        return result

    def cannot(self, client, code, action, *parts):
        result, error = client.call(action, *parts)
        self.assertIsNone(result)
        self.assertEqual((error[1].decode(), struct.unpack("<i", error[3])[0]), (code, 403))
        return error[2].decode()


class Proofs(Case):
    def test_the_right_one(self):
        url, _ = make_queue()
        client = self.welcome(ROOT)
        self.can(client, native.SEND, native.member(1, url), native.member(2, "hello"))
        answer = json_call("ReceiveMessage", {"QueueUrl": url, "AttributeNames": ["SenderId"]})
        (message,) = answer.json()["Messages"]
        self.assertEqual((message["Body"], message["Attributes"]["SenderId"]), ("hello", ROOT.id))

    def test_each_connection_is_asked_anew(self):
        asked = {self.welcome(ROOT).asked[1] for _ in range(20)}
        self.assertEqual(len(asked), 20)

    def test_wrong_secret(self):
        self.turned_away(self.connect(Key(ROOT.id, ROOT.secret + "x")), "InvalidSignatureException",
                         "does not match")

    def test_unknown_and_disabled_keys(self):
        self.turned_away(self.connect(Key("MRAKNOBODYNOBODY", "x" * 40)), "UnrecognizedClientException")
        self.turned_away(self.connect(Key("not/an id", "x" * 40)), "UnrecognizedClientException")
        key = make_key(allow("*"))
        self.welcome(key)
        admin("PUT", f"/{key.id}", {"Status": "Inactive"})
        self.turned_away(self.connect(key), "UnrecognizedClientException", "security token")
        admin("PUT", f"/{key.id}", {"Status": "Active"})
        self.welcome(key)
        admin("DELETE", f"/{key.id}")
        self.turned_away(self.connect(key), "UnrecognizedClientException")

    def test_a_replayed_proof(self):
        heard = self.welcome(ROOT)
        self.turned_away(self.connect(ROOT, lambda *_: heard.proof), "InvalidSignatureException")

    def test_a_proof_for_something_else(self):
        other = Key("OTHER" + ROOT.id, ROOT.secret)
        wrong = {
            "another key": lambda k, t, n: proof_of(other, t, n),
            "another region": lambda k, t, n: proof_of(k, t, n, region="eu-west-1"),
            "another day": lambda k, t, n: proof_of(k, "20200101T000000Z", n),
            "another broker's nonce": lambda k, t, n: proof_of(k, t, bytes(32)),
            "another client's nonce": lambda k, t, n: proof_of(k, t, n, nonce=bytes(32)),
            "nothing": lambda k, t, n: b"",
            "a part": lambda k, t, n: proof_of(k, t, n)[:31],
            "too much": lambda k, t, n: proof_of(k, t, n) + b"\0",
            "one bit": lambda k, t, n: proof_of(k, t, n)[:-1] + bytes([proof_of(k, t, n)[-1] ^ 1]),
        }
        for what, make in wrong.items():
            with self.subTest(what):
                self.turned_away(self.connect(ROOT, make), "InvalidSignatureException")

    def test_the_signature_of_a_request_is_no_proof(self):
        def make(key, time_text, broker_nonce):
            scope = f"{time_text[:8]}/{harness.REGION}/sqs/aws4_request"
            return bytes.fromhex(signing.signature(
                key, "POST", "/", "", {"host": signing.host()}, ["host"],
                hashlib.sha256(broker_nonce).hexdigest(), time_text, scope))
        self.turned_away(self.connect(ROOT, make), "InvalidSignatureException")

    def test_greetings_that_are_none(self):
        for said in ({"nonce": b""}, {"nonce": bytes(31)}, {"nonce": bytes(33)}, {"region": ""},
                     {"region": "no/where"}, {"region": "x" * 33}):
            with self.subTest(said):
                self.turned_away(self.connect(ROOT, **said), "", "must be" if "region" in said else "nonce")

    def test_calls_before_the_proof(self):
        client = self.connect(ROOT, lambda *_: None)
        client.socket.sendall(client.call_bytes(native.LIST_QUEUES))
        client.first = client.read()
        self.turned_away(client, "", "before the proof")

    def test_a_proof_that_does_not_come(self):
        client = self.connect(ROOT, lambda *_: None)
        started = time.monotonic()
        client.first = client.read()
        self.turned_away(client, "", "in time")
        self.assertGreater(time.monotonic() - started, 3)
        self.welcome(ROOT)


class Permissions(Case):
    def test_policies_are_those_of_the_key(self):
        url, arn = make_queue()
        key = make_key(allow("sqs:*", arn), deny("sqs:PurgeQueue"))
        client = self.welcome(key)
        self.can(client, native.SEND, native.member(1, url), native.member(2, "x"))
        self.can(client, native.RECEIVE, native.member(1, url))
        other, _ = make_queue()
        said = self.cannot(client, "AccessDeniedException", native.SEND, native.member(1, other),
                           native.member(2, "x"))
        self.assertIn(key.arn, said)
        self.cannot(client, "AccessDeniedException", native.LIST_QUEUES)
        self.cannot(client, "AccessDeniedException", 6, native.member(1, url))  # PurgeQueue
        set_policy(url, deny("sqs:SendMessage", arn, Principal={"AWS": key.arn}))
        self.cannot(client, "AccessDeniedException", native.SEND, native.member(1, url),
                    native.member(2, "x"))

    def test_a_policy_that_changes_meanwhile(self):
        url, arn = make_queue()
        key = make_key(allow("sqs:*", arn))
        client = self.welcome(key)
        send = native.SEND, native.member(1, url), native.member(2, "x")
        self.can(client, *send)
        document = {"Version": "2012-10-17", "Statement": [allow("sqs:ReceiveMessage", arn)]}
        self.assertEqual(admin("PUT", f"/{key.id}/policy", document).status, 200)
        self.cannot(client, "AccessDeniedException", *send)
        self.can(client, native.RECEIVE, native.member(1, url))

    def test_a_key_that_is_disabled_meanwhile(self):
        url, arn = make_queue()
        key = make_key(allow("sqs:*", arn))
        client = self.welcome(key)
        send = native.SEND, native.member(1, url), native.member(2, "x")
        self.can(client, *send)
        admin("PUT", f"/{key.id}", {"Status": "Inactive"})
        self.cannot(client, "UnrecognizedClientException", *send)
        admin("PUT", f"/{key.id}", {"Status": "Active"})
        self.can(client, *send)
        admin("DELETE", f"/{key.id}")
        self.cannot(client, "UnrecognizedClientException", *send)

    def test_where_from(self):
        url, arn = make_queue()
        key = make_key(allow("sqs:*", arn, Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
        self.can(self.welcome(key), native.SEND, native.member(1, url), native.member(2, "x"))
        key = make_key(allow("sqs:*", arn, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
        self.cannot(self.welcome(key), "AccessDeniedException", native.SEND, native.member(1, url),
                    native.member(2, "x"))
        key = make_key(allow("sqs:*", arn, Condition={"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}))
        send = native.SEND, native.member(1, url), native.member(2, "x")
        self.cannot(self.welcome(key), "AccessDeniedException", *send)
        self.can(self.welcome(key, region="eu-west-1"), *send)

    def test_nobody(self):
        """Without a key: as a request that is not signed."""
        url, arn = make_queue()
        client = native.Client(self.port)
        self.addCleanup(client.close)
        send = native.SEND, native.member(1, url), native.member(2, "x")
        self.cannot(client, "AccessDeniedException", *send)
        self.cannot(client, "MissingAuthenticationTokenException", native.LIST_QUEUES)
        set_policy(url, allow("sqs:SendMessage", arn, Principal="*"))
        self.can(client, *send)
        self.cannot(client, "AccessDeniedException", native.RECEIVE, native.member(1, url))


class Regions(unittest.TestCase):
    """With queues of its own in each region a connection is at home in that of its proof, and so are
    the shards of the queues that it names."""

    def test_names_are_of_the_region_that_was_proven(self):
        broker = harness.Broker(worker=False, broker_arguments=[
            "--auth", "required", "--root-access-key-id", ROOT.id, "--root-secret-access-key",
            ROOT.secret, "--regions", "separate", "--shards", "4"])
        self.addCleanup(broker.stop)
        before = signing.use(broker)
        self.addCleanup(signing.use, before)
        harness.wait_for(lambda: json_call("ListQueues", {}).status == 200, 10, "the root key")
        client = Client(broker.ports[1], ROOT, region="eu-west-1")
        self.addCleanup(client.close)
        for shard in (1, 2, 3, 4):
            name = place.name_in(shard, 4, region="eu-west-1")
            answer = json_call("CreateQueue", {"QueueName": name}, region="eu-west-1")
            self.assertEqual(answer.status, 200, answer.body)
            _, error = client.call(native.SEND, native.member(1, name), native.member(2, name))
            self.assertIsNone(error)
            answer = json_call("ReceiveMessage", {"QueueUrl": name}, region="eu-west-1")
            self.assertEqual([m["Body"] for m in answer.json()["Messages"]], [name])


class NotRequired(unittest.TestCase):
    def test_a_key_is_not_asked_for(self):
        broker = harness.Broker(worker=False)
        self.addCleanup(broker.stop)
        client = Client(broker.ports[1], Key("anybody", "anything"))
        self.addCleanup(client.close)
        self.assertEqual(client.first[0], native.TYPE_WELCOME)
        self.assertIsNone(client.call(native.LIST_QUEUES)[1])


def millrace(*arguments, **environment):
    folder = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run([folder / "millrace", *arguments], env={**kept, **environment},
                          capture_output=True, text=True, timeout=120)


class Bench(Case):
    """libmillrace's channel, through `millrace bench`."""

    def bench(self, *arguments, protocol="native", **environment):
        return millrace("bench", "--protocol", protocol, "--mode", "cycle", "--messages", "500", "--json",
                        "--brokers", f"127.0.0.1:{self.port}", "--endpoint", self.broker.endpoint,
                        *arguments, **environment)

    def sound(self, ended):
        self.assertEqual(ended.returncode, 0, ended.stderr)
        result = json.loads(ended.stdout)
        self.assertEqual((result["errors"], result["lost"], result["messages"]), (0, 0, 500))

    def test_with_a_key(self):
        for protocol in ("native", "http"):
            with self.subTest(protocol):
                self.sound(self.bench(protocol=protocol, AWS_ACCESS_KEY_ID=ROOT.id,
                                      AWS_SECRET_ACCESS_KEY=ROOT.secret))
                self.sound(self.bench("--access-key-id", ROOT.id, "--secret-access-key", ROOT.secret,
                                      protocol=protocol))

    def test_without_or_with_another(self):
        for protocol, said in (("native", "InvalidSignatureException"), ("http", "")):
            ended = self.bench(protocol=protocol, AWS_ACCESS_KEY_ID=ROOT.id, AWS_SECRET_ACCESS_KEY="wrong-secret")
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(said, ended.stderr)
            self.assertNotEqual(self.bench(protocol=protocol).returncode, 0)
        ended = self.bench(AWS_ACCESS_KEY_ID=ROOT.id)
        self.assertEqual(ended.returncode, 64)
        self.assertIn("the secret is missing", ended.stderr)


class OverTls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="millrace-test-")
        cls.tls = pathlib.Path(cls.folder.name) / "tls"
        for name in ("tls", "other"):
            made = millrace("tls", "init", "--dir", cls.folder.name + "/" + name, "--hosts", "127.0.0.1")
            assert made.returncode == 0, made.stderr
        cls.broker = harness.Broker(worker=False, broker_arguments=[
            "--tls-dir", str(cls.tls / "127.0.0.1"), "--auth", "required", "--root-access-key-id", ROOT.id,
            "--root-secret-access-key", ROOT.secret])

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()
        cls.folder.cleanup()

    def bench(self, folder, **more):
        more = more or {"AWS_ACCESS_KEY_ID": ROOT.id, "AWS_SECRET_ACCESS_KEY": ROOT.secret}
        tls = ["--tls-dir", str(folder)] if folder else []
        return millrace("bench", "--mode", "cycle", "--messages", "200", "--json", "--brokers",
                        f"127.0.0.1:{self.broker.ports[1]}", *tls, **more)

    def test_a_client_with_a_certificate_and_a_key(self):
        for role in ("client", "worker"):
            ended = self.bench(self.tls / role)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual(json.loads(ended.stdout)["messages"], 200)

    def test_others(self):
        self.assertIn("InvalidSignatureException", self.bench(
            self.tls / "client", AWS_ACCESS_KEY_ID=ROOT.id, AWS_SECRET_ACCESS_KEY="another").stderr)
        other = pathlib.Path(self.folder.name) / "other/client"
        for folder in (None, other, self.tls / "127.0.0.1", "/nonexistent"):
            ended = self.bench(folder)
            self.assertEqual(ended.returncode, 1, folder)
            self.assertIn("cannot use", ended.stderr)

    def test_a_clients_certificate_is_not_a_workers(self):
        for role in ("client", "worker"):
            client = native.Client.__new__(native.Client)
            plain = native.socket.create_connection(("127.0.0.1", self.broker.ports[1]), timeout=20)
            context = ssl.create_default_context(cafile=self.tls / role / "ca.pem")
            context.load_cert_chain(self.tls / role / "cert.pem", self.tls / role / "key.pem")
            client.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
            client.stream = client.socket.makefile("rb")
            self.addCleanup(client.close)
            greeting = b"\x08\x01" + field(2, "00000000-0000-4000-8000-000000000001") + b"\x30\x01"
            client.socket.sendall(native.frame(native.TYPE_HELLO, greeting))
            kind, payload = client.read()
            refused = kind == native.TYPE_REFUSED and b"certificate" in payload
            self.assertEqual(refused, role == "client", payload)


if __name__ == "__main__":
    unittest.main()
