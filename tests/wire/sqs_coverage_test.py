# SPDX-License-Identifier: Apache-2.0
"""That nothing is missing: each row of the broker's tables has a transcript, and the tables in
docs/sqs.md are those of today (--write makes them so). Needs no broker."""
import sys
import unittest

import sqs_coverage
import sqs_refusals
import sqs_tables
from sqs_transcripts import ELSEWHERE, ENTRY, ERRORS, MINIMAL, Failed, Refusal, Reply, transcripts


class Coverage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rows = transcripts()
        cls.actions, cls.shapes = sqs_tables.actions(), sqs_tables.shapes()
        cls.errors, cls.attributes = sqs_tables.errors(), sqs_tables.attributes()

    def refused(self, error):
        return [row for row in self.rows if isinstance(row, Refusal) and row.error == error]

    def test_the_tables_could_be_read(self):
        self.assertEqual(len(self.actions), 23)
        for action in self.actions.values():
            self.assertIn(action.input, self.shapes)

    def test_every_action_has_a_reply(self):
        self.assertEqual(set(MINIMAL), set(self.actions))
        replied = {row.action for row in self.rows if isinstance(row, Reply)}
        self.assertEqual(replied, set(self.actions), "add a Reply to sqs_transcripts.py")

    def test_every_error_is_as_written_by_hand(self):
        self.assertEqual(set(ERRORS), set(self.errors), "add it to ERRORS in sqs_transcripts.py")
        for name, wire in ERRORS.items():
            with self.subTest(name):
                row = self.errors[name]
                self.assertEqual(wire, (row.type, row.query, row.status, row.fault))

    def test_every_error_has_a_transcript(self):
        shown = {row.error for row in self.rows if not isinstance(row, Reply)}
        for name in self.errors:
            with self.subTest(name):
                self.assertNotEqual(name in shown, name in ELSEWHERE,
                                    "add a Refusal to sqs_refusals.py, or say in ELSEWHERE where it is")

    def test_elsewhere_exists(self):
        for name, place in ELSEWHERE.items():
            path, _, test = place.partition(":")
            text = (sqs_tables.ROOT / path).read_text(encoding="utf-8")
            self.assertIn(test, text, f"{name}: {place}")

    def test_every_action_on_a_queue_is_asked_of_one_that_is_not_there(self):
        of_queues = {a.name for a in self.actions.values()
                     if self.shapes[a.input][0].json == "QueueUrl"}
        for error in ("QUEUE_DOES_NOT_EXIST", "INVALID_ADDRESS"):
            self.assertLessEqual(of_queues, {row.action for row in self.refused(error)})

    def test_every_required_parameter_is_left_out_once(self):
        left_out = {(row.action, row.text.split()[-1].rstrip("."))
                    for row in self.refused("MISSING_PARAMETER")}
        for action in self.actions.values():
            for member in self.shapes[action.input]:
                inner = self.shapes[member.element] if member.kind == "STRUCTS" else []
                for m in (member, *inner):
                    if m.required:
                        self.assertIn((action.name, m.json), left_out)

    def test_every_parameter_is_given_once(self):
        given = {action: set() for action in self.actions}
        for row in self.rows:
            if isinstance(row, Failed):
                given[row.action] |= {"QueueUrl", "Entries", *row.entry}
            elif row.action in given:
                given[row.action] |= set(row.given)
        for action in self.actions.values():
            inner = [m for member in self.shapes[action.input] if member.kind == "STRUCTS"
                     for m in self.shapes[member.element]]
            names = {m.json for m in (*self.shapes[action.input], *inner)}
            entry = set(ENTRY.get(action.name, {}))
            self.assertLessEqual(names, given[action.name] | entry, action.name)

    def test_every_attribute_is_refused_once(self):
        numbers = {a.name: (int(a.rest[1]), int(a.rest[2]))
                   for a in self.attributes.values() if a.kind == "NUMBER"}
        self.assertLessEqual(numbers.items(), sqs_refusals.RANGES.items())
        read_only = {a.name for a in self.attributes.values() if a.rest[-1].startswith("Read-only")}
        self.assertEqual(read_only, set(sqs_refusals.READ_ONLY))
        refused = {name for row in self.rows if isinstance(row, Refusal)
                   for name in row.given.get("Attributes", {})}
        self.assertLessEqual(set(self.attributes), refused)

    def test_differences_name_rows(self):
        known = {"ACTION": self.actions, "ATTRIBUTE": self.attributes, "ERROR": self.errors}
        found = sqs_tables.differences()
        self.assertTrue(found)
        for kind, name in found:
            self.assertIn(name, known[kind])

    def test_the_page_is_of_today(self):
        text = sqs_coverage.PAGE.read_text(encoding="utf-8")
        self.assertTrue(sqs_coverage.page(text) == text, f"docs/sqs.md is stale: {sqs_coverage.FIX}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        sqs_coverage.write()
    else:
        unittest.main()
