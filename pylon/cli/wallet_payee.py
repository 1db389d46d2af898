"""`pylon wallet trust-payee`: accepts that a provider is paid at a different Lightning node from now on."""

from typing import Annotated, Any

import typer
from rich.console import Console

from pylon.cli import stdin
from pylon.cli.calling import call
from pylon.cli.output import err, out
from pylon.cli.running import Json, print_json, run
from pylon.errors import UsageError, WireError
from pylon.money.msat import sats_text
from pylon.nostr.bech32 import nip19

_YES = ("y", "yes")


def trust_payee(
    provider: Annotated[
        str | None,
        typer.Argument(metavar="NPUB", help="The provider. Without it, all providers that ask for this are listed."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation; needs --to.")] = False,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NODE",
            help="The node to pay from now on. If the provider asks for another one, nothing changes.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Accept that a provider asks to be paid at a different Lightning node; until you do, no payments go to it.

    Shows both nodes and what was paid to the old one, and asks you to confirm. The provider may have replaced its
    wallet, or someone may have stolen its key.
    """
    run(_trust(provider, yes, to, as_json) if provider is not None else _list(as_json), as_json=as_json)


async def _list(as_json: bool) -> None:
    data = await call("wallet-payees")
    if as_json:
        print_json(data)
        return
    if not data["offers"]:
        out.print("no provider asks to be paid at a different node")
        return
    for row in data["offers"]:
        _show(out, row, data["unit"])


async def _trust(named: str, yes: bool, to: str, as_json: bool) -> None:
    if yes and not to:
        raise UsageError(
            "--yes needs --to NODE, so that you trust only a node you have seen",
            hint="`pylon wallet trust-payee` shows the node that it asks for.",
        )
    data = await call("wallet-payees")
    offer = _offer_of(named, data["offers"])
    if to and to != offer["payee"]:
        raise UsageError(
            f"nothing was changed: the provider asks to be paid at {offer['payee']}, not at the node given with --to"
        )
    if not yes:
        _show(err, offer, data["unit"])
        err.print("Anyone who has that provider's key can ask for this. Pay this node from now on? [y/N]")
        if (await stdin.line()).strip().lower() not in _YES:
            raise UsageError(
                "nothing was changed; the provider is still not paid",
                hint="To accept, type `yes`, or give --to NODE --yes.",
            )
    # Both nodes are sent, so that only the change that was shown is accepted.
    names = ("provider", "before", "payee")
    trusted = await call("wallet-trust-payee", {name: offer[name] for name in names})
    if as_json:
        print_json(trusted)
    else:
        out.print(f"{trusted['provider']} is paid at {trusted['payee']} from now on")


def _show(where: Console, offer: dict[str, Any], unit: str) -> None:
    where.print(f"{offer['provider']} asks to be paid at a different node:")
    where.print(f"  before  {offer['before']}: {sats_text(offer['paid_before_msat'], unit)} were paid there")
    where.print(f"  now     {offer['payee']}")


def _offer_of(named: str, offers: list[dict[str, Any]]) -> dict[str, Any]:
    by_key = {nip19.parse_public_key(row["provider"]): row for row in offers}
    try:
        key = nip19.public_key_among(named, by_key)
    except WireError as error:
        raise UsageError(
            f"no known provider matches: {error}",
            hint=("`pylon wallet trust-payee` lists the providers that ask to be paid at a different node."),
        ) from error
    if key not in by_key:
        raise UsageError(
            "this provider does not ask to be paid at a different node",
            hint="`pylon wallet trust-payee` lists those that do.",
        )
    return by_key[key]
