#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants one violation of every rule in a tree of its own and looks whether tidy.py finds it, and
that a clean tree passes."""
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tidy  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
GOOD_C = SPDX + '#include "proto/base/good.h"\n\nint good(void)\n{\n    return 1;\n}\n'
GOOD_H = (SPDX + "#ifndef PROTO_BASE_GOOD_H\n#define PROTO_BASE_GOOD_H\n\nint good(void);\n\n"
          "#endif\n")


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tidy_test.")
        self.addCleanup(self.folder.cleanup)
        self.root = self.folder.name
        excused = dict(tidy.EXCUSED)
        self.addCleanup(tidy.EXCUSED.update, excused)
        tidy.EXCUSED.clear()  # the real tree's are not this one's
        self.git("init", "-q")
        self.plant("proto/base/README.md", "# base\n")
        self.plant("proto/base/good.c", GOOD_C)
        self.plant("proto/base/good.h", GOOD_H)

    def git(self, *arguments):
        subprocess.run(["git", "-C", self.root, *arguments], check=True, capture_output=True)

    def plant(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        self.git("add", "--", path)

    def findings(self):
        return [f"{path}:{line}: {message}" for path, line, message in tidy.Tidy(self.root).run()]

    def expect(self, *expected):
        """Each expected text begins a finding, and there are no other findings."""
        found = self.findings()
        for text in expected:
            self.assertTrue(any(f.startswith(text) for f in found), f"{text} is not in {found}")
        self.assertEqual(len(found), len(expected), found)

    def header(self, path, body):
        guard = "".join(c if c.isalnum() else "_" for c in path.upper())
        self.plant(path, f"{SPDX}#ifndef {guard}\n#define {guard}\n\n{body}\n#endif\n")

    def source(self, path, body):
        self.plant(path, SPDX + body)
        if not path.startswith("tests/"):
            self.plant(os.path.dirname(path) + "/README.md", "# why\n")

    def test_clean(self):
        self.expect()

    def test_layers(self):
        self.header("broker/core/core.h", "int x;\n")
        self.source("broker/core/a.c", '#include "proto/base/good.h"\n')
        self.source("broker/log/b.c", '#include "broker/core/core.h"\n')
        self.source("proto/http/c.c", '#include "broker/core/core.h"\n')
        self.header("broker/log/log.h", "int x;\n")
        self.source("broker/core/d.c", '#include "broker/log/log.h"\n')
        self.header("worker/worker.h", "int x;\n")
        self.source("worker/w.c", '#include "broker/core/core.h"\n')
        self.source("broker/main.c", '#include "broker/log/log.h"\n#include "worker/worker.h"\n')
        self.source("tests/unit/x/t_test.c", '#include "broker/log/log.h"\n')
        self.plant("tests/unit/README.md", "# tests\n")
        self.expect("broker/core/d.c:2: broker/core may not include broker/log",
                    "broker/main.c:3: broker may not include worker",
                    "proto/http/c.c:2: proto/http may not include broker/core",
                    "worker/w.c:2: worker may not include broker/core")

    def test_sibling_apis(self):
        self.header("broker/api/sqs/s.h", "int x;\n")
        self.source("broker/api/lambda/l.c", '#include "broker/api/sqs/s.h"\n')
        self.source("broker/api/a.c", '#include "broker/api/sqs/s.h"\n')
        self.plant("broker/api/sqs/README.md", "# sqs\n")
        self.expect("broker/api/a.c:2: broker/api may not include broker/api/sqs",
                    "broker/api/lambda/l.c:2: broker/api/lambda may not include broker/api/sqs")

    def test_core_and_libraries(self):
        self.header("proto/base/clock.h", "int x;\n")
        self.source("broker/core/a.c",
                    '#include "proto/base/clock.h"\n#include <uv.h>\n#include <unistd.h>\n'
                    "#include <sys/stat.h>\n#include <string.h>\n")
        self.source("broker/log/b.c", "#include <raft.h>\n#include <assert.h>\n")
        self.source("broker/replication/c.c", "#include <raft.h>\n")
        self.expect("broker/core/a.c:2: broker/core may not include proto/base/clock.h",
                    "broker/core/a.c:3: broker/core may not include uv.h",
                    "broker/core/a.c:4: broker/core may not include unistd.h",
                    "broker/core/a.c:5: broker/core may not include sys/stat.h",
                    "broker/log/b.c:2: raft.h belongs to broker/replication only",
                    "broker/log/b.c:3: include of <assert.h>")

    def test_repo_paths(self):
        self.source("proto/base/a.c",
                    '#include "good.h"\n#include "proto/base/none.h"\n#include "../base/good.h"\n')
        self.expect("proto/base/a.c:2: include of", "proto/base/a.c:3: include of",
                    "proto/base/a.c:4: include of")

    def test_calls(self):
        calls = ["strcpy(a, b);", "x = atoi (s);", "system(c);", "sprintf(a, b);"]
        fine = ["snprintf(a, b, c);", "my_strcpy(a);", "p->system(c);", "p.system(c);",
                "/* strcpy(a, b) */", 'puts("gets(x)");', "int strand(x);", "// popen(x)"]
        self.source("proto/base/a.c", "\n".join(calls + fine) + "\n")
        self.expect("proto/base/a.c:2: call of strcpy, use", "proto/base/a.c:3: call of atoi",
                    "proto/base/a.c:4: call of system", "proto/base/a.c:5: call of sprintf")

    def test_lengths(self):
        body = "    x++;\n"
        self.source("proto/base/a.c",
                    "static int long_one(int a,\n                    int b)\n{\n" + body * 91 + "}\n"
                    "\nint short_one(void)\n{\n" + body * 90 + "}\n")
        self.source("proto/base/b.c", "int x;\n" * 1000)
        self.expect("proto/base/a.c:4: function long_one has 91 lines",
                    "proto/base/b.c:1001: file of 1001 lines")

    def test_excuses(self):
        self.source("proto/base/a.c", "int f(void)\n{\n" + "    x++;\n" * 91 + "}\n")
        excuse = ("function-length", "proto/base/a.c", "f")
        unused = ("file-length", "proto/base/a.c", "")
        tidy.EXCUSED.update({excuse: "a table", unused: "none"})
        self.addCleanup(tidy.EXCUSED.clear)
        self.expect("proto/base/a.c:1: the excuse from file-length")

    def test_blanks(self):
        self.source("proto/base/a.c", "int x; \n\tint y;\nint " + "z" * 100 + ";\nint w;")
        self.plant("proto/base/dos.txt", "text\r\n")
        self.expect("proto/base/a.c:2: blanks at the end", "proto/base/a.c:3: a tab",
                    "proto/base/a.c:4: line of 105 columns",
                    "proto/base/a.c:5: no newline at the end",
                    "proto/base/dos.txt:1: blanks at the end")

    def test_license_and_guard(self):
        self.plant("proto/base/a.c", "int x;\n")
        self.plant("proto/base/b.h", GOOD_H)
        self.plant("proto/base/c.h", SPDX + "#pragma once\n")
        self.plant("proto/base/d.py", "print(1)\n")
        self.expect("proto/base/a.c:1: no license line",
                    "proto/base/b.h:1: the include guard", "proto/base/c.h:1: the include guard",
                    "proto/base/d.py:1: no license line")

    def test_marks(self):
        self.plant("proto/base/notes.md", "A TO" + "DO.\nXX" + "X\n/hom" + "e/me\nghcr" + ".io/x\n"
                   "mkdtemp(/tmp/a.XXXXXX)\n/wor" + "k/x\nhomework/done\n")
        self.expect("proto/base/notes.md:1: a TO" + "DO mark", "proto/base/notes.md:2: a XX" + "X",
                    "proto/base/notes.md:3: ", "proto/base/notes.md:4: ghcr" + ".io names",
                    "proto/base/notes.md:6: ")

    def test_readmes(self):
        self.plant("proto/http/a.c", SPDX)
        self.plant("tests/unit/deep/b_test.c", SPDX)
        self.plant("docs/page.md", "text\n")
        self.expect("proto/http/README.md:1: a folder with sources",
                    "tests/unit/README.md:1: a folder with sources")

    def test_untracked_and_binary_files_are_left_alone(self):
        self.plant("docs/picture.png", "\0\t \n")
        self.plant("tests/fuzz/corpus/http-request_fuzz/get", "GET / HTTP/1.1\r\n")
        with open(os.path.join(self.root, "proto/base/scratch.c"), "w", encoding="utf-8") as file:
            file.write("\t \n")
        self.expect()

    def test_format(self):
        if tidy.clang_format() is None:
            self.skipTest("clang-format 14 is not installed")
        self.plant(".clang-format", "BasedOnStyle: LLVM\n")
        self.plant("proto/base/good.c", SPDX + "int good(void) { return 1; }\n")
        self.plant("proto/base/a.c", SPDX + "int  x;\n")
        self.expect("proto/base/a.c:2: not formatted, run clang-format")

    def test_output_and_exit_code(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.assertEqual(tidy.main(["tidy", self.root]), 0)
        self.assertEqual(output.getvalue(), "tidy: 3 files, 0 findings\n")
        self.source("proto/base/a.c", "int x; \n")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.assertEqual(tidy.main(["tidy", self.root]), 1)
        self.assertEqual(output.getvalue(),
                         "proto/base/a.c:2: blanks at the end of the line, remove them\n"
                         "tidy: 4 files, 1 finding\n")


if __name__ == "__main__":
    unittest.main()
