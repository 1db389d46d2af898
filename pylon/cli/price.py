"""`pylon price`: what this node asks for its work."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from pylon.cli.output import err, out
from pylon.cli.running import Json, print_json, run
from pylon.errors import SetupError, UnreachableError, UsageError
from pylon.money.msat import Msat, sats_text
from pylon.money.network import Network
from pylon.money.price import Price
from pylon.node.calls.control import result_of
from pylon.node.home import Home, open_home
from pylon.node.service.place import installed
from pylon.node.session import running_node
from pylon.node.settings import terms
from pylon.node.settings_file import change

app = typer.Typer(no_args_is_help=True, help="What this node asks for its work.")

EXAMPLE_IN, EXAMPLE_OUT = 1_000, 200


@app.command()
def show(as_json: Json = False) -> None:
    """Show what a job costs here: by the node that serves, and by the settings where its next start changes it."""
    run(_show(as_json), as_json=as_json)


async def _show(as_json: bool) -> None:
    home, config = open_home()
    network, wished = Network(config.network), terms(config.provider)
    try:
        now = (await result_of(running_node(home), "status")).get("price")
    except UnreachableError:
        now = None
    if as_json:
        print_json({**_object(wished, network), "now": None if now is None else _object(now, network)})
    elif now in (None, wished):
        _print(wished, network)
    else:
        out.print("now", style="bold")
        _print(now, network)
        out.print("from the next start on", style="bold")
        _print(wished, network)
        out.print(f"The next start: {await _restart(home)}", style="dim")


@app.command("set")
def set_(
    base: Annotated[int | None, typer.Option("--base", min=0, help="Msat for every job.")] = None,
    per_in: Annotated[int | None, typer.Option("--in", min=0, help="Msat for 1,000 prompt tokens.")] = None,
    per_out: Annotated[int | None, typer.Option("--out", min=0, help="Msat for 1,000 completion tokens.")] = None,
    free: Annotated[bool, typer.Option("--free", help="Charge nobody; the rates are kept.")] = False,
    as_json: Json = False,
) -> None:
    """Set what a job costs here, in the config file. A node that runs uses it after its next start.

    A thousandth of a sat is 1 msat. Jobs that were admitted keep the price that they were quoted.
    """
    run(_set(base, per_in, per_out, free, as_json), as_json=as_json)


async def _set(base: int | None, per_in: int | None, per_out: int | None, free: bool, as_json: bool) -> None:
    home, before = open_home()
    given = {"base_msat": base, "in_msat_per_1k": per_in, "out_msat_per_1k": per_out}
    values: dict[str, Any] = {name: Msat(value) for name, value in given.items() if value is not None}
    if bool(values) == free:
        raise UsageError("a price is at least one of --base, --in and --out; or else --free")
    wanted = {**{name: int(value) for name, value in values.items()}, "pricing": "free" if free else "paid"}
    config = change(home.config_file, "provider", wanted)
    for name, value in wanted.items():
        if getattr(config.provider, name) != value:
            err.print(f"PYLON_PROVIDER__{name.upper()} in the environment overrides what was set", style="yellow")
    if as_json:
        print_json(_object(terms(config.provider), Network(config.network)))
    else:
        _print(terms(config.provider), Network(config.network))
        out.print(turn(before.provider.pricing, config.provider.pricing, await _restart(home)), style="dim")


async def _restart(home: Home) -> str:
    """The commands that start the node of this home anew; empty where none serves."""
    try:
        serves = (await result_of(running_node(home), "ping"))["serving"]
    except UnreachableError:
        serves = False
    if not serves:
        return ""
    # Where there is no service manager it is no service.
    with suppress(SetupError):
        if installed(home) is not None:
            return "`pylon service restart`"
    return "`pylon stop`, then `pylon start`"


def turn(before: str, now: str, restart: str) -> str:
    """What a price that was set means, and the commands that `restart` the node, where one runs."""
    changed = f"it was {before} and will be {now}" if before != now else "it counts"
    return f"{changed} from the next start on{f': {restart}' if restart else ''}"


def _price(found: Mapping[str, Any]) -> Price:
    return Price(*(Msat(found[name]) for name in ("base_msat", "in_msat_per_1k", "out_msat_per_1k")))


def _example(found: Mapping[str, Any]) -> int:
    """What so many tokens cost by these terms (`settings.terms`), in msat."""
    return int(_price(found).quote(EXAMPLE_IN, EXAMPLE_OUT)) if found["pricing"] == "paid" else 0


def _object(found: Mapping[str, Any], network: Network) -> dict[str, Any]:
    example = {"in": EXAMPLE_IN, "out": EXAMPLE_OUT, "msat": _example(found)}
    return {**found, "network": network.value, "unit": network.unit, "example": example}


def _print(found: Mapping[str, Any], network: Network) -> None:
    price, unit = _price(found), network.unit
    rates = (
        f"{sats_text(price.base_msat, unit)} a job, {sats_text(price.in_msat_per_1k, unit)} for 1,000 prompt tokens,"
        f" {sats_text(price.out_msat_per_1k, unit)} for 1,000 completion tokens"
    )
    if found["pricing"] == "paid":
        out.print(rates)
        cost = sats_text(_example(found), unit)
        out.print(f"so {EXAMPLE_IN:,} tokens in and {EXAMPLE_OUT} out cost {cost}", style="dim")
    else:
        out.print(f"free: nobody is charged. When paid, it would be {rates}")
