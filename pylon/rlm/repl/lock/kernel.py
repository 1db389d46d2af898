"""System calls without a wrapper in the C library, by ctypes. Linux on x86-64 and arm64."""

import ctypes
import os
import platform

from pylon.errors import SandboxError

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def machine() -> str:
    """This machine's architecture, `x86_64` or `aarch64`. Raises SandboxError on any other, or another system."""
    name = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if platform.system() != "Linux" or name not in _CAPSET:
        raise SandboxError(
            f"the process sandbox needs Linux on x86-64 or arm64; this is {platform.system()} on {name}",
            hint="Use the wasm sandbox.",
        )
    return name


_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None) -> int:
    """Raises OSError."""
    result: int = _libc.syscall(ctypes.c_long(number), *(_argument(value) for value in arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, *arguments: int) -> None:
    """Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    if _libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def drop_capabilities() -> None:
    """Drops all capabilities irrevocably: even a process of root has none of root's rights then."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the kernel's last, or not allowed to: then there are none to lose
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    syscall(_CAPSET[machine()], header, ctypes.create_string_buffer(24))


def _argument(value: object) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value
