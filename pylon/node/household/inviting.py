"""The head's side: makes invites, adds machines that use one, and sends every member the new list."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace

from pylon import log
from pylon.clock import Clock
from pylon.errors import RelayError, SetupError, UsageError, WireError
from pylon.node.household.invite import Invite, encode
from pylon.node.household.members import Guest, Household, HouseholdFile
from pylon.node.household.wire import JOIN, list_event, read_join
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool

logger = log.get("household")

# The relay admits a used invite for so many seconds more, so that its member gets the list that it waits for.
GRACE_S = 60
# A machine that asks again is answered at most once in so many seconds, since each answer dates the list a second
# later than the one before. Else it could put that date so far ahead that relays take no list any more, not even the
# one that leaves it out.
ANSWER_AGAIN_S = 1.0
BATCH = 16


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody used an invite."""

    key: str
    name: str


@dataclass(slots=True)
class Head:
    """The machine that started a household. `changed` is called after a member was added or removed in the file."""

    secret: SecretKey
    keys: ConversationKeys
    pool: RelayPool
    file: HouseholdFile
    clock: Clock
    changed: Callable[[], None]
    # When the last list was sent, in monotonic seconds.
    _spread_at: float = field(default=-math.inf, init=False)

    async def invite(
        self, count: int, seconds: int, relays: tuple[str, ...], name: str
    ) -> AsyncGenerator[str | Joined]:
        """Yields `count` invites as lines of text, then a `Joined` for each machine that uses one.

        Ends when all are used, or after `seconds`; the unused invites are void then. `relays` and `name` as in
        `_ready`. Raises `UsageError` on a machine that is not the head.
        """
        household = self._ready(relays, name)
        ends = int(self.clock.wall()) + seconds
        invites = [Invite(SecretKey.generate(), self.secret.public, household.relays, ends) for _ in range(count)]
        lines = [encode(invite) for invite in invites]
        for invite in invites:
            household = household.with_guest(invite.key, Guest(ends))
        self.file.save(household)
        wanted = Filter(kinds=frozenset({JOIN}), tags={"p": frozenset({self.secret.public})})
        subscription = self.pool.subscribe(lambda: (wanted,), name="household")
        open_ = {invite.key for invite in invites}
        try:
            for line in lines:
                yield line
            while open_ and (left := ends - self.clock.wall()) > 0:
                try:
                    batch = await asyncio.wait_for(subscription.next_batch(BATCH), left)
                except TimeoutError:
                    break
                for received in batch:
                    joined = await self._admit(received.event)
                    if joined is not None and received.event.pubkey in open_:
                        open_.discard(received.event.pubkey)
                        yield joined
        finally:
            await subscription.close()
            self.file.save(self._household().without_old_guests(self.clock.wall(), *open_))

    async def remove(self, key: str) -> bool:
        """Removes a member and tells the others. Returns whether there was such a member. Raises `UsageError`."""
        household = self._household()
        if key == self.secret.public:
            raise UsageError(
                "the head of a household cannot be removed",
                hint="To dissolve the household, delete household.json on each machine.",
            )
        if key not in household.members:
            return False
        await self._spread(household.without_member(key))
        return True

    def _household(self) -> Household:
        """The household as the file has it. Raises `SetupError` outside of one, `UsageError` on a mere member."""
        household = self.file.get()
        if household is None:
            raise SetupError("this machine is not in a household", hint="Start one with `pylon invite`.")
        if household.head != self.secret.public:
            raise UsageError(
                "this machine is only a member of its household; only the head can do that",
                hint="Run it on the machine that started the household.",
            )
        return household

    def _ready(self, relays: tuple[str, ...], name: str) -> Household:
        """The household to invite into, started under this machine's `name` if there is none yet. Its relays are
        `relays`, or the old ones if that is empty."""
        if self.file.get() is None:
            self.file.save(new_household(self.secret.public, relays, name))
        household = self._household()
        return replace(household, relays=relays or household.relays).without_old_guests(self.clock.wall())

    async def _admit(self, event: Event) -> Joined | None:
        """Adds a machine that asks with a valid invite. If it asks again, the list is sent again."""
        household, now = self._household(), self.clock.wall()
        guest = household.guests.get(event.pubkey)
        if guest is None or guest.expires_at <= now:
            return None
        if guest.member and self.clock.monotonic() - self._spread_at < ANSWER_AGAIN_S:
            return None
        try:
            key, name = read_join(event, self.keys, self.secret.public)
        except WireError as error:
            logger.info("a request to join could not be understood", error=str(error))
            return None
        if guest.member not in ("", key):
            return None
        used = Guest(min(guest.expires_at, int(now) + GRACE_S) if not guest.member else guest.expires_at, key)
        await self._spread(household.with_guest(event.pubkey, used).with_member(key, name))
        return Joined(key, name)

    async def _spread(self, household: Household) -> None:
        self._spread_at = self.clock.monotonic()
        # Of two addressable events of the same second, relays keep the one with the lower id (NIP-01).
        created_at = max(int(self.clock.wall()), household.updated_at + 1)
        household = replace(household, updated_at=created_at)
        self.file.save(household)
        # Before the others are told, which may wait for a silent relay: a removed member must not be trusted
        # meanwhile.
        self.changed()
        others = [key for key in household.members if key != household.head]
        events = [list_event(household, key, self.secret, self.keys, created_at=created_at) for key in others]
        for result in await asyncio.gather(*map(self.pool.publish, events), return_exceptions=True):
            if isinstance(result, RelayError):
                logger.warning("a member could not be sent the new list", error=str(result))


def new_household(head: str, relays: tuple[str, ...], name: str) -> Household:
    """A household whose only member is its head; `name` is that machine's."""
    return Household(head, relays, {head: name})
