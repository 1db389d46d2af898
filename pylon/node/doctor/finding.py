"""What a check found: how bad it is, in words, and what to do next."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# What has a node use the settings, the wallet and the code that are there now.
RESTART = "`pylon stop`, then `pylon start`"


class Verdict(StrEnum):
    """From good to bad."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """`todo` is empty where there is nothing to do. `no_jobs`: it keeps jobs away, all or most of them.

    `only_own`: it keeps all away but those that come from this machine.
    """

    check: str
    verdict: Verdict
    said: str
    todo: str = ""
    no_jobs: bool = False
    only_own: bool = False


def ok(check: str, said: str) -> Finding:
    return Finding(check, Verdict.OK, said)


def warning(check: str, said: str, todo: str, *, no_jobs: bool = False) -> Finding:
    return Finding(check, Verdict.WARNING, said, todo, no_jobs)


def wrong(check: str, said: str, todo: str, *, no_jobs: bool = False) -> Finding:
    return Finding(check, Verdict.WRONG, said, todo, no_jobs)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict; `ok` of none."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)
