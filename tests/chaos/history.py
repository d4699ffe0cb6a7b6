# SPDX-License-Identifier: Apache-2.0
"""Writes a history: one JSON line for each operation, when it has ended. README.md has the fields.

All times are microseconds of the monotonic clock, which every process of a run shares.
"""

import hashlib
import json
import time


def now_us():
    return time.monotonic_ns() // 1000


def digest(text):
    """Short, but long enough to tell bodies and receipt handles apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class History:
    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")

    def write(self, op, **fields):
        self.file.write(json.dumps({"op": op, **fields}, separators=(",", ":")) + "\n")

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()
