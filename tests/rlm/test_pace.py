"""Calls that go out one by one where they need not: the root is told."""

import pytest

from pylon.rlm.pace import Pace
from tests.rlm.fakes import Stage, repl

ONE_BY_ONE = repl("for n in range(6):\n    last = llm_query(f'{n}')")
TOGETHER = repl("last = llm_query_batched([f'{n}' for n in range(6)])[-1]")


@pytest.mark.parametrize(("code", "told"), [(ONE_BY_ONE, True), (TOGETHER, False)])
async def test_a_root_is_told_of_the_turn_in_which_its_calls_went_one_after_the_other(tmp_path, code, told):
    stage = Stage(tmp_path, [code, repl("x = 1"), repl("FINAL(last)")])
    await stage.run()
    shown = [stage.text(event["text"]) for event in stage.events("shown")]
    assert ("6 sub-calls went out one after the other" in shown[0]) is told
    assert "one after the other" not in shown[1]


def test_only_calls_that_nothing_goes_on_beside_count_and_with_their_time():
    pace = Pace()
    for n in range(5):
        pace.began(1, now=n)
        pace.ended(now=n + 0.5)
    # Two at once, as from threads; and one request of many.
    pace.began(1, now=10)
    pace.began(1, now=11)
    pace.ended(now=12)
    pace.ended(now=13)
    pace.began(9, now=20)
    pace.ended(now=29)
    said = pace.said()
    assert said.startswith("5 sub-calls") and "in 2.5 s" in said and pace.said() == ""
