"""Runs code as root models write it over eight items, and counts its requests."""

from pylon.rlm.repl.guest.concurrency import as_completed
from tests.rlm.plain import run

START = """
import json, re
from collections import Counter, defaultdict
P = [f'{n}' for n in range(8)]
words = re.compile(r'\\W+')
def star(*values):
    return list(values)
r = []
"""


def asked(code):
    """How many calls were sent with others, and by themselves: with fan-out, and without."""
    given = {"as_completed": as_completed}
    together, plain = run(START + code, given=given), run(START + code, given=given, fan_out=False)
    assert together[0]["r"] == plain[0]["r"] and together[1:3] == plain[1:3]
    assert sorted(together[3].prompts) == sorted(plain[3].prompts)
    return len(together[3].batches), len(plain[3].batches)
