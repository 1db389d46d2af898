"""How many files this process may have open: each connection takes one."""

import resource


def allow_files(wanted: int) -> int:
    """Lets this process have so many files open, as far as the system does: a Mac's shell allows 256. How many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        # macOS has a further bound, of which it tells only by refusing.
        return soft
    return most
