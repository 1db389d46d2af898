"""The limit of open files of this process, of which each connection takes one."""

import resource

# OPEN_MAX of macOS (<sys/syslimits.h>): setrlimit(2) takes that much there, whatever else it refuses.
_TAKEN = 10_240


def allow_files(wanted: int) -> int:
    """Raises the limit to `wanted`, as far as the system allows; the limit then. A shell on a Mac starts with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
    # macOS has a further limit, which shows only by its refusal.
    for limit in (most, min(most, _TAKEN)):
        if limit > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            except (ValueError, OSError):
                continue
            return limit
    return soft
