"""What the C library's heap does with freed memory."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")

# Twenty megabytes come and go, as buffers of a group do; how many pages the system had to bring.
SCRIPT = """
import os, resource, sys
import numpy as np
from pylon.inference.mlx import heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def work():
    kept = [np.ones(2 * 1024 * 1024 // 8) for _ in range(10)]

if sys.argv[1] == "keep":
    assert heap.keep_freed()
work(); work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
full = resident()
heap.give_back()
print(full - resident())
"""


def measured(way: str) -> tuple[int, int]:
    output = subprocess.run([sys.executable, "-c", SCRIPT, way], check=True, capture_output=True, text=True).stdout
    faults, returned = map(int, output.split())
    return faults, returned


def test_memory_that_is_freed_and_taken_again_is_not_fetched_from_the_system_anew() -> None:
    assert measured("keep")[0] < measured("leave")[0] / 10


def test_what_is_kept_can_be_given_back() -> None:
    assert measured("keep")[1] > 15_000_000
