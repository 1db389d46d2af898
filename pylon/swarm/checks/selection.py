"""Which answers are checked, as far as the allowance reaches."""

import random
import sys

from pylon.swarm.checks.allowance import Allowance, Purpose
from pylon.swarm.checks.case import Case
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.witnesses import Examined, Witnesses

# So many answers of somebody who lost a comparison are under examination at the same time.
LOOKED_AT = 2

_BY_TURNS = frozenset({Purpose.NEW, Purpose.SAMPLE})


class Selection:
    """See the module."""

    def __init__(self, allowance: Allowance, evidence: Evidence, witnesses: Witnesses, rng: random.Random) -> None:
        self._allowance = allowance
        self._evidence = evidence
        self._witnesses = witnesses
        self._rng = rng

    def wants(self, case: Case, *, free: bool, final: bool) -> bool:
        """Whether an answer is to be checked. `free`: it costs no job; `final`: it cannot be asked again later."""
        if case.doubts:
            return True
        if not free and self._is_busy_with(case.provider, final=final):
            return False
        return self._rng.random() < self._evidence.check_share(case.provider)

    def has_more_to_look_at(self, provider: str) -> bool:
        """Whether its latest answers are to be looked at once more."""
        return self._evidence.is_suspect(provider) and self._witnesses.examined(provider) < LOOKED_AT

    def is_by_turns(self, case: Examined) -> bool:
        """Whether nothing but the share is a reason to check it."""
        return self._purpose(case) in _BY_TURNS

    def beside(self, early: Examined, *, final: bool) -> tuple[str, ...]:
        """Who is asked what a provider is being asked, which is paid for then; nobody where that is not drawn."""
        if self._is_busy_with(early.provider, final=final):
            return ()
        return self.second(early) if self._rng.random() < self._evidence.check_share(early.provider) else ()

    def second(self, case: Examined) -> tuple[str, ...]:
        """Who is to be asked one more opinion, which is paid for then; nobody where there is too little left."""
        purpose = self._purpose(case)
        if not self._allowance.affords(purpose):
            return ()
        if purpose in _BY_TURNS and not self._witnesses.is_its_turn(case.provider):
            return ()
        to = self._witnesses.whom(case)
        if to:
            self._allowance.spend(purpose)
        return to

    def _is_busy_with(self, provider: str, *, final: bool) -> bool:
        return self._witnesses.examined(provider) >= self._at_once(provider, final=final)

    def _at_once(self, provider: str, *, final: bool) -> int:
        """How many of its answers may be under examination before another one is taken as it comes."""
        if not self._evidence.reputation.is_suspect(provider):
            return 1
        return sys.maxsize if final else LOOKED_AT

    def _purpose(self, case: Examined) -> Purpose:
        provider, reputation = case.provider, self._evidence.reputation
        if case.doubts or len(case.answers) > 1:
            return Purpose.MUST
        if self._evidence.is_suspect(provider):
            return Purpose.SUSPECT
        if not reputation.was_checked(provider):
            return Purpose.FIRST
        return Purpose.SAMPLE if reputation.is_proven(provider) else Purpose.NEW
