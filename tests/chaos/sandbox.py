# SPDX-License-Identifier: Apache-2.0
"""A run's own world: process, mount and network namespaces that end with it.

The program that the user starts (outside) starts itself again below `unshare`. Inside, process 1
only reaps and waits; when it goes, however it goes, the kernel ends every process of the run, and
with them its network namespaces and mounts. Names and addresses are private to a run, so two runs
do not meet. What is left to remove afterwards is one folder, and only the one outside does that.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile

PR_SET_PDEATHSIG = 1
SKIPPED = 77  # the exit code of "cannot run here", as automake has it
TOOLS = ("unshare", "nsenter", "ip", "nft", "mount", "sysctl")
INSIDE = "MILLRACE_CHAOS_INSIDE"


class Interrupted(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


def why_not():
    """A sentence if this machine does not allow what the tests need, else None."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        return f"{' and '.join(missing)} missing: run deploy/install-deps.sh --tests"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing, and delays need it"
    script = "mount -t tmpfs none /run && mkdir /run/netns && ip netns add a && ip netns del a"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    if tried.returncode != 0:
        return f"needs root and CAP_NET_ADMIN for network namespaces ({tried.stderr.strip()})"
    return None


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_inside(arguments, folder):
    """Run this program again in namespaces of its own, and remove `folder` when it has ended. The
    result is its exit code. An interrupt ends everything in there at once."""
    command = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork"]
    command += ["--kill-child=SIGKILL", "--mount-proc", sys.executable, "-B", *arguments]
    environment = dict(os.environ, **{INSIDE: str(folder), "PYTHONDONTWRITEBYTECODE": "1"})
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )

    def interrupted(signum, _):
        raise Interrupted(128 + signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupted)
    try:
        code = process.wait()
    except Interrupted as interrupt:
        code = interrupt.code
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def become_init():
    """Called first inside: the caller goes on as a child; process 1 reaps and waits for it."""
    child = os.fork()
    if child == 0:
        prepare_mounts()
        return
    code = 1
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            break
    os._exit(code if code >= 0 else 128 - code)


def prepare_mounts():
    """Names of network namespaces are private. Control groups are out of sight: what a killed
    worker leaves in that tree would outlive the run, and nothing here needs them."""
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    if os.path.isdir("/sys/fs/cgroup"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", "/sys/fs/cgroup"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run(title, more, out, inside, keep):
    """The main function of a program that runs in such a world: prints its title, and calls
    `inside(folder)` in there, for an exit code. `more`: arguments that repeat what was decided out
    here. Files are in `out`, and stay if the code is not 0, or with `keep`."""
    if INSIDE in os.environ:
        become_init()
        return inside(os.environ[INSIDE])
    reason = why_not()
    if reason is not None:
        print(f"{title}: cannot run here: {reason}", file=sys.stderr)
        return SKIPPED
    os.makedirs(out, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="millrace-chaos-")
    os.chmod(folder, 0o711)  # functions run as another user below it
    print(title, flush=True)
    code = run_inside([*sys.argv, *more], folder)
    if code == 0 and not keep:
        shutil.rmtree(out, ignore_errors=True)
    else:
        print(f"history and diagnostics: {out}", flush=True)
    return code
