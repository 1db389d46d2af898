"""A member's side: joining with an invite, and keeping the head's list."""

import asyncio
import time
from collections.abc import Callable

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import HomeBusyError, RelayError, UnreachableError, UsageError, WireError
from pylon.forever import REST_S, forever
from pylon.node import identity
from pylon.node.home import Home, HomeLock
from pylon.node.household.invite import Invite
from pylon.node.household.lan import RelayDiscovery, relay_discovery
from pylon.node.household.members import FILE, Household, HouseholdFile
from pylon.node.household.wire import LIST, join_event, read_list
from pylon.nostr.client.log_limit import LogLimit
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription
from pylon.sections import Config

logger = log.get("household")

OPEN_S = 10.0
ANSWER_S = 30.0
# The request is an ephemeral event, which relays do not keep: it is sent again until the list comes.
AGAIN_S = 2.0
BATCH = 16


def _lists(head: str, member: str) -> Callable[[], tuple[Filter, ...]]:
    wanted = Filter(kinds=frozenset({LIST}), authors=frozenset({head}), tags={"p": frozenset({member})})
    return lambda: (wanted,)


async def enter(home: Home, config: Config, invite: Invite, name: str) -> Household:
    """Joins the invite's household with this home's key, and writes down its list of members.

    Raises `HomeBusyError` while a process uses the home, `UsageError` if the home belongs to another household or
    made the invite itself, `SetupError` if its key cannot be read, and what `join` raises.
    """
    lock = HomeLock(home)
    try:
        lock.acquire()
    except HomeBusyError as error:
        raise HomeBusyError("a node is running in this home", hint="Stop it with `pylon stop`, then join.") from error
    try:
        file = HouseholdFile(home.folder)
        known = file.get()
        if known is not None and known.head != invite.head:
            raise UsageError(
                "this machine already belongs to another household",
                hint=f"To leave that household, move {home.folder / FILE} away first.",
            )
        secret = identity.load(home.identity_file)
        if secret.public == invite.head:
            raise UsageError("this machine made that invite itself", hint="Run `pylon join` on another machine.")
        household = await join(invite, secret, name, SystemClock(), relay_discovery(config))
        file.save(household)
        return household
    finally:
        lock.release()


async def join(
    invite: Invite, secret: SecretKey, name: str, clock: Clock, discovery: RelayDiscovery | None = None
) -> Household:
    """Asks the head to add this machine, and returns the household once the head has answered.

    If none of the invite's relays can be reached, `discovery` looks for the head's. Raises `UsageError` for an invite
    that has expired, `UnreachableError` if no relay or no head answers.
    """
    if invite.expires_at <= clock.wall():
        raise UsageError("this invite has expired", hint="Make a new one with `pylon invite`.")
    # The relay admits the invite's key; it admits the member's only once the head has added it.
    pool = RelayPool(invite.relays, secret=invite.secret, clock=clock)
    pool.start()
    subscription: PoolSubscription | None = None
    try:
        await _open(pool, invite, discovery)
        subscription = pool.subscribe(_lists(invite.head, secret.public), name="household")
        async with asyncio.timeout(ANSWER_S):
            return await _ask(pool, subscription, invite, secret, name, clock)
    except (RelayError, TimeoutError) as error:
        # A relay that refuses the key does not answer what is published there; its connection has the reason.
        refused = [f"{one.url}: {one.error}" for one in pool.statuses if one.state == "open" and one.error]
        reason = f": {'; '.join(refused) or error}" if refused or isinstance(error, RelayError) else ""
        raise UnreachableError(
            f"the invite was not accepted{reason}",
            hint=("`pylon invite` must still be waiting on the other machine, and each invite admits one machine."),
        ) from error
    finally:
        if subscription is not None:
            await subscription.close()
        await pool.close()


async def _open(pool: RelayPool, invite: Invite, discovery: RelayDiscovery | None) -> None:
    try:
        await pool.wait_open(OPEN_S)
    except UnreachableError as error:
        found = None if discovery is None else await discovery.find(invite.head)
        if found is None or not await pool.add(found, timeout=OPEN_S):
            raise UnreachableError(
                f"the household's relay does not answer: {error}",
                hint=(
                    "On the inviting machine, `pylon start --relay` must be running and `pylon "
                    "invite` waiting. If this machine cannot reach that address, invite with "
                    "`--relay` and an address that it can reach."
                ),
            ) from error


async def _ask(
    pool: RelayPool, subscription: PoolSubscription, invite: Invite, secret: SecretKey, name: str, clock: Clock
) -> Household:
    keys, unreadable = ConversationKeys(secret), LogLimit()
    while True:
        await pool.publish(
            join_event(invite.secret, invite.head, secret, name, created_at=int(clock.wall())), timeout=OPEN_S
        )
        try:
            batch = await asyncio.wait_for(subscription.next_batch(BATCH), AGAIN_S)
        except TimeoutError:
            continue
        for received in batch:
            try:
                household = read_list(received.event, keys, invite.head)
            except WireError as error:
                _log_unreadable(error, unreadable)
                continue
            if secret.public in household.members:
                return household


async def follow(
    pool: RelayPool, secret: SecretKey, keys: ConversationKeys, file: HouseholdFile, changed: Callable[[], None]
) -> None:
    """Keeps a member's copy of the list up to date until cancelled. Returns at once if this is no member."""
    known = file.get()
    if known is None or known.head == secret.public:
        return
    household, unreadable = known, LogLimit()
    subscription = pool.subscribe(_lists(household.head, secret.public), name="household")

    async def next_list() -> None:
        nonlocal household
        for received in await subscription.next_batch(1):
            try:
                newer = read_list(received.event, keys, household.head)
            except WireError as error:
                _log_unreadable(error, unreadable)
                continue
            if newer.updated_at > household.updated_at:
                await _save(file, newer)
                household = newer
                changed()
                logger.info("the household has changed", members=len(household.members))

    try:
        await forever(next_list, "household")
    finally:
        await subscription.close()


def _log_unreadable(error: WireError, limit: LogLimit) -> None:
    # Any relay may send any event, and as many as it likes.
    if (beside := limit.admit(time.monotonic())) is not None:
        logger.warning("a household list could not be understood", error=str(error), **beside)


async def _save(file: HouseholdFile, household: Household) -> None:
    # Never given up: until the new list is written, a removed member is still served.
    while True:
        try:
            file.save(household)
            return
        except OSError as error:
            logger.error("the household's new list could not be written; trying again", error=str(error))
        await asyncio.sleep(REST_S)
