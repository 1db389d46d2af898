"""The limit of open files of this process, of which each connection takes one."""

import resource


def allow_files(wanted: int) -> int:
    """Raises the limit to `wanted`, as far as the system allows; the limit then. A shell on a Mac starts with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        # macOS has a further limit, which shows only by its refusal.
        return soft
    return most
