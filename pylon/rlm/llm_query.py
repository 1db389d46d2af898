"""Answers a REPL's `llm_query`: with what the sub-LM replies, or at once if a prompt is too long to be sent."""

from collections.abc import Sequence

from pylon.jobs import fit
from pylon.jobs.size import text_bytes
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Limits
from pylon.rlm.calls import SubCallRunner
from pylon.rlm.repl.protocol import SubCalls, SubReply
from pylon.rlm.sublm import SubAnswer
from pylon.rlm.trajectory import Trajectory, text_ref

# The swarm's code for a prompt that fits no event.
TOO_LARGE = "too_large"


async def ask_all(
    runner: SubCallRunner, trajectory: Trajectory, caller: Caller, ids: Sequence[str], calls: SubCalls
) -> list[SubReply]:
    """Asks a batch of prompts; returns the replies in the same order. `ids` are the names of the calls in the
    trajectory. A prompt that fits no event is refused at once and costs nothing.
    """
    replies: dict[str, SubReply] = {}
    for name, prompt in zip(ids, calls.prompts, strict=True):
        if (message := unsendable(prompt, runner.settings.event_bytes, caller.budget.limits)) is not None:
            trajectory.write(
                "returned", loop=caller.loop, turn=caller.turn, call=name, prompt=text_ref(prompt),
                code=TOO_LARGE, message=message, attempts=0,
            )  # fmt: skip
            replies[name] = SubReply(message, TOO_LARGE)
    sent = [(name, prompt) for name, prompt in zip(ids, calls.prompts, strict=True) if name not in replies]
    outcomes = await runner.ask(caller, [name for name, _ in sent], [prompt for _, prompt in sent], calls.model)
    for (name, _), one in zip(sent, outcomes, strict=True):
        if isinstance(one, SubAnswer):
            replies[name] = SubReply(one.text, finish=one.finish)
        else:
            replies[name] = SubReply(one.message, one.code)
    return [replies[name] for name in ids]


def unsendable(prompt: str, event_bytes: int | None, limits: Limits) -> str | None:
    """Why a prompt fits no event of at most `event_bytes`, in words; None if it does, or if the budget's own limit on
    prompts will refuse it."""
    most = limits.prompt_chars
    if event_bytes is None or (most is not None and len(prompt) > most) or fit.fits(prompt, event_bytes):
        return None
    return (
        f"a prompt of {len(prompt):,} characters, {text_bytes(prompt):,} bytes, does not fit one event;"
        f" {fit.prompt_bytes(event_bytes):,} bytes of plain text do: cut it up"
    )


def longest_prompt(event_bytes: int | None, limits: Limits) -> int | None:
    """The length in bytes up to which every prompt is let through; None if nothing bounds it."""
    bounds = [None if event_bytes is None else fit.prompt_bytes(event_bytes), limits.prompt_chars]
    return min((bound for bound in bounds if bound is not None), default=None)
