"""What a check found: how bad it is, in words, and what to do next."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# After it, a node uses the settings, the wallet and the code of today.
RESTART = "`pylon stop`, then `pylon start`"


class Verdict(StrEnum):
    """How bad a finding is, in rising order."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names the check, `said` is what it found, and `todo` what to do about it, empty if nothing. `no_jobs`:
    it keeps all or most jobs away. `only_own`: it keeps away all jobs but those from this machine."""

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
    """The worst verdict; `OK` if there are no findings."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)
