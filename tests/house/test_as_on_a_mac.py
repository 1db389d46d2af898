"""What macOS lacks is used on Linux alone, as far as that shows on Linux."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The locks of the process sandbox, which is for Linux.
LINUX = "pylon/rlm/repl/lock/"

# Imports all modules twice: first to have every library, then anew on what is left of the system's names on a Mac.
# Those that run on Linux alone are left out, and engines that are not installed.
AS_ON_A_MAC = """
import contextlib, fcntl, os, pkgutil, resource, select, signal, socket, sys, time
import pylon

def all_modules():
    for found in pkgutil.walk_packages(pylon.__path__, "pylon."):
        if not found.name.startswith(("pylon.rlm.repl.lock.", "pylon.rlm.programs.")):
            with contextlib.suppress(ModuleNotFoundError) if "llama" in found.name else contextlib.nullcontext():
                __import__(found.name)
            yield found.name

names = list(all_modules())
missing = {
    fcntl: ("F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_ADD_SEALS", "F_OFD_SETLK"),
    os: ("sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "eventfd", "O_PATH", "O_TMPFILE",
         "posix_fallocate", "posix_fadvise", "copy_file_range", "splice", "getrandom", "fdatasync", "pipe2",
         "getxattr", "setxattr", "setresuid", "getresuid", "unshare", "setns"),
    resource: ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_SIGPENDING", "RUSAGE_THREAD"),
    select: ("epoll", "EPOLLIN"),
    signal: ("SIGPWR", "SIGSTKFLT", "SIGRTMIN", "SIGPOLL", "sigtimedwait", "sigwaitinfo", "pidfd_send_signal"),
    socket: ("SO_PEERCRED", "SO_DOMAIN", "SO_PROTOCOL", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT",
             "TCP_QUICKACK", "AF_NETLINK", "AF_VSOCK"),
    time: ("CLOCK_BOOTTIME", "CLOCK_TAI"),
}
for module, gone in missing.items():
    for name in gone:
        if hasattr(module, name):
            delattr(module, name)
fcntl.F_FULLFSYNC = 51
sys.platform = "darwin"
for name in [name for name in sys.modules if name.partition(".")[0] == "pylon"]:
    del sys.modules[name]
print(len(names) == len(list(all_modules())) > 500)
"""


def test_every_module_is_imported_where_the_system_lacks_what_macos_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", AS_ON_A_MAC], cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.stdout == "True\n", done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_types_of_macos_know_every_name_that_is_used_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--platform", "darwin", "--cache-dir", str(tmp_path)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    lines = checked.stdout.splitlines()
    assert lines[-1].startswith(("Found ", "Success: ")), checked.stderr
    assert [line for line in lines[:-1] if not line.startswith(LINUX)] == []
