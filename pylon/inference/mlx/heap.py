"""The C library's heap on Linux: what a step frees is there for the next one.

glibc returns freed memory to the system as it goes, by rules that fit no network's steps: tens of megabytes come and
go with every group of prompts, and each page that comes back is cleared by the kernel first. With small models that
took a tenth of the time.
"""

import ctypes

# Names and numbers of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The most that glibc takes from its heap rather than from the system, and what it keeps of freed memory.
_BLOCK_BYTES, _KEPT_BYTES = 32 * 1024 * 1024, 256 * 1024 * 1024

_libc = ctypes.CDLL(None)


def keep_freed() -> bool:
    """From now on, up to 256 MiB. False where the C library has no such setting."""
    set_option = getattr(_libc, "mallopt", None)
    if set_option is None:
        return False
    return bool(set_option(_M_MMAP_THRESHOLD, _BLOCK_BYTES) and set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES))


def give_back() -> None:
    """Returns all that is freed to the system, as far as whole pages of it are."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
