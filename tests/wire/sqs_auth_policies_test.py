# SPDX-License-Identifier: Apache-2.0
"""What keys may do: policies of keys and of queues, both together, other accounts, nobody; and the
admin API that manages keys."""
import json
import os
import pathlib
import unittest
import urllib.parse

import signing
from signing import (ROOT, Key, admin, allow, deny, error_of, harness, json_call, make_key, make_queue,
                     query_call, rest_call, set_policy)

OTHER_ACCOUNT = "210987654321"
QUERY_PREFIX = "arn:aws:sqs:us-east-1:000000000000:"


class Case(unittest.TestCase):
    def setUp(self):
        self.url, self.arn = make_queue()

    def can(self, key, action="SendMessage", more=None, url=None, **how):
        parameters = {"QueueUrl": url or self.url, **(more or {})}
        if action == "SendMessage":
            parameters.setdefault("MessageBody", "x")
        answer = json_call(action, parameters, key, **how)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json() if answer.body else None

    def cannot(self, key, action="SendMessage", more=None, because=None, url=None):
        parameters = {"QueueUrl": url or self.url, **(more or {})}
        if action == "SendMessage":
            parameters.setdefault("MessageBody", "x")
        answer = json_call(action, parameters, key)
        self.assertEqual(error_of(answer)[:2], ("AccessDenied", 403), answer.body)
        if because is not None:
            self.assertTrue(error_of(answer)[2].endswith(because), error_of(answer)[2])
        self.assertTrue(answer.json()["__type"].endswith("#AccessDeniedException"))
        return answer


class OfKeys(Case):
    def test_without_a_policy_nothing_is_allowed(self):
        key = make_key()
        answer = self.cannot(key)
        self.assertEqual(
            error_of(answer)[2], f"User: {key.arn} is not authorized to perform: sqs:sendmessage on "
            f"resource: {self.arn} because no identity-based policy allows the sqs:sendmessage action")
        answer = json_call("ListQueues", {}, key)
        self.assertEqual(error_of(answer)[:2], ("AccessDenied", 403))
        answer = query_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, key)
        self.assertEqual(error_of(answer)[:2], ("AccessDenied", 403))
        answer = rest_call("GET", "/2015-03-31/functions", key=key)
        self.assertEqual(error_of(answer)[:2], ("AccessDeniedException", 403))
        self.assertEqual(signing.visible(self.url), 0)

    def test_actions_and_resources(self):
        key = make_key(allow(["sqs:SendMessage", "sqs:ReceiveMessage"], self.arn))
        other, _ = make_queue()
        self.can(key)
        self.can(key, "SendMessageBatch", {"Entries": [{"Id": "a", "MessageBody": "x"}]})
        found = self.can(key, "ReceiveMessage", {"MaxNumberOfMessages": 10})
        receipt = found["Messages"][0]["ReceiptHandle"]
        self.cannot(key, "DeleteMessage", {"ReceiptHandle": receipt})
        self.cannot(key, "DeleteMessageBatch", {"Entries": [{"Id": "a", "ReceiptHandle": receipt}]})
        self.cannot(key, "ChangeMessageVisibility", {"ReceiptHandle": receipt, "VisibilityTimeout": 0})
        self.cannot(key, "PurgeQueue")
        self.cannot(key, "DeleteQueue")
        self.cannot(key, url=other)
        self.can(ROOT, "DeleteMessage", {"ReceiptHandle": receipt})

    def test_every_action_asks(self):
        """A key that may do everything but one action is refused just that one."""
        receipt = "x"
        arn = {"SourceArn": self.arn}
        calls = {
            "CreateQueue": {"QueueName": self.url.rpartition("/")[2]},
            "GetQueueUrl": {"QueueName": self.url.rpartition("/")[2]},
            "ListQueues": {}, "GetQueueAttributes": {}, "SetQueueAttributes": {"Attributes": {}},
            "SendMessage": {"MessageBody": "x"}, "ReceiveMessage": {}, "PurgeQueue": {},
            "SendMessageBatch": {"Entries": [{"Id": "a", "MessageBody": "x"}]},
            "DeleteMessage": {"ReceiptHandle": receipt},
            "DeleteMessageBatch": {"Entries": [{"Id": "a", "ReceiptHandle": receipt}]},
            "ChangeMessageVisibility": {"ReceiptHandle": receipt, "VisibilityTimeout": 1},
            "ChangeMessageVisibilityBatch": {
                "Entries": [{"Id": "a", "ReceiptHandle": receipt, "VisibilityTimeout": 1}]},
            "TagQueue": {"Tags": {"a": "b"}}, "UntagQueue": {"TagKeys": ["a"]}, "ListQueueTags": {},
            "AddPermission": {"Label": "l", "AWSAccountIds": ["123456789012"],
                              "Actions": ["SendMessage"]},
            "RemovePermission": {"Label": "l"}, "ListDeadLetterSourceQueues": {},
            "StartMessageMoveTask": arn, "ListMessageMoveTasks": arn, "DeleteQueue": {},
        }
        for action, more in calls.items():
            with self.subTest(action):
                needed = action.removesuffix("Batch")
                key = make_key(allow("*"), deny(f"sqs:{needed}"))
                self.cannot(key, action, more, "with an explicit deny in an identity-based policy")
                free = make_key(allow(f"sqs:{needed}"))
                answer = json_call(action, {"QueueUrl": self.url, **more}, free)
                if action != "StartMessageMoveTask":  # which needs more than its own action
                    self.assertNotEqual(error_of(answer)[0] if answer.status >= 400 else "",
                                        "AccessDenied", action)
            if action == "DeleteQueue":
                break

    def test_deny_beats_allow(self):
        key = make_key(allow("sqs:*"), deny("sqs:SendMessage", self.arn))
        self.cannot(key, because="with an explicit deny in an identity-based policy")
        self.can(key, "ReceiveMessage")
        set_policy(self.url, {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"})
        self.cannot(key, because="with an explicit deny in an identity-based policy")

    def test_conditions(self):
        here = make_key(allow("sqs:*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
        there = make_key(allow("sqs:*", Condition={"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
        self.can(here)
        self.cannot(there)
        past = make_key(allow("sqs:*", Condition={
            "DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}))
        self.cannot(past)
        tls = make_key(allow("sqs:*"), deny("*", Condition={"Bool": {"aws:SecureTransport": "false"}}))
        self.cannot(tls)
        own = make_key(allow("sqs:*", QUERY_PREFIX + "${aws:username}"),
                       name=self.url.rpartition("/")[2])
        self.can(own)
        other, _ = make_queue()
        self.cannot(own, url=other)

    def test_moving_needs_both_queues(self):
        dead, dead_arn = make_queue()
        redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
        self.can(ROOT, "SetQueueAttributes", {"Attributes": {"RedrivePolicy": redrive}})
        on_dead = ["sqs:StartMessageMoveTask", "sqs:ReceiveMessage", "sqs:DeleteMessage",
                   "sqs:GetQueueAttributes"]
        key = make_key(allow(on_dead, dead_arn))
        for more in ({}, {"DestinationArn": self.arn}):
            answer = json_call("StartMessageMoveTask", {"SourceArn": dead_arn, **more}, key)
            self.assertEqual(error_of(answer)[0], "AccessDenied", more)
        key = make_key(allow(on_dead, dead_arn), allow("sqs:SendMessage", self.arn))
        answer = json_call("StartMessageMoveTask", {"SourceArn": dead_arn}, key)
        self.assertEqual(answer.status, 200, answer.body)
        handle = answer.json()["TaskHandle"]
        answer = json_call("CancelMessageMoveTask", {"TaskHandle": handle}, key)
        self.assertEqual(error_of(answer)[0], "AccessDenied")

    def test_other_accounts_queue(self):
        """A queue that is named as another account's is not ours of the same name."""
        name = self.url.rpartition("/")[2]
        foreign = self.url.replace("000000000000", OTHER_ACCOUNT)
        for key in (ROOT, make_key(allow("*"))):
            self.cannot(key, url=foreign)
            self.cannot(key, url=f"http://sqs.us-east-1.amazonaws.com/{OTHER_ACCOUNT}/{name}")
            self.cannot(key, "GetQueueUrl", {"QueueName": name,
                                             "QueueOwnerAWSAccountId": OTHER_ACCOUNT})
            self.cannot(key, "ListMessageMoveTasks", {
                "SourceArn": self.arn.replace("000000000000", OTHER_ACCOUNT)})
            path = urllib.parse.urlsplit(foreign).path
            query = signing.presign(key, path, "Action=SendMessage&MessageBody=x")
            answer = signing.send("GET", f"{path}?{query}")
            self.assertEqual(error_of(answer)[0], "AccessDenied")
        self.assertEqual(signing.visible(self.url), 0)


class OfQueues(Case):
    def statement(self, principal, action="sqs:SendMessage", effect="Allow", **more):
        return {"Effect": effect, "Principal": principal, "Action": action, "Resource": self.arn, **more}

    def test_anonymous_access(self):
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, None)
        self.assertEqual(error_of(answer)[0], "AccessDenied")
        self.assertEqual(set_policy(self.url, self.statement("*")).status, 200)
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, None)
        self.assertEqual(answer.status, 200)
        path = urllib.parse.urlsplit(self.url).path
        answer = signing.send("GET", path + "?Action=SendMessage&MessageBody=x")
        self.assertEqual(answer.status, 200)
        answer = json_call("ReceiveMessage", {"QueueUrl": self.url}, None)
        self.assertEqual(error_of(answer)[0], "AccessDenied")
        found = self.can(ROOT, "ReceiveMessage", {"AttributeNames": ["SenderId"]})
        self.assertEqual(found["Messages"][0]["Attributes"]["SenderId"], "anonymous")

    def test_a_bad_signature_is_not_anonymous(self):
        set_policy(self.url, self.statement("*"))
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"},
                           Key(ROOT.id, "wrong-secret"))
        self.assertEqual(error_of(answer)[0], "SignatureDoesNotMatch")
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"},
                           Key("NOBODY", "wrong-secret"))
        self.assertEqual(error_of(answer)[0], "InvalidClientTokenId")

    def test_either_allows_within_the_account(self):
        key = make_key()
        self.cannot(key)
        set_policy(self.url, self.statement({"AWS": key.arn}))
        self.can(key)
        self.cannot(make_key())
        set_policy(self.url)
        self.cannot(key)

    def test_naming_the_account_leaves_it_to_the_account(self):
        key = make_key()
        set_policy(self.url, self.statement({"AWS": "000000000000"}))
        self.cannot(key, because="because no identity-based policy allows the sqs:sendmessage action")

    def test_deny_beats_allow(self):
        key = make_key(allow("sqs:*"))
        set_policy(self.url, self.statement({"AWS": key.arn}, effect="Deny"))
        self.cannot(key, because="with an explicit deny in a resource-based policy")
        self.can(key, "ReceiveMessage")
        set_policy(self.url, self.statement("*"), self.statement("*", effect="Deny", Condition={
            "StringNotEquals": {"aws:username": key.name}}))
        self.can(key)
        self.cannot(make_key(allow("sqs:*")))

    def test_other_account_needs_both(self):
        def answer_for(key):
            return json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, key)
        with_policy = make_key(allow("sqs:*"), account=OTHER_ACCOUNT)
        without = make_key(account=OTHER_ACCOUNT)
        self.cannot(with_policy, because="because no resource-based policy allows the sqs:sendmessage "
                                         "action")
        for principal in (OTHER_ACCOUNT, f"arn:aws:iam::{OTHER_ACCOUNT}:root", with_policy.arn, "*"):
            set_policy(self.url, self.statement({"AWS": [principal, without.arn]}))
            self.assertEqual(answer_for(with_policy).status, 200, principal)
            self.cannot(without)
        answer = json_call("ListQueues", {}, with_policy)
        self.assertEqual(error_of(answer)[0], "AccessDenied")

    def test_add_permission_is_enforced(self):
        key = make_key(allow("sqs:*"), account=OTHER_ACCOUNT)
        self.cannot(key)
        self.can(ROOT, "AddPermission", {"Label": "l", "AWSAccountIds": [OTHER_ACCOUNT],
                                         "Actions": ["SendMessage"]})
        self.can(key)
        self.cannot(key, "ReceiveMessage")
        self.can(ROOT, "RemovePermission", {"Label": "l"})
        self.cannot(key)

    def test_root_can_undo_a_policy_that_denies_everyone(self):
        set_policy(self.url, self.statement("*", "sqs:*", "Deny"))
        self.cannot(ROOT, because="with an explicit deny in a resource-based policy")
        self.cannot(make_key(allow("*")), "SetQueueAttributes", {"Attributes": {"Policy": ""}})
        self.assertEqual(set_policy(self.url).status, 200)
        self.can(ROOT)

    def test_what_is_not_understood_is_refused(self):
        good = self.statement("*")
        self.assertEqual(set_policy(self.url, good).status, 200)
        for wrong in ({**good, "Condition": {"StringResembles": {"aws:username": "x"}}},
                      {**good, "Effect": "Maybe"}, {**good, "Acton": "*"},
                      {**good, "Principal": {"AWS": "alice"}}, allow("sqs:*", self.arn)):
            answer = set_policy(self.url, wrong)
            self.assertEqual(error_of(answer)[:2], ("InvalidAttributeValue", 400))
            self.assertTrue(error_of(answer)[2].startswith(
                "Invalid value for the parameter Policy. Reason: "))
        found = self.can(ROOT, "GetQueueAttributes", {"AttributeNames": ["Policy"]})
        self.assertEqual(json.loads(found["Attributes"]["Policy"])["Statement"], [good])


class Lambda(Case):
    def test_actions_by_name(self):
        reads = make_key(allow(["lambda:List*", "lambda:GetFunction"]))
        self.assertEqual(rest_call("GET", "/2015-03-31/functions", key=reads).status, 200)
        answer = rest_call("GET", "/2015-03-31/functions/none", key=reads)
        self.assertEqual(error_of(answer)[0], "ResourceNotFoundException")
        function = "arn:aws:lambda:us-east-1:000000000000:function:none"
        quoted = urllib.parse.quote(function, safe="")
        for method, path, action, resource in (
                ("DELETE", "/2015-03-31/functions/none", "DeleteFunction", function),
                ("DELETE", f"/2015-03-31/functions/{quoted}", "DeleteFunction", function),
                ("POST", "/2015-03-31/functions/none/invocations", "InvokeFunction", function),
                ("PUT", "/2015-03-31/functions/none/configuration", "UpdateFunctionConfiguration",
                 function),
                ("GET", f"/2017-03-31/tags/{quoted}", "ListTags", None),
                ("GET", "/2015-03-31/event-source-mappings/x", "GetEventSourceMapping",
                 "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:x"),
                ("GET", "/2016-08-19/account-settings", "GetAccountSettings", "*")):
            with self.subTest(path):
                answer = rest_call(method, path, {} if method == "PUT" else None, reads)
                if resource is None:  # List* allows it
                    self.assertNotEqual(answer.status, 403)
                    continue
                self.assertEqual(error_of(answer), (
                    "AccessDeniedException", 403, f"User: {reads.arn} is not authorized to perform: "
                    f"lambda:{action} on resource: {resource} because no identity-based policy allows "
                    f"the lambda:{action} action"))

    def create(self, key, name, files=None):
        return rest_call("POST", "/2015-03-31/functions", {
            "FunctionName": name, "Runtime": "python3.11", "Handler": "f.handler",
            "Role": harness.ROLE, "Code": {"ZipFile": harness.zip_base64(files or {
                "f.py": "def handler(event, context):\n    return event\n"})}}, key)

    def test_functions_by_name(self):
        name = harness.unique("mine")
        mine = make_key(allow("lambda:*", f"arn:aws:lambda:*:*:function:{name}"))
        answer = self.create(mine, harness.unique("other"))
        self.assertEqual(error_of(answer)[:2], ("AccessDeniedException", 403))
        self.assertEqual(self.create(mine, name).status, 201)
        large = {"f.py": "def handler(event, context):\n    return event\n", "data": os.urandom(200000)}
        answer = self.create(mine, name + "-x", large)  # hashed and decoded in the pool
        self.assertEqual(error_of(answer)[:2], ("AccessDeniedException", 403))
        answer = rest_call("POST", f"/2015-03-31/functions/{name}/invocations", {"a": 1}, mine)
        self.assertEqual((answer.status, answer.json()), (200, {"a": 1}))
        big = {"text": "x" * 300000}
        answer = rest_call("POST", f"/2015-03-31/functions/{name}/invocations", big, mine)
        self.assertEqual((answer.status, answer.json()), (200, big))
        headers = signing.sign(mine, "POST", f"/2015-03-31/functions/{name}/invocations", b"other",
                               service="lambda")
        answer = signing.send("POST", f"/2015-03-31/functions/{name}/invocations",
                              json.dumps(big).encode(), headers)
        self.assertEqual(error_of(answer)[0], "InvalidSignatureException")

        # The package can be downloaded by whoever is told its URL, and nothing else with it.
        location = rest_call("GET", f"/2015-03-31/functions/{name}", key=mine).json()["Code"]["Location"]
        path = location[len(signing.endpoint()):]
        answer = signing.send("GET", path)
        self.assertEqual((answer.status, answer.body[:2]), (200, b"PK"))
        answer = signing.send("GET", path.replace("Expires=600", "Expires=6000"))
        self.assertEqual(error_of(answer)[0], "InvalidSignatureException")
        answer = signing.send("GET", path.replace("/code/zip", ""))
        self.assertEqual(error_of(answer)[0], "InvalidSignatureException")

    def test_a_mapping_needs_the_queue(self):
        name = harness.unique("mapped")
        self.assertEqual(self.create(ROOT, name).status, 201)
        wanted = {"FunctionName": name, "EventSourceArn": self.arn}
        key = make_key(allow("lambda:*"))
        answer = rest_call("POST", "/2015-03-31/event-source-mappings", wanted, key)
        self.assertEqual(error_of(answer)[:2], ("AccessDeniedException", 403))
        self.assertIn("sqs:ReceiveMessage", error_of(answer)[2])
        key = make_key(allow("lambda:*"), allow(["sqs:ReceiveMessage", "sqs:DeleteMessage",
                                                 "sqs:GetQueueAttributes"], self.arn))
        answer = rest_call("POST", "/2015-03-31/event-source-mappings", wanted, key)
        self.assertEqual(answer.status, 202, answer.body)
        uuid = answer.json()["UUID"]
        self.assertEqual(rest_call("DELETE", f"/2015-03-31/event-source-mappings/{uuid}").status, 202)


class Keys(Case):
    def test_life_of_a_key(self):
        key = make_key(allow("sqs:*"))
        self.can(key)
        self.assertEqual(admin("PUT", f"/{key.id}", {"Status": "Inactive"}).status, 200)
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, key)
        self.assertEqual(error_of(answer)[:2], ("InvalidClientTokenId", 403))
        self.assertEqual(admin("PUT", f"/{key.id}", {"Status": "Active"}).status, 200)
        self.can(key)
        policy = {"Version": "2012-10-17", "Statement": [deny("sqs:*")]}
        self.assertEqual(admin("PUT", f"/{key.id}/policy", policy).status, 200)
        self.cannot(key)
        self.assertEqual(admin("DELETE", f"/{key.id}/policy").status, 200)
        self.assertIsNone(admin("GET", f"/{key.id}").json()["Policy"])
        self.assertEqual(admin("DELETE", f"/{key.id}").status, 204)
        answer = json_call("SendMessage", {"QueueUrl": self.url, "MessageBody": "x"}, key)
        self.assertEqual(error_of(answer)[0], "InvalidClientTokenId")
        self.assertEqual(admin("DELETE", f"/{key.id}").status, 404)
        self.assertEqual(admin("GET", f"/{key.id}").status, 404)

    def test_secrets_are_shown_once(self):
        key = make_key(allow("sqs:*"))
        for path in ("", f"/{key.id}"):
            answer = admin("GET", path)
            self.assertEqual(answer.status, 200)
            self.assertIn(key.id.encode(), answer.body)
            self.assertNotIn(key.secret.encode(), answer.body)
            self.assertNotIn(b"Secret", answer.body)

    def test_keys_are_for_those_allowed(self):
        victim = make_key(allow("sqs:*"))
        for key in (make_key(), make_key(allow(["sqs:*", "lambda:*"])),
                    make_key(allow("*"), deny("millrace:*")),
                    make_key(allow("*"), account=OTHER_ACCOUNT)):
            for method, path, body in (("GET", "", None), ("POST", "", {}),
                                       ("GET", f"/{victim.id}", None),
                                       ("PUT", f"/{victim.id}", {"Status": "Inactive"}),
                                       ("PUT", f"/{victim.id}/policy", {}),
                                       ("DELETE", f"/{victim.id}/policy", None),
                                       ("DELETE", f"/{victim.id}", None)):
                answer = admin(method, path, body, key)
                self.assertEqual(error_of(answer)[:2], ("AccessDeniedException", 403))
        self.can(victim)
        only = make_key(allow("millrace:GetKey", f"arn:aws:iam::*:access-key/{victim.id}"))
        self.assertEqual(admin("GET", f"/{victim.id}", key=only).status, 200)
        self.assertEqual(admin("GET", f"/{ROOT.id}", key=only).status, 403)

    def test_bad_input(self):
        before = len(admin("GET", "").json()["Keys"])
        for body, code in (({"Name": "a b"}, "ValidationException"),
                           ({"Name": "x" * 65}, "ValidationException"),
                           ({"AccountId": "1"}, "ValidationException"),
                           ({"Policy": {"Statement": [{"Effect": "Allow"}]}},
                            "MalformedPolicyDocumentException"),
                           ({"Policy": "{"}, "MalformedPolicyDocumentException"),
                           ({"Policy": 5}, "MalformedPolicyDocumentException"),
                           ([], "SerializationException")):
            answer = admin("POST", "", body)
            self.assertEqual(error_of(answer)[:2], (code, 400), body)
        self.assertEqual(len(admin("GET", "").json()["Keys"]), before)
        key = make_key()
        self.assertEqual(admin("PUT", f"/{key.id}", {"Status": "Gone"}).status, 400)
        self.assertEqual(admin("PUT", f"/{key.id}/policy", {"Statement": 1}).status, 400)
        for path in ("/x/y", "/a%2Fb", "/" + "x" * 200, f"/{key.id}/policy/x"):
            self.assertEqual(admin("GET", path).status, 404)


class Restarted(unittest.TestCase):
    """A broker of its own."""

    def test_keys_stay_and_are_not_on_the_disk_as_they_are(self):
        secret = "a-secret-of-its-own-" + harness.unique("s")
        arguments = ["--auth", "required"]
        root = ["--root-access-key-id", "FIRSTROOT", "--root-secret-access-key", secret]
        broker = harness.Broker(worker=False, broker_arguments=arguments + root)
        try:
            def lists(key_secret):
                import hashlib
                time = signing.moment()
                where = urllib.parse.urlsplit(broker.endpoint).netloc
                headers = {"Host": where, "X-Amz-Date": time, **signing.json_headers("ListQueues")}
                names = sorted(k.lower() for k in headers)
                scope = f"{time[:8]}/us-east-1/sqs/aws4_request"
                value = signing.signature(Key("FIRSTROOT", key_secret), "POST", "/", "", headers, names,
                                          hashlib.sha256(b"{}").hexdigest(), time, scope)
                headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential=FIRSTROOT/{scope}, "
                                            f"SignedHeaders={';'.join(names)}, Signature={value}")
                return harness.request(broker.endpoint, "POST", "/", b"{}", headers).status == 200

            harness.wait_for(lambda: lists(secret), 10, "the root key")
            broker.broker.stop()
            broker.broker_arguments = arguments  # the key is in the catalog by now
            broker.start_broker()
            self.assertTrue(lists(secret))
            broker.broker.stop()
            for path in pathlib.Path(broker.folder).rglob("*"):
                if path.is_file() and path.suffix != ".log":
                    self.assertNotIn(secret.encode(), path.read_bytes(), path)
                if path.suffix == ".log":
                    self.assertNotIn(secret.encode(), path.read_bytes(), path)
            # What the environment says wins: the way back in when a secret was lost.
            broker.broker_arguments = arguments + root[:3] + ["another-secret-by-now"]
            broker.start_broker()
            harness.wait_for(lambda: lists("another-secret-by-now"), 10, "the new secret")
            self.assertFalse(lists(secret))
        finally:
            broker.stop()

    def test_regions_with_queues_of_their_own(self):
        """The queue that is judged is the queue that is used: of the region that was signed for."""
        broker = harness.Broker(worker=False, broker_arguments=[
            "--auth", "required", "--root-access-key-id", ROOT.id,
            "--root-secret-access-key", ROOT.secret, "--regions", "separate"])
        before = signing.use(broker)
        self.addCleanup(broker.stop)
        self.addCleanup(signing.use, before)
        harness.wait_for(lambda: json_call("ListQueues", {}).status == 200, 10, "the root key")
        deny_all = json.dumps({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "sqs:*",
                                             "Resource": "*"}})
        send = {"QueueUrl": "q", "MessageBody": "x"}
        for region, attributes in (("us-east-1", {}), ("eu-west-1", {"Policy": deny_all})):
            answer = json_call("CreateQueue", {"QueueName": "q", "Attributes": attributes},
                               region=region)
            self.assertEqual(answer.status, 200, answer.body)
        near = make_key(allow("sqs:*", "arn:aws:sqs:us-east-1:*:*"))
        everywhere = make_key(allow("sqs:*"))
        far = make_key(allow("*"), deny("*", "arn:aws:sqs:eu-west-1:*:q"))
        for key in (near, everywhere, far):
            self.assertEqual(json_call("SendMessage", send, key).status, 200)
            answer = json_call("SendMessage", send, key, region="eu-west-1")
            self.assertEqual(error_of(answer)[0], "AccessDenied", answer.body)
        answer = json_call("ListQueues", {}, near, region="eu-west-1")
        self.assertEqual(error_of(answer)[0], "AccessDenied")

    def test_a_broker_that_nobody_could_get_into_ends(self):
        with self.assertRaisesRegex(AssertionError, "(?s)program ended.*MILLRACE_ROOT_ACCESS_KEY_ID"):
            broker = harness.Broker(worker=False, broker_arguments=["--auth", "required"])
            try:
                harness.wait_for(lambda: False, 15, broker.broker.tail, broker.broker)
            finally:
                self.assertEqual(broker.broker.stop(), 78)
                broker.stop()

    def test_options(self):
        import subprocess
        binary = os.path.join(os.environ.get("MILLRACE_BIN", harness.ROOT / "build/release/bin"),
                              "millrace-broker")
        for arguments in (["--auth", "maybe"], ["--root-access-key-id", "ID"],
                          ["--root-access-key-id", "I D", "--root-secret-access-key", "x" * 20],
                          ["--root-access-key-id", "IDID", "--root-secret-access-key", "short"]):
            done = subprocess.run([binary, "--data-dir", "/nonexistent/x", *arguments],
                                  capture_output=True, timeout=10)
            self.assertEqual(done.returncode, 64, (arguments, done.stderr))

    def test_off_says_so(self):
        broker = harness.Broker(worker=False)
        try:
            self.assertIn("event=auth_off", broker.broker.tail())
            answer = harness.request(broker.endpoint, "POST", "/", b"{}", {
                **signing.json_headers("ListQueues"), "Authorization": "AWS4-HMAC-SHA256 nonsense"})
            self.assertEqual(answer.status, 200)
        finally:
            broker.stop()


if __name__ == "__main__":
    unittest.main()
