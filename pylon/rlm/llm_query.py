"""What `llm_query` gives the code in a REPL: the sub-LM's answers, and at once what no prompt of that length gets."""

from collections.abc import Sequence

from pylon.jobs import fit
from pylon.jobs.size import text_bytes
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Limits
from pylon.rlm.calls import CallRoom
from pylon.rlm.repl.protocol import SubCalls, SubReply
from pylon.rlm.sublm import SubAnswer
from pylon.rlm.trajectory import Trajectory, name_of

# As the swarm calls what fits no event.
TOO_LARGE = "too_large"


async def ask_all(
    room: CallRoom, trajectory: Trajectory, caller: Caller, ids: Sequence[str], calls: SubCalls
) -> list[SubReply]:
    """Asks a batch; its replies, in its order. `ids` are the names of its calls in the trajectory.

    A prompt that no event carries is told so at once, and costs nothing.
    """
    replies: dict[str, SubReply] = {}
    for name, prompt in zip(ids, calls.prompts, strict=True):
        if (message := unsendable(prompt, room.settings.event_bytes, caller.budget.limits)) is not None:
            trajectory.write(
                "returned", loop=caller.loop, turn=caller.turn, call=name, prompt=name_of(prompt),
                code=TOO_LARGE, message=message, attempts=0,
            )  # fmt: skip
            replies[name] = SubReply(message, TOO_LARGE)
    sent = [(name, prompt) for name, prompt in zip(ids, calls.prompts, strict=True) if name not in replies]
    outcomes = await room.ask(caller, [name for name, _ in sent], [prompt for _, prompt in sent], calls.model)
    for (name, _), one in zip(sent, outcomes, strict=True):
        if isinstance(one, SubAnswer):
            replies[name] = SubReply(one.text, finish=one.finish)
        else:
            replies[name] = SubReply(one.message, one.code)
    return [replies[name] for name in ids]


def unsendable(prompt: str, event_bytes: int | None, limits: Limits) -> str | None:
    """Why no event of at most `event_bytes` carries a prompt. What the budget's own limit refuses is left to that."""
    most = limits.prompt_chars
    if event_bytes is None or (most is not None and len(prompt) > most) or fit.fits(prompt, event_bytes):
        return None
    return (
        f"a prompt of {len(prompt):,} characters, {text_bytes(prompt):,} bytes, does not fit one event;"
        f" {fit.prompt_bytes(event_bytes):,} bytes of plain text do: cut it up"
    )


def longest_prompt(event_bytes: int | None, limits: Limits) -> int | None:
    """The bytes of the longest prompt that is let through whatever it holds; None where nothing bounds it."""
    bounds = [None if event_bytes is None else fit.prompt_bytes(event_bytes), limits.prompt_chars]
    return min((bound for bound in bounds if bound is not None), default=None)
