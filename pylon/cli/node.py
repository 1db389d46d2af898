"""A running node: `pause`, `resume`, `drain`, `jobs`; and `version`."""

import time
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from pylon import __version__
from pylon.cli.output import err, out, short, table
from pylon.cli.owner import seconds_of
from pylon.cli.running import Json, print_json, run
from pylon.errors import PylonError
from pylon.node.calls.protocol import Event, result_of
from pylon.node.hindrance import paused_line
from pylon.node.home import open_home
from pylon.node.session import open_node, running_node


def pause(as_json: Json = False) -> None:
    """Stop taking new jobs until `pylon resume`, even after a restart. Jobs already here are finished."""
    run(_call_and_show("pause", as_json), as_json=as_json)


def resume(
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            help=(
                "Serve this long although you are using the machine, such as 30min or 2h, at most 30d; 0s ends it."
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let this node take jobs again after `pylon pause` or `drain`, as far as the owner rules allow.

    --for suspends those rules for a time, except the ones that protect the machine (heat, memory). 0s puts them
    back in force without ending a manual pause.
    """
    run(_resume(for_, as_json), as_json=as_json)


async def _resume(for_: str | None, as_json: bool) -> None:
    await _call_and_show("resume", as_json, {} if for_ is None else {"for_s": seconds_of(for_)})


async def _call_and_show(method: str, as_json: bool, params: dict[str, Any] | None = None) -> None:
    """Calls the running node, and prints whether it takes jobs now."""
    home, _ = open_home()
    data = await result_of(running_node(home), method, params)
    if as_json:
        print_json(data)
    else:
        out.print(paused_line(data["paused"], data.get("owner")) if data["paused"] else "taking jobs")


def drain(as_json: Json = False) -> None:
    """Stop taking new jobs and wait until those already here are finished. `pylon resume` undoes it."""
    run(_drain(as_json), as_json=as_json)


async def _drain(as_json: bool) -> None:
    home, _ = open_home()
    node = running_node(home)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task("draining", total=None)
        async for answer in node.call("drain"):
            if isinstance(answer, Event):
                left = answer.data
                progress.update(task, description=f"{left['running']} running, {left['queued']} waiting")
                continue
            if not answer.data["drained"]:
                raise PylonError(
                    "the node takes jobs again: `pylon resume` ended this drain",
                    hint="Run `pylon drain` again to drain it.",
                )
            if as_json:
                print_json(answer.data)
            else:
                out.print("drained: no jobs are left, and none are taken")


def jobs(
    limit: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many jobs to show.")] = 20,
    state: Annotated[str, typer.Option(help="Show only jobs in this state.")] = "",
    as_json: Json = False,
) -> None:
    """List the jobs this node has served, newest first."""
    run(_jobs(limit, state, as_json), as_json=as_json)


async def _jobs(limit: int, state: str, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "jobs", {"limit": limit, "state": state})
    if as_json:
        print_json(data)
        return
    if not data["jobs"]:
        out.print("no jobs yet")
        return
    made = table("job", "customer", "state", ">in", ">out", ">ms", "received")
    for row in data["jobs"]:
        state = f"{row['state']} ({row['code']})" if row["code"] else row["state"]
        received = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["received_at"]))
        tokens = (str(row["prompt_tokens"]), str(row["completion_tokens"]))
        made.add_row(row["id"][:12], short(row["customer"]), state, *tokens, str(row["run_ms"]), received)
    out.print(made)


def version(as_json: Json = False) -> None:
    """Print the version, like the option `--version`."""
    if as_json:
        print_json({"version": __version__})
    else:
        out.print(f"pylon {__version__}")
