"""What whoever starts with the model in the box is told to ask, and when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pylon.cli import ask as asking
from pylon.cli.init import _next
from pylon.cli.running import NEEDLE_ASK, NEEDLE_ONLY
from pylon.cli.wrapping import wrapped
from pylon.node.calls.protocol import Result
from pylon.sections import InferenceSection

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("settings", "boxed"),
    [
        ({}, True),
        ({"model": "a/larger-one"}, False),
        ({"engine": "openai"}, False),
        ({"engine": "instant"}, False),
    ],
)
def test_a_new_home_names_a_question_that_its_model_answers(settings: dict[str, Any], boxed: bool) -> None:
    said = _next(InferenceSection(**settings))
    assert (said.splitlines()[-1].strip() == NEEDLE_ASK) is boxed
    assert ('then `pylon ask "…"`.' in said) is not boxed


def test_the_question_is_copied_whole_from_any_terminal_and_stands_in_the_readme() -> None:
    assert f"  {NEEDLE_ASK}" in wrapped(NEEDLE_ONLY, 40).splitlines() and len(f"  {NEEDLE_ASK}") < 80
    assert f"    {NEEDLE_ASK}\n" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("model", "text", "told"),
    [("needle-1", "none", True), ("needle-1", "4711", False), ("a/larger-one", "none", False)],
)
async def test_what_the_model_in_the_box_can_do_is_told_where_it_had_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str, text: str, told: bool
) -> None:
    outcome = {"error": None, "text": text, "provider": "a" * 64, "model": model, "latency_ms": 1, "finish": "stop"}

    class Node:
        async def call(self, *_: object) -> AsyncIterator[Result]:
            yield Result({"outcomes": [outcome]})

    @asynccontextmanager
    async def node(*_: object) -> AsyncIterator[Node]:
        yield Node()

    monkeypatch.setattr(asking, "open_home", lambda: (None, None))
    monkeypatch.setattr(asking, "open_node", node)
    await asking._ask("Who signed it?", {}, None, False)
    printed, said = capsys.readouterr()
    assert printed == f"{text}\n"
    assert (NEEDLE_ASK in said) is told
