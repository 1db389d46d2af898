"""The seccomp filter of the process sandbox, as classic BPF, and its installation.

See the kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import struct
from collections.abc import Sequence

from pylon.rlm.repl.lock import syscalls
from pylon.rlm.repl.lock.kernel import PR_SET_NO_NEW_PRIVS, prctl, syscall

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE = _ERRNO | errno.EPERM
_NO_TERMINAL = _ERRNO | errno.ENOTTY
_NO_SUCH_CALL = _ERRNO | errno.ENOSYS

# struct seccomp_data: nr, arch, instruction pointer, six arguments of eight bytes.
_NUMBER, _ARCH = 0, 4
_PROT_WRITE, _PROT_EXEC = 2, 4
# CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: a thread, as glibc asks;
# musl adds DETACHED.
_THREAD_FLAGS = (0x3D0F00, 0x7D0F00)
_MAP_ANONYMOUS = 0x20
_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 1, 2, 3, 1030

type Instruction = tuple[int, int, int, int]


def _argument(index: int, *, high: bool = False) -> int:
    return 16 + 8 * index + (4 if high else 0)


def _when_number(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Instructions that run `body`, which must return, for one system call only.

    The accumulator holds the call's number before and after.
    """
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _only_if_equal(index: int, values: Sequence[int]) -> list[Instruction]:
    program: list[Instruction] = [(_LOAD, 0, 0, _argument(index))]
    for value in values:
        program += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*program, (_RETURN, 0, 0, _REFUSE)]


def _returns(value: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, value)]


# Memory may be made executable only by mapping a file that it can open (an extension module of the standard library),
# never where the process has written or could write: a private copy of a file can be mapped for both at once.
_MMAP: list[Instruction] = [
    (_LOAD, 0, 0, _argument(2)),
    (_JUMP_SET, 0, 4, _PROT_EXEC),
    (_JUMP_SET, 2, 0, _PROT_WRITE),
    (_LOAD, 0, 0, _argument(3)),
    (_JUMP_SET, 0, 1, _MAP_ANONYMOUS),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
]
_MPROTECT: list[Instruction] = [
    (_LOAD, 0, 0, _argument(2)),
    (_JUMP_SET, 0, 1, _PROT_EXEC),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
]
# Limits may be read: a call that sets no new ones.
_PRLIMIT: list[Instruction] = [
    (_LOAD, 0, 0, _argument(2)),
    (_JUMP_EQUAL, 0, 3, 0),
    (_LOAD, 0, 0, _argument(2, high=True)),
    (_JUMP_EQUAL, 0, 1, 0),
    (_RETURN, 0, 0, _ALLOW),
    (_RETURN, 0, 0, _REFUSE),
]


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for a process with this id, which may send signals (abort) only to itself."""
    result: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _REFUSE),
    ]
    special = {
        syscalls.MMAP: _MMAP,
        syscalls.MPROTECT: _MPROTECT,
        syscalls.IOCTL: _returns(_NO_TERMINAL),
        # With flags in memory that a filter cannot read: the C library then uses clone.
        syscalls.CLONE3: _returns(_NO_SUCH_CALL),
        syscalls.CLONE: _only_if_equal(0, _THREAD_FLAGS),
        syscalls.FCNTL: _only_if_equal(1, [_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC]),
        syscalls.TGKILL: _only_if_equal(0, [pid]),
        syscalls.PRLIMIT64: _PRLIMIT,
    }
    for call, body in special.items():
        number = getattr(call, machine)
        result += _when_number(number, body)
    for call in syscalls.ALLOWED.values():
        number = getattr(call, machine)
        if number is not None:
            result += _when_number(number, _returns(_ALLOW))
    return [*result, (_RETURN, 0, 0, _REFUSE)]


def restrict_calls(machine: str, pid: int) -> None:
    """Installs the filter for this thread and all threads that it starts. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    instructions = program(machine, pid)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code)), 16)
    syscall(_SECCOMP[machine], _SET_MODE_FILTER, 0, header)
