"""One's own sub-model: a function that is asked at once, and fails call by call."""

import asyncio
import re
import threading
from pathlib import Path

import pytest

from pylon.rlm.sublm import FunctionSubLM, Job, SubAnswer, SubFailure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rlm.md"


async def outcomes(sub, prompts):
    found = {place: outcome async for place, outcome in sub.ask([Job(prompt) for prompt in prompts])}
    return [found[place] for place in range(len(prompts))]


async def test_a_plain_function_runs_at_once_in_threads_and_the_loop_goes_on():
    there = threading.Barrier(21)

    def answer(prompt):
        there.wait(30)
        return prompt.upper()

    asked = asyncio.create_task(outcomes(FunctionSubLM(answer), [f"p{n}" for n in range(20)]))
    # Twenty of them wait for this one, which the loop must get to.
    await asyncio.to_thread(there.wait, 30)
    assert [one.text for one in await asked] == [f"P{n}" for n in range(20)]


@pytest.mark.parametrize("plain", [True, False])
async def test_what_a_function_raises_is_the_failure_of_its_call_alone(plain):
    def answer(prompt):
        if prompt == "3":
            raise RuntimeError("429 from my server")
        return None if prompt == "4" else SubFailure("deadline", "late") if prompt == "5" else prompt

    async def awaited(prompt):
        await asyncio.sleep(0)
        return answer(prompt)

    found = await outcomes(FunctionSubLM(answer if plain else awaited), list("0123456"))
    assert [one.text for one in found if isinstance(one, SubAnswer)] == list("0126")
    failed = [one for one in found if isinstance(one, SubFailure)]
    assert [one.code for one in failed] == ["failed", "failed", "deadline"]
    assert "429 from my server" in failed[0].message and "NoneType" in failed[1].message


async def test_the_pages_example_of_own_parts_runs(capsys):
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    [code] = [example for example in examples if "FunctionSubLM" in example]
    await asyncio.to_thread(exec, compile(code, "docs/rlm.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith("Ada False final")
