# SPDX-License-Identifier: Apache-2.0
"""Signatures on the wire, in headers and in presigned queries: what is taken, and every way to get one
wrong. A refused request must have changed nothing."""
import hashlib
import json
import unittest
import urllib.parse

import signing
from signing import ROOT, Key, error_of, json_call, make_queue, query_call, sign

MISMATCH = ("The request signature we calculated does not match the signature you provided. Check your "
            "AWS Secret Access Key and signing method. Consult the service documentation for details.")


class Good(unittest.TestCase):
    def test_by_hand_in_both_protocols(self):
        url, _ = make_queue()
        self.assertEqual(json_call("SendMessage", {"QueueUrl": url, "MessageBody": "a"}).status, 200)
        self.assertEqual(query_call("SendMessage", {"QueueUrl": url, "MessageBody": "b+ c"}).status, 200)
        self.assertEqual(signing.visible(url), 2)

    def test_any_region(self):
        self.assertEqual(json_call("ListQueues", {}, region="eu-north-1").status, 200)
        self.assertEqual(json_call("ListQueues", {}, region="x" * 60).status, 200)

    def test_botocore_is_the_oracle(self):
        from botocore.auth import SigV4Auth, SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        url, _ = make_queue()
        base = signing.endpoint()
        credentials = Credentials(ROOT.id, ROOT.secret)
        body = json.dumps({"QueueUrl": url, "MessageBody": "snowman \u2603"}).encode()
        request = AWSRequest("POST", base + "/", data=body, headers={
            **signing.json_headers("SendMessage"), "X-Amz-Odd": "  a   b  "})
        SigV4Auth(credentials, "sqs", "us-east-1").add_auth(request)
        answer = signing.send("POST", "/", body, dict(request.headers))
        self.assertEqual(answer.status, 200, answer.body)
        path = urllib.parse.urlsplit(url).path
        query = "Action=SendMessage&MessageBody=a%20b%2Bc%26d&Version=2012-11-05"
        request = AWSRequest("GET", f"{base}{path}?{query}")
        SigV4QueryAuth(credentials, "sqs", "us-east-1", expires=30).add_auth(request)
        answer = signing.send("GET", request.url[len(base):])
        self.assertEqual(answer.status, 200, answer.body)
        for function in ("arn:aws:lambda:us-east-1:000000000000:function:none", "none"):
            quoted = urllib.parse.quote(function, safe="")
            request = AWSRequest("GET", f"{base}/2015-03-31/functions/{quoted}?Qualifier=%24LATEST")
            SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
            answer = signing.send("GET", request.url[len(base):], b"", dict(request.headers))
            self.assertEqual(error_of(answer)[:2], ("ResourceNotFoundException", 404))

    def test_replay_within_the_window_is_possible(self):
        """As at AWS: the algorithm has nothing against it. docs/security.md says so."""
        url, _ = make_queue()
        body = json.dumps({"QueueUrl": url, "MessageBody": "again"}).encode()
        headers = sign(ROOT, "POST", "/", body, signing.json_headers("SendMessage"))
        for _ in range(2):
            self.assertEqual(signing.send("POST", "/", body, headers).status, 200)
        self.assertEqual(signing.visible(url), 2)

    def test_no_key_for_health_and_metrics(self):
        signing.broker()
        for path in ("/health/live", "/health/ready", "/metrics", "/status"):
            self.assertEqual(signing.send("GET", path).status, 200)

    def test_sender_id_is_the_key(self):
        url, _ = make_queue()
        json_call("SendMessage", {"QueueUrl": url, "MessageBody": "a"})
        answer = json_call("ReceiveMessage", {"QueueUrl": url, "AttributeNames": ["SenderId"]})
        self.assertEqual(answer.json()["Messages"][0]["Attributes"]["SenderId"], ROOT.id)


class Bad(unittest.TestCase):
    def setUp(self):
        self.url, self.arn = make_queue()
        self.body = json.dumps({"QueueUrl": self.url, "MessageBody": "x"}).encode()

    def tearDown(self):
        self.assertEqual(signing.visible(self.url), 0)

    def refused(self, answer, code, status=403, message=None):
        self.assertEqual(error_of(answer)[:2], (code, status), answer.body)
        if message is not None:
            self.assertEqual(error_of(answer)[2], message)

    def signed(self, action="SendMessage", key=ROOT, headers=None, **how):
        return sign(key, "POST", "/", self.body, {**signing.json_headers(action), **(headers or {})},
                    **how)

    def post(self, headers, body=None, path="/"):
        return signing.send("POST", path, body or self.body, headers)

    def test_wrong_secret(self):
        wrong = Key(ROOT.id, ROOT.secret + "x")
        message = {"QueueUrl": self.url, "MessageBody": "x"}
        answer = json_call("SendMessage", message, wrong)
        self.refused(answer, "SignatureDoesNotMatch", 403, MISMATCH)
        self.assertEqual(answer.headers["x-amzn-query-error"], "SignatureDoesNotMatch;Sender")
        self.assertTrue(answer.json()["__type"].endswith("#InvalidSignatureException"))
        self.refused(query_call("SendMessage", message, wrong), "SignatureDoesNotMatch", 403, MISMATCH)
        answer = signing.rest_call("GET", "/2015-03-31/functions", key=wrong)
        self.refused(answer, "InvalidSignatureException", 403, MISMATCH)

    def test_unknown_key(self):
        text = "The security token included in the request is invalid."
        for key_id in ("NOSUCHKEY", "x" * 128, "...."):
            wrong = Key(key_id, ROOT.secret)
            message = {"QueueUrl": self.url, "MessageBody": "x"}
            answer = json_call("SendMessage", message, wrong)
            self.refused(answer, "InvalidClientTokenId", 403, text)
            self.assertTrue(answer.json()["__type"].endswith("#UnrecognizedClientException"))
            self.refused(query_call("SendMessage", message, wrong), "InvalidClientTokenId")
            self.refused(signing.rest_call("GET", "/2015-03-31/functions", key=wrong),
                         "UnrecognizedClientException")

    def test_not_signed(self):
        self.refused(self.post(signing.json_headers("SendMessage")), "AccessDenied", 403,
                     f"Access to the resource {self.arn} is denied.")
        self.refused(json_call("ListQueues", {}, None), "MissingAuthenticationToken", 403,
                     "Request is missing Authentication Token")
        self.refused(query_call("ListQueues", {}, None), "MissingAuthenticationToken")
        self.refused(signing.rest_call("GET", "/2015-03-31/functions", key=None),
                     "MissingAuthenticationTokenException")
        self.refused(signing.admin("GET", "", key=None), "MissingAuthenticationTokenException")
        # Nobody learns whether a queue is there.
        gone = self.url + "-gone"
        self.refused(json_call("ReceiveMessage", {"QueueUrl": gone}, None), "AccessDenied")

    def test_altered_body(self):
        other = self.body.replace(b'"x"', b'"y"')
        self.refused(self.post(self.signed(), other), "SignatureDoesNotMatch", 403, MISMATCH)

    def test_altered_parts(self):
        for name, value in {"X-Amz-Target": "AmazonSQS.DeleteQueue", "Host": "other.example",
                            "X-Amz-Date": signing.moment(-1)}.items():
            with self.subTest(name):
                self.refused(self.post({**self.signed(), name: value}), "SignatureDoesNotMatch")
        self.refused(self.post(self.signed(), path="/?a=b"), "SignatureDoesNotMatch")
        headers = self.signed()
        for wrong in ("f" * 64, headers["Authorization"][-64:-1] + "0"):
            altered = {**headers, "Authorization": headers["Authorization"][:-64] + wrong}
            if altered != headers:
                self.refused(self.post(altered), "SignatureDoesNotMatch")

    def test_altered_scope(self):
        headers = self.signed()
        altered = {**headers, "Authorization": headers["Authorization"].replace("us-east-1",
                                                                                "us-east-2")}
        self.refused(self.post(altered), "SignatureDoesNotMatch", 403, MISMATCH)

    def test_x_amz_headers_must_be_signed(self):
        self.refused(self.post({**self.signed(), "X-Amz-More": "1"}), "SignatureDoesNotMatch")
        self.refused(self.post(self.signed(leave_out=("x-amz-target",))), "SignatureDoesNotMatch")
        self.refused(self.post(self.signed(leave_out=("host",))), "SignatureDoesNotMatch")
        self.refused(self.post(self.signed(leave_out=("x-amz-date",))), "SignatureDoesNotMatch")

    def test_wrong_service(self):
        self.refused(self.post(self.signed(service="lambda")), "SignatureDoesNotMatch", 403,
                     "Credential should be scoped to correct service: 'sqs'.")
        answer = signing.rest_call("GET", "/2015-03-31/functions", service="sqs")
        self.refused(answer, "InvalidSignatureException", 403,
                     "Credential should be scoped to correct service: 'lambda'.")
        answer = signing.rest_call("GET", "/admin/keys", service="sqs")
        self.refused(answer, "InvalidSignatureException")

    def test_clock_skew(self):
        self.assertEqual(json_call("ListQueues", {}, time=signing.moment(-890)).status, 200)
        self.assertEqual(json_call("ListQueues", {}, time=signing.moment(890)).status, 200)
        late, early = signing.moment(-910), signing.moment(910)
        answer = self.post(self.signed(time=late))
        self.refused(answer, "SignatureDoesNotMatch")
        self.assertRegex(error_of(answer)[2], rf"^Signature expired: {late} is now earlier than "
                                              r"\d{8}T\d{6}Z \(\d{8}T\d{6}Z - 15 min\.\)$")
        answer = self.post(self.signed(time=early))
        self.refused(answer, "SignatureDoesNotMatch")
        self.assertRegex(error_of(answer)[2], rf"^Signature not yet current: {early} is still later "
                                              r"than \d{8}T\d{6}Z \(\d{8}T\d{6}Z \+ 15 min\.\)$")
        answer = signing.rest_call("GET", "/2015-03-31/functions", time=late)
        self.refused(answer, "InvalidSignatureException")

    def test_session_tokens(self):
        answer = self.post(self.signed(headers={"X-Amz-Security-Token": "token"}))
        self.refused(answer, "InvalidClientTokenId")
        self.assertIn("Session tokens are not supported", error_of(answer)[2])
        query = signing.presign(ROOT, "/", "Action=ListQueues&X-Amz-Security-Token=t")
        self.refused(signing.send("GET", "/?" + query), "InvalidClientTokenId")

    def test_incomplete(self):
        headers = self.signed()
        good = headers["Authorization"]
        for wrong in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "Basic eDp5", "Bearer x",
                      "AWS AKID:c2ln", "AWS4-HMAC-SHA256 Credential=" + ROOT.id,
                      good.replace("Signature=", "Signatur="), good + "00",
                      good.replace("Credential=", "Credential=x/"),
                      good.replace("SignedHeaders=content-type;", "SignedHeaders="
                                   ).replace("Signature=", "Signature=Z"),
                      good.replace("aws4_request", "aws3_request"),
                      good.replace(headers["X-Amz-Date"][:8], "20200101"), good + ", x=y"):
            with self.subTest(wrong):
                answer = self.post({**headers, "Authorization": wrong})
                self.refused(answer, "IncompleteSignature", 400)
        without = {k: v for k, v in headers.items() if k != "X-Amz-Date"}
        self.refused(self.post(without), "IncompleteSignature", 400)
        answer = self.post({**headers, "X-Amz-Date": "yesterday"})
        self.refused(answer, "IncompleteSignature", 400)
        answer = signing.send("GET", "/2015-03-31/functions", b"", {"Authorization": "Bearer x"})
        self.refused(answer, "IncompleteSignatureException", 400)

    def test_content_hash(self):
        right = hashlib.sha256(self.body).hexdigest()
        wrong = hashlib.sha256(b"other").hexdigest()
        for value in (wrong, "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x"):
            headers = self.signed(headers={"X-Amz-Content-Sha256": value}, payload_hash=value)
            self.refused(self.post(headers), "SignatureDoesNotMatch")
        answer = signing.send("GET", "/2015-03-31/functions", b"", sign(
            ROOT, "GET", "/2015-03-31/functions", b"", {"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"},
            service="lambda", payload_hash="UNSIGNED-PAYLOAD"))
        self.refused(answer, "InvalidSignatureException")  # over TLS only
        body = json.dumps({"QueueUrl": self.url}).encode()
        right = hashlib.sha256(body).hexdigest()
        headers = sign(ROOT, "POST", "/", body, {**signing.json_headers("PurgeQueue"),
                                                 "X-Amz-Content-Sha256": right})
        self.assertEqual(signing.send("POST", "/", body, headers).status, 200)


class Presigned(unittest.TestCase):
    def setUp(self):
        self.url, _ = make_queue()
        self.path = urllib.parse.urlsplit(self.url).path

    def get(self, query, path=None):
        return signing.send("GET", f"{path or self.path}?{query}")

    def test_good_until_it_expires(self):
        query = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", 60)
        self.assertEqual(self.get(query).status, 200)
        old = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", 60,
                              signing.moment(-50))
        self.assertEqual(self.get(old).status, 200)
        days = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", 604800,
                               signing.moment(-600000))
        self.assertEqual(self.get(days).status, 200)
        late = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", 60,
                               signing.moment(-70))
        self.assertEqual(error_of(self.get(late))[:2], ("RequestExpired", 400))
        self.assertEqual(signing.visible(self.url), 3)

    def test_altered(self):
        query = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", 60)
        for old, new in (("MessageBody=m", "MessageBody=n"), ("Expires=60", "Expires=600"),
                         ("SendMessage", "DeleteQueue"), ("us-east-1", "us-east-2")):
            answer = self.get(query.replace(old, new))
            self.assertEqual(error_of(answer)[0], "SignatureDoesNotMatch", (old, new))
        answer = self.get(query + "&DelaySeconds=1")
        self.assertEqual(error_of(answer)[0], "SignatureDoesNotMatch")
        answer = self.get(query, self.path + "2")
        self.assertEqual(error_of(answer)[0], "SignatureDoesNotMatch")
        answer = signing.send("POST", f"{self.path}?{query}", b"DelaySeconds=1", {
            "Content-Type": "application/x-www-form-urlencoded"})
        self.assertEqual(error_of(answer)[0], "SignatureDoesNotMatch")
        self.assertEqual(signing.visible(self.url), 0)

    def test_incomplete(self):
        for expires in ("0", "604801", "-1", "x", "99999999999"):
            query = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m", expires)
            self.assertEqual(error_of(self.get(query))[:2], ("IncompleteSignature", 400), expires)
        query = signing.presign(ROOT, self.path, "Action=SendMessage&MessageBody=m")
        for part in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
            pairs = [p for p in query.split("&") if not p.startswith(f"X-Amz-{part}=")]
            answer = self.get("&".join(pairs))
            self.assertEqual(error_of(answer)[0], "IncompleteSignature", part)
        self.assertEqual(error_of(self.get(query + "&X-Amz-Expires=60"))[0], "IncompleteSignature")
        self.assertEqual(error_of(self.get(query + "&X-Amz-Signature=0"))[0], "IncompleteSignature")
        headers = sign(ROOT, "GET", self.path, b"", {}, query=query)
        answer = signing.send("GET", f"{self.path}?{query}", b"", headers)
        self.assertEqual(error_of(answer)[0], "IncompleteSignature")
        self.assertEqual(signing.visible(self.url), 0)


class Injection(unittest.TestCase):
    """Bytes on the socket as no client sends them."""

    def raw(self, data):
        import socket
        name, port = signing.host().split(":")
        with socket.create_connection((name, int(port)), timeout=10) as s:
            s.sendall(data)
            return s.recv(65536)

    def request(self, path, headers, body=b""):
        lines = [f"GET {path} HTTP/1.1", *[f"{k}: {v}" for k, v in headers],
                 f"Content-Length: {len(body)}", "Connection: close"]
        return self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def test_paths_that_resolve_to_a_signed_one(self):
        url, _ = make_queue()
        path = urllib.parse.urlsplit(url).path
        query = "Action=SendMessage&MessageBody=m"
        headers = list(sign(ROOT, "GET", path, b"", {}, query=query).items())
        good = self.request(f"{path}?{query}", headers)
        self.assertIn(b" 200 ", good.split(b"\r\n")[0])
        for other in ("/x/.." + path, "/." + path, "/" + path, path.replace("/", "//"),
                      path + "/../" + path.rpartition("/")[2], path.replace("a", "%61", 1)):
            answer = self.request(f"{other}?{query}", headers)
            self.assertNotIn(b" 200 ", answer.split(b"\r\n")[0], other)
        self.assertEqual(signing.visible(url), 1)

    def test_headers_twice_and_folded(self):
        url, _ = make_queue()
        path = urllib.parse.urlsplit(url).path
        query = "Action=SendMessage&MessageBody=m"
        headers = list(sign(ROOT, "GET", path, b"", {}, query=query).items())
        wrong = [
            headers + [h for h in headers if h[0] == "Authorization"],
            headers + [("X-Amz-Date", signing.moment())],
            headers + [("Host", "other")],
            [(k, v + "\r\n folded") for k, v in headers],
            [(k, v.replace("SignedHeaders=", "SignedHeaders=x-amz-target;")
              if k == "Authorization" else v) for k, v in headers],
            headers + [("X-Amz-Target", "AmazonSQS.DeleteQueue")],
        ]
        for given in wrong:
            answer = self.request(f"{path}?{query}", given)
            self.assertRegex(answer.split(b"\r\n")[0], rb" 40[03] ")
        self.assertEqual(signing.visible(url), 0)


if __name__ == "__main__":
    unittest.main()
