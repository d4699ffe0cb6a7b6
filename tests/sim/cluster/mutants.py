#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Versions of the engine that are wrong in one place, to prove that the simulation notices.

    mutants.py --list               NAME:FILES:RUN, a line for each; FILES have commas between them,
                                    RUN are arguments of cluster_sim
    mutants.py NAME FILE ROOT OUT   write one of its files, mutated

A mutation replaces one piece of text, which must stand in its file exactly once; where two parts of
the engine prevent the same, it takes both away. Where a text is not there any more, the file is
written unchanged and its test fails as not caught: change the table.
"""
import sys

ONE = "--nodes 1 --seeds 1..3000"
# A mutant must be caught for what it is, so where a breach is not bound to a kind of fault, those
# that make runs long are left out.
THREE = "--nodes 3 --seeds 1..2000 --no wall --no damage --no drift"

# All kinds of faults.
MANY = "--nodes 3 --seeds 1..4000"
# What needs a coincidence gets the faults that bring it about, often: a few dozen seeds are enough
# then, whatever else changes in the engine. Each of these finds nothing in the engine as it is.
LINKS = "--nodes 3 --only partition --pace 1000 --seeds 1..1000"
# Connections end while calls are under way, and come again in the same term.
LOST = "--nodes 3 --only loss --pace 3000 --seeds 1..1000"
# A majority begins anew while clocks jump, on machines that stay up.
STARTS = "--nodes 3 --only kill,stop,wall --pace 100 --seeds 1..300"
# Changes of members that stop half way, in groups of three or so, of one or two, of two or three.
CHANGES = "--nodes 3 --only members,ambush --plan-pace 200 --seeds 1..500"
PAIR = "--nodes 2 --only members --plan-pace 200 --voters 2 --seeds 1..200"
TRIO = "--nodes 2 --only members,ambush --plan-pace 200 --voters 3 --seeds 1..1000"
# name: (file, what stands there, what is put in its place, [the same again,] how it is run)
MUTANTS = {
    # The entries of a write are not synced before they are answered for.
    "unsynced-entries": (
        "broker/log/writer.c",
        "int error = disk_sync(job->log->disk, job->dirty->fd);",
        "int error = 0;", ONE),
    # A segment's footer is not synced before the next segment is begun.
    "unsynced-seal": (
        "broker/log/writer.c",
        "    if (error == 0)\n        error = disk_sync_whole(job->log->disk, fd);\n"
        "    job->syncs++;\n    return close_after(fd, error);",
        "    job->syncs++;\n    return close_after(fd, error);", ONE),
    # A new segment's name is not on disk before its entries are answered for.
    "unsynced-name": (
        "broker/log/writer.c",
        "return error != 0 ? error : disk_sync_whole(log->disk, log->segments_fd);\n}\n\n"
        "/* Frames that",
        "return error;\n}\n\n/* Frames that", ONE),
    # What an earlier process left unsynced is believed.
    "unsynced-start": (
        "broker/log/log.c",
        "    if (status == STATUS_OK)\n        status = make_durable(log, error);\n",
        "", ONE),
    # Both copies of term and vote are in one file, which a torn write destroys.
    "one-meta-file": (
        "broker/log/meta.c",
        "names[next.sequence % 2]", "names[next.sequence % 1]", THREE),
    # A body that a message refers to is not held.
    "lost-hold": (
        "broker/replication/events.c",
        "    if (shard->log != NULL)\n        log_hold(shard->log, ref);\n",
        "    if (shard->log != NULL && ref.index % 7 != 0)\n        log_hold(shard->log, ref);\n",
        ONE),
    # A snapshot forgets some dedup ids.
    "forgotten-dedup": (
        "broker/core/snapshot_queue.c",
        "        DECODE(in, dedup_fields, &read);\n",
        "        DECODE(in, dedup_fields, &read);\n        if (!in->bad && read.seq % 3 == 0)\n"
        "            continue;\n", ONE),
    # A snapshot forgets that messages are in flight.
    "forgotten-lease": (
        "broker/core/snapshot_message.c",
        "    if (state == MESSAGE_VISIBLE)\n        queue_show(core, queue, index);",
        "    if (state != MESSAGE_DELAYED)\n        queue_show(core, queue, index);", ONE),
    # Dedup ids count for two seconds.
    "short-dedup": (
        "broker/core/dedup.c",
        "    return sent_ms + DEDUP_WINDOW_MS <= core->now_ms;",
        "    return sent_ms + 2000 <= core->now_ms;", ONE),
    # A lease ends a second too soon.
    "early-lease": (
        "broker/core/receive.c",
        "    bool replayed = queue->view.settings.fifo && receive->attempt_id.length > 0 &&",
        "    r.visibility_s -= r.visibility_s > 1;\n"
        "    bool replayed = queue->view.settings.fifo && receive->attempt_id.length > 0 &&", ONE),
    # A FIFO group goes on while one of its messages is in flight.
    "open-group": (
        "broker/core/group.c",
        "    if (group->in_flight > 0 || first == MESSAGE_NONE)",
        "    if (first == MESSAGE_NONE)", ONE),
    # Deletes are answered, and some not carried out.
    "lost-delete": (
        "broker/core/settle.c",
        "    queue_drop(core, queue, index);\n    queue->view.deleted_total++;",
        "    if (delete->lease.seq % 5 != 0)\n        queue_drop(core, queue, index);\n"
        "    queue->view.deleted_total++;", ONE),
    # Redelivery does not count.
    "lost-count": (
        "broker/core/receive.c",
        "        message->receive_count++;",
        "        message->receive_count += message->receive_count < 2;", ONE),
    # Entries of other nodes' calls are applied twice on one replica.
    "applied-twice": (
        "broker/replication/shard.c",
        "    if (core_apply_entry(shard->core, index, payload) != STATUS_OK)\n",
        "    if (index % 50 == 7 && shard->options.node_id == 2)\n"
        "        (void)core_apply_entry(shard->core, index, payload);\n"
        "    if (core_apply_entry(shard->core, index, payload) != STATUS_OK)\n", THREE),
    # A leader takes any acknowledgement for one of all it has: answers come before commit.
    "early-commit": (
        "broker/replication/raft_net.c",
        "            (struct raft_append_entries_result){wire->term, wire->a, wire->b};",
        "            (struct raft_append_entries_result){\n                wire->term, wire->a,"
        " wire->a == 0 ? raft_last_index(&shard->raft) : wire->b};", THREE),
    # A vote is given before it is on disk.
    "unsynced-vote": (
        "broker/log/meta.c",
        "    if (error == 0)\n        error = disk_sync(disk, fd);\n", "", THREE),
    # Calls leave while earlier ones of their node are of unknown fate, and overtake them.
    "overtaken-calls": (
        "broker/replication/batch.c",
        "            return shard_in_company(shard);\n    }\n    return forward_in_doubt(shard);",
        "            return false;\n    }\n    return false;", MANY),
    # A node that has voted sends its calls to the leader of the term before.
    "stale-leader": (
        "broker/replication/shard.c",
        "raft->state == RAFT_FOLLOWER && shard->guard.led_term == raft->current_term;",
        "raft->state == RAFT_FOLLOWER;", MANY),
    # What was asked over a connection that ended is not asked again over the next one.
    "asked-once": (
        "broker/replication/link.c",
        "    link->lost = true;\n    if (!up", "    if (!up", LOST),
    # A number that a leader took is taken again.
    "taken-again": (
        "broker/replication/forward.c",
        "    bool fresh = !bit_is_set(t->bits, seq);", "    bool fresh = true;", THREE),
    # A leader answers questions for the commit index without asking whether it still leads.
    "sync-unconfirmed": (
        "broker/replication/sync.c",
        "    return confirmed > voters / 2;", "    return confirmed <= voters;", LINKS),
    # A synced read does not wait until what it asked for is applied.
    "sync-early": (
        "broker/replication/sync.c",
        "(sync->index > 0 && sync->index <= applied_index)", "(sync->index > 0)", MANY),
    # G16: an only voter leads in the term of the leader before it. It must be removed by a leader
    # that removes itself, which members.c does not let happen either.
    "same-term": (
        "broker/replication/guard.c",
        "    if (will_lead(shard))\n        new_term(shard);\n", "    (void)will_lead;\n",
        "broker/replication/members.c",
        "return node_id == raft->id && voters == 2;", "return node_id == raft->id && voters == 0;",
        PAIR),
    # G18: who does not know yet that it is a voter does not vote.
    "mute-learner": (
        "broker/replication/guard.c",
        "    if (role != NULL && follows)\n        *role = RAFT_VOTER;\n", "", TRIO),
    # G14: a change of members that a start found in the log is not taken back.
    "change-kept": (
        "broker/replication/guard.c",
        "    raft->configuration_uncommitted_index = last;\n", "", CHANGES),
    # Of a snapshot that is taken over, some bodies are not asked for (R8).
    "bodies-skipped": (
        "broker/replication/catch_up.c",
        "c->refs[c->needed].index <= c->keep_index)",
        "c->refs[c->needed].index <= c->keep_index + 1)", MANY),
    # What a node missed while it took over a snapshot is lost in its state.
    "stale-core": (
        "broker/replication/catch_up.c",
        "    for (size_t i = 0; i < c->ref_count; i++)\n        log_hold(shard->log, c->refs[i]);\n",
        "    for (size_t i = 0; i + 1 < c->ref_count; i++)\n"
        "        log_hold(shard->log, c->refs[i]);\n", MANY),
    # R6: the first appends of a new leader carry its wall clock.
    "wall-first": (
        "broker/replication/time.c",
        "    if (!t->known)\n        return clock_now_ms();",
        "    if (!t->known || shard->stage != STAGE_READY)\n        return clock_now_ms();", MANY),
    # R6: the next process does not know the time.
    "time-forgotten": (
        "broker/replication/time.c",
        "    if (!time_record_load(shard->options.dir, &record))", "    record.term = 0;\n    if (record.term == 0)", STARTS),
    # G15: an entry that was never committed keeps a node from taking over a snapshot.
    "left-behind": (
        "broker/replication/catch_up.c",
        "guard_term(raft, c->index) == c->term", "guard_term(raft, c->index) != 0", MANY),
    # A call that was refused is carried out all the same.
    "refused-and-done": (
        "broker/replication/batch.c",
        "    if (status == STATUS_OK)\n        batch_add(shard, call);\n    else\n"
        "        refuse_new(shard, call, status);",
        "    if (status == STATUS_DISK_FULL && !call->of_other) {\n"
        "        struct shard_call *copy = calloc(1, sizeof *copy);\n"
        "        copy->count = call->count;\n"
        "        buffer_add_slice(&copy->commands, buffer_slice(&call->commands));\n"
        "        copy->done = (shard_call_cb)(void *)free;\n        batch_add(shard, copy);\n    }\n"
        "    if (status == STATUS_OK)\n        batch_add(shard, call);\n    else\n"
        "        refuse_new(shard, call, status);", ONE),
}


def edits(name):
    """(path, before, after), each; usually one."""
    *row, _ = MUTANTS[name]
    return [tuple(row[i : i + 3]) for i in range(0, len(row), 3)]


def files(name):
    return sorted({path for path, _, _ in edits(name)})


def mutated(name, path, text):
    """The text with what the mutant changes in this file; None: it does not fit any more."""
    for where, before, after in edits(name):
        if where == path:
            if text.count(before) != 1:
                return None
            text = text.replace(before, after)
    return text


def write(name, path, root, out):
    with open(root + "/" + path, encoding="utf-8") as file:
        text = file.read()
    changed = mutated(name, path, text)
    if changed is None:
        print(f"mutants.py: {name}: the text to replace is not in {path} exactly once")
    with open(out, "w", encoding="utf-8") as file:
        file.write(text if changed is None else changed)


def main(arguments):
    if arguments == ["--list"]:
        for name, row in MUTANTS.items():
            print(f"{name}:{','.join(files(name))}:{row[-1]}")
    elif len(arguments) == 4 and arguments[0] in MUTANTS and arguments[1] in files(arguments[0]):
        write(*arguments)
    else:
        print(__doc__)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
