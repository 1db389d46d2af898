"""Landlock: restricts a process to reading files below a few folders.

See the kernel's Documentation/userspace-api/landlock.rst; the numbers are its UAPI's.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from pylon.rlm.repl.lock.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# The number of file rights that each ABI version knows; a ruleset must not name others.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_LATEST_FS_RIGHTS = 16  # since ABI 5
_NET_RIGHTS = 0b11  # bind and connect of TCP, since ABI 4
_SCOPES = 0b11  # abstract Unix sockets and signals, since ABI 6


def abi() -> int:
    """The Landlock ABI version of the kernel. Raises OSError if it has no Landlock."""
    return syscall(_CREATE_RULESET, None, 0, _VERSION)


def restrict_files(listed: Iterable[Path], readable: Iterable[Path]) -> None:
    """From now on this process can open only files that are, or lie below, one of `readable`, for reading.

    Folders in `listed` may be listed, and those in them. Raises OSError.
    """
    version = abi()
    handled = (1 << _FS_RIGHTS.get(version, _LATEST_FS_RIGHTS)) - 1
    attributes = handled.to_bytes(8, "little")
    if version >= 4:
        attributes += _NET_RIGHTS.to_bytes(8, "little")
    if version >= 6:
        attributes += _SCOPES.to_bytes(8, "little")
    ruleset = syscall(_CREATE_RULESET, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    try:
        for folder in listed:
            _allow(ruleset, folder, _READ_DIR)
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = rights.to_bytes(8, "little") + parent.to_bytes(4, "little")
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(parent)
