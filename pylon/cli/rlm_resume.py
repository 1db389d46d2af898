"""`pylon rlm resume`: a run that was interrupted, or had too small a budget, goes on."""

import asyncio
from typing import Annotated, Any

import typer
from rich.status import Status

from pylon.cli.output import err
from pylon.cli.rlm_ask import Quiet, interrupted, tell, tell_report
from pylon.cli.running import Json, ended_as_by_ctrl_c, run
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.rlm.resume import resume as resume_run
from pylon.node.session import open_node
from pylon.rlm import runs
from pylon.rlm.progress import Tally
from pylon.rlm.trajectory import Event


def resume(
    name: Annotated[str, typer.Argument(help="A run's id or the start of it; `last` is the newest.")] = "last",
    calls: Annotated[int | None, typer.Option(help="The most sub-calls, with those before (rlm.max_calls).")] = None,
    sats: Annotated[int | None, typer.Option(help="The most sats, with those spent (rlm.max_sats).")] = None,
    tokens: Annotated[int | None, typer.Option(help="The most tokens, with those used (rlm.max_tokens).")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="The most seconds, with those taken (rlm.max_wall_s).")
    ] = None,
    turns: Annotated[int | None, typer.Option(help="Turns of a loop, with those before (rlm.turns).")] = None,
    root_turns: Annotated[
        int | None, typer.Option(help="Turns of the root model in all loops, with those before (rlm.max_root_turns).")
    ] = None,
    root_model: Annotated[str | None, typer.Option(help="Another root model (rlm.root_model).")] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on",
            help="Where the code does something else than it did then, go on from there with the models, instead of"
            " ending with an error.",
        ),
    ] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe-local-repl", help="For a run whose code ran in no sandbox: it runs again so.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on with a run that was interrupted, or whose budget ended: what was answered is not asked or paid again.

    It has the settings that it had; limits that are given stand over them, and count what it has spent. A run that
    came to a whole answer is not gone on with: its answer is printed.
    """
    wishes = {
        "max_calls": calls, "max_sats": sats, "max_tokens": tokens, "max_wall_s": seconds, "turns": turns,
        "max_root_turns": root_turns, "root_model": root_model,
    }  # fmt: skip
    run(_resume(name, wishes, go_on, unsafe, as_json), as_json=as_json)


async def _resume(name: str, wishes: dict[str, Any], go_on: bool, unsafe: bool, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    found = runs.find_run(home.runs, name)
    try:
        with Status("starting", console=err) if err.is_terminal and not as_json else Quiet() as status:

            def heard(_: Event, tally: Tally) -> None:
                status.update(tally.line(unit))

            with ended_as_by_ctrl_c():
                async with open_node(home, config) as node:
                    report = await resume_run(
                        home, config, node, found, wishes, go_on=go_on, unsafe=unsafe, listener=heard, tell=tell
                    )  # fmt: skip
    except asyncio.CancelledError:
        interrupted(found, unit, as_json)
    if not report["resumed"]:
        tell(f"run {found.id} has a whole answer: nothing is left to do")
    tell_report(report, unit, as_json)
