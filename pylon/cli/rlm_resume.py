"""`pylon rlm resume`: continues a run that was interrupted or ran out of budget."""

import asyncio
from typing import Annotated, Any

import typer

from pylon.cli.rlm_report import progress, tell, tell_interrupted, tell_report
from pylon.cli.rlm_show import RunId
from pylon.cli.running import Json, ended_as_by_ctrl_c, run
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.rlm.resume import resume as resume_run
from pylon.node.session import open_node
from pylon.rlm import runs


def resume(
    name: RunId = "last",
    calls: Annotated[
        int | None, typer.Option(help="The most sub-calls, counting earlier ones (rlm.max_calls).")
    ] = None,
    sats: Annotated[
        int | None, typer.Option(help="The most sats, counting those already spent (rlm.max_sats).")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="The most tokens, counting those already used (rlm.max_tokens).")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="The most seconds, counting those already taken (rlm.max_wall_s).")
    ] = None,
    turns: Annotated[
        int | None, typer.Option(help="The most turns of one loop, counting earlier ones (rlm.turns).")
    ] = None,
    root_turns: Annotated[
        int | None,
        typer.Option(help="The most root model turns over all loops, counting earlier ones (rlm.max_root_turns)."),
    ] = None,
    root_model: Annotated[str | None, typer.Option(help="Use another root model (rlm.root_model).")] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on",
            help=(
                "If the code does something else than it did before, continue from there with the "
                "models instead of failing."
            ),
        ),
    ] = False,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-local-repl",
            help="Required for a run whose code ran without a sandbox; it continues without one.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Continue a run that was interrupted or ran out of budget. Answered calls are not asked or paid again.

    The run keeps its settings. Limits you give here replace the old ones, and count what the run already used. If
    the run already has a complete answer, that answer is printed.
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
        with progress(unit, as_json) as heard, ended_as_by_ctrl_c():
            async with open_node(home, config) as node:
                report = await resume_run(
                    home, config, node, found, wishes, go_on=go_on, unsafe=unsafe, listener=heard, tell=tell
                )  # fmt: skip
    except asyncio.CancelledError:
        tell_interrupted(found, unit, as_json)
    if not report["resumed"]:
        tell(f"run {found.id} already has a complete answer")
    tell_report(report, unit, as_json)
