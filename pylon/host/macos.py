"""What only macOS can be asked, by its own libraries."""

import ctypes
import os
import sys

# <libproc.h>, <sys/resource.h>: proc_pid_rusage(pid, RUSAGE_INFO_V0, &info); info is a uuid of 16 bytes, then
# counters of 8 bytes each, of which the eighth is ri_phys_footprint.
_RUSAGE_INFO_V0 = 0
_COUNTERS = 10
_FOOTPRINT = 7


class _RusageInfo(ctypes.Structure):
    _fields_ = (("uuid", ctypes.c_uint8 * 16), ("counters", ctypes.c_uint64 * _COUNTERS))


def footprint_bytes() -> int:
    """Physical footprint of this process, as Activity Monitor shows it. Raises OSError."""
    if sys.platform != "darwin":
        raise OSError("there is no physical footprint but on macOS")
    info = _RusageInfo()
    library = ctypes.CDLL(None, use_errno=True)
    if library.proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V0, ctypes.byref(info)) != 0:
        raise OSError(ctypes.get_errno(), "proc_pid_rusage")
    return int(info.counters[_FOOTPRINT])
