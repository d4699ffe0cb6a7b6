# SPDX-License-Identifier: Apache-2.0
"""Where a queue lives, as broker/core/place.c has it, and names for queues of a certain shard."""
import itertools
import uuid

MASK = (1 << 64) - 1


def shard_of(name, queue_shards):
    if queue_shards == 0 or name.startswith("/"):
        return 0
    value = 0xcbf29ce484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001b3 & MASK
    value = (value ^ value >> 33) * 0xff51afd7ed558ccd & MASK
    return 1 + (value ^ value >> 33) % queue_shards


def name_in(shard, queue_shards, prefix="q", suffix="", region=""):
    """A new name whose queue lives in that shard; `region`: of one that has queues of its own."""
    begin = f"{prefix}-{uuid.uuid4().hex[:8]}"
    for number in itertools.count():
        name = f"{begin}-{number}{suffix}"
        if shard_of(f"{region}:{name}" if region else name, queue_shards) == shard:
            return name
