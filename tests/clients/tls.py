#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS with the programs that people use: certificates of `millrace tls init`, boto3, aws and curl that
trust its authority or do not, workers that are let in by their role or are not, and a certificate that
is renewed while requests go on."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
import time
import unittest

import harness

BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"))
folder = None


def setUpModule():
    global folder
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-tls-"))
    tls_init("ours", "node+127.0.0.1+localhost")
    tls_init("theirs", "node+127.0.0.1+localhost")


def tearDownModule():
    shutil.rmtree(folder)


def millrace(*arguments, **environment):
    return subprocess.run([BIN / "millrace", *arguments], capture_output=True, text=True, check=False,
                          env=dict(harness.client_environment(), **environment), timeout=60)


def tls_init(name, hosts, *more):
    done = millrace("tls", "init", "--dir", str(folder / name), "--hosts", hosts, "--json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def file(name):
    return str(folder / name)


def trusting(ca="ours/ca.pem", client=None):
    context = ssl.create_default_context(cafile=file(ca))
    if client:
        context.load_cert_chain(file(client + "/cert.pem"), file(client + "/key.pem"))
    return context


def https_options(node="ours/node"):
    return ["--tls-cert", file(node + "/cert.pem"), "--tls-key", file(node + "/key.pem")]


def boto(endpoint, verify, cert=None):
    import boto3
    from botocore.config import Config
    return boto3.client("sqs", endpoint_url=endpoint, region_name=harness.REGION, verify=verify,
                        aws_access_key_id="test", aws_secret_access_key="test",
                        config=Config(retries={"max_attempts": 0}, proxies={}, client_cert=cert))


def curl(endpoint, *arguments):
    return subprocess.run(["curl", "-sS", "-m", "20", *arguments, endpoint + "/health/ready"],
                          capture_output=True, text=True, check=False)


class Init(unittest.TestCase):
    def test_files_and_modes(self):
        made = {str(p.relative_to(folder / "ours")): stat.S_IMODE(p.stat().st_mode)
                for p in (folder / "ours").rglob("*")}
        expected = {"ca.pem": 0o644, "ca-key.pem": 0o600}
        for name in ("node", "worker", "client"):
            expected.update({name: 0o700, f"{name}/ca.pem": 0o644, f"{name}/cert.pem": 0o644,
                             f"{name}/key.pem": 0o600})
        self.assertEqual(made, expected)

    def test_again_adds_and_keeps(self):
        first = tls_init("again", "a,b")
        before = {p: p.read_bytes() for p in (folder / "again").rglob("*.pem")}
        second = tls_init("again", "b,c+10.0.0.3")
        made = {c["certificate"].split("/")[-2]: c["made"] for c in second["certificates"]}
        self.assertEqual(made, {"b": False, "c": True, "worker": False, "client": False})
        self.assertEqual({p: p.read_bytes() for p in before}, before)
        self.assertEqual(len(first["certificates"]), 4)
        tls_init("again", "a,b,c", "--renew")
        for path, content in before.items():
            same = path.name.startswith("ca")
            self.assertEqual(path.read_bytes() == content, same, path)

    def test_misuse_changes_nothing(self):
        for hosts in ("", "worker", "../x", ".", "a/b", "a b", "a,b c", "a,client", "+"):
            done = millrace("tls", "init", "--dir", file("misuse"), "--hosts", hosts)
            self.assertIn(done.returncode, (1, 64), hosts)
            self.assertTrue(done.stderr.startswith("millrace: "), done.stderr)
            self.assertFalse((folder / "misuse" / "x").exists())
        self.assertFalse((folder / "x").exists())

    def test_half_an_authority(self):
        tls_init("half", "a")
        (folder / "half/ca-key.pem").unlink()
        done = millrace("tls", "init", "--dir", file("half"), "--hosts", "a")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ca.pem is there without", done.stderr)


class Https(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(worker=False, broker_arguments=https_options(), tls=trusting())
        cls.addClassCleanup(cls.broker.stop)
        cls.endpoint = cls.broker.endpoint

    def test_boto3(self):
        sqs = boto(self.endpoint, file("ours/ca.pem"))
        url = sqs.create_queue(QueueName=harness.unique("q"))["QueueUrl"]
        self.assertTrue(url.startswith(self.endpoint + "/"), url)
        body = "x" * 200000  # many records
        sqs.send_message(QueueUrl=url, MessageBody=body)
        (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
        self.assertEqual(message["Body"], body)

    def test_boto3_that_does_not_trust(self):
        from botocore.exceptions import SSLError
        for verify in (True, file("theirs/ca.pem")):
            with self.assertRaises(SSLError):
                boto(self.endpoint, verify).list_queues()

    def test_aws_cli(self):
        run = [shutil.which("aws"), "--endpoint-url", self.endpoint, "sqs", "list-queues"]
        trusted = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60, env=dict(
            harness.client_environment(), AWS_CA_BUNDLE=file("ours/ca.pem")))
        self.assertEqual(trusted.returncode, 0, trusted.stderr)

    def test_curl(self):
        self.assertEqual(curl(self.endpoint, "--cacert", file("ours/ca.pem")).returncode, 0)
        old = curl(self.endpoint, "--cacert", file("ours/ca.pem"), "--tlsv1.2", "--tls-max", "1.2")
        self.assertEqual(old.returncode, 0, old.stderr)
        too_old = curl(self.endpoint, "--cacert", file("ours/ca.pem"), "--tls-max", "1.1",
                       "--ciphers", "DEFAULT:@SECLEVEL=0")
        self.assertEqual(too_old.returncode, 35, too_old.stderr)
        self.assertEqual(curl(self.endpoint, "--cacert", file("theirs/ca.pem")).returncode, 60)
        other_name = self.endpoint.replace("127.0.0.1", "127.0.0.2")
        reply = curl(other_name, "--cacert", file("ours/ca.pem"), "--connect-to",
                     f"127.0.0.2:{self.broker.ports[0]}:127.0.0.1:{self.broker.ports[0]}")
        self.assertEqual(reply.returncode, 60)

    def test_http_is_told_so(self):
        plain = self.endpoint.replace("https:", "http:")
        response = harness.request(plain, "GET", "/")
        self.assertEqual((response.status, response.body), (400, b"This port speaks HTTPS only.\n"))

    def test_command_line(self):
        run = ("--endpoint", self.endpoint, "queue", "list")
        self.assertEqual(millrace("--ca-file", file("ours/ca.pem"), *run).returncode, 0)
        self.assertEqual(millrace(*run, "--tls-dir", file("ours/client")).returncode, 0)
        self.assertEqual(millrace(*run, AWS_CA_BUNDLE=file("ours/ca.pem")).returncode, 0)
        for wrong in (millrace(*run), millrace(*run, "--ca-file", file("theirs/ca.pem"))):
            self.assertEqual(wrong.returncode, 1)
            self.assertIn("certificate", wrong.stderr)

    def test_what_is_measured(self):
        text = harness.request(self.endpoint, "GET", "/metrics", tls=trusting()).body.decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        expires = float(values['millrace_tls_certificate_expiry_timestamp_seconds{port="http"}'])
        self.assertLess(abs(expires - time.time() - 825 * 86400), 7200)
        self.assertGreater(float(values['millrace_tls_handshakes_total{port="http"}']), 0)


class ClientCertificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(
            worker=False, tls=trusting(client="ours/client"),
            broker_arguments=[*https_options(), "--tls-client-ca", file("ours/ca.pem")])
        cls.addClassCleanup(cls.broker.stop)

    def test_who_is_let_in(self):
        ca = ["--cacert", file("ours/ca.pem")]
        for name, good in (("ours", True), ("theirs", False)):
            pair = ["--cert", file(name + "/client/cert.pem"), "--key", file(name + "/client/key.pem")]
            self.assertEqual(curl(self.broker.endpoint, *ca, *pair).returncode == 0, good, name)
        self.assertNotEqual(curl(self.broker.endpoint, *ca).returncode, 0)

    def test_boto3(self):
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
        pair = (file("ours/client/cert.pem"), file("ours/client/key.pem"))
        boto(self.broker.endpoint, file("ours/ca.pem"), pair).list_queues()
        with self.assertRaises((HTTPClientError, ConnectionError, ClientError)):
            boto(self.broker.endpoint, file("ours/ca.pem")).list_queues()

    def test_command_line(self):
        run = ("queue", "list", "--endpoint", self.broker.endpoint)
        self.assertEqual(millrace(*run, "--tls-dir", file("ours/client")).returncode, 0)
        self.assertEqual(millrace(*run, "--ca-file", file("ours/ca.pem")).returncode, 1)


CALLER = """
import os, boto3
def handler(event, context):
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=event["queue"])["QueueUrl"]
    return [url, sqs.send_message(QueueUrl=url, MessageBody="from a function")["MessageId"]]
"""


class Functions(unittest.TestCase):
    """TLS on both ports, and a function that calls back by https."""

    def test_a_function_sends_a_message(self):
        from botocore.config import Config
        import boto3
        broker = harness.Broker(
            broker_arguments=[*https_options(), "--tls-dir", file("ours/node")],
            worker_arguments=["--tls-dir", file("ours/worker")], tls=trusting())
        self.addCleanup(broker.stop)
        functions = boto3.client("lambda", endpoint_url=broker.endpoint, region_name=harness.REGION,
                                 verify=file("ours/ca.pem"), aws_access_key_id="test",
                                 aws_secret_access_key="test", config=Config(proxies={}))
        boto(broker.endpoint, file("ours/ca.pem")).create_queue(QueueName="q")
        functions.create_function(
            FunctionName="caller", Runtime="python3.11", Handler="app.handler", Role=harness.ROLE,
            Timeout=30, Environment={"Variables": {"AWS_CA_BUNDLE": "ca.pem"}},
            Code={"ZipFile": harness.zip_of({
                "app.py": CALLER, "ca.pem": pathlib.Path(file("ours/ca.pem")).read_text()})})
        harness.wait_for(lambda: functions.get_function(FunctionName="caller")["Configuration"]["State"]
                         == "Active", 20)
        answer = functions.invoke(FunctionName="caller", Payload=b'{"queue": "q"}')
        payload = json.loads(answer["Payload"].read())
        self.assertNotIn("FunctionError", answer, payload)
        self.assertTrue(payload[0].startswith(broker.endpoint), payload)


class Workers(unittest.TestCase):
    """The port for workers, with certificates of both ends."""

    @classmethod
    def setUpClass(cls):
        cls.broker = harness.Broker(broker_arguments=["--tls-dir", file("ours/node")],
                                    worker_arguments=["--tls-dir", file("ours/worker")])
        cls.addClassCleanup(cls.broker.stop)

    def test_a_function_runs(self):
        functions = harness.boto("lambda", self.broker.endpoint)
        name = harness.unique("f")
        functions.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=harness.ROLE,
            Code={"ZipFile": harness.zip_of({"app.py": "def handler(e, c):\n    return e['a'] + 1\n"})})
        harness.wait_for(lambda: functions.get_function(FunctionName=name)["Configuration"]["State"]
                         == "Active", 20)
        answer = functions.invoke(FunctionName=name, Payload=b'{"a": 41}')
        self.assertEqual(json.loads(answer["Payload"].read()), 42)

    def refused(self, *arguments):
        """Start another worker, and see that it does not come in."""
        with tempfile.TemporaryDirectory(prefix="millrace-test-") as data:
            os.chmod(data, 0o711)
            worker = harness.Program("millrace-worker", [
                "--brokers", f"127.0.0.1:{self.broker.ports[1]}", "--data-dir", data + "/worker",
                *arguments], data)
            try:
                harness.wait_for(lambda: worker.tail().count("link_ended") >= 2, 20, worker.tail)
                self.assertNotIn("event=session", worker.tail())
            finally:
                worker.stop()
            self.assertEqual(len(harness.status(self.broker.endpoint)["workers"]), 1)
            return worker.log_path.read_text()

    def test_who_is_not_let_in(self):
        self.refused()  # without TLS
        self.assertIn("its certificate is not a worker's", self.refused("--tls-dir", file("ours/client")))
        self.assertIn("bad certificate", self.refused("--tls-dir", file("ours/node")))
        self.assertIn("local issuer", self.refused("--tls-dir", file("theirs/worker")))

    def test_nothing_in_the_clear(self):
        with socket.create_connection(("127.0.0.1", self.broker.ports[1]), 10) as connection:
            connection.sendall(bytes(64))
            connection.settimeout(10)
            answer = connection.recv(1000)
        self.assertTrue(answer == b"" or answer[0] == 21, answer)  # an alert

    def test_bad_files_are_said(self):
        for arguments, blamed in ((["--tls-dir", file("none")], "none/cert.pem"),
                                  (["--tls-cert", file("ours/ca.pem")], "belong together"),
                                  (["--tls-client-ca", file("ours/ca.pem")], "--tls-cert")):
            with tempfile.TemporaryDirectory() as data:
                done = subprocess.run([BIN / "millrace-broker", "--data-dir", data, *arguments],
                                      capture_output=True, text=True, check=False, timeout=20)
            self.assertIn(done.returncode, (64, 78))
            self.assertIn(blamed, done.stderr)


class Cluster(unittest.TestCase):
    """Three brokers that talk to each other by TLS; a fourth with a worker's certificate does not."""

    def broker(self, node, *tls):
        members = ",".join(f"{i + 1}=127.0.0.1:{port}" for i, port in enumerate(self.peer_ports))
        data = tempfile.mkdtemp(prefix="millrace-test-")
        self.addCleanup(shutil.rmtree, data, True)
        program = harness.Program("millrace-broker", [
            "--node-id", str(node), "--data-dir", data + "/data", "--cluster", members,
            "--peer", f"127.0.0.1:{self.peer_ports[node - 1]}",
            "--http", f"127.0.0.1:{self.http_ports[node - 1]}", "--rpc", "127.0.0.1:0", *tls], data)
        self.addCleanup(program.stop)
        return program

    def ready(self, node):
        try:
            return harness.request(f"http://127.0.0.1:{self.http_ports[node - 1]}", "GET",
                                   "/health/ready").status == 200
        except OSError:
            return False

    def test_who_may_be_a_broker(self):
        ports = harness.free_ports(6)
        self.peer_ports, self.http_ports = ports[:3], ports[3:]
        ours = ("--tls-dir", file("ours/node"))
        self.broker(1, *ours)
        impostor = self.broker(2, "--tls-dir", file("ours/worker"))
        harness.wait_for(lambda: "tls_failed" in impostor.tail(), 30, impostor.tail)
        self.assertFalse(self.ready(1) or self.ready(2))  # no majority of certificates
        impostor.stop()
        second = self.broker(2, *ours)
        harness.wait_for(lambda: self.ready(1) and self.ready(2), 60, second.tail)
        third = self.broker(3)  # in the clear
        harness.wait_for(lambda: "unreachable" in third.tail(), 60, third.tail)
        self.assertFalse(self.ready(3))
        third.stop()
        third = self.broker(3, *ours)
        harness.wait_for(lambda: self.ready(3), 60, third.tail)
        queues = [harness.boto("sqs", f"http://127.0.0.1:{port}") for port in self.http_ports]
        url = queues[1].create_queue(QueueName="q")["QueueUrl"]
        queues[1].send_message(QueueUrl=url, MessageBody="through three")
        (message,) = queues[2].receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
        self.assertEqual(message["Body"], "through three")


class Renewal(unittest.TestCase):
    """The certificate is renewed under load: every request is answered, connections stay open, and new
    ones get the new certificate."""

    def setUp(self):
        tls_init("live", "node+127.0.0.1", "--days", "10")
        self.broker = harness.Broker(worker=False, broker_arguments=https_options("live/node"),
                                     tls=trusting("live/ca.pem"))
        self.addCleanup(self.broker.stop)
        self.stop = threading.Event()
        self.counts, self.errors = [], []

    def load(self, fresh):
        """Requests one after another, on one connection or on a new one each."""
        context, count, connection = trusting("live/ca.pem"), 0, None
        try:
            while not self.stop.is_set():
                if connection is None:
                    connection = http.client.HTTPSConnection("127.0.0.1", self.broker.ports[0],
                                                             context=context, timeout=20)
                connection.request("GET", "/health/ready")
                assert connection.getresponse().read() == b'{"status":"ready"}\n'
                count += 1
                if fresh:
                    connection.close()
                    connection = None
        except Exception as error:  # noqa: BLE001: any is a failure
            self.errors.append(repr(error))
        self.counts.append(count)

    def serial(self):
        with socket.create_connection(("127.0.0.1", self.broker.ports[0]), 10) as raw:
            with trusting("live/ca.pem").wrap_socket(raw, server_hostname="127.0.0.1") as connection:
                return connection.getpeercert()["serialNumber"]

    def test_renewal_under_load(self):
        threads = [threading.Thread(target=self.load, args=(fresh,), daemon=True)
                   for fresh in (False, False, True)]
        before = self.serial()
        for thread in threads:
            thread.start()
        seen = [before]
        for _ in range(2):
            tls_init("live", "node+127.0.0.1", "--renew")
            harness.wait_for(lambda: self.serial() not in seen, 20, self.broker.broker.tail)
            seen.append(self.serial())
        # One that is broken is not taken.
        (folder / "live/node/key.pem").write_text("nothing")
        harness.wait_for(lambda: "reload_failed" in self.broker.broker.tail(), 20)
        self.assertEqual(self.serial(), seen[-1])
        self.stop.set()
        for thread in threads:
            thread.join(30)
        self.assertEqual(self.errors, [])
        self.assertGreater(min(self.counts), 10)


if __name__ == "__main__":
    unittest.main()
