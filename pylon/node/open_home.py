"""An open home: its key, database, wallet and relays, for the process that holds its lock.

The serving side, the customer's side and the calls of a core share one. The wallet is connected only here, behind the
lock of its link and the spending limits of its owner.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from pylon.clock import Clock
from pylon.errors import SetupError
from pylon.money.network import Network
from pylon.money.payments.sender import Sender
from pylon.money.schema import MONEY
from pylon.money.wallet import Wallet
from pylon.node.home import Home
from pylon.node.household.address import local, own_relay
from pylon.node.household.lan import reach, relay_discovery
from pylon.node.household.members import HouseholdFile, relay_urls
from pylon.node.restored import begin_restored, refuse_backup_itself
from pylon.node.wallet.connection import load_link, no_wallet_error, open_wallet
from pylon.node.wallet.link_lock import LinkLock
from pylon.node.wallet.live import Allowance, permission
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.sections import Config
from pylon.store import marks
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.schema import SWARM

SCHEMAS = (SCHEMA, MONEY, SWARM)


@dataclass(frozen=True, slots=True)
class OpenMoney:
    """The wallet that was connected when the home was opened, and what pays from it."""

    wallet: Wallet
    sender: Sender


@dataclass(frozen=True, slots=True)
class OpenHome:
    """Created by `open`, and usable until the stack given there closes it."""

    home: Home
    config: Config
    clock: Clock
    # When it was opened, in Unix seconds and by `Clock.boot`, which nobody sets.
    opened_at: float
    booted_at: float
    # When a node first started with this restored copy, in Unix seconds; 0 if it is not one.
    begun_at: float
    secret: SecretKey
    keys: ConversationKeys
    # Reads the members as they are now.
    household: HouseholdFile
    # What may be spent; a person may change it at any time.
    allowance: Allowance
    database: Database
    group: GroupCommit
    journal: Journal
    pool: RelayPool
    # None without a wallet.
    money: OpenMoney | None

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        home: Home,
        config: Config,
        secret: SecretKey,
        household: HouseholdFile,
        clock: Clock,
        *,
        hub: str,
    ) -> Self:
        """Opens a home whose lock the caller holds. `stack` closes everything, also if this fails.

        `hub` is the address of the household's relay that runs beside the node, or empty. Raises `LinkBusyError` if
        another home has the wallet link open; `SetupError` if other users can write the permission for live money, if
        the home is a backup itself, or if database, wallet link or household cannot be used.
        """
        opened_at, booted_at = clock.wall(), clock.boot()
        keys = ConversationKeys(secret)
        # Raises for a file that other users can write; later, such a file merely counts as no permission.
        permission(home, secret.public)
        allowance = Allowance(home, secret.public)
        # Before the database is opened, since that migrates its tables.
        refuse_backup_itself(home)
        database = await Database.open(home.database, SCHEMAS, label=home.network)
        stack.push_async_callback(database.close)
        money = await _open_money(stack, home, config, database, allowance, clock)
        # After the wallet: if that fails, nothing has been done with the copy, and it must stay one. Before
        # `recover`, which looks up the payments that were in progress.
        await begin_restored(database, opened_at)
        if money is not None:
            await money.sender.outcomes.recover()
        group = GroupCommit(database)
        group.start()
        stack.push_async_callback(group.close)
        pool = await _open_pool(stack, config, secret, household, clock, hub)
        return cls(
            home=home,
            config=config,
            clock=clock,
            opened_at=opened_at,
            booted_at=booted_at,
            secret=secret,
            keys=keys,
            household=household,
            allowance=allowance,
            database=database,
            group=group,
            journal=Journal(database, group),
            begun_at=await marks.begun_at(database) or 0.0,
            pool=pool,
            money=money,
        )

    @property
    def network(self) -> Network:
        """The network of the home and its money."""
        return Network(self.config.network)

    @property
    def wallet(self) -> Wallet | None:
        """The wallet, if there is one."""
        return None if self.money is None else self.money.wallet

    def need_permission(self, instead: str) -> None:
        """Raises `SetupError` if the network is live and nobody allowed live money; `instead` ends its hint."""
        if self.network.is_live and not self.allowance.live:
            raise SetupError("live money is not allowed here", hint=f"`pylon wallet go-live` allows it. {instead}")

    def need_money(self) -> OpenMoney:
        """Wallet and sender. Raises `SetupError` if no wallet was connected when the home was opened."""
        if self.money is None:
            raise no_wallet_error(self.home)
        return self.money


async def _open_money(
    stack: AsyncExitStack, home: Home, config: Config, database: Database, allowance: Allowance, clock: Clock
) -> OpenMoney | None:
    link = load_link(home)
    if link is None:
        return None
    lock = LinkLock(home, link)
    lock.acquire()
    stack.callback(lock.release)
    network, also_called = Network(config.network), config.wallet.also_called
    wallet = await open_wallet(link, network, clock, stack, live=lambda: allowance.live, also_called=also_called)
    sender = Sender(database, wallet, allowance, clock)
    stack.push_async_callback(sender.close)
    return OpenMoney(wallet, sender)


async def _open_pool(
    stack: AsyncExitStack, config: Config, secret: SecretKey, file: HouseholdFile, clock: Clock, hub: str
) -> RelayPool:
    household = file.get()
    hub = hub or ("" if household is None else own_relay(config.relay))
    urls = relay_urls(config.relays, household, secret.public, local(hub))
    pool = RelayPool(urls, secret=secret, clock=clock)
    pool.start()
    stack.push_async_callback(pool.close)
    if household is not None and household.head != secret.public:
        await reach(pool, household, relay_discovery(config))
    return pool
