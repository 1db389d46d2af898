"""`pylon status`: what the node of this home is doing, or with --all each machine of the household."""

import time
from typing import Annotated, Any

import typer
from rich.table import Table

from pylon.cli.output import ago, brief, err, out, rest_text, short, speed, table
from pylon.cli.owner import rule_line, waived_line
from pylon.cli.running import Json, household_line, print_json, run
from pylon.cli.wallet_live import spending_lines
from pylon.errors import UnreachableError
from pylon.money.network import Network
from pylon.node.calls.protocol import result_of
from pylon.node.hindrance import paused_line
from pylon.node.home import open_home
from pylon.node.session import open_node, running_node
from pylon.text import counted


def status(
    everyone: Annotated[bool, typer.Option("--all", help="Show all machines of the household.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the node is doing: jobs, model, relays.

    Exits with status 0 if a node serves this home, even while paused, and with 4 if none does.
    """
    run(_status_of_all(as_json) if everyone else _status(as_json), as_json=as_json)


async def _status_of_all(as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "household")
    if as_json:
        print_json(data)
        return
    made = table("machine", "|key", "state", "model", ">free", ">queue s", ">tokens/s out")
    for row in data["members"]:
        name = f"{row['name']} (here)" if row["here"] else row["name"]
        if not row["alive"]:
            made.add_row(name, short(row["npub"]), "away", "", "", "", "")
            continue
        state = f"paused ({row['paused']})" if row["paused"] else "loading" if row["loading"] else "ready"
        if row["rests"] is not None and state == "ready":
            state = rest_text(row["rests"])
        free = f"{row['slots_free']} of {row['slots']}"
        figures = (free, f"{row['queue_s']:g}", speed(row["tokens_out_per_s"]))
        made.add_row(name, short(row["npub"]), state, row["model"], *figures)
    out.print(made)
    for row in data["members"]:
        if row["rests"] is not None:
            err.print(f"{row['name']} {rest_text(row['rests'])}: {row['rests']['why']}", style="dim")


async def _status(as_json: bool) -> None:
    home, config = open_home()
    try:
        data = await result_of(running_node(home), "status")
    except UnreachableError:
        data = {"running": False, "network": config.network, "home": str(home.root)}
    if as_json:
        print_json(data)
    elif not data.get("running", True):
        out.print(f"no node is running in {home.root}\n  Start one with `pylon start`.")
    else:
        _print_status(data)
    if data.get("provider") is None:
        raise typer.Exit(UnreachableError.exit_code)


def _latency(latency: dict[str, Any]) -> str:
    """`0.2 s waiting, 3.1 s computing, 0.04 s until a relay had it (medians)`."""
    medians = [latency[phase]["median_s"] for phase in ("queue", "compute", "publish")]
    if None in medians:
        return "no jobs answered since the start"
    waited, computed, published = map(brief, medians)
    return f"{waited} waiting, {computed} computing, {published} until a relay had it (medians)"


def _serving(data: dict[str, Any]) -> str:
    """Whether the node takes jobs, and why not where it does not. `data` is what the `status` call returned."""
    provider = data["provider"]
    if provider["paused"]:
        return paused_line(provider["paused"], data["owner"])
    if provider["engine"]["state"] == "failed":
        return "refusing every job: the model failed"
    state = "draining" if provider["draining"] else "taking jobs"
    if provider["engine"]["state"] == "loading" and not provider["draining"]:
        state = "the model is loading: jobs begin when it is ready"
    # A node that began with an older Pylon does not say.
    return f"{state}, but {data['hindrance']}" if data.get("hindrance") else state


def _print_status(data: dict[str, Any]) -> None:
    made = table("", "", show_header=False)
    made.add_row("node", data["npub"])
    made.add_row("", f"{data['network']}, process {data['pid']}, up {ago(data['uptime_s'])}")
    for relay in data["relays"]:
        note = relay["error"] or relay["notice"]
        made.add_row("relay", f"{relay['url']} {relay['state']}{f' ({note})' if note else ''}")
    if data["household"] is not None:
        made.add_row("household", household_line(data["household"]))
    for line in spending_lines(data["spending"], Network(data["network"]).unit) if data["spending"] else ():
        made.add_row("money", line)
    if data.get("provider") is None:
        made.add_row("serving", "not serving: a command is using the home, and ends by itself")
    else:
        _add_provider(made, data)
    out.print(made)


def _add_provider(made: Table, data: dict[str, Any]) -> None:
    provider, engine, owner, now = data["provider"], data["provider"]["engine"], data["owner"], time.time()
    made.add_row("serving", _serving(data))
    for rule in owner["rules"]:
        made.add_row("rule", rule_line(rule, now))
    if owner["waiver_ends_local"] is not None:
        made.add_row("owner", waived_line(owner["waiver_ends_local"], now))
    restarts = f", restarted {counted(engine['restarts'], 'time')}: {engine['reason']}" if engine["restarts"] else ""
    made.add_row("model", f"{data['model']} {engine['state']}{restarts}")
    for line in filter(None, (engine["failure"], engine["hint"])):
        made.add_row("", line)
    measured = f"{speed(engine['tokens_in_per_s'])} tokens/s in, {speed(engine['tokens_out_per_s'])} out"
    made.add_row("speed", measured if engine["tokens_in_per_s"] else "not measured yet")
    made.add_row("a job", _latency(provider["latency"]))
    made.add_row("now", f"{provider['running']} running, {provider['queued']} waiting")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(provider["jobs"].items())) or "none yet"
    made.add_row("jobs", counts)
