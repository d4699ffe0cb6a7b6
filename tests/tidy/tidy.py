#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Style is a test. Reads every tracked file and reports, as `file:line: what, remedy`, where the
tree leaves its own rules. Exits 1 with findings. No dependencies beyond Python and git; formatting is
checked too when clang-format 14 is installed.

    tests/tidy/tidy.py [ROOT]

A rule that is wrong in one place is excused in EXCUSED, with the reason. An excuse that nothing needs
any more is a finding itself.
"""
import os
import re
import subprocess
import sys

FUNCTION_LINES_MAX = 90
FILE_LINES_MAX = 1000
COLUMNS_MAX = 100
CLANG_FORMAT_MAJOR = "14"

# (rule, file, detail): why. The detail is the function's name for function-length, else "".
EXCUSED = {
    # A node of the simulation ends in the middle of anything, as a machine does.
    ("call", "tests/sim/cluster/node.c", "setjmp"): "a node that ends is left where it is",
    ("call", "tests/sim/cluster/node.c", "longjmp"): "a node that ends is left where it is",
}

# Who may include whom: a folder may include itself and what is listed. The folder of a file is the
# longest one here that its path begins with.
BASE = ["proto/base"]
CORE = BASE + ["broker/feature", "broker/core"]
LOG = CORE + ["broker/log"]
REPLICATION = LOG + ["broker/peer", "broker/replication"]
SHARDS = REPLICATION + ["broker/away", "broker/shards"]
DISPATCH = SHARDS + ["broker/dispatch", "proto/rpc", "proto/tls"]
AUTH = REPLICATION + ["broker/auth", "proto/sigv4"]
API = DISPATCH + ["broker/api", "broker/auth", "proto/http", "proto/sigv4", "proto/tls"]
PROTO = ["proto/base", "proto/tls", "proto/http", "proto/rpc", "proto/sqs", "proto/package",
         "proto/sigv4"]
LAYERS = {
    "proto/base": [],
    "proto/tls": BASE,
    "proto/http": BASE + ["proto/tls"],
    "proto/rpc": BASE + ["proto/tls"],
    "proto/sqs": BASE,
    "proto/package": BASE,
    "proto/sigv4": BASE,
    "client": PROTO,
    "client/bench": PROTO + ["client"],
    "client/cli": PROTO + ["client", "client/bench"],
    "broker/feature": BASE,
    "broker/core": BASE + ["broker/feature"],
    "broker/log": CORE,
    "broker/peer": BASE + ["proto/tls"],
    "broker/replication": LOG + ["broker/peer"],
    "broker/inspect": LOG,
    "broker/away": BASE + ["broker/peer"],
    "broker/shards": SHARDS,
    "broker/dispatch": SHARDS + ["proto/rpc", "proto/tls"],
    "broker/auth": AUTH,
    "broker/api": API,
    "broker/api/sqs": API + ["proto/sqs"],
    "broker/api/native": API + ["proto/sqs", "broker/api/sqs"],
    "broker/api/lambda": API + ["proto/package"],
    "broker": API + ["broker/api/sqs", "broker/api/native", "broker/api/lambda", "proto/sqs", "proto/package"],
    "broker/recovery": REPLICATION + ["broker"],
    "worker": PROTO + ["client"],
    "tests": None,  # may include everything
}

# Headers of libraries that only some folders may know; tests may know all.
LIBRARY_FOLDERS = {
    "raft.h": ["broker/replication"],
    "raft/uv.h": ["broker/replication"],
    "llhttp.h": ["proto/http"],
    "archive.h": ["proto/package"],
    "archive_entry.h": ["proto/package"],
    "seccomp.h": ["worker"],
    "sys/capability.h": ["worker"],
    "curl/curl.h": ["client"],
    "openssl/ssl.h": ["proto/tls"],
    "openssl/x509v3.h": ["proto/tls"],
    "lz4.h": ["broker/log"],
}

# The core is the same on every replica: no clock, no operating system, no threads.
CORE_BANNED = re.compile(
    r"^(proto/base/(clock|trace|options)\.h|uv\.h|unistd\.h|time\.h|pthread\.h|fcntl\.h|signal\.h|"
    r"errno\.h|locale\.h|dirent\.h|netdb\.h|poll\.h|threads\.h|sys/.*|arpa/.*|netinet/.*|linux/.*|"
    r"openssl/rand\.h)$")

BANNED_CALLS = {
    "strcpy": "use snprintf, memcpy or a buffer",
    "strcat": "use snprintf or a buffer",
    "strncpy": "use snprintf or memcpy",
    "strncat": "use snprintf or a buffer",
    "stpcpy": "use memcpy or a buffer",
    "sprintf": "use snprintf or buffer_printf",
    "vsprintf": "use vsnprintf",
    "gets": "use fgets or read",
    "atoi": "use strtol and look at its end, or a cursor",
    "atol": "use strtol and look at its end",
    "atoll": "use strtoll and look at its end",
    "atof": "use strtod and look at its end",
    "strtok": "use slice_find",
    "rand": "use clock_random, or a seeded generator in a simulation",
    "srand": "use clock_random, or a seeded generator in a simulation",
    "random": "use clock_random, or a seeded generator in a simulation",
    "localtime": "use gmtime_r: the wire and the traces are in UTC",
    "gmtime": "use gmtime_r",
    "ctime": "use strftime",
    "asctime": "use strftime",
    "system": "use uv_spawn or posix_spawn with an argument vector",
    "popen": "use uv_spawn or posix_spawn with an argument vector",
    "alloca": "use an arena",
    "tmpnam": "use mkdtemp",
    "tempnam": "use mkdtemp",
    "mktemp": "use mkdtemp",
    "bzero": "use memset or an initialiser",
    "setjmp": "return a status",
    "longjmp": "return a status",
    "assert": "use ASSERT of proto/base/assert.h, which stays on in releases",
}
CALL = re.compile(r"(?<![\w.])(?<!->)(" + "|".join(BANNED_CALLS) + r")\s*\(")

MARKS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
MACHINE_PATHS = re.compile("|".join(["/wor" + "k/", "/hom" + "e/", "/root/" + r"\.pyenv"]))
REGISTRIES = re.compile(
    r"\b(docker\.io|ghcr\.io|[a-z0-9-]*gcr\.io|quay\.io|[a-z0-9-]+\.azurecr\.io|public\.ecr\.aws|"
    r"[0-9]+\.dkr\.ecr\.[a-z0-9.-]+|registry\.[a-z0-9-]+\.[a-z]+|[a-z0-9.-]*artifactory[a-z0-9-]*\."
    r"[a-z0-9.-]+)\b")

FUZZ_INPUTS = "tests/fuzz/corpus/"  # bytes, not text of ours

CODE = (".c", ".h")
NO_TABS = CODE + (".def", ".py", ".proto", ".sh", ".cmake", ".txt", ".yaml", ".yml", ".json", ".md")
SOURCES = CODE + (".py", ".proto", ".sh")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
BLANKED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


class Tidy:
    def __init__(self, root):
        self.root = root
        self.findings = []
        self.excuses_used = set()
        self.files = tracked_files(root)

    def report(self, path, line, what, remedy, rule=None, detail=""):
        if (rule, path, detail) in EXCUSED:
            self.excuses_used.add((rule, path, detail))
            return
        self.findings.append((path, line, f"{what}, {remedy}"))

    def run(self):
        for path in self.files:
            data = read_bytes(os.path.join(self.root, path))
            if data is None or b"\0" in data or path.startswith(FUZZ_INPUTS):
                continue
            text = data.decode("utf-8", "replace")
            for check in CHECKS:
                check(self, path, text, text.split("\n"))
        check_readmes(self)
        check_format(self)
        for rule, path, detail in sorted(set(EXCUSED) - self.excuses_used):
            self.report(path, 1, f"the excuse from {rule} {detail} is not needed", "remove it")
        return sorted(set(self.findings))


def tracked_files(root):
    # The tree may belong to someone else, as in a container; only names are read from it.
    out = subprocess.run(["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z"],
                         check=True, capture_output=True)
    names = out.stdout.decode("utf-8", "surrogateescape").split("\0")
    return sorted(n for n in names if n and os.path.isfile(os.path.join(root, n)))


def read_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def layer_of(path):
    fits = [folder for folder in LAYERS if path.startswith(folder + "/")]
    return max(fits, key=len) if fits else None


def blank_comments_and_strings(text):
    """The same text with comments and literals blanked, so that lines keep their numbers."""
    return BLANKED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


# Checks of one file: check(tidy, path, text, lines).

def check_includes(tidy, path, text, lines):
    if not path.endswith(CODE + (".def",)):
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match and match.group(1):
            check_own_include(tidy, path, number, match.group(1))
        if match:
            check_foreign_include(tidy, path, number, match.group(1) or match.group(2))


def check_own_include(tidy, path, number, included):
    source, target = layer_of(path), layer_of(included)
    generated = included.endswith(".pb-c.h")
    if target is None or not (generated or os.path.isfile(os.path.join(tidy.root, included))):
        tidy.report(path, number, f'include of "{included}" is not a path from the top of the tree',
                    'write "folder/name.h"; <> is for libraries')
        return
    allowed = LAYERS[source] if source else None
    if allowed is not None and target != source and target not in allowed:
        tidy.report(path, number, f"{source} may not include {target} (includes point down)",
                    "move what both need down, or pass it in from above", "layers")


def check_foreign_include(tidy, path, number, included):
    source = layer_of(path)
    if source == "broker/core" and CORE_BANNED.match(included):
        tidy.report(path, number, f"broker/core may not include {included}",
                    "bring time, chance and the world in with the command", "core")
    folders = LIBRARY_FOLDERS.get(included)
    if folders and source != "tests" and not any(path.startswith(f + "/") for f in folders):
        tidy.report(path, number, f"{included} belongs to {', '.join(folders)} only",
                    "use what that folder offers", "library")
    if included == "assert.h":
        tidy.report(path, number, "include of <assert.h>", "include proto/base/assert.h")


def check_calls(tidy, path, text, lines):
    if not path.endswith(CODE):
        return
    for number, line in enumerate(blank_comments_and_strings(text).split("\n"), 1):
        for match in CALL.finditer(line):
            name = match.group(1)
            tidy.report(path, number, f"call of {name}", BANNED_CALLS[name], "call", name)


def check_lengths(tidy, path, text, lines):
    if path.endswith(CODE) and len(lines) - 1 > FILE_LINES_MAX:
        tidy.report(path, len(lines) - 1, f"file of {len(lines) - 1} lines",
                    f"split it by ideas, {FILE_LINES_MAX} is the limit", "file-length")
    if not path.endswith(CODE):
        return
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            length = number - start - 1
            if length > FUNCTION_LINES_MAX:
                name = function_name(lines, start)
                tidy.report(path, start, f"function {name} has {length} lines",
                            f"split it, {FUNCTION_LINES_MAX} is the limit", "function-length", name)
            start = None


def function_name(lines, start):
    """The name before the parameter list that ends on the line before `start`."""
    head = ""
    for line in reversed(lines[:start - 1]):
        head = line + " " + head
        if line and not line[0].isspace():
            break
    match = re.search(r"(\w+)\s*\(", head)
    return match.group(1) if match else "?"


def check_blanks(tidy, path, text, lines):
    for number, line in enumerate(lines, 1):
        if line != line.rstrip(" \t\r"):
            tidy.report(path, number, "blanks at the end of the line", "remove them")
        if "\t" in line and path.endswith(NO_TABS):
            tidy.report(path, number, "a tab", "indent with four spaces")
        if path.endswith(CODE) and len(line) > COLUMNS_MAX:
            tidy.report(path, number, f"line of {len(line)} columns",
                        f"break it before column {COLUMNS_MAX}", "columns")
    if text and not text.endswith("\n"):
        tidy.report(path, len(lines), "no newline at the end of the file", "add one")


def check_license(tidy, path, text, lines):
    if path.endswith(CODE) and lines[0] != "/* SPDX-License-Identifier: Apache-2.0 */":
        tidy.report(path, 1, "no license line", "begin with /* SPDX-License-Identifier: "
                    "Apache-2.0 */")
    if path.endswith((".py", ".sh")) and not any(
            line == "# SPDX-License-Identifier: Apache-2.0" for line in lines[:2]):
        tidy.report(path, 1, "no license line", "begin with # SPDX-License-Identifier: Apache-2.0")


def check_guard(tidy, path, text, lines):
    if not path.endswith(".h"):
        return
    guard = re.sub(r"[^A-Z0-9]", "_", path.upper())
    wanted = [f"#ifndef {guard}", f"#define {guard}"]
    found = [line for line in lines if line.startswith("#")][:2]
    if found != wanted or [line for line in lines if line][-1:] != ["#endif"]:
        tidy.report(path, 1, "the include guard does not match the path",
                    f"guard the whole file with {guard}")


def check_marks(tidy, path, text, lines):
    for number, line in enumerate(lines, 1):
        match = MARKS.search(line)
        if match:
            tidy.report(path, number, f"a {match.group()} mark",
                        "do it, or open an issue and say nothing here", "mark")
        match = MACHINE_PATHS.search(line)
        if match:
            tidy.report(path, number, f"{match.group()} is a path of somebody's machine",
                        "use a relative path or a variable", "machine-path")
        match = REGISTRIES.search(line)
        if match:
            tidy.report(path, number, f"{match.group()} names a registry",
                        "leave the host out or make it a setting", "registry")


CHECKS = [check_includes, check_calls, check_lengths, check_blanks, check_license, check_guard,
          check_marks]


# Checks of the tree.

def readme_folder(path):
    """The folder that must have a README for this source; below tests and deploy, the second level
    speaks for what is under it."""
    parts = path.split("/")[:-1]
    return "/".join(parts[:2] if parts and parts[0] in ("tests", "deploy") else parts)


def check_readmes(tidy):
    files = set(tidy.files)
    folders = {readme_folder(path) for path in files if path.endswith(SOURCES)}
    for folder in sorted(folders - {""}):
        if folder.startswith("."):
            continue
        if folder + "/README.md" not in files:
            tidy.report(folder + "/README.md", 1, "a folder with sources has no README.md",
                        "write one: why it exists, its layer, the reading order", "readme")


def clang_format():
    for name in ("clang-format-" + CLANG_FORMAT_MAJOR, "clang-format"):
        try:
            out = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        match = re.search(r"version (\d+)\.", out.stdout)
        if match and match.group(1) == CLANG_FORMAT_MAJOR:
            return name
    return None


def check_format(tidy):
    program = clang_format()
    files = [path for path in tidy.files if path.endswith(CODE)]
    if program is None or not files or not os.path.isfile(os.path.join(tidy.root, ".clang-format")):
        return
    out = subprocess.run([program, "--dry-run", "-Werror", "--"] + files, cwd=tidy.root,
                         capture_output=True, text=True, check=False)
    first = {}
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: code should be clang-formatted", out.stderr,
                             re.M):
        first.setdefault(match.group(1), int(match.group(2)))
    for path, number in first.items():
        tidy.report(path, number, "not formatted", f"run {program} -i {path}", "format")


def main(arguments):
    root = arguments[1] if len(arguments) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    tidy = Tidy(os.path.abspath(root))
    findings = tidy.run()
    for path, line, message in findings:
        print(f"{path}:{line}: {message}")
    count = len(findings)
    print(f"tidy: {len(tidy.files)} files, {count} finding{'' if count == 1 else 's'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
