"""The calls of a core about its household: `invite`, `household`, `household-remove`."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from pylon.errors import MalformedError, SetupError, UnreachableError, UsageError, WireError
from pylon.node.calls.params import text, whole
from pylon.node.calls.protocol import Answers, Event, Result
from pylon.node.household.address import invited, own_relay
from pylon.node.household.inviting import Head, Joined
from pylon.node.household.members import Household
from pylon.nostr.bech32 import nip19
from pylon.relay_url import normalize_relay_url
from pylon.sections import Config

MOST_INVITES = 20
MOST_MINUTES = 24 * 60
# A relay of this machine or this network answers within a moment.
OPEN_S = 5.0


class HouseholdCalls:
    """`hub` is the address of the household's relay that runs beside this node, or empty. `only_trusted` tells
    whether it serves trusted keys only; None if it does not serve. `member_rows` gives a row for each member."""

    def __init__(
        self,
        head: Head,
        config: Config,
        *,
        hub: str,
        only_trusted: bool | None,
        member_rows: Callable[[Household], Awaitable[list[dict[str, Any]]]],
    ) -> None:
        self._head = head
        self._config = config
        self._hub = hub
        self._only_trusted = only_trusted
        self._member_rows = member_rows

    async def invite(self, params: dict[str, Any]) -> Answers:
        """The `invite` call: makes `count` invites, valid for so many `minutes`. They name the address `relay`, or
        those of this node's relays. `name` is this machine's, for a household that begins with this call.

        Events bring each invite as `code` with `expires_at` (Unix seconds), then `joined` and `name` for each machine
        that uses one. The result counts `joined` and `invites`. Raises `UsageError`, `SetupError`,
        `UnreachableError`.
        """
        count, minutes = whole(params, "count", 1), whole(params, "minutes", 10)
        given, name = text(params, "relay", ""), text(params, "name", "")
        if not 1 <= count <= MOST_INVITES or not 1 <= minutes <= MOST_MINUTES:
            raise UsageError(f"at most {MOST_INVITES} invites at a time, valid for at most {MOST_MINUTES} minutes")
        if self._only_trusted is False and not self._config.household.strangers:
            raise UsageError(
                "this node serves everyone, but a household serves only its members",
                hint=(
                    "Stop the node and start it again with `pylon start --relay`. If a `pylon relay` "
                    "is using the port, end it first."
                ),
            )
        head, hub = self._head, self._hub or own_relay(self._config.relay)
        relays = (_relay(given),) if given else invited(head.pool.urls, hub)
        await self._need_open_relay()
        expires_at = int(head.clock.wall()) + 60 * minutes
        joined = 0
        async with aclosing(head.invite(count, 60 * minutes, relays, name)) as steps:
            async for step in steps:
                if isinstance(step, Joined):
                    joined += 1
                    yield Event({"joined": nip19.npub(step.key), "name": step.name})
                else:
                    yield Event({"code": step, "expires_at": expires_at})
        yield Result({"joined": joined, "invites": count})

    async def household(self, _: dict[str, Any]) -> Answers:
        """The `household` call: the household's relays, and the state of its members. Raises `SetupError`."""
        known = self._head.file.get()
        if known is None:
            raise SetupError(
                "this machine is not in a household",
                hint="Start one with `pylon invite`, or enter one with `pylon join`.",
            )
        yield Result({"relays": list(known.relays), "members": await self._member_rows(known)})

    async def remove(self, params: dict[str, Any]) -> Answers:
        """The `household-remove` call: removes the member with this `key`, an npub, hex, or the beginning of an npub.
        Raises `UsageError`, `SetupError`."""
        try:
            known = self._head.file.get()
            key = nip19.public_key_among(text(params, "key", ""), () if known is None else known.members)
        except WireError as error:
            raise UsageError(
                "this is neither a member's public key nor the beginning of exactly one",
                hint="Give the key, not the name. `pylon status --all` shows it.",
            ) from error
        if not await self._head.remove(key):
            raise UsageError("no member has this key", hint="`pylon status --all` shows the members.")
        yield Result({"removed": nip19.npub(key)})

    async def _need_open_relay(self) -> None:
        """Raises `UnreachableError` if no relay is open: an invited machine could not reach this one."""
        known = self._head.file.get()
        if known is not None and known.head != self._head.secret.public:
            # `Head.invite` refuses a mere member, whether or not a relay is open.
            return
        try:
            await self._head.pool.wait_open(OPEN_S)
        except UnreachableError as error:
            raise UnreachableError(
                str(error),
                hint=("Invites need the household's relay. Run `pylon start --relay` here first, then invite."),
            ) from error


def _relay(url: str) -> str:
    try:
        normalize_relay_url(url)
    except MalformedError as error:
        raise UsageError(
            f"{url!r} is not a relay address: {error}", hint="Write it like this: --relay ws://192.168.1.5:7447"
        ) from error
    return url
