"""The system calls that the locked process may make; all others fail with EPERM.

Numbers are those of the kernel's tables for x86-64 and for arm64 (None where it has no such call).
"""

from typing import NamedTuple


class Number(NamedTuple):
    x86_64: int
    aarch64: int | None


# Computing, time, memory, threads, and files that are open or that Landlock lets it open.
ALLOWED = {
    "read": Number(0, 63),
    "write": Number(1, 64),
    "close": Number(3, 57),
    "stat": Number(4, None),
    "fstat": Number(5, 80),
    "lstat": Number(6, None),
    "poll": Number(7, None),
    "lseek": Number(8, 62),
    "munmap": Number(11, 215),
    "brk": Number(12, 214),
    "rt_sigaction": Number(13, 134),
    "rt_sigprocmask": Number(14, 135),
    "rt_sigreturn": Number(15, 139),
    "pread64": Number(17, 67),
    "readv": Number(19, 65),
    "writev": Number(20, 66),
    "access": Number(21, None),
    "select": Number(23, None),
    "sched_yield": Number(24, 124),
    "mremap": Number(25, 216),
    "madvise": Number(28, 233),
    "dup": Number(32, 23),
    "nanosleep": Number(35, 101),
    "getpid": Number(39, 172),
    "exit": Number(60, 93),
    "uname": Number(63, 160),
    "getcwd": Number(79, 17),
    "readlink": Number(89, None),
    "gettimeofday": Number(96, 169),
    "getrusage": Number(98, 165),
    "times": Number(100, 153),
    "getuid": Number(102, 174),
    "getgid": Number(104, 176),
    "geteuid": Number(107, 175),
    "getegid": Number(108, 177),
    "getppid": Number(110, 173),
    "sigaltstack": Number(131, 132),
    "gettid": Number(186, 178),
    "time": Number(201, None),
    "futex": Number(202, 98),
    "sched_getaffinity": Number(204, 123),
    "getdents64": Number(217, 61),
    "restart_syscall": Number(219, 128),
    "clock_gettime": Number(228, 113),
    "clock_getres": Number(229, 114),
    "clock_nanosleep": Number(230, 115),
    "exit_group": Number(231, 94),
    "openat": Number(257, 56),
    "newfstatat": Number(262, 79),
    "readlinkat": Number(267, 78),
    "faccessat": Number(269, 48),
    "pselect6": Number(270, 72),
    "ppoll": Number(271, 73),
    "set_robust_list": Number(273, 99),
    "getrandom": Number(318, 278),
    "statx": Number(332, 291),
    "rseq": Number(334, 293),
    "faccessat2": Number(439, 439),
}

# Allowed for some arguments only; `seccomp.py` says which.
MMAP = Number(9, 222)
MPROTECT = Number(10, 226)
IOCTL = Number(16, 29)
CLONE = Number(56, 220)
FCNTL = Number(72, 25)
TGKILL = Number(234, 131)
PRLIMIT64 = Number(302, 261)
CLONE3 = Number(435, 435)
