#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Lambda API byte by byte: functions, errors, invocations without a worker, bad input."""
import base64
import io
import json
import pathlib
import socket
import sys
import unittest
import urllib.parse
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402
from harness import ROLE, function_arn, unique, zip_base64  # noqa: E402

FUNCTIONS = "/2015-03-31/functions"
CODE = {"app.py": "def handler(event, context):\n    return event\n"}


class WireTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.own = harness.Broker(worker=False)
        cls.base = cls.own.endpoint

    @classmethod
    def tearDownClass(cls):
        cls.own.stop()

    def call(self, method, path, body=None, headers=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        return harness.request(self.base, method, path, body, headers)

    def create(self, name=None, status=201, **changes):
        body = {"FunctionName": name or unique("f"), "Runtime": "python3.11", "Role": ROLE,
                "Handler": "app.handler", "Code": {"ZipFile": zip_base64(CODE)}}
        body.update(changes)
        body = {k: v for k, v in body.items() if v is not None}
        answer = self.call("POST", FUNCTIONS, body)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def assert_error(self, answer, status, code, text=""):
        self.assertEqual((answer.status, answer.headers.get("x-amzn-errortype")), (status, code),
                         answer.body)
        body = answer.json()
        self.assertEqual(body["Type"], "Server" if status >= 500 and status != 501 else "User")
        self.assertIn(text, body.get("message", body.get("Message")))
        self.assertIn("x-amzn-requestid", answer.headers)


class Functions(WireTest):
    def test_create_shows_pending_and_get_shows_active(self):
        name = unique("f")
        created = self.create(name, Description="d", Tags={"a": "1"}, Timeout=7, MemorySize=256,
                              Environment={"Variables": {"KEY": "wert-ü"}},
                              TracingConfig={"Mode": "Active"}).json()
        self.assertEqual(created["FunctionArn"], function_arn(name))
        self.assertEqual((created["State"], created["StateReasonCode"]), ("Pending", "Creating"))
        self.assertEqual(created["CodeSha256"],
                         harness.sha256_base64(base64.b64decode(zip_base64(CODE))))
        self.assertRegex(created["LastModified"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        got = self.call("GET", f"{FUNCTIONS}/{name}").json()
        shown = got["Configuration"]
        self.assertEqual((shown["State"], shown["LastUpdateStatus"]), ("Active", "Successful"))
        for key in ("RevisionId", "CodeSha256", "CodeSize", "Timeout", "MemorySize", "Environment",
                    "TracingConfig", "Role", "Handler", "Runtime", "Architectures"):
            self.assertEqual(shown[key], created[key], key)
        self.assertEqual(shown["Timeout"], 7)
        self.assertEqual(shown["Environment"], {"Variables": {"KEY": "wert-ü"}})
        self.assertEqual(got["Tags"], {"a": "1"})
        self.assertEqual(got["Code"]["RepositoryType"], "S3")
        url = urllib.parse.urlsplit(got["Code"]["Location"])
        package = self.call("GET", url.path)
        self.assertEqual(package.status, 200)
        self.assertEqual(package.body, base64.b64decode(zip_base64(CODE)))

    def test_names_in_every_form(self):
        name = unique("f")
        self.create(function_arn(name))
        for form in (name, function_arn(name), f"000000000000:function:{name}"):
            path = f"{FUNCTIONS}/{urllib.parse.quote(form, safe='')}/configuration"
            self.assertEqual(self.call("GET", path).json()["FunctionArn"], function_arn(name))
        for path in (f"{FUNCTIONS}/{name}%3A%24LATEST/configuration",
                     f"{FUNCTIONS}/{name}/configuration?Qualifier=%24LATEST"):
            self.assertEqual(self.call("GET", path).json()["FunctionArn"],
                             function_arn(name) + ":$LATEST")
        self.assert_error(self.call("GET", f"{FUNCTIONS}/{name}?Qualifier=7"), 404,
                          "ResourceNotFoundException", f"{function_arn(name)}:7")

    def test_create_twice_conflicts(self):
        name = unique("f")
        self.create(name)
        self.assert_error(self.create(name, status=409), 409, "ResourceConflictException",
                          f"Function already exist: {name}")

    def test_missing_function(self):
        arn = function_arn("nope")
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/configuration"),
                             ("POST", "/invocations"), ("GET", "/code/zip")):
            self.assert_error(self.call(method, f"{FUNCTIONS}/nope{path}"), 404,
                              "ResourceNotFoundException", f"Function not found: {arn}")
        self.assert_error(self.call("PUT", f"{FUNCTIONS}/nope/configuration", {}), 404,
                          "ResourceNotFoundException")
        self.assert_error(self.call("PUT", f"{FUNCTIONS}/nope/code",
                                    {"ZipFile": zip_base64(CODE)}), 404,
                          "ResourceNotFoundException")

    def test_updates_and_revisions(self):
        name = unique("f")
        first = self.create(name, Description="one").json()
        path = f"{FUNCTIONS}/{name}"
        second = self.call("PUT", path + "/configuration", {"Timeout": 9})
        self.assertEqual(second.status, 200, second.body)
        second = second.json()
        self.assertEqual((second["LastUpdateStatus"], second["Timeout"], second["Description"]),
                         ("InProgress", 9, "one"))
        self.assertNotEqual(second["RevisionId"], first["RevisionId"])
        self.assert_error(self.call("PUT", path + "/configuration",
                                    {"Timeout": 10, "RevisionId": first["RevisionId"]}),
                          412, "PreconditionFailedException", "Revision Id provided")
        other = zip_base64({"app.py": "x = 1\n"})
        dry = self.call("PUT", path + "/code", {"ZipFile": other, "DryRun": True}).json()
        self.assertNotEqual(dry["CodeSha256"], first["CodeSha256"])
        shown = self.call("GET", path + "/configuration").json()
        self.assertEqual((shown["CodeSha256"], shown["Timeout"]), (first["CodeSha256"], 9))
        third = self.call("PUT", path + "/code",
                          {"ZipFile": other, "RevisionId": second["RevisionId"]}).json()
        self.assertEqual(third["CodeSha256"], dry["CodeSha256"])
        self.assertEqual(self.call("GET", path + "/code/zip").body, base64.b64decode(other))

    def test_delete(self):
        name = unique("f")
        self.create(name)
        path = f"{FUNCTIONS}/{name}"
        self.assert_error(self.call("DELETE", path + "?Qualifier=%24LATEST"), 400,
                          "InvalidParameterValueException", "$LATEST version cannot be deleted")
        answer = self.call("DELETE", path)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(self.call("GET", path).status, 404)
        self.create(name)

    def test_list_pages(self):
        names = sorted(unique("page") for _ in range(5))
        for name in names:
            self.create(name)
        seen, marker = [], ""
        while True:
            page = self.call("GET", f"{FUNCTIONS}/?MaxItems=2&Marker={marker}").json()
            self.assertLessEqual(len(page["Functions"]), 2)
            seen += [f["FunctionName"] for f in page["Functions"]]
            if "NextMarker" not in page:
                break
            marker = urllib.parse.quote(page["NextMarker"])
        self.assertEqual([n for n in seen if n in names], names)
        self.assertEqual(len(seen), len(set(seen)))
        self.assert_error(self.call("GET", f"{FUNCTIONS}?MaxItems=0"), 400, "ValidationException")
        self.assert_error(self.call("GET", f"{FUNCTIONS}?MaxItems=x"), 400,
                          "SerializationException")

    def test_code_larger_than_a_piece(self):
        import random
        noise = random.Random(1).randbytes(1_800_000)
        zipped = zip_base64({"app.py": CODE["app.py"], "noise.bin": noise})
        name = unique("big")
        created = self.create(name, Code={"ZipFile": zipped}).json()
        self.assertEqual(created["CodeSize"], len(base64.b64decode(zipped)))
        self.assertEqual(self.call("GET", f"{FUNCTIONS}/{name}/code/zip").body,
                         base64.b64decode(zipped))
        twin = self.create(Code={"ZipFile": zipped}).json()
        self.assertEqual(twin["CodeSha256"], created["CodeSha256"])

    def test_survives_a_restart(self):
        name = unique("kept")
        created = self.create(name, Tags={"k": "v"}).json()
        self.own.broker.stop(9)
        self.own.start_broker()
        got = self.call("GET", f"{FUNCTIONS}/{name}").json()
        self.assertEqual(got["Configuration"]["RevisionId"], created["RevisionId"])
        self.assertEqual(got["Tags"], {"k": "v"})
        self.assertEqual(self.call("GET", f"{FUNCTIONS}/{name}/code/zip").body,
                         base64.b64decode(zip_base64(CODE)))

    def test_tags(self):
        name = unique("f")
        self.create(name, Tags={"a": "1"})
        path = "/2017-03-31/tags/" + urllib.parse.quote(function_arn(name), safe="")
        self.assertEqual(self.call("POST", path, {"Tags": {"b": "2", "a": "3"}}).status, 204)
        self.assertEqual(self.call("GET", path).json(), {"Tags": {"a": "3", "b": "2"}})
        self.assertEqual(self.call("DELETE", path + "?tagKeys=a&tagKeys=c").status, 204)
        self.assertEqual(self.call("GET", path).json(), {"Tags": {"b": "2"}})
        self.assert_error(self.call("DELETE", path), 400, "ValidationException", "'tagKeys'")
        many = {f"k{i}": "v" for i in range(51)}
        self.assert_error(self.call("POST", path, {"Tags": many}), 400,
                          "InvalidParameterValueException", "Number of tags exceeds")

    def test_account_settings(self):
        self.create()
        answer = self.call("GET", "/2016-08-19/account-settings/").json()
        self.assertEqual(answer["AccountLimit"]["CodeSizeZipped"], 52428800)
        self.assertGreaterEqual(answer["AccountUsage"]["FunctionCount"], 1)


class Refusals(WireTest):
    def test_settings(self):
        cases = [
            ({"FunctionName": None}, "ValidationException", "Value null at 'functionName'"),
            ({"FunctionName": "a b"}, "ValidationException", "Value 'a b' at 'functionName'"),
            ({"FunctionName": "x" * 65}, "ValidationException", "less than or equal to 64"),
            ({"Role": None}, "ValidationException", "Value null at 'role'"),
            ({"Role": "me"}, "ValidationException", "Value 'me' at 'role'"),
            ({"Runtime": "python2.7"}, "InvalidParameterValueException",
             "Value python2.7 at 'runtime' failed to satisfy constraint"),
            ({"Handler": None}, "InvalidParameterValueException",
             "Runtime and Handler are mandatory"),
            ({"Timeout": 901, "MemorySize": 1}, "ValidationException",
             "2 validation errors detected"),
            ({"Timeout": "3"}, "SerializationException", "can not be converted"),
            ({"Code": None}, "ValidationException", "Value null at 'code'"),
            ({"Code": {}}, "InvalidParameterValueException", "Please provide a source"),
            ({"Code": {"ZipFile": "%%%"}}, "SerializationException", "base64"),
            ({"Code": {"ZipFile": base64.b64encode(b"no zip").decode()}},
             "InvalidParameterValueException", "Could not unzip uploaded file."),
            ({"Code": {"S3Bucket": "b", "S3Key": "k"}}, "InvalidParameterValueException", "S3"),
            ({"PackageType": "Image"}, "InvalidParameterValueException", "PackageType"),
            ({"Environment": {"Variables": {"AWS_REGION": "x"}}},
             "InvalidParameterValueException", "AWS_REGION"),
            ({"Environment": {"Variables": {"BIG": "x" * 5000}}},
             "InvalidParameterValueException", "exceeded the 4KB limit"),
            ({"Layers": ["arn"]}, "InvalidParameterValueException", "Layers"),
        ]
        for changes, code, text in cases:
            with self.subTest(changes=str(changes)[:60]):
                name = changes.get("FunctionName", unique("bad"))
                changes = {k: v for k, v in changes.items() if k != "FunctionName"}
                body = {"FunctionName": name, "Runtime": "python3.11", "Role": ROLE,
                        "Handler": "app.handler", "Code": {"ZipFile": zip_base64(CODE)}}
                body.update(changes)
                body = {k: v for k, v in body.items() if v is not None}
                self.assert_error(self.call("POST", FUNCTIONS, body), 400, code, text)
        names = [f["FunctionName"] for f in self.call("GET", FUNCTIONS).json()["Functions"]]
        self.assertFalse([n for n in names if n.startswith("bad")])

    def hostile_zip(self, name, mode=0o100644, content=b"x"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.create_system = 3
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
        return base64.b64encode(out.getvalue()).decode()

    def test_hostile_zips(self):
        bomb = self.hostile_zip("zeros", content=bytes(263_000_000))
        cases = [
            (self.hostile_zip("../escape.py"), "Could not unzip"),
            (self.hostile_zip("/etc/passwd"), "Could not unzip"),
            (self.hostile_zip("a/../../b"), "Could not unzip"),
            (self.hostile_zip("link", 0o120777, b"/etc/passwd"), "Could not unzip"),
            (bomb, "Unzipped size must be smaller than 262144000 bytes"),
            (base64.b64encode(harness.zip_of(CODE)[:-30]).decode(), "Could not unzip"),
        ]
        for zipped, text in cases:
            with self.subTest(text=text):
                answer = self.call("POST", FUNCTIONS, {
                    "FunctionName": unique("bad"), "Runtime": "python3.11", "Role": ROLE,
                    "Handler": "app.handler", "Code": {"ZipFile": zipped}})
                self.assertEqual(answer.status, 400, answer.body)
                self.assertIn(text, answer.json()["message"])

    def test_bodies_that_are_no_json(self):
        for body in ("{", "", "[]", "\x00", '{"FunctionName": "\\ud800"}', "7", "{'a':1}"):
            answer = self.call("POST", FUNCTIONS, body)
            self.assertEqual(answer.status, 400, body)
            self.assertIn(answer.headers["x-amzn-errortype"],
                          ("InvalidRequestContentException", "SerializationException",
                           "ValidationException"))
        deep = '{"a":' + "[" * 100000 + "]" * 100000 + "}"
        self.assert_error(self.call("POST", FUNCTIONS, deep), 400,
                          "InvalidRequestContentException")

    def test_paths(self):
        self.assert_error(self.call("GET", "/2015-03-31/nothing"), 404,
                          "UnknownOperationException", "/2015-03-31/nothing")
        answer = self.call("PATCH", f"{FUNCTIONS}/f")
        self.assert_error(answer, 405, "UnknownOperationException", "PATCH")
        self.assertIn("allow", answer.headers)
        self.assert_error(self.call("POST", f"{FUNCTIONS}/f/versions"), 501,
                          "NotImplementedException", "PublishVersion")
        self.assert_error(self.call("GET", f"{FUNCTIONS}/%zz"), 400, "SerializationException")
        self.assert_error(self.call("GET", f"{FUNCTIONS}/%ff%fe"), 400, "ValidationException")

    def test_large_bodies_are_cut_off(self):
        url = urllib.parse.urlsplit(self.base)
        cases = [("POST", FUNCTIONS, 70167212, "RequestEntityTooLargeException",
                  "Request must be smaller than 70167211 bytes for the CreateFunction operation"),
                 ("POST", f"{FUNCTIONS}/f/invocations", 6291557, "RequestTooLargeException",
                  "Request must be smaller than 6291556 bytes for the InvokeFunction operation"),
                 ("PUT", f"{FUNCTIONS}/f/configuration", 1 << 21, "RequestEntityTooLargeException",
                  "UpdateFunctionConfiguration")]
        for method, path, length, code, text in cases:
            with self.subTest(path=path), socket.create_connection((url.hostname, url.port)) as s:
                s.settimeout(20)
                s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
                          "\r\n".encode())
                data = b""
                while True:
                    try:
                        piece = s.recv(65536)
                    except ConnectionResetError:
                        break
                    if not piece:
                        break
                    data += piece
                self.assertIn(b" 413 ", data.split(b"\r\n")[0])
                self.assertIn(code.encode(), data)
                self.assertIn(text.encode(), data)


class Invocations(WireTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = unique("f")
        cls.create(cls(), cls.name)
        cls.path = f"{FUNCTIONS}/{cls.name}/invocations"

    def test_dry_run(self):
        answer = self.call("POST", self.path, "{}", {"X-Amz-Invocation-Type": "DryRun"})
        self.assertEqual((answer.status, answer.body), (204, b""))

    def test_event_is_accepted_without_a_worker(self):
        answer = self.call("POST", self.path, '{"a":1}', {"X-Amz-Invocation-Type": "Event"})
        self.assertEqual((answer.status, answer.body), (202, b""))

    def test_without_a_worker_it_says_so(self):
        answer = self.call("POST", self.path, "{}")
        self.assert_error(answer, 503, "ServiceException", "worker")

    def test_bad_requests(self):
        for payload in ("{", "x", "{'a':1}", b"\xff", b'"\xff"', "{} {}"):
            for kind in ("RequestResponse", "Event", "DryRun"):
                self.assert_error(
                    self.call("POST", self.path, payload, {"X-Amz-Invocation-Type": kind}), 400,
                    "InvalidRequestContentException", "Could not parse request body into json")
        self.assert_error(self.call("POST", self.path, "{}", {"X-Amz-Invocation-Type": "Now"}),
                          400, "ValidationException", "[RequestResponse, Event, DryRun]")
        self.assert_error(self.call("POST", self.path, "{}", {"X-Amz-Log-Type": "All"}), 400,
                          "ValidationException", "'logType'")
        for context in ("!!", base64.b64encode(b"[1]").decode()):
            self.assert_error(self.call("POST", self.path, "{}", {"X-Amz-Client-Context": context}),
                              400, "InvalidRequestContentException", "Client context")
        self.assert_error(self.call("POST", self.path, "[" + "1," * 600000 + "1]",
                                    {"X-Amz-Invocation-Type": "Event"}), 413,
                          "RequestTooLargeException", "1048576")

    def test_a_client_that_leaves_harms_nobody(self):
        url = urllib.parse.urlsplit(self.base)
        for _ in range(20):
            with socket.create_connection((url.hostname, url.port)) as s:
                body = json.dumps({"ZipFile": zip_base64({"n": "x" * 100000})})
                s.sendall((f"PUT {FUNCTIONS}/{self.name}/code HTTP/1.1\r\nHost: x\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        self.assertEqual(self.call("GET", f"{FUNCTIONS}/{self.name}").status, 200)


if __name__ == "__main__":
    unittest.main()
