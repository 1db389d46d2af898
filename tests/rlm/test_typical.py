"""What root models write gives the same in every sandbox, and the same as outside of any."""

from pylon.rlm.repl.backends import UNSAFE
from pylon.rlm.repl.protocol import Answer
from tests.rlm.typical import CONTEXT, FINAL, TYPICAL


async def test_typical_programs_give_the_same_as_outside_the_sandbox(open_repl):
    assert len(TYPICAL) >= 60
    repl, outside = await open_repl(CONTEXT), await open_repl(CONTEXT, kind_of=UNSAFE)
    different = []
    for name, code in TYPICAL:
        here, there = await repl.run(code), await outside.run(code)
        kinds = [one.error and one.error.kind for one in (here, there)]
        if (here.stdout, kinds[0]) != (there.stdout, kinds[1]) or (here.error and name != "error"):
            different.append((name, here.stdout, there.stdout, here.error))
    assert not different


async def test_every_way_to_say_the_answer_is_understood(open_repl):
    repl = await open_repl(CONTEXT)
    for name, code in FINAL:
        outcome = await repl.run("answer = {'content': '', 'ready': False}\n" + code)
        assert (outcome.error, outcome.answer, outcome.stdout) == (None, Answer("forty", True), ""), name
