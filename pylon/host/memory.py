"""The memory of this machine, and how much this process uses, in bytes."""

import sys
from pathlib import Path

import psutil

from pylon.host import macos

# A container's limit: cgroup version 2, then 1.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_bytes() -> int:
    """All memory of the machine, or of the container that this runs in."""
    return min(int(psutil.virtual_memory().total), _container_limit())


def free_bytes() -> int:
    """Memory that can be used without swapping."""
    return min(int(psutil.virtual_memory().available), _container_limit())


def used_bytes() -> int:
    """Memory that this process uses. On macOS its footprint, which includes GPU memory."""
    if sys.platform == "darwin":
        return macos.footprint_bytes()
    return int(psutil.Process().memory_info().rss)


def _container_limit() -> int:
    for place in _CGROUP_LIMITS:
        try:
            return int(place.read_text())
        except (OSError, ValueError):  # not there, or `max`: no limit
            continue
    return sys.maxsize
