"""Loops inside loops that come to no whole answer."""

import pytest

from pylon.rlm.budget import Limits
from pylon.rlm.progress import Tally
from pylon.rlm.settings import LoopSettings
from tests.rlm.fakes import InProcessRepl, Stage, repl


@pytest.mark.parametrize(
    ("child", "finish"), [(repl("answer['content'] = 'so far'"), "partial"), (repl("FINAL('so far')"), "stop")]
)
async def test_a_child_that_came_to_no_whole_answer_says_so_to_the_code_and_in_the_trajectory(
    tmp_path, child, finish
):
    parent = [repl("r = rlm_query('count the stars')\nprint(r)"), "FINAL(as the child says)"]

    def turns(messages):
        if "Your task stands" in messages[1].content:
            return "" if "last turn" in messages[-1].content else child
        return parent[sum(message.role == "assistant" for message in messages)]

    heard = []

    class Hearing(InProcessRepl):
        async def open(self, context, limits, on_calls):
            async def kept(calls):
                replies = await on_calls(calls)
                heard.extend(replies)
                return replies

            await super().open(context, limits, kept)

    stage = Stage(tmp_path, turns, settings=LoopSettings(turns=3), open_repl=Hearing)
    await stage.run(limits=Limits(depth=1))
    assert [(reply.text, reply.error_code, reply.finish) for reply in heard] == [("so far", None, finish)]
    returned = stage.events("returned")[0]
    assert (returned["finish"], returned["reason"]) == (finish, "repeated" if finish == "partial" else "final")
    tally = Tally()
    for event in stage.events():
        tally.add(event)
    assert tally.truncated == (finish == "partial")
    assert '`finish` is `"partial"`' in stage.root.chats[0][0].content
