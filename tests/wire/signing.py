# SPDX-License-Identifier: Apache-2.0
"""AWS Signature Version 4 by hand, so that a test can get every part of it wrong, and the broker with
signatures required that such tests share. botocore signs too where nothing is to be wrong: it is the
oracle."""
import atexit
import datetime
import hashlib
import hmac
import json
import pathlib
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import harness  # noqa: E402

ROOT_ID = "ROOTKEYEXAMPLE"
ROOT_SECRET = "root/secret+example0123456789"
_broker = None


class Key:
    def __init__(self, key_id, secret):
        self.id, self.secret = key_id, secret


ROOT = Key(ROOT_ID, ROOT_SECRET)


def broker(*more):
    """The broker of this test process: signatures required, a worker, and the root key. The first
    call of a process may give it `more` options."""
    global _broker
    if _broker is None:
        _broker = harness.Broker(broker_arguments=[
            "--auth", "required", "--root-access-key-id", ROOT_ID,
            "--root-secret-access-key", ROOT_SECRET, "--aws-cooldowns", "off", *more])
        atexit.register(_broker.stop)
        harness.wait_for(lambda: json_call("ListQueues", {}).status == 200, 10, "the root key")
    return _broker


def endpoint():
    return broker().endpoint


def use(other):
    """Let a test talk to a broker of its own; returns the one before, to be given back."""
    global _broker
    before, _broker = _broker, other
    return before


def host():
    return urllib.parse.urlsplit(_broker.endpoint).netloc


def quote(text, safe=""):
    return urllib.parse.quote(text, safe=safe + "-_.~")


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def moment(shift_s=0):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=shift_s)
    return now.strftime("%Y%m%dT%H%M%SZ")


def signature(key, method, path, query, headers, names, payload_hash, time, scope):
    pairs = sorted((quote(k), quote(v)) for k, v in
                   urllib.parse.parse_qsl(query, keep_blank_values=True))
    lines = [method, quote(path, "/"), "&".join(f"{k}={v}" for k, v in pairs)]
    lower = {k.lower(): v for k, v in headers.items()}
    lines += [f"{name}:{' '.join(lower[name].split())}" for name in names]
    lines += ["", ";".join(names), payload_hash]
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signing = ("AWS4" + key.secret).encode()
    for part in scope.split("/"):
        signing = digest(signing, part)
    return digest(signing, "\n".join(["AWS4-HMAC-SHA256", time, scope, canonical])).hex()


def sign(key, method, path, body=b"", headers=None, service="sqs", time=None, leave_out=(),
         region=harness.REGION, query="", payload_hash=None):
    """The headers of a signed request; those in `leave_out` are sent but not signed."""
    time = time or moment()
    headers = {"Host": host(), "X-Amz-Date": time, **(headers or {})}
    names = sorted(k.lower() for k in headers if k.lower() not in leave_out)
    scope = f"{time[:8]}/{region}/{service}/aws4_request"
    payload_hash = payload_hash or hashlib.sha256(body).hexdigest()
    value = signature(key, method, path, query, headers, names, payload_hash, time, scope)
    headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={key.id}/{scope}, "
                                f"SignedHeaders={';'.join(names)}, Signature={value}")
    return headers


def presign(key, path, query, expires=60, time=None, service="sqs", method="GET"):
    """The query of a presigned request."""
    broker()
    time = time or moment()
    scope = f"{time[:8]}/{harness.REGION}/{service}/aws4_request"
    more = urllib.parse.urlencode({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{key.id}/{scope}",
        "X-Amz-Date": time, "X-Amz-Expires": str(expires), "X-Amz-SignedHeaders": "host"})
    query = f"{query}&{more}" if query else more
    value = signature(key, method, path, query, {"host": host()}, ["host"],
                      hashlib.sha256(b"").hexdigest(), time, scope)
    return f"{query}&X-Amz-Signature={value}"


def send(method, path, body=b"", headers=None):
    return harness.request(_broker.endpoint, method, path, body or None, headers)


def json_headers(action):
    return {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}


def json_call(action, parameters, key=ROOT, **how):
    """A signed call in the JSON protocol; key None: not signed."""
    body = json.dumps(parameters).encode()
    headers = json_headers(action)
    if key is not None:
        headers = sign(key, "POST", "/", body, headers, **how)
    return send("POST", "/", body, headers)


def query_call(action, parameters, key=ROOT, **how):
    body = urllib.parse.urlencode({"Action": action, "Version": "2012-11-05", **parameters}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if key is not None:
        headers = sign(key, "POST", "/", body, headers, **how)
    return send("POST", "/", body, headers)


def rest_call(method, path, body=None, key=ROOT, service="lambda", **how):
    body = json.dumps(body).encode() if body is not None else b""
    bare, _, query = path.partition("?")
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers = sign(key, method, bare, body, headers, service=service, query=query, **how)
    return send(method, path, body, headers)


def admin(method, path, body=None, key=ROOT):
    broker()
    return rest_call(method, "/admin/keys" + path, body, key, service="millrace")


def make_key(*statements, name=None, account=None):
    """A new access key whose policy has these statements."""
    wanted = {"Name": name or harness.unique("user")}
    if statements:
        wanted["Policy"] = {"Version": "2012-10-17", "Statement": list(statements)}
    if account:
        wanted["AccountId"] = account
    answer = admin("POST", "", wanted)
    assert answer.status == 201, answer.body
    made = answer.json()
    key = Key(made["AccessKeyId"], made["SecretAccessKey"])
    key.name, key.account = made["Name"], made["AccountId"]
    key.arn = f"arn:aws:iam::{key.account}:user/{key.name}"
    return key


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action, resource="*", **more):
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def make_queue(attributes=None):
    """A new queue's URL and ARN."""
    broker()
    name = harness.unique("auth")
    wanted = {"QueueName": name, **({"Attributes": attributes} if attributes else {})}
    answer = json_call("CreateQueue", wanted)
    assert answer.status == 200, answer.body
    return answer.json()["QueueUrl"], harness.queue_arn(name)


def set_policy(url, *statements):
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}) if statements else ""
    return json_call("SetQueueAttributes", {"QueueUrl": url, "Attributes": {"Policy": text}})


def error_of(answer):
    """(code as SQS users see it, status, message), of either protocol or of REST."""
    if answer.headers.get("content-type", "").startswith("text/xml"):
        import xml.etree.ElementTree as tree
        found = {e.tag.rpartition("}")[2]: e.text for e in tree.fromstring(answer.body).iter()}
        return found["Code"], answer.status, found["Message"]
    body = answer.json()
    message = body.get("message") or body.get("Message")
    code = answer.headers.get("x-amzn-query-error", "").partition(";")[0]
    return code or answer.headers.get("x-amzn-errortype"), answer.status, message


def visible(url):
    answer = json_call("GetQueueAttributes", {
        "QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessages"]})
    return int(answer.json()["Attributes"]["ApproximateNumberOfMessages"])
