"""Locks the current process irrevocably, and tests that the lock holds."""

import contextlib
import os
import resource
import sysconfig
from pathlib import Path

from pylon.errors import SandboxError
from pylon.rlm.repl.lock import kernel, landlock, seccomp

_OPEN_FILES = 64
# CPython allows 10,000 nested calls in C before it raises RecursionError; those of a sort's key take 3 KB each.
_STACK_BYTES = 64 * 1024 * 1024
_ZONES = Path("/usr/share/zoneinfo")


def confine(memory_bytes: int) -> None:
    """Takes the network, files but the standard library's, and other processes from this one, and limits its memory.

    `memory_bytes` is how much more it may use than now. To be called while the process has one thread. Raises
    SandboxError, and then the process must end.
    """
    machine = kernel.machine()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_size_bytes() + memory_bytes,) * 2)
        _, most = resource.getrlimit(resource.RLIMIT_STACK)
        stack = _STACK_BYTES if most == resource.RLIM_INFINITY else min(_STACK_BYTES, most)
        resource.setrlimit(resource.RLIMIT_STACK, (stack, most))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
        for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
            resource.setrlimit(limit, (0, 0))
        # If the host dies without ending this process, it ends with it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict_files(*_standard_library())
        seccomp.restrict_calls(machine, os.getpid())
    except OSError as error:
        raise SandboxError(
            f"this kernel does not lock a process as the process sandbox needs it: {error}",
            hint="Use the wasm sandbox, or a kernel with Landlock (5.13 or later) and seccomp.",
        ) from error
    _prove()


def _standard_library() -> tuple[list[Path], list[Path]]:
    """The folders that may be listed, and what may be read: the standard library without installed packages."""
    folder = Path(sysconfig.get_path("stdlib"))
    parts = [part for part in folder.iterdir() if part.name not in ("site-packages", "dist-packages")]
    return [folder], [*parts, _ZONES]


def _size_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _prove() -> None:
    """Tries what the lock must refuse. Raises SandboxError if it succeeds."""
    held = 0
    with contextlib.suppress(OSError):
        os.close(os.open("/proc/self/environ", os.O_RDONLY))
        held += 1
    with contextlib.suppress(OSError):
        os.kill(os.getpid(), 0)
        held += 1
    with contextlib.suppress(OSError):
        kernel.syscall(_SOCKET[kernel.machine()], 1, 1, 0)
        held += 1
    if held:
        raise SandboxError("the process sandbox does not hold on this kernel", hint="Use the wasm sandbox.")


_SOCKET = {"x86_64": 41, "aarch64": 198}
