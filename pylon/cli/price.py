"""`pylon price`: shows and sets what this node charges for its work."""

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
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home, open_home
from pylon.node.service.place import installed
from pylon.node.session import running_node
from pylon.node.settings import terms
from pylon.node.settings_file import change

app = typer.Typer(no_args_is_help=True, help="What this node charges for its work.")

# The job whose cost is shown as an example, in tokens.
EXAMPLE_IN, EXAMPLE_OUT = 1_000, 200


@app.command()
def show(as_json: Json = False) -> None:
    """Show this node's prices: those in effect, and those in the settings if the next start changes them."""
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
    elif now in (None, wished) or now["pricing"] == wished["pricing"] == "free":
        _print(wished, network)
    else:
        out.print("now", style="bold")
        _print(now, network)
        out.print("from the next start on", style="bold")
        _print(wished, network)
        out.print(f"To apply the new price: {await _restart(home)}", style="dim")


@app.command("set")
def set_(
    base: Annotated[int | None, typer.Option("--base", min=0, help="The price of every job, in msat.")] = None,
    per_in: Annotated[
        int | None, typer.Option("--in", min=0, help="The price per 1,000 prompt tokens, in msat.")
    ] = None,
    per_out: Annotated[
        int | None, typer.Option("--out", min=0, help="The price per 1,000 completion tokens, in msat.")
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="Charge nothing. The rates are kept for later.")] = False,
    as_json: Json = False,
) -> None:
    """Set this node's prices in the config file. A running node uses them after its next start.

    1,000 msat are 1 sat. Jobs already accepted keep their quoted price.
    """
    run(_set(base, per_in, per_out, free, as_json), as_json=as_json)


async def _set(base: int | None, per_in: int | None, per_out: int | None, free: bool, as_json: bool) -> None:
    home, before = open_home()
    given = {"base_msat": base, "in_msat_per_1k": per_in, "out_msat_per_1k": per_out}
    values: dict[str, Any] = {name: Msat(value) for name, value in given.items() if value is not None}
    if bool(values) == free:
        raise UsageError("give at least one of --base, --in and --out, or else --free")
    wanted = {**{name: int(value) for name, value in values.items()}, "pricing": "free" if free else "paid"}
    config = change(home.config_file, "provider", wanted)
    for name, value in wanted.items():
        if getattr(config.provider, name) != value:
            err.print(f"PYLON_PROVIDER__{name.upper()} in the environment overrides the new value", style="yellow")
    if as_json:
        print_json(_object(terms(config.provider), Network(config.network)))
    else:
        _print(terms(config.provider), Network(config.network))
        out.print(takes_effect(before.provider.pricing, config.provider.pricing, await _restart(home)), style="dim")


async def _restart(home: Home) -> str:
    """The commands that restart the node of this home; empty if none serves."""
    try:
        serves = (await result_of(running_node(home), "ping"))["serving"]
    except UnreachableError:
        serves = False
    if not serves:
        return ""
    # A machine without a service manager has no service.
    with suppress(SetupError):
        if installed(home) is not None:
            return "`pylon service restart`"
    return "`pylon stop`, then `pylon start`"


def takes_effect(before: str, now: str, restart: str) -> str:
    """When a new price applies, with the commands that restart the node (`restart`, empty if none runs)."""
    if before == now == "free":
        return "work was free and stays free"
    changed = f"the price was {before} and will be {now}" if before != now else "the new price applies"
    return f"{changed} from the next start on{f': {restart}' if restart else ''}"


def _price(found: Mapping[str, Any]) -> Price:
    return Price.of_rates(found)


def _example(found: Mapping[str, Any]) -> int:
    """What the example costs by these terms (`settings.terms`), in msat."""
    return int(_price(found).quote(EXAMPLE_IN, EXAMPLE_OUT)) if found["pricing"] == "paid" else 0


def _object(found: Mapping[str, Any], network: Network) -> dict[str, Any]:
    example = {"prompt_tokens": EXAMPLE_IN, "completion_tokens": EXAMPLE_OUT, "price_msat": _example(found)}
    return {**found, "network": network.value, "unit": network.unit, "example": example}


def _print(found: Mapping[str, Any], network: Network) -> None:
    price, unit = _price(found), network.unit
    rates = (
        f"{sats_text(price.base_msat, unit)} per job, {sats_text(price.in_msat_per_1k, unit)} per "
        f"1,000 prompt tokens, {sats_text(price.out_msat_per_1k, unit)} per 1,000 completion "
        "tokens"
    )
    if found["pricing"] == "paid":
        out.print(rates)
        cost = sats_text(_example(found), unit)
        out.print(f"so {EXAMPLE_IN:,} tokens in and {EXAMPLE_OUT} out cost {cost}", style="dim")
    else:
        out.print(f"free of charge. If set to paid, the price would be {rates}")
