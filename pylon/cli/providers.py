"""`pylon providers`: lists the live providers, once or until Ctrl-C, or explains what is known about one."""

import asyncio
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from pylon.cli.ask import Model
from pylon.cli.output import err, out, rest_text, short, speed, table
from pylon.cli.running import Json, print_json, run
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.calls.protocol import Node, result_of
from pylon.node.home import open_home
from pylon.node.session import open_node
from pylon.text import counted

# How often the table is updated with --live, in seconds.
REFRESH_S = 1.0
# The most rows with --live, which asks for them every second.
_LIVE_ROWS = 40
# The lines of the screen that hold no row: how many there are, the headings, and the cursor.
_NO_ROWS = 3


def providers(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to listen before printing.")] = 2.0,
    model: Model = None,
    free: Annotated[bool, typer.Option("--free", help="Only providers that charge nothing.")] = False,
    most: Annotated[
        int | None, typer.Option(min=0, help="Only providers with at most this base price, in msat.")
    ] = None,
    network: Annotated[Network | None, typer.Option(help="Only providers paid on this network.")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Only models with a context window of at least this many tokens.")
    ] = None,
    trust: Annotated[
        float, typer.Option(min=0, max=1, help="Only providers with at least this much trust, from 0 to 1.")
    ] = 0.0,
    live: Annotated[
        bool, typer.Option("--live", help="Keep the table on screen and up to date until Ctrl-C.")
    ] = False,
    why: Annotated[
        str | None,
        typer.Option(
            help=(
                "Explain what is known about one provider, given by name, key, or the first 11 or "
                "more characters of its npub."
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the live providers: what they run, how fast and how busy they are, and how far they are trusted."""
    if why is not None:
        run(_why(why, model, wait, as_json), as_json=as_json)
        return
    params = {
        "wait_s": wait,
        "model": model,
        "free": free,
        "most_msat": most,
        "network": network,
        "context": context,
        "trust": trust,
    }
    run(_providers(params, live and not as_json, as_json), as_json=as_json)


async def _why(key: str, model: str | None, wait: float, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "why-provider", {"key": key, "model": model, "wait_s": wait})
    if as_json:
        print_json(data)
        return
    out.print(f"{data['provider']}\n  {data['now']}{'; one of your own machines' if data['own'] else ''}")
    if data["rests"] is not None:
        out.print(f"  {rest_text(data['rests'])}: {data['rests']['why']}")
    for line in data["why"]:
        out.print(f"  {line}")


async def _providers(params: dict[str, Any], live: bool, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        if live:
            await _follow(node, {**params, "limit": _LIVE_ROWS})
        data = await result_of(node, "providers", params)
    # Without the node, which may run in this process: to print ten thousand rows takes seconds.
    if as_json:
        print_json(data)
    elif data["providers"]:
        out.print(_table(data["providers"]))
        for row in data["providers"]:
            if row["rests"] is not None:
                err.print(f"{short(row['provider'])} {rest_text(row['rests'])}: {row['rests']['why']}", style="dim")
    elif data["heard_of"]:
        known = data["heard_of"]
        were = "was" if known == 1 else "were"
        out.print(f"{counted(known, 'provider')} {were} heard of, but none is alive and matches")
    else:
        out.print(
            "no provider is alive on " + ", ".join(config.relays) + "\n  Run `pylon start` to make this machine one."
        )


async def _follow(node: Node, params: dict[str, Any]) -> NoReturn:
    """Keeps the table on the screen until Ctrl-C."""
    # The node, which may run in this process, chooses the rows: to describe and sort ten thousand every second would
    # leave it little time for anything else.
    data = await result_of(node, "providers", params)
    with Live(console=out, auto_refresh=False) as screen:
        while True:
            screen.update(_screen(data["providers"][: max(1, out.height - _NO_ROWS)], data["matching"]), refresh=True)
            await asyncio.sleep(REFRESH_S)
            data = await result_of(node, "providers", {**params, "wait_s": 0})


def _screen(rows: list[dict[str, Any]], matching: int) -> RenderableType:
    if not rows:
        return "no provider matches right now"
    few = f"the {len(rows)} most trusted of " if len(rows) < matching else ""
    return Group(f"{few}{counted(matching, 'provider')}", _table(rows))


def _unit(row: dict[str, Any]) -> str:
    # Strangers may announce networks that do not exist.
    return Network(row["network"]).unit if row["network"] in set(Network) else "sat"


def _price(price: dict[str, int] | None, unit: str) -> str:
    if price is None:
        return "?"
    return f"{sats_text(price['base_msat'], unit).strip()}+" if any(price.values()) else "free"


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    units = {_unit(row) for row in rows if row["price"] is not None and any(row["price"].values())}
    # A unit that all prices share is named in the header alone.
    unit = units.pop() if len(units) == 1 else ""
    columns = {
        "|provider": [short(row["provider"]) for row in rows],
        "name": [row["name"] for row in rows],
        "model": [", ".join(row["models"]) for row in rows],
        ">slots free": [f"{row['slots_free']}/{row['slots']}" for row in rows],
        ">tok/s": [speed(row["tokens_out_per_s"]) for row in rows],
        ">queue": [f"{row['queue_s']:.0f} s" for row in rows],
        f">{unit or 'price'}": [_price(row["price"], "" if unit else _unit(row)) for row in rows],
        ">trust": [f"{row['trust']:.2f}" for row in rows],
        "state": [rest_text(row["rests"]) if row["state"] == "resting" else row["state"] for row in rows],
    }
    # In 80 columns there is little room for the models, so columns without information are left out.
    nothing = {"name": "", ">queue": "0 s", "state": "ready"}
    return {name: cells for name, cells in columns.items() if any(cell != nothing.get(name) for cell in cells)}


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = _columns(rows)
    made = table(*columns)
    for cells in zip(*columns.values(), strict=True):
        made.add_row(*cells)
    return made
