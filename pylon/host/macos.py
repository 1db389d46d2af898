"""Readings from the libraries of macOS."""

import ctypes
import math
import os
import socket
import sys
from typing import Any

# <libproc.h>, <sys/resource.h>: proc_pid_rusage(pid, RUSAGE_INFO_V0, &info); info is a uuid of 16 bytes, then
# counters of 8 bytes each, of which the eighth is ri_phys_footprint.
_RUSAGE_INFO_V0 = 0
_COUNTERS = 10
_FOOTPRINT = 7
_GRAPHICS = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
# <CoreGraphics/CGEventTypes.h>: kCGEventSourceStateCombinedSessionState, kCGAnyInputEventType.
_SESSION = 0
_ANY_INPUT = 0xFFFF_FFFF
# <sys/un.h>: SOL_LOCAL, LOCAL_PEERPID.
_LOCAL, _PEER_PID = 0, 0x002
_HEAT_KEY = b"com.apple.system.thermalpressurelevel"
_MEMORY_KEY = b"kern.memorystatus_vm_pressure_level"


class _RusageInfo(ctypes.Structure):
    _fields_ = (("uuid", ctypes.c_uint8 * 16), ("counters", ctypes.c_uint64 * _COUNTERS))


def footprint_bytes() -> int:
    """The physical footprint of this process in bytes, as Activity Monitor shows it. Raises OSError."""
    if sys.platform != "darwin":
        raise OSError("there is no physical footprint but on macOS")
    info = _RusageInfo()
    library = ctypes.CDLL(None, use_errno=True)
    if library.proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V0, ctypes.byref(info)) != 0:
        raise OSError(ctypes.get_errno(), "proc_pid_rusage")
    return int(info.counters[_FOOTPRINT])


def peer_pid(connection: socket.socket) -> int:
    """The id of the process at the other end of a Unix socket. Raises OSError."""
    return connection.getsockopt(_LOCAL, _PEER_PID)


def event_age_s(graphics: Any = None) -> float:
    """Seconds since the last input event on this machine, including those of a shared screen.

    `graphics` is the library CoreGraphics. Raises OSError.
    """
    library = graphics or ctypes.CDLL(_GRAPHICS)
    ask = library.CGEventSourceSecondsSinceLastEventType
    ask.argtypes, ask.restype = (ctypes.c_int32, ctypes.c_uint32), ctypes.c_double
    age = float(ask(_SESSION, _ANY_INPUT))
    if not math.isfinite(age) or age < 0:
        raise OSError("CGEventSourceSecondsSinceLastEventType")
    return age


class ThermalKey:
    """Reads the level of thermal pressure that `notifyd` keeps. `library` is libSystem."""

    def __init__(self, library: Any = None) -> None:
        self._library = library or ctypes.CDLL(None)
        self._token: int | None = None

    def level(self) -> int:
        """The level, 0 to 4. Raises OSError."""
        # <notify.h>: once registered, a token is read without a message to notifyd.
        if self._token is None:
            token = ctypes.c_int(0)
            if self._library.notify_register_check(_HEAT_KEY, ctypes.byref(token)) != 0:
                raise OSError("notify_register_check")
            self._token = token.value
        state = ctypes.c_uint64(0)
        if self._library.notify_get_state(ctypes.c_int(self._token), ctypes.byref(state)) != 0:
            raise OSError("notify_get_state")
        return state.value


def memory_level(library: Any = None) -> int:
    """The kernel's level of memory pressure: 1, 2 or 4. `library` is libSystem. Raises OSError."""
    level, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    ask = (library or ctypes.CDLL(None)).sysctlbyname
    if ask(_MEMORY_KEY, ctypes.byref(level), ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        raise OSError("sysctlbyname")
    return level.value
