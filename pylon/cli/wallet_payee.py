"""`pylon wallet trust-payee`: a provider whose wallet has another node than before is paid there from then on."""

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
        str | None, typer.Argument(metavar="NPUB", help="The provider; without it, all that ask for that are listed.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needs --to.")] = False,
    to: Annotated[
        str, typer.Option("--to", metavar="NODE", help="The node to be paid from now on; if it asks for another, no.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Pay a provider to another Lightning node than before, which it asks for: payments to it are refused until then.

    It shows both nodes and what was paid to the old one, and asks. A wallet that its owner replaced has another node;
    so has whoever took the provider's key.
    """
    run(_trust(provider, yes, to, as_json) if provider is not None else _list(as_json), as_json=as_json)


async def _list(as_json: bool) -> None:
    data = await call("wallet-payees")
    if as_json:
        print_json(data)
        return
    if not data["offers"]:
        out.print("no provider asks to be paid to another node than before")
        return
    for row in data["offers"]:
        _show(out, row, data["unit"])


async def _trust(named: str, yes: bool, to: str, as_json: bool) -> None:
    if yes and not to:
        raise UsageError(
            "--yes needs --to NODE: whatever a provider asks for at this moment is not trusted unseen",
            hint="`pylon wallet trust-payee` shows the node that it asks for.",
        )
    data = await call("wallet-payees")
    offer = _offer_of(named, data["offers"])
    if to and to != offer["payee"]:
        raise UsageError(
            f"nothing was changed: it asks to be paid to {offer['payee']}, which is not the node of --to"
        )
    if not yes:
        _show(err, offer, data["unit"])
        err.print("Whoever has that provider's key can ask for this. Pay there from now on? [y/N]")
        if (await stdin.line()).strip().lower() not in _YES:
            raise UsageError(
                "nothing was changed: that provider is not paid", hint="Type `yes`, or give --to NODE --yes."
            )
    # With both nodes: what it asks for meanwhile was shown to nobody.
    names = ("provider", "before", "payee")
    trusted = await call("wallet-trust-payee", {name: offer[name] for name in names})
    if as_json:
        print_json(trusted)
    else:
        out.print(f"{trusted['provider']} is paid to {trusted['payee']} from now on")


def _show(where: Console, offer: dict[str, Any], unit: str) -> None:
    where.print(f"{offer['provider']} asks to be paid to another node than before:")
    where.print(f"  before  {offer['before']}: {sats_text(offer['paid_before_msat'], unit)} were paid there")
    where.print(f"  now     {offer['payee']}")


def _offer_of(named: str, offers: list[dict[str, Any]]) -> dict[str, Any]:
    by_key = {nip19.parse_public_key(row["provider"]): row for row in offers}
    try:
        key = nip19.public_key_among(named, by_key)
    except WireError as error:
        raise UsageError(
            f"no provider that is known here is meant: {error}",
            hint="`pylon wallet trust-payee` lists those that ask to be paid to another node.",
        ) from error
    if key not in by_key:
        raise UsageError(
            "this provider does not ask to be paid to another node",
            hint="`pylon wallet trust-payee` lists those that do.",
        )
    return by_key[key]
