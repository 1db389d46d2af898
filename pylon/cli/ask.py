"""`pylon ask`: sends one prompt to the swarm. Its options are those of `pylon map`, too."""

import asyncio
from typing import Annotated, Any

import typer

from pylon.cli import stdin
from pylon.cli.output import err, short
from pylon.cli.running import NEEDLE_ONLY, Json, ended_as_by_ctrl_c, fail, print_json, print_text, run
from pylon.cli.waiting import map_result
from pylon.errors import InterruptError, JobsFailedError, UsageError
from pylon.inference.models import needle
from pylon.jobs.fit import misfit
from pylon.node.home import open_home
from pylon.node.session import open_node

Model = Annotated[str | None, typer.Option(help="A model's id, or sha256:… of its weights (default: any model).")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")]
Temperature = Annotated[float | None, typer.Option(min=0, max=2, help="The sampling temperature; 0 is greedy.")]
Timeout = Annotated[
    float | None, typer.Option(min=1, help="Seconds to wait for each answer (default: customer.timeout_s).")
]
System = Annotated[str | None, typer.Option(help="A system message to put before every prompt.")]


def ask(
    prompt: Annotated[str, typer.Argument(help="The prompt, or - to read it from standard input.")],
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Send one prompt to a provider and print its answer."""
    run(_ask(prompt, options(system, model, max_tokens, temperature), timeout, as_json), as_json=as_json)


async def _ask(prompt: str, given: dict[str, Any], timeout: float | None, as_json: bool) -> None:
    text = await stdin.text() if prompt == "-" else prompt
    if not text.strip():
        where = "standard input" if prompt == "-" else "the prompt"
        raise UsageError(f"{where} is empty", hint="Give a prompt, or pipe one in: `pylon ask -`.")
    if why := misfit(text):
        raise UsageError(
            why, hint="Split it into smaller pieces, or use `pylon rlm`, which takes texts of any length."
        )
    job = {"prompt": text, **given}
    home, config = open_home()
    try:
        with ended_as_by_ctrl_c():
            async with open_node(home, config) as node:
                result = await map_result(node, {"jobs": [job], "timeout_s": timeout}, quiet=as_json)
    except asyncio.CancelledError:
        fail(InterruptError("interrupted"), as_json=as_json)
    outcome = result["outcomes"][0]
    if as_json:
        print_json(outcome)
    elif outcome["error"] is None:
        print_text(outcome["text"])
        err.print(f"{short(outcome['provider'])} {outcome['model']}, {outcome['latency_ms']} ms", style="dim")
        if cut := _cut(outcome):
            err.print(cut, style="dim")
        if outcome["model"] == needle.MODEL_ID and outcome["text"].strip() == needle.ABSENT:
            err.print(NEEDLE_ONLY, style="dim")
    if outcome["error"] is not None:
        # The object with the error is printed already.
        fail(JobsFailedError(f"no answer: {outcome['error']['message']}", hint=outcome["error"]["hint"]))


def _cut(outcome: dict[str, Any]) -> str:
    """Says that an answer was cut off, and what to do about it; empty for a complete one."""
    if outcome["finish"] == "size":
        return (
            "The answer was cut off because one event can hold no more. Ask for a shorter answer, or "
            "for one part at a time."
        )
    if outcome["finish"] != "length":
        return ""
    written = outcome["usage"]["completion_tokens"] if outcome["usage"] else 0
    if 0 < outcome["max_completion_tokens"] <= written:
        return f"The answer was cut off at {written:,} tokens, the most this provider gives with {outcome['model']}."
    return (
        f"The answer was cut off at {written:,} tokens; use --max-tokens to ask for a longer one."
        if written
        else "The answer was cut off."
    )


def options(
    system: str | None, model: str | None, max_tokens: int | None, temperature: float | None
) -> dict[str, Any]:
    """The options that were given, by their names in a job."""
    given = {"system": system, "model": model, "max_tokens": max_tokens, "temperature": temperature}
    return {name: value for name, value in given.items() if value is not None}
