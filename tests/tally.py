#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How many tests a log tells of: `tally.py KIND LOG` prints "PASSED FAILED".

KIND is how the log was written:
  ctest     CTest's LastTest.log; the tests inside a cmocka program count one by one
  unittest  Python's unittest, any number of runs
  node      node --test (TAP or spec reporter), any number of runs
  lines     lines that begin with "ok " or "not ok "
A log that tells of nothing gives "0 0"; the caller knows whether that is a failure.
"""

import re
import sys


def tally_ctest(text):
    passed = failed = 0
    for block in re.split(r"^\d+/\d+ Testing: ", text, flags=re.MULTILINE)[1:]:
        begun = len(re.findall(r"^\[ RUN      \] ", block, re.MULTILINE))
        good = len(re.findall(r"^\[       OK \] ", block, re.MULTILINE))
        skipped = len(re.findall(r"^\[  SKIPPED \] (?!\d+ test)", block, re.MULTILINE))
        bad = max(begun - good - skipped, 0)
        program_passed = re.search(r"^Test Pass(ed\.| Reason:)$", block, re.MULTILINE) is not None
        if program_passed and (begun == 0 or bad > 0):
            good, bad = 1, 0  # it had to fail: a mutant
        if not program_passed and bad == 0:
            bad = 1
        passed += good
        failed += bad
    return passed, failed


def tally_unittest(text):
    ran = sum(int(n) for n in re.findall(r"^Ran (\d+) tests? in ", text, re.MULTILINE))
    skipped = sum(int(n) for n in re.findall(r"\bskipped=(\d+)", text))
    failed = 0
    for outcome in re.findall(r"^FAILED \((.*)\)$", text, re.MULTILINE):
        for kind in ("failures", "errors", "unexpected successes"):
            found = re.search(kind + r"=(\d+)", outcome)
            failed += int(found.group(1)) if found else 0
    return max(ran - failed - skipped, 0), failed


def tally_node(text):
    def total(word):
        return sum(int(n) for n in re.findall(rf"^(?:#|ℹ) {word} (\d+)$", text, re.MULTILINE))

    return total("pass"), total("fail") + total("cancelled")


def tally_lines(text):
    passed = len(re.findall(r"^ok ", text, re.MULTILINE))
    return passed, len(re.findall(r"^not ok ", text, re.MULTILINE))


KINDS = {
    "ctest": tally_ctest,
    "unittest": tally_unittest,
    "node": tally_node,
    "lines": tally_lines,
}


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in KINDS:
        print(__doc__, file=sys.stderr)
        return 64
    with open(arguments[1], encoding="utf-8", errors="replace") as log:
        print(*KINDS[arguments[0]](log.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
