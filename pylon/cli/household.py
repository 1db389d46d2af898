"""`pylon invite`, `pylon join`, `pylon expel`: several machines of one owner."""

import time
from contextlib import aclosing
from typing import Annotated, Any

import typer

from pylon.cli.calling import call
from pylon.cli.node import found_or_made
from pylon.cli.output import err, out, short, table
from pylon.cli.running import DRAIN_S, Json, fail, print_json, run
from pylon.cli.start import serve
from pylon.clock import SystemClock
from pylon.errors import HomeBusyError, PylonError, UsageError
from pylon.node import identity
from pylon.node.calls.control import Event
from pylon.node.home import Home, HomeLock, open_home
from pylon.node.household import invite as invites
from pylon.node.household import joining
from pylon.node.household.address import own_name
from pylon.node.household.lan import neighbourhood
from pylon.node.household.members import HouseholdFile
from pylon.node.session import open_node
from pylon.sections import Config

Name = Annotated[str, typer.Option(help="What the others call this machine (default: its host name).")]


def invite(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=20, help="How many machines to invite.")] = 1,
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="How long the invites hold.")] = 10,
    relay: Annotated[str, typer.Option(help="The relay as the others reach it (default: told from settings).")] = "",
    name: Name = "",
    as_json: Json = False,
) -> None:
    """Invite machines of yours into a household: they serve each other for nothing, and nobody else.

    Prints one line for each, to be given to `pylon join` there, and waits until all have joined. Each line lets
    one machine in, and none after this command has ended.
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
                    f"  on one other machine, until {until}; keep it to yourself. Ctrl-C ends the invite.",
                    style="dim",
                )
            else:
                out.print(f"joined: {answer.data['name']} ({answer.data['joined']})")


def join(
    code: Annotated[str, typer.Argument(help="The line that `pylon invite` printed.")],
    start: Annotated[bool, typer.Option("--start", help="Serve afterwards, as `pylon start` does.")] = False,
    name: Name = "",
    as_json: Json = False,
) -> None:
    """Join the household that an invite comes from. Makes a home where there is none."""
    try:
        decoded = invites.decode(code)
        home, config = found_or_made()
    except PylonError as error:
        fail(error, as_json=as_json)
    run(_join(home, config, decoded, name or own_name(), start, as_json), as_json=as_json)
    if start:
        run(serve(home, config, DRAIN_S, as_json=as_json), as_json=as_json)


async def _join(home: Home, config: Config, invite: invites.Invite, name: str, start: bool, as_json: bool) -> None:
    lock = HomeLock(home)
    try:
        lock.acquire()
    except HomeBusyError as error:
        raise HomeBusyError("a node runs in this home", hint="End it with `pylon stop`, then join.") from error
    try:
        file = HouseholdFile(home.folder)
        known = file.get()
        if known is not None and known.head != invite.head:
            raise UsageError(
                "this machine is in another household", hint=f"Move {home.folder / 'household.json'} away first."
            )
        secret = identity.load(home.identity_file)
        if secret.public == invite.head:
            raise UsageError("this invite is this machine's own", hint="Give it to another machine.")
        household = await joining.join(invite, secret, name, SystemClock(), neighbourhood(config))
        file.save(household)
    finally:
        lock.release()
    if as_json:
        print_json({"head": household.head, "relays": household.relays, "members": household.members})
        return
    made = table("member", "|key")
    for key, member in household.members.items():
        made.add_row(member, short(key))
    out.print(made)
    if not start:
        out.print("Next: `pylon start` serves them; `pylon ask` and `pylon map` ask them.")


def expel(
    key: Annotated[str, typer.Argument(help="The member's public key, or how its npub begins.")],
    as_json: Json = False,
) -> None:
    """Take a machine out of the household: nobody serves it any more, and the relay lets it in no longer."""
    run(_expel(key, as_json), as_json=as_json)


async def _expel(key: str, as_json: bool) -> None:
    data = await call("household-remove", {"key": key})
    if as_json:
        print_json(data)
    else:
        out.print(f"removed {data['removed']}")
