#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does the checker bite? Takes the histories of a good run, breaks one promise in them at a time,
and looks whether the checker says so.

    bite.py HISTORY...

Each mutation is a function that is given the events and changes them as a broken broker would have
made them look; its row says under which check it must be found. Prints a line for each; exit code 1
if one was not caught, or if the histories hold nothing that it could be tried on.
"""

import copy
import sys

import checker


def receives_of(events, queue):
    return [e for e in events if e["op"] == "receive" and e.get("queue") == queue]


def named(events, op, queue, outcome="ok"):
    """{name: first operation of that kind}"""
    found = {}
    for event in events:
        if event["op"] == op and event.get("queue") == queue and event["outcome"] == outcome:
            found.setdefault(event["name"], event)
    return found


def deliveries(events, queue):
    """{name: [(receive, message)]} in the order of time"""
    found = {}
    for receive in sorted(receives_of(events, queue), key=lambda r: r["end"]):
        for message in receive["messages"]:
            found.setdefault(message["name"], []).append((receive, message))
    return found


def forget(events, queue, name):
    for receive in receives_of(events, queue):
        receive["messages"] = [m for m in receive["messages"] if m["name"] != name]


def queue_where(events, wanted):
    return next(e for e in events if e["op"] == "queue" and wanted(e))["queue"]


def fifo(events):
    return queue_where(events, lambda q: q["fifo"])


def plain(events):
    special = {q["answers"] for q in events if q["op"] == "queue"}
    special |= {q["dead_letters"] for q in events if q["op"] == "queue"}
    return queue_where(events, lambda q: not q["fifo"] and not q["answers"]
                       and not q["dead_letters"] and q["queue"] not in special)


def with_dead_letters(events):
    return queue_where(events, lambda q: q["dead_letters"])


def dead_letters(events):
    return next(e["dead_letters"] for e in events if e["op"] == "queue" and e["dead_letters"])


def again(events, receive, message, begin, end, **changes):
    """Another receive that has this message."""
    more = {**receive, "begin": begin, "end": end, "outcome": "ok"}
    more["messages"] = [{**message, "handle": "another", "count": message["count"] + 1, **changes}]
    events.append(more)


# ---- the mutations ----


def lost_acknowledgement(events):
    queue = plain(events)
    forget(events, queue, next(iter(named(events, "send", queue))))


def lost_in_a_group(events):
    queue = fifo(events)
    forget(events, queue, next(iter(named(events, "send", queue))))


def reordered(events):
    """Two messages of a group that were received apart change places."""
    queue = fifo(events)
    found = deliveries(events, queue)
    groups = {}
    for name, send in named(events, "send", queue).items():
        if len(found.get(name, [])) == 1:
            groups.setdefault(send["group"], []).append(name)
    first, second = next(
        (a, b) for names in groups.values() for a, b in zip(names, names[1:])
        if found[a][0][0] is not found[b][0][0]
    )
    (a, one), (b, other) = found[first][0], found[second][0]
    a["messages"][a["messages"].index(one)] = other
    b["messages"][b["messages"].index(other)] = one


def stored_twice(events):
    """A repeated send was not recognised: the message comes with a second id."""
    receive, message = next(iter(deliveries(events, fifo(events)).values()))[0]
    again(events, receive, message, receive["end"] + 10**8, receive["end"] + 10**8 + 1,
          id="another", count=1)


def received_after_its_deletion(events):
    queue = fifo(events)
    for name, delete in named(events, "delete", queue).items():
        receive, message = deliveries(events, queue)[name][-1]
        again(events, receive, message, delete["end"] + 10**8, delete["end"] + 10**8 + 1)
        return


def redelivered_early(events):
    """Between a receive and its delete another consumer has the message too."""
    queue = plain(events)
    for name, delete in named(events, "delete", queue).items():
        receive, message = deliveries(events, queue)[name][-1]
        if delete["handle"] == message["handle"] and delete["end"] - receive["begin"] < 10**6:
            again(events, receive, message, receive["end"], receive["end"] + 1)
            return
    raise LookupError("no quick delete")


def delay_ignored(events):
    send = next(e for e in events if e["op"] == "send" and e.get("delay_ms") and
                e["outcome"] == "ok")
    found = deliveries(events, send["queue"])[send["name"]]
    receive, message = found[0]
    begin = send["end"]
    receive["messages"].remove(message)
    more = {**receive, "begin": begin, "end": begin + 1, "messages": [message]}
    events.append(more)


def invented(events):
    receive = next(r for r in receives_of(events, plain(events)) if r["messages"])
    receive["messages"].append({**receive["messages"][0], "name": "nobody/m1", "id": "invented"})


def refused_but_stored(events):
    send = next(iter(named(events, "send", plain(events)).values()))
    send["outcome"], send["error"] = "fail", "ServiceUnavailable"


def damaged(events):
    receive = next(r for r in receives_of(events, plain(events)) if r["messages"])
    receive["messages"][0]["body"] = "0000000000000000"


def count_forgotten(events):
    """The count of a message that came twice begins again."""
    for queue in (plain(events), with_dead_letters(events)):
        for found in deliveries(events, queue).values():
            if len(found) > 1:
                found[1][1]["count"] = found[0][1]["count"]
                return
    raise LookupError("nothing came twice")


def set_aside_early(events):
    """A message is found among the dead letters at the moment when it is sent."""
    source, dead = with_dead_letters(events), dead_letters(events)
    receive, message = next(iter(deliveries(events, dead).values()))[0]
    name = message["name"]
    receive["messages"].remove(message)
    send = named(events, "send", source)[name]
    for other in receives_of(events, source):
        if other["begin"] < send["begin"] < other["end"]:
            other["end"] = send["begin"] - 1  # a poll that waits could have had it
        if other["outcome"] == "unknown":
            other.update(outcome="fail", error="connect")
    again(events, receive, message, send["begin"], send["begin"] + 1)


def dead_letter_lost(events):
    dead = dead_letters(events)
    forget(events, dead, next(iter(deliveries(events, dead))))


def answer_lost(events):
    answers = next(e["answers"] for e in events if e["op"] == "queue" and e["answers"])
    forget(events, answers, next(iter(deliveries(events, answers))))


def miscounted(events):
    next(e for e in events if e["op"] == "count" and e["when"] == "settled")["visible"] += 1


def queue_gone(events):
    receive = next(r for r in receives_of(events, plain(events)))
    receive.update(outcome="fail", error="QueueDoesNotExist", messages=[])


def replica_differs(events):
    replica = next(e for e in events if e["op"] == "replica")
    events.append({**replica, "node": "another", "digest": "0000000000000000"})


def missing_in_a_backup(events):
    """One that was taken between an acknowledgement and the first try to delete."""
    queue = plain(events)
    deletes = named(events, "delete", queue)
    send = next(s for name, s in named(events, "send", queue).items()
                if name in deletes and s["end"] + 2 < deletes[name]["begin"])
    events.append({"op": "restored", "queue": queue, "names": [], "taken": send["end"] + 1,
                   "done": send["end"] + 2})


MUTATIONS = [
    (lost_acknowledgement, "lost"),
    (lost_in_a_group, "lost"),
    (reordered, "order"),
    (stored_twice, "twice"),
    (received_after_its_deletion, "gone"),
    (redelivered_early, "visibility"),
    (delay_ignored, "visibility"),
    (invented, "invented"),
    (refused_but_stored, "invented"),
    (damaged, "invented"),
    (count_forgotten, "count"),
    (set_aside_early, "dead-letters"),
    (dead_letter_lost, "dead-letters"),
    (answer_lost, "answers"),
    (miscounted, "counters"),
    (queue_gone, "errors"),
    (replica_differs, "replicas"),
    (missing_in_a_backup, "backup"),
]


def caught(events, mutation, check):
    """Whether the checker finds the mutation, under the right name. The events stay as they are."""
    changed = copy.deepcopy(events)
    mutation(changed)
    return bool(checker.Checker(changed).run().breaches[check])


def main(paths):
    events = checker.read(paths)
    missed = 0
    for mutation, check in MUTATIONS:
        name = mutation.__name__.replace("_", " ")
        try:
            found = "caught" if caught(events, mutation, check) else "MISSED"
        except (LookupError, StopIteration) as error:
            found = f"NOTHING TO TRY IT ON ({error!r})"
        missed += found != "caught"
        print(f"{name}: {found}, as {check}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
