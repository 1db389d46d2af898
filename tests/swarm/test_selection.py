"""Which answers are checked: the doubtful ones always, the others by chance and in turn."""

import random

import pytest

from pylon.swarm.checks.allowance import Allowance
from pylon.swarm.checks.case import Case
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.reputation import WELL_KNOWN, Reputation, Seen
from pylon.swarm.checks.selection import LOOKED_AT, Selection
from pylon.swarm.checks.verification import Doubt
from pylon.swarm.checks.witnesses import Witnesses
from pylon.swarm.job import Answer, JobSpec

ANSWER = Answer("so it is", "p", "m", "ab" * 32, None, None, 0, 90, 100, 1, "request", "result")
DRAWS = 200


def setting(*seen: Seen) -> tuple[Selection, Witnesses]:
    reputation, rng = Reputation(), random.Random(1)
    for one in seen:
        reputation.note("p", one, 0.0)
    evidence = Evidence(reputation)
    witnesses = Witnesses(evidence, rng)
    return Selection(Allowance(0.05), evidence, witnesses, rng), witnesses


def case(*doubts: Doubt) -> Case:
    return Case(0, JobSpec("how is it?"), doubts, ANSWER, 1)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_a_doubtful_answer_is_always_checked_however_well_its_provider_is_known(free: bool, final: bool) -> None:
    selection, witnesses = setting(*[Seen.PASSED] * WELL_KNOWN)
    wanted = [selection.wants(case(), free=free, final=final) for _ in range(DRAWS)]
    assert 0 < sum(wanted) < DRAWS / 4, "what is believable is only sampled"
    for _ in range(LOOKED_AT + 1):
        # However many of its answers are being looked at.
        witnesses.opened("p")
        assert all(selection.wants(case(Doubt.EMPTY), free=free, final=final) for _ in range(DRAWS))


def test_while_one_answer_is_compared_no_other_of_its_provider_is_but_our_own_model_reads_it() -> None:
    selection, witnesses = setting()
    assert selection.wants(case(), free=False, final=False), "a newcomer's first answer is checked"
    witnesses.opened("p")
    assert not any(selection.wants(case(), free=False, final=final) for final in (False, True) for _ in range(DRAWS))
    assert all(selection.wants(case(), free=True, final=False) for _ in range(DRAWS))


def test_of_a_suspect_some_are_compared_at_once_and_all_where_none_can_be_asked_again() -> None:
    selection, witnesses = setting(Seen.LOST)
    for examined in range(LOOKED_AT + 2):
        assert selection.wants(case(), free=False, final=False) is (examined < LOOKED_AT)
        assert selection.wants(case(), free=False, final=True)
        witnesses.opened("p")
