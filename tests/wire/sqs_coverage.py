# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/sqs.md: actions, attributes and errors as the sources have them, how many
transcripts show each, and what differs from AWS. sqs_coverage_test.py --write puts them there."""
import collections

import sqs_tables
from sqs_transcripts import ELSEWHERE, Reply, transcripts

PAGE = sqs_tables.ROOT / "docs/sqs.md"
BEGIN, END = "<!-- begin: made by tests/wire/sqs_coverage.py -->", "<!-- end -->"
FIX = "run: python3 tests/wire/sqs_coverage_test.py --write"


def table(head, lines):
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |"
                     for line in cells)


def differs(differences, kind, name):
    return " ".join(f"{d.how}. {d.why}." for d in differences.get((kind, name), []))


def parameters(members):
    """Those that must be given in bold; a name that the Query protocol has otherwise in brackets."""
    def shown(m):
        name = m.json if m.json == m.query else f"{m.json} ({m.query})"
        return f"**{name}**" if m.required else name
    return ", ".join(shown(m) for m in members)


def action_table(rows, differences):
    shapes, errors = sqs_tables.shapes(), sqs_tables.errors()
    replies, refused = collections.Counter(), collections.defaultdict(set)
    for row in rows:
        if isinstance(row, Reply):
            replies[row.action] += 1
        else:
            refused[row.action].add(errors[row.error].type.rpartition("#")[2])
    return table(
        ["action", "parameters", "refusals in transcripts", "differs from AWS"],
        [[a.name, parameters(shapes[a.input]), ", ".join(sorted(refused[a.name])),
          differs(differences, "ACTION", a.name)] for a in sqs_tables.actions().values()])


def attribute_values(row):
    if row.kind == "NUMBER":
        return f"{row.rest[1]} to {row.rest[2]}"
    return f"{row.rest[1]}, {row.rest[2]}" if row.kind == "FLAG" else ""


def attribute_table(differences):
    return table(["attribute", "values", "meaning", "differs from AWS"],
                 [[a.name, attribute_values(a), a.rest[-1], differs(differences, "ATTRIBUTE", a.name)]
                  for a in sqs_tables.attributes().values()])


def error_text(error):
    if error.query_text != error.text:
        return f"{error.text} (Query: {error.query_text})"
    return error.text


def error_table(rows, differences):
    shown = collections.Counter(row.error for row in rows if not isinstance(row, Reply))
    return table(
        ["`__type`", "Query code", "status", "sentence, when no more exact one is given",
         "transcripts", "differs from AWS"],
        [[e.type.rpartition("#")[2], e.query, str(e.status), error_text(e),
          str(shown[name]) if shown[name] else f"`{ELSEWHERE[name].partition(':')[0]}`",
          differs(differences, "ERROR", name)] for name, e in sqs_tables.errors().items()])


def tables():
    rows, differences = transcripts(), sqs_tables.differences()
    return "\n".join([
        BEGIN, "", "### Actions", "",
        "Bold parameters must be given; a name in brackets is the Query protocol's. \"Refusals\" are the "
        "types of the errors", "that `tests/wire` has transcripts of, in every protocol.", "",
        action_table(rows, differences), "", "### Queue attributes", "",
        attribute_table(differences), "", "### Errors", "",
        error_table(rows, differences), "", END])


def page(text):
    """`text`, the page, with the tables of today."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE}: the lines '{BEGIN}' and '{END}' are missing")
    return before + tables() + after


def write():
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
