#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The checker is right about small histories: silent where a promise was kept however strange it
looks, and loud where one was broken. bite.py does the latter on the histories of real runs; here
it is given a small one that holds all that it needs."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import bite
import checker

SECOND = 1_000_000
HERE = pathlib.Path(__file__).resolve().parent


class Story:
    """A history told in seconds: each operation takes a millisecond unless told otherwise."""

    def __init__(self):
        self.events = []
        self.counts = {}
        self.queue("plain")
        self.queue("group.fifo", fifo=True)
        self.queue("dead")
        self.queue("source", max_receives=2, dead_letters="dead")
        self.queue("results")
        self.queue("asked", answers="results")

    def queue(self, name, **about):
        row = {"op": "queue", "queue": name, "fifo": False, "visibility_ms": 3000}
        row.update(max_receives=None, dead_letters=None, answers=None)
        self.events.append({**row, **about})

    def do(self, op, queue, at, lasts=0.001, outcome="ok", **fields):
        event = {"op": op, "queue": queue, "client": "c", "node": "n1", "outcome": outcome}
        event.update(begin=int(at * SECOND), end=int((at + lasts) * SECOND), **fields)
        if outcome == "unknown":
            event.setdefault("error", "timeout")
        if outcome == "fail":
            event.setdefault("error", "connect")
        self.events.append(event)
        return event

    def send(self, queue, name, at, **fields):
        if fields.get("outcome", "ok") == "ok":
            fields.setdefault("id", "id-" + name)
        return self.do("send", queue, at, name=name, body="body-" + name, **fields)

    def receive(self, queue, names, at, visibility_ms=3000, **fields):
        messages = [self.message(queue, name) for name in names]
        return self.do("receive", queue, at, visibility_ms=visibility_ms, messages=messages,
                       **fields)

    def message(self, queue, name):
        self.counts[queue, name] = count = self.counts.get((queue, name), 0) + 1
        asked = name.removeprefix("answer:")
        return {"name": name, "body": "body-" + asked, "id": "id-" + name, "count": count,
                "handle": f"{queue}/{name}/{count}"}

    def delete(self, queue, name, at, **fields):
        handle = f"{queue}/{name}/{self.counts[queue, name]}"
        return self.do("delete", queue, at, name=name, id="id-" + name, handle=handle, **fields)

    def change(self, queue, name, at, timeout_ms, **fields):
        handle = f"{queue}/{name}/{self.counts[queue, name]}"
        return self.do("visibility", queue, at, name=name, id="id-" + name, handle=handle,
                       timeout_ms=timeout_ms, **fields)

    def end(self, at=1000):
        for queue in ("plain", "group.fifo", "dead", "source", "results", "asked"):
            self.do("drained", queue, at)
            self.count(queue, at, "drained", 0)
        for node in ("n1", "n2"):
            self.replica(node, 7, "aa")

    def count(self, queue, at, when, visible):
        self.do("count", queue, at, when=when, visible=visible, in_flight=0, delayed=0)

    def replica(self, node, index, digest, problems=(), shard="shard-0"):
        event = {"op": "replica", "node": node, "shard": shard, "index": index, "digest": digest}
        self.events.append({**event, "problems": list(problems)})

    def breaches(self):
        return set(checker.Checker(self.events).run().summary()["breaches"])


def good_story():
    """Everything that the mutations need, and nothing wrong."""
    story = Story()
    for number in range(3):
        story.send("plain", f"p{number}", 1 + number, delay_ms=1000 if number == 2 else 0)
        story.receive("plain", [f"p{number}"], 5 + number)
        story.delete("plain", f"p{number}", 5.1 + number)
        story.send("group.fifo", f"g{number}", 1 + number, group="g", sequence=str(number))
        story.receive("group.fifo", [f"g{number}"], 5 + number)
        story.delete("group.fifo", f"g{number}", 5.1 + number)
    story.send("source", "s1", 1)
    story.send("source", "bad", 1)
    story.receive("source", ["s1", "bad"], 2)
    story.delete("source", "s1", 2.1)
    story.receive("source", ["bad"], 6)
    story.send("asked", "q1", 1)
    story.receive("results", ["answer:q1"], 3)
    story.delete("results", "answer:q1", 3.1)
    story.count("dead", 500, "settled", 1)
    story.receive("dead", ["bad"], 600)
    story.delete("dead", "bad", 600.1)
    story.end()
    return story


class SilentTest(unittest.TestCase):
    """What looks strange and is right."""

    def setUp(self):
        self.story = Story()

    def assert_kept(self):
        self.story.end()
        self.assertEqual(self.story.breaches(), set())

    def test_a_good_story(self):
        self.assertEqual(good_story().breaches(), set())

    def test_an_unknown_send_may_come_or_not(self):
        self.story.send("plain", "a", 1, outcome="unknown")
        self.story.send("plain", "b", 1, outcome="unknown")
        self.story.receive("plain", ["b"], 90)
        self.story.delete("plain", "b", 90.1)
        self.assert_kept()

    def test_an_unknown_delete_may_have_worked_or_not(self):
        for name, times in (("a", 1), ("b", 2)):
            self.story.send("plain", name, 1)
            for at in range(times):
                self.story.receive("plain", [name], 10 + at * 10)
                self.story.delete("plain", name, 10.1 + at * 10, outcome="unknown")
        self.assert_kept()

    def test_a_lease_may_end_on_time(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10)
        self.story.receive("plain", ["a"], 13.0)
        self.assert_kept()

    def test_a_long_poll_takes_its_lease_late(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10, lasts=2)
        self.story.receive("plain", ["a"], 11, lasts=3)
        self.assert_kept()

    def test_what_is_given_back_comes_at_once(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10)
        self.story.change("plain", "a", 10.5, 0)
        self.story.receive("plain", ["a"], 10.6)
        self.story.change("plain", "a", 10.7, 0, outcome="unknown")
        self.story.receive("plain", ["a"], 10.8)
        self.assert_kept()

    def test_a_receive_begun_before_a_deletion_may_end_after_it(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10)
        deleted = self.story.delete("plain", "a", 14)
        self.story.receive("plain", ["a"], 13.5, lasts=2)
        deleted["handle"] = "plain/a/1"
        self.assert_kept()

    def test_receives_without_an_answer_count(self):
        self.story.send("source", "a", 1)
        for at in (2, 10):
            self.story.receive("source", [], at, outcome="unknown")
        self.story.receive("dead", ["a"], 20)
        self.assert_kept()

    def test_what_a_receive_found_too_late_it_gives_back(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", [], 0.5, lasts=1)
        self.story.counts["plain", "a"] = 1
        self.story.receive("plain", ["a"], 2)
        self.assert_kept()

    def test_a_late_delete_finds_nothing_and_says_yes(self):
        self.story.send("source", "a", 1)
        self.story.receive("source", ["a"], 2)
        self.story.receive("source", ["a"], 6)
        self.story.delete("source", "a", 12)
        self.story.receive("dead", ["a"], 20)
        self.assert_kept()

    def test_replicas_at_another_index_differ(self):
        self.story.replica("n3", 6, "bb")
        self.assert_kept()

    def test_replicas_of_another_shard_differ(self):
        self.story.replica("n3", 7, "bb", shard="shard-1")
        self.assert_kept()

    def test_a_send_that_is_repeated_is_one_message(self):
        self.story.send("group.fifo", "a", 1, group="g", outcome="unknown")
        self.story.send("group.fifo", "a", 2, group="g", outcome="fail")
        self.story.send("group.fifo", "a", 3, group="g", sequence="7")
        self.story.send("group.fifo", "b", 4, group="g", sequence="8")
        self.story.receive("group.fifo", ["a", "b"], 5)
        self.assert_kept()

    def test_a_group_goes_on_behind_a_delete_without_an_answer(self):
        self.story.send("group.fifo", "a", 1, group="g")
        self.story.send("group.fifo", "b", 2, group="g")
        self.story.receive("group.fifo", ["a"], 5)
        self.story.delete("group.fifo", "a", 5.1, lasts=12, outcome="unknown")
        self.story.receive("group.fifo", ["b"], 5.2)
        self.assert_kept()


class LoudTest(unittest.TestCase):
    """What looks right and is not."""

    def setUp(self):
        self.story = Story()

    def assert_broken(self, check):
        self.story.end()
        self.assertEqual(self.story.breaches(), {check})

    def test_a_little_too_early(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10)
        self.story.receive("plain", ["a"], 12.95)
        self.assert_broken("visibility")

    def test_an_extension_that_did_not_hold(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", ["a"], 10)
        self.story.change("plain", "a", 12, 5000)
        self.story.receive("plain", ["a"], 14)
        self.assert_broken("visibility")

    def test_a_hole_in_one_receive(self):
        for number, name in enumerate("abc"):
            self.story.send("group.fifo", name, 1 + number, group="g")
        self.story.receive("group.fifo", ["a", "c"], 9)
        self.story.delete("group.fifo", "a", 10)
        self.story.delete("group.fifo", "c", 10)
        self.story.receive("group.fifo", ["b"], 11)
        self.assert_broken("order")

    def test_the_next_while_the_first_is_in_flight(self):
        for number, name in enumerate("ab"):
            self.story.send("group.fifo", name, 1 + number, group="g")
        self.story.receive("group.fifo", ["a"], 9)
        self.story.receive("group.fifo", ["b"], 10)
        self.story.delete("group.fifo", "a", 11)
        self.assert_broken("order")

    def test_a_count_that_nothing_explains(self):
        self.story.send("plain", "a", 1)
        self.story.receive("plain", [], 0.5, lasts=0.4)
        self.story.counts["plain", "a"] = 2
        self.story.receive("plain", ["a"], 9)
        self.assert_broken("count")

    def test_deleted_in_time_and_set_aside_all_the_same(self):
        self.story.send("source", "a", 1)
        self.story.receive("source", ["a"], 2)
        self.story.receive("source", ["a"], 6)
        self.story.delete("source", "a", 7)
        self.story.receive("dead", ["a"], 20)
        self.assert_broken("dead-letters")

    def test_a_queue_that_cannot_be_drained(self):
        self.story.end()
        self.story.do("drained", "plain", 2000, outcome="fail")
        self.assertEqual(self.story.breaches(), {"stuck"})

    def backup(self, names, deleted_at=9):
        """`kept` was there when the backup was taken, from 4 to 5."""
        story = Story()
        story.send("plain", "kept", 1)
        story.receive("plain", ["kept"], deleted_at - 1)
        story.delete("plain", "kept", deleted_at)
        story.events.append({"op": "restored", "queue": "plain", "names": names,
                             "taken": 4 * SECOND, "done": 5 * SECOND})
        story.end()
        return story.breaches()

    def test_a_backup_has_what_was_there(self):
        self.assertEqual(self.backup(["kept"]), set())
        self.assertEqual(self.backup([]), {"backup"})
        self.assertEqual(self.backup([], deleted_at=4.5), set())
        self.assertEqual(self.backup(["kept"], deleted_at=3), set())  # an old backup is one, too
        self.assertEqual(self.backup(["kept", "other"]), {"backup"})

    def test_replicas_of_a_queue_shard_differ(self):
        self.story.replica("n1", 7, "bb", shard="shard-1")
        self.story.replica("n3", 7, "cc", shard="shard-1")
        self.assert_broken("replicas")

    def test_damaged_data(self):
        self.story.replica("n3", 8, "cc", ["a hole"])
        self.assert_broken("replicas")

    def test_a_crash(self):
        self.story.events.append({"op": "crash", "host": "n1"})
        self.assert_broken("crash")


class BiteTest(unittest.TestCase):
    def test_each_mutation_is_caught(self):
        events = good_story().events
        for mutation, check in bite.MUTATIONS:
            with self.subTest(mutation.__name__):
                self.assertTrue(bite.caught(events, mutation, check))


class ProgramTest(unittest.TestCase):
    def check(self, events):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "history")
            with open(path, "w", encoding="utf-8") as out:
                out.writelines(
                    line if isinstance(line, str) else json.dumps(line) + "\n" for line in events
                )
            command = [sys.executable, "-B", str(HERE / "checker.py"), "--json", path]
            return subprocess.run(command, capture_output=True, encoding="utf-8")

    def test_exit_codes(self):
        story = good_story()
        kept = self.check(story.events)
        self.assertEqual((kept.returncode, json.loads(kept.stdout)["verdict"]), (0, "kept"))
        story.receive("plain", ["never-sent"], 3)
        broken = self.check(story.events)
        self.assertEqual(broken.returncode, 1)
        self.assertIn("BREACH invented: never-sent was never sent", broken.stdout)

    def test_histories_that_prove_nothing(self):
        empty = Story()
        empty.end()
        without_end = [e for e in good_story().events if e["op"] != "drained"]
        for events in (empty.events, without_end, [], ["{"]):
            self.assertEqual(self.check(events).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
