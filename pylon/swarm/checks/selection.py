"""Which answers are checked, and by whom, as far as the allowance reaches."""

import random
import sys

from pylon.swarm.checks.allowance import Allowance, Purpose
from pylon.swarm.checks.case import Case
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.witnesses import Examined, Witnesses

# How many answers of a provider that lost a comparison are under examination at the same time.
LOOKED_AT = 2

# Purposes for which providers take turns: those that went unchecked for longest come first.
_BY_TURNS = frozenset({Purpose.NEW, Purpose.SAMPLE})


class Selection:
    """See the module."""

    def __init__(self, allowance: Allowance, evidence: Evidence, witnesses: Witnesses, rng: random.Random) -> None:
        self._allowance = allowance
        self._evidence = evidence
        self._witnesses = witnesses
        self._rng = rng

    def wants(self, case: Case, *, free: bool, final: bool) -> bool:
        """Whether this answer is checked. `free`: that costs no job; `final`: it cannot be asked again later."""
        if case.doubts:
            return True
        if not free and self._is_busy_with(case.provider, final=final):
            return False
        return self._rng.random() < self._evidence.check_share(case.provider)

    def has_more_to_look_at(self, provider: str) -> bool:
        """Whether one more of its latest answers is examined."""
        return self._evidence.is_suspect(provider) and self._witnesses.examined(provider) < LOOKED_AT

    def is_by_turns(self, case: Examined) -> bool:
        """Whether only sampling is a reason to check this answer: nothing has to be decided, and it is no suspect."""
        return self._purpose(case) in _BY_TURNS

    def beside(self, early: Examined, *, final: bool) -> tuple[str, ...]:
        """The providers for a second opinion on a question still in flight; empty if the draw says no.

        If there are any, the allowance is spent.
        """
        if self._is_busy_with(early.provider, final=final):
            return ()
        return self.second(early) if self._rng.random() < self._evidence.check_share(early.provider) else ()

    def second(self, case: Examined) -> tuple[str, ...]:
        """The providers for one more opinion, the best first; empty if too little of the allowance is left.

        If there are any, the allowance is spent.
        """
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
        """How many of its answers may be under examination; more than these are accepted unchecked."""
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
