"""`pylon invite`, `pylon join`, `pylon expel`: a household of several machines of one owner."""

import time
from contextlib import aclosing
from typing import Annotated, Any

import typer

from pylon.cli.calling import call
from pylon.cli.output import err, out, short, table
from pylon.cli.running import DRAIN_S, Json, fail, print_json, run
from pylon.cli.start import serve
from pylon.errors import PylonError
from pylon.node.calls.protocol import Event
from pylon.node.home import Home, open_home
from pylon.node.household import invite as invites
from pylon.node.household import joining
from pylon.node.household.address import own_name
from pylon.node.new_home import found_or_made
from pylon.node.session import open_node
from pylon.nostr.bech32 import nip19
from pylon.sections import Config

Name = Annotated[str, typer.Option(help="This machine's name, as the others see it (default: its host name).")]


def invite(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=20, help="How many machines to invite.")] = 1,
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="How many minutes the invites stay valid.")] = 10,
    relay: Annotated[
        str,
        typer.Option(help="The relay's address as the other machines reach it (default: taken from the settings)."),
    ] = "",
    name: Name = "",
    as_json: Json = False,
) -> None:
    """Invite your other machines into a household, whose members serve each other for free and no one else.

    Prints one `pylon join` command per machine, and waits until all have joined. Each code works for one machine,
    and only until this command ends.
    """
    params = {"count": count, "minutes": minutes, "relay": relay, "name": name or own_name()}
    run(_invite(params, as_json), as_json=as_json)


async def _invite(params: dict[str, Any], as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node, aclosing(node.call("invite", params)) as answers:
        async for answer in answers:
            if as_json:
                print_json(answer.data)
            elif not isinstance(answer, Event):
                out.print(f"{answer.data['joined']} of {answer.data['invites']} joined")
            elif "code" in answer.data:
                out.whole(f"pylon join {answer.data['code']}")
                until = time.strftime("%H:%M", time.localtime(answer.data["expires_at"]))
                err.print(
                    f"  Run this on one other machine before {until}. Keep it secret. Ctrl-C cancels the invite.",
                    style="dim",
                )
            else:
                out.print(f"joined: {answer.data['name']} ({answer.data['joined']})")


def join(
    code: Annotated[str, typer.Argument(help="The code that `pylon invite` printed.")],
    start: Annotated[bool, typer.Option("--start", help="Start serving afterwards, like `pylon start`.")] = False,
    name: Name = "",
    as_json: Json = False,
) -> None:
    """Join the household that an invite comes from. Creates a home if there is none."""
    try:
        decoded = invites.decode(code)
        home, config = found_or_made()
    except PylonError as error:
        fail(error, as_json=as_json)
    run(_join(home, config, decoded, name or own_name(), start, as_json), as_json=as_json)
    if start:
        run(serve(home, config, DRAIN_S, as_json=as_json), as_json=as_json)


async def _join(home: Home, config: Config, invite: invites.Invite, name: str, start: bool, as_json: bool) -> None:
    household = await joining.enter(home, config, invite, name)
    if as_json:
        members = [{"npub": nip19.npub(key), "name": member} for key, member in household.members.items()]
        print_json({"head": nip19.npub(household.head), "relays": household.relays, "members": members})
        return
    made = table("member", "|key")
    for key, member in household.members.items():
        made.add_row(member, short(key))
    out.print(made)
    if not start:
        out.print("Next: run `pylon start` to serve the household, or `pylon ask` and `pylon map` to use it.")


def expel(
    key: Annotated[str, typer.Argument(help="The member's public key, or the beginning of its npub.")],
    as_json: Json = False,
) -> None:
    """Remove a machine from the household: its members stop serving it, and the relay stops admitting it."""
    run(_expel(key, as_json), as_json=as_json)


async def _expel(key: str, as_json: bool) -> None:
    data = await call("household-remove", {"key": key})
    if as_json:
        print_json(data)
    else:
        out.print(f"removed {data['removed']}")
