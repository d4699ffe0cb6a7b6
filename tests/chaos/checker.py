#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Judges histories of a message broker, from what its clients saw and nothing else.

    checker.py HISTORY... [--json] [--at-least N]

Reads files of one JSON line for each operation (README.md has the fields), all of one run and one
clock. Exit code 0: no promise was broken. 1: some were; each is printed with the operations that
show it. 2: the histories prove nothing (no end, too few acknowledged messages, a line that cannot
be read).

An operation took effect at some moment between its begin and its end, if it was answered `ok`; at
some moment after its begin or never, if `unknown`; never, if `fail`. A breach is reported only if
no choice of such moments excuses it.

| check | the promise |
|---|---|
| lost | an acknowledged message is received at least once before the queue is found empty |
| invented | what is received was sent to that queue, whole, not before it was sent, not if refused |
| twice | one send is one message: one id, that of the acknowledgement, however often it was tried |
| order | in a group nothing is received before what was sent earlier has been given to a delete |
| gone | what was deleted, and acknowledged as deleted, is not received afterwards |
| visibility | nothing is received while its lease or delay must still hold |
| count | receive counts grow with each lease, and not beyond what receives can explain |
| dead-letters | only what was received maxReceiveCount times is moved; what was never deleted is |
| answers | every message to a function is answered, and no other |
| backup | a restored backup has every message that was acknowledged before it began and not deleted |
| stuck | every queue can be drained when all is well again |
| counters | a drained queue says it is empty, and a settled one says how much comes out of it |
| errors | no client is refused for a reason that is not allowed |
| replicas | the nodes' data are sound, and what they hold at the same index is the same |
| crash | no program ended by itself |
"""

import argparse
import bisect
import json
import sys
from collections import defaultdict

SHOWN_MAX = 5
TOLERANCE_US = 5_000
SLEW = 0.001  # twice what the broker's clock may run too fast
EVERY = ("lost", "invented", "twice", "order", "gone", "visibility", "count", "dead-letters",
         "answers", "backup", "stuck", "counters", "errors", "replicas", "crash")
# Refusals that a client must bear, by operation.
ALLOWED = {
    "send": {"connect", "RequestThrottled", "ServiceUnavailable"},
    "receive": {"connect", "RequestThrottled", "OverLimit"},
    "delete": {"connect", "RequestThrottled", "InvalidParameterValue", "ServiceUnavailable"},
    "visibility": {"connect", "RequestThrottled", "InvalidParameterValue", "MessageNotInflight"},
}
ALLOWED_UNKNOWN = {"timeout", "broken", "ServiceUnavailable", "NotAnswered"}


class Unusable(Exception):
    pass


def read(paths):
    events = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    events.append(json.loads(line))
                except ValueError as error:
                    raise Unusable(f"{path}:{number}: {error}") from error
    return events


class Queue:
    def __init__(self, about):
        self.name = about["queue"]
        self.fifo = about.get("fifo", False)
        self.visibility_us = about.get("visibility_ms", 30000) * 1000
        self.max_receives = about.get("max_receives")
        self.dead_letters = about.get("dead_letters")
        self.answers = about.get("answers")
        self.sends = defaultdict(list)  # name: operations
        self.receives = []
        self.begins = []  # of receives, sorted; each may have taken a lease that nobody heard of
        self.ends = []
        self.deliveries = defaultdict(list)  # name: (receive, message in it)
        self.deletes = defaultdict(list)  # name: operations
        self.changes = defaultdict(list)  # handle: operations
        self.counts = []
        self.restored = []
        self.drained = None  # the operation; without it nothing can be said of what is missing

    def note_receive(self, receive):
        """A receive without an answer may have taken leases at any time after it began. One that is
        served twice, around a change of leader, gives one lease back; that counts as one too."""
        if receive["outcome"] != "fail":
            self.begins.append(receive["begin"])
        if receive["outcome"] == "ok":
            self.ends.append(receive["end"])

    def leases_at_most(self, since, until):
        """How many leases receives may have taken, at most, between two moments."""
        begun = bisect.bisect_left(self.begins, until)
        return 2 * (begun - bisect.bisect_left(self.ends, since))



class Checker:
    def __init__(self, events):
        self.events = events
        self.breaches = {check: [] for check in EVERY}
        self.queues = {e["queue"]: Queue(e) for e in events if e["op"] == "queue"}
        self.sort_events()
        self.sources = {q.dead_letters: q for q in self.queues.values() if q.dead_letters}
        self.questions = {q.answers: q for q in self.queues.values() if q.answers}

    def sort_events(self):
        for event in self.events:
            queue = self.queues.get(event.get("queue"))
            if queue is None:
                continue
            kind = event["op"]
            if kind == "send":
                queue.sends[event["name"]].append(event)
            elif kind == "receive":
                queue.receives.append(event)
                queue.note_receive(event)
                for message in event["messages"]:
                    queue.deliveries[message["name"]].append((event, message))
            elif kind == "delete":
                queue.deletes[event["name"]].append(event)
            elif kind == "visibility":
                queue.changes[event["handle"]].append(event)
            elif kind == "count":
                queue.counts.append(event)
            elif kind == "restored":
                queue.restored.append(event)
            elif kind == "drained":
                queue.drained = event
        for queue in self.queues.values():
            queue.begins.sort()
            queue.ends.sort()

    def breach(self, check, what, *shown):
        self.breaches[check].append((what, shown))

    def run(self):
        for queue in self.queues.values():
            self.check_lost(queue)
            self.check_invented(queue)
            self.check_twice(queue)
            self.check_gone(queue)
            self.check_leases(queue)
            if queue.fifo:
                self.check_order(queue)
            if queue.dead_letters:
                self.check_dead_letters(queue, self.queues[queue.dead_letters])
            if queue.answers:
                self.check_answers(queue, self.queues[queue.answers])
            self.check_counters(queue)
            for restored in queue.restored:
                self.check_backup(queue, restored)
        self.check_errors()
        self.check_replicas()
        return self

    # ---- each message ----

    def check_lost(self, queue):
        """Messages that a function takes are judged by their answers."""
        if queue.answers or not queue.drained:
            return
        dead = self.queues[queue.dead_letters].deliveries if queue.dead_letters else {}
        for name, sends in queue.sends.items():
            acknowledged = [s for s in sends if s["outcome"] == "ok"]
            if acknowledged and name not in queue.deliveries and name not in dead:
                self.breach("lost", f"{name} was acknowledged and never received", *acknowledged)

    def check_backup(self, queue, restored):
        """What a function takes may be gone by then; what was set aside is in the other queue."""
        found = set(restored["names"])
        for name in found:
            if not self.sends_of(queue, name) and not self.is_answer(queue):
                self.breach("backup", f"{name} was restored and never sent", restored)
        if queue.answers:
            return
        if queue.dead_letters:
            for other in self.queues[queue.dead_letters].restored:
                found |= set(other["names"])
        for name, sends in queue.sends.items():
            before = [s for s in sends if s["outcome"] == "ok" and s["end"] < restored["taken"]]
            tried = [d for d in self.deletes_of(queue, name) if d["begin"] < restored["done"]]
            if before and not tried and name not in found:
                self.breach("backup", f"{name} was acknowledged before the backup, and is not in it",
                            *before)

    def is_answer(self, queue):
        return any(q.answers == queue.name for q in self.queues.values())

    def deletes_of(self, queue, name):
        dead = self.queues.get(queue.dead_letters)
        return queue.deletes[name] + (dead.deletes[name] if dead else [])

    def sends_of(self, queue, name):
        """The sends that explain a message in this queue."""
        found = list(queue.sends.get(name, []))
        source = self.sources.get(queue.name)
        if source is not None:
            found += source.sends.get(name, [])
        question = self.questions.get(queue.name)
        if question is not None and name.startswith("answer:"):
            found += question.sends.get(name.removeprefix("answer:"), [])
        return found

    def sent_at(self, queue, name):
        """The earliest moment at which it may have been there."""
        sends = [s["begin"] for s in self.sends_of(queue, name) if s["outcome"] != "fail"]
        return min(sends, default=0)

    def check_invented(self, queue):
        for name, deliveries in queue.deliveries.items():
            sends = self.sends_of(queue, name)
            possible = [s for s in sends if s["outcome"] != "fail"]
            receive, message = deliveries[0]
            if not sends:
                self.breach("invented", f"{name} was never sent", receive)
            elif not possible:
                self.breach("invented", f"{name} came though its send failed", receive, *sends)
            if not possible:
                continue
            if not name.startswith("answer:"):
                for receive, message in deliveries:
                    if message["body"] != possible[0]["body"]:
                        self.breach("invented", f"{name} has another body", receive, *sends)
            first = min(s["begin"] for s in possible)
            for receive, message in deliveries:
                if receive["end"] < first:
                    self.breach("invented", f"{name} came before it was sent", receive, *sends)

    def check_twice(self, queue):
        """A repeated send carries the same name only where it is deduplicated."""
        if queue.name in self.questions:
            return
        for name, deliveries in queue.deliveries.items():
            ids = {message["id"] for _, message in deliveries}
            ids |= {s["id"] for s in self.sends_of(queue, name) if s.get("id")}
            if len(ids) > 1:
                shown = [receive for receive, _ in deliveries]
                self.breach("twice", f"{name} is {len(ids)} messages: {sorted(ids)}", *shown)

    def check_gone(self, queue):
        for name, deletes in queue.deletes.items():
            by_id = {d["id"]: d for d in deletes if d["outcome"] == "ok"}
            for receive, message in queue.deliveries.get(name, []):
                delete = by_id.get(message["id"])
                if delete is not None and receive["begin"] > delete["end"]:
                    self.breach("gone", f"{name} came after its deletion", delete, receive)

    # ---- leases ----

    def check_leases(self, queue):
        for name, deliveries in queue.deliveries.items():
            by_id = defaultdict(list)
            for delivery in deliveries:
                by_id[delivery[1]["id"]].append(delivery)
            for leases in by_id.values():
                leases.sort(key=lambda lease: (lease[1]["count"], lease[0]["end"]))
                self.check_delay(queue, name, leases[0])
                self.check_lease_times(queue, name, leases)
                self.check_lease_counts(queue, name, leases)

    def check_delay(self, queue, name, lease):
        sends = [s for s in queue.sends.get(name, []) if s["outcome"] != "fail"]
        for send in sends[:1]:
            visible = send["begin"] + allowance(send.get("delay_ms", 0) * 1000)
            if send.get("delay_ms") and lease[0]["end"] < visible:
                self.breach("visibility", f"{name} came before its delay", send, lease[0])

    def check_lease_times(self, queue, name, leases):
        """The leases of one message, in the order of their counts: each begins after the one
        before must have ended. A lease begins not before its receive did, the message was sent or
        the lease before ended, whichever is last: a long poll may have waited for it."""
        held_until = self.sent_at(queue, name)
        before = None
        for receive, message in leases:
            if before is not None and receive["end"] < held_until:
                early_ms = (held_until - receive["end"]) // 1000
                self.breach("visibility", f"{name} came {early_ms} ms too early", before, receive)
            begun = max(receive["begin"], held_until)
            held_until = self.lease_end(queue, receive, message, begun)
            before = receive

    def lease_end(self, queue, receive, message, begun):
        """The earliest moment at which this lease may have ended."""
        visibility_us = receive.get("visibility_ms")
        visibility_us = queue.visibility_us if visibility_us is None else visibility_us * 1000
        end = begun + allowance(visibility_us)
        for change in sorted(queue.changes.get(message["handle"], []), key=lambda c: c["begin"]):
            changed = change["begin"] + allowance(change["timeout_ms"] * 1000)
            if change["outcome"] == "ok":
                end = changed
            elif change["outcome"] == "unknown":
                end = min(end, changed)
        return end

    def check_lease_counts(self, queue, name, leases):
        for (a, first), (b, second) in zip(leases, leases[1:]):
            if first["count"] == second["count"]:
                self.breach("count", f"{name} has the count {first['count']} twice", a, b)
            elif b["end"] < a["begin"]:
                self.breach("count", f"{name} counts backwards", a, b)
        for receive, message in leases:
            possible = queue.leases_at_most(self.sent_at(queue, name), receive["end"])
            if message["count"] > possible and queue.name not in self.sources:
                self.breach("count", f"{name} has the count {message['count']}, but there were "
                            f"{possible} possible leases", receive)
            if queue.max_receives is not None and message["count"] > queue.max_receives:
                self.breach("count", f"{name} was received more than maxReceiveCount", receive)

    # ---- groups ----

    def check_order(self, queue):
        groups = defaultdict(dict)  # group: {name: first begin of a send}, in the order of sending
        for name, sends in queue.sends.items():
            groups[sends[0]["group"]][name] = min(s["begin"] for s in sends)
        places = {}
        for group, names in groups.items():
            ordered = sorted(names, key=names.get)
            places.update({name: (group, place) for place, name in enumerate(ordered)})
            groups[group] = ordered
            self.check_sequences(queue, ordered)
        given = {
            name: min(d["begin"] for d in deletes if d["outcome"] != "fail")
            for name, deletes in queue.deletes.items()
            if any(d["outcome"] != "fail" for d in deletes)
        }
        settled = {group: Settled(queue, names, given) for group, names in groups.items()}
        for receive in queue.receives:
            self.check_order_of(queue, receive, places, settled)

    def check_sequences(self, queue, ordered):
        last = None
        for name in ordered:
            for send in queue.sends[name]:
                if send.get("sequence") is None:
                    continue
                if last is not None and int(send["sequence"]) < int(last["sequence"]):
                    self.breach("order", f"{name} has a smaller sequence number", last, send)
                last = send

    def check_order_of(self, queue, receive, places, settled):
        found = defaultdict(list)
        for message in receive["messages"]:
            if message["name"] in places:
                group, place = places[message["name"]]
                found[group].append(place)
        for group, received in found.items():
            if received != sorted(set(received)):
                self.breach("order", f"{group}: one receive has {received}", receive)
            for name in settled[group].overtaken(received, receive["end"]):
                self.breach("order", f"{group}: {name} was overtaken by number {max(received)}",
                            *queue.sends[name][-1:], receive)

    # ---- what moves ----

    def check_dead_letters(self, queue, dead):
        for name, deliveries in dead.deliveries.items():
            leases = queue.deliveries.get(name, [])
            receive, message = deliveries[0]
            possible = queue.leases_at_most(self.sent_at(queue, name), receive["end"])
            if possible < queue.max_receives:
                self.breach("dead-letters", f"{name} was set aside after {possible} receives of "
                            f"{queue.max_receives}", receive, *[lease for lease, _ in leases])
            for delete in queue.deletes.get(name, []):
                if delete["outcome"] == "ok" and not self.may_have_moved(queue, name, delete):
                    self.breach("dead-letters", f"{name} was deleted, then set aside", delete,
                                receive)
            moved = min(r["end"] for r, _ in deliveries)
            for lease, _ in leases:
                if lease["begin"] > moved:
                    self.breach("dead-letters", f"{name} came back from there", receive, lease)
        for name, sends in queue.sends.items() if dead.drained else ():
            kept = not any(d["outcome"] != "fail" for d in queue.deletes.get(name, []))
            acknowledged = any(s["outcome"] == "ok" for s in sends)
            if acknowledged and kept and name not in dead.deliveries:
                self.breach("dead-letters", f"{name} was never deleted and is not there", *sends)

    def may_have_moved(self, queue, name, delete):
        """Whether the message may have been set aside before this delete, which then found nothing
        and said yes: all its leases must have been taken, and the last have ended."""
        before = [lease for lease in queue.deliveries.get(name, [])
                  if lease[0]["begin"] < delete["end"]]
        possible = queue.leases_at_most(self.sent_at(queue, name), delete["end"])
        if possible < queue.max_receives:
            return False
        if possible > 2 * len(before) or len(before) != queue.max_receives:
            return True
        receive, message = max(before, key=lambda lease: lease[1]["count"])
        return self.lease_end(queue, receive, message, receive["begin"]) < delete["end"]

    def check_answers(self, queue, answers):
        for name, sends in queue.sends.items() if answers.drained else ():
            acknowledged = [s for s in sends if s["outcome"] == "ok"]
            if acknowledged and "answer:" + name not in answers.deliveries:
                self.breach("answers", f"{name} was acknowledged and never answered", *acknowledged)

    # ---- the whole queue ----

    def check_counters(self, queue):
        for count in queue.counts:
            total = count["visible"] + count["in_flight"] + count["delayed"]
            if count["when"] == "settled":
                # Nothing is in flight and nobody sends: exactly this comes out from now on.
                later = {
                    message["id"]
                    for receive in queue.receives
                    if receive["end"] > count["begin"]
                    for message in receive["messages"]
                }
                late = self.unresolved(queue)
                if not len(later) - late <= total <= len(later):
                    self.breach("counters", f"{queue.name} said {total}, gave {len(later)}", count)
            elif count["when"] == "drained" and total > self.unresolved(queue):
                self.breach("counters", f"{queue.name} is drained and says {total}", count)

    def unresolved(self, queue):
        """Messages of sends without an answer: they may come at any time, also very late."""
        sends = [queue.sends]
        if queue.name in self.sources:
            sends.append(self.sources[queue.name].sends)
        return sum(
            all(s["outcome"] != "ok" for s in tried) and any(s["outcome"] == "unknown" for s in tried)
            for names in sends for tried in names.values()
        )

    def check_errors(self):
        for event in self.events:
            kind = event["op"]
            if kind == "crash":
                self.breach("crash", f"{event['host']} ended by itself", event)
            elif kind == "drained" and event["outcome"] != "ok":
                self.breach("stuck", f"{event['queue']} was not drained", event)
            elif kind in ALLOWED and event["outcome"] != "ok":
                unknown = event["outcome"] == "unknown"
                allowed = ALLOWED_UNKNOWN if unknown else ALLOWED[kind]
                if event.get("error") not in allowed:
                    self.breach("errors", f"{kind}: {event.get('error')}", event)

    def check_replicas(self):
        first = {}  # (shard, index): replica
        for replica in [event for event in self.events if event["op"] == "replica"]:
            if replica["problems"]:
                self.breach("replicas", f"{replica['node']}: {replica['problems'][0]}", replica)
            other = first.setdefault((replica["shard"], replica["index"]), replica)
            if other["digest"] != replica["digest"]:
                what = (f"{other['node']} and {replica['node']} differ at {replica['index']} of "
                        f"{replica['shard']}")
                self.breach("replicas", what, other, replica)

    # ---- what the histories are worth ----

    def worth(self, at_least):
        """Why they prove nothing, or None."""
        for queue in self.queues.values():
            if queue.drained is None:
                return f"{queue.name}: the history has no end"
        acknowledged = self.summary()["acknowledged"]
        if acknowledged < max(1, at_least):
            return f"only {acknowledged} messages were acknowledged"
        return None

    def summary(self):
        sends = [s for q in self.queues.values() for ss in q.sends.values() for s in ss]
        receives = [r for q in self.queues.values() for r in q.receives]
        outcome = lambda events, which: sum(e["outcome"] == which for e in events)
        return {
            "acknowledged": outcome(sends, "ok"),
            "sends_unknown": outcome(sends, "unknown"),
            "sends_failed": outcome(sends, "fail"),
            "receives": outcome(receives, "ok"),
            "receives_unknown": outcome(receives, "unknown"),
            "deliveries": sum(len(r["messages"]) for r in receives),
            "breaches": {check: len(found) for check, found in self.breaches.items() if found},
        }


class Settled:
    """Of one group: when the messages before a place had been given to a delete, at the latest."""

    def __init__(self, queue, names, given):
        self.names = names
        self.given = []
        for name in names:
            # What was never acknowledged need not exist.
            exists = name in queue.deliveries or any(
                send["outcome"] == "ok" for send in queue.sends[name]
            )
            self.given.append(given.get(name, float("inf")) if exists else 0)
        self.before = [0]
        for moment in self.given:
            self.before.append(max(self.before[-1], moment))

    def overtaken(self, places, end):
        """Names before the last of `places` that are none of them and were still there at `end`."""
        place = max(places)
        while place > 0 and self.before[place] > end:
            place -= 1
            if place not in places and self.given[place] > end:
                yield self.names[place]


def allowance(microseconds):
    """How long at least, by a clock that may run a little faster."""
    return max(0, microseconds * (1 - SLEW) - TOLERANCE_US) if microseconds > 0 else 0


def show(checker, shown_max=SHOWN_MAX):
    for check, breaches in checker.breaches.items():
        for what, events in breaches[:shown_max]:
            print(f"BREACH {check}: {what}")
            for event in events[:6]:
                print("    " + json.dumps(brief(event)))
        if len(breaches) > shown_max:
            print(f"BREACH {check}: and {len(breaches) - shown_max} more")


def brief(event):
    messages = event.get("messages")
    if messages and len(messages) > 4:
        return {**event, "messages": messages[:4] + [f"{len(messages) - 4} more"]}
    return event


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("history", nargs="+")
    parser.add_argument("--json", action="store_true", help="the verdict as one line of JSON")
    parser.add_argument("--at-least", type=int, default=1, help="acknowledged messages wanted")
    options = parser.parse_args(arguments)
    try:
        checker = Checker(read(options.history)).run()
    except (Unusable, OSError, KeyError) as error:
        print(f"UNUSABLE: {error!r}")
        return 2
    show(checker)
    summary = checker.summary()
    worthless = checker.worth(options.at_least)
    verdict = "broken" if summary["breaches"] else "unusable" if worthless else "kept"
    print(json.dumps({"verdict": verdict, "why": worthless, **summary}) if options.json
          else f"{verdict}: " + ", ".join(f"{value} {key}" for key, value in summary.items()))
    if worthless:
        print(f"UNUSABLE: {worthless}")
    return {"kept": 0, "broken": 1, "unusable": 2}[verdict]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
