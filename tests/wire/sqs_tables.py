# SPDX-License-Identifier: Apache-2.0
"""The tables of SQS as the sources have them (proto/sqs/*.def, broker/api/sqs/sqs_attributes.def),
for what must be complete: the coverage of the transcripts, and the tables in docs/sqs.md. What a
transcript expects is written by hand and never read from here."""
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto/sqs"
ATTRIBUTES = ROOT / "broker/api/sqs/sqs_attributes.def"

Action = collections.namedtuple("Action", "name input result doc")
Member = collections.namedtuple("Member", "json query kind element required")
Error = collections.namedtuple("Error", "name type query status fault text query_text")
Attribute = collections.namedtuple("Attribute", "kind name rest")
Difference = collections.namedtuple("Difference", "what how why")


def rows(path, *macros):
    """The arguments of each line MACRO(...), as texts; strings lose their quotes, and strings and
    macros that stand side by side are one argument: ['SQS_QUERY', 'X'] joined by a space."""
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        match = re.match(r"(\w+)\((.*)\)$", line)
        if match and match.group(1) in macros:
            yield match.group(1), arguments(match.group(2))


def arguments(text):
    found, current = [], []
    for string, comma, word in re.findall(r'"((?:[^"\\]|\\.)*)"|(,)|([^\s",]+)', text):
        if comma:
            found.append(" ".join(current))
            current = []
        else:
            current.append(word or string.replace('\\"', '"'))
    return [*found, " ".join(current)]


def actions():
    return {a[0]: Action(a[0], a[2], a[3], a[5])
            for _, a in rows(PROTO / "sqs_actions.def", "ACTION")}


def shapes():
    found = collections.defaultdict(list)
    for _, m in rows(PROTO / "sqs_shapes.def", "MEMBER"):
        found[m[0]].append(Member(m[2], m[3], m[4], m[5], m[6] == "REQUIRED"))
    return found


def errors():
    """`type` and `query` as they are on the wire."""
    prefix = {"SQS_NAMESPACE": "com.amazonaws.sqs#", "CORAL_NAMESPACE": "com.amazon.coral.service#",
              "SQS_QUERY": "AWS.SimpleQueueService."}

    def whole(text):
        macro, _, rest = text.partition(" ")
        return prefix[macro] + rest if macro in prefix else text
    return {e[0]: Error(e[0], whole(e[1]), whole(e[2]), int(e[3]), e[4], e[5],
                        e[5] if e[6] == "NULL" else e[6])
            for _, e in rows(PROTO / "sqs_errors.def", "ERROR")}


def attributes():
    return {a[0]: Attribute(kind, a[0], a[1:])
            for kind, a in rows(ATTRIBUTES, "NUMBER", "FLAG", "OTHER")}


def differences():
    """What differs from AWS, by kind (ACTION, ATTRIBUTE, ERROR, GENERAL) and name."""
    found = collections.defaultdict(list)
    for kind, d in rows(PROTO / "sqs_differences.def", "ACTION", "ATTRIBUTE", "ERROR", "GENERAL"):
        found[kind, d[0]].append(Difference(*d))
    return found
