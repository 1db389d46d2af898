"""The core of a node: what one process per home and network owns.

It puts the rooms together: key, database, relays, then the serving side when asked to serve, and the customer's
side as soon as a command needs it. Everything else speaks to it, here or over the control socket.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import SetupError
from pylon.host.machine import this_machine
from pylon.host.readings import Machine
from pylon.inference.capacity import load_capacity
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.money.invoices.late import collect_late
from pylon.money.invoices.receiver import Receiver
from pylon.money.network import Network
from pylon.money.nwc.uri import NwcUri
from pylon.money.payments.sender import Sender
from pylon.money.schema import MONEY
from pylon.money.wallet import Wallet
from pylon.node import identity
from pylon.node.calls.control import ControlServer
from pylon.node.home import Home, HomeLock
from pylon.node.household.address import local, own_name, own_relay
from pylon.node.household.inviting import Head, found
from pylon.node.household.joining import follow
from pylon.node.household.lan import neighbourhood, reach
from pylon.node.household.members import HouseholdFile, relay_urls
from pylon.node.methods import Methods
from pylon.node.owner import OwnerWatch
from pylon.node.settings import engine_spec, model_id, owner_rules, provider_settings
from pylon.node.wallet.link_lock import LinkLock
from pylon.node.wallet.live import Allowance, permission
from pylon.node.wallet.purse import lack_of_wallet, load_link, open_wallet
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider, Takings
from pylon.sections import Config
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.schema import SWARM

if TYPE_CHECKING:
    from pylon.node.customer import Customer

logger = log.get("node")

SCHEMAS = (SCHEMA, MONEY, SWARM)


class Core:
    """An async context manager: entered, it holds the home's lock and listens on its control socket.

    With `serve` it is a provider too; `hub` is where the household's relay listens that runs beside it, and a
    home without a household becomes the head of one. `stays`: it outlasts what is asked of it first, as one that
    serves does; what another pays is one run. `attended`: a person started it in a terminal. `machine` is
    what owner rules read, by default this one. A `lock` that was acquired already is let go at the end all the same.
    Raises `HomeBusyError` when another process holds the lock, `LinkBusyError` when another home has its wallet
    link open, `SetupError` when key, model or database cannot be used.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        *,
        serve: bool,
        stays: bool = False,
        hub: str = "",
        attended: bool = False,
        machine: Machine | None = None,
        clock: Clock | None = None,
        lock: HomeLock | None = None,
    ) -> None:
        self.home = home
        self.config = config
        self.clock = clock or SystemClock()
        # Set when asked to stop; `hurry` as well when what is there shall not be finished first.
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.methods = Methods(self)
        self.control = ControlServer(home.socket, self.methods.table())
        self.provider: Provider | None = None
        self.watch: OwnerWatch | None = None
        self.secret: SecretKey
        self.keys: ConversationKeys
        self.pool: RelayPool
        self.engine_spec: EngineSpec
        self.journal: Journal
        self.database: Database
        self.group: GroupCommit
        self.network = Network(config.network)
        # What may be spent, which a person changes while this runs.
        self.allowance: Allowance
        self.wallet: Wallet | None = None
        self.sender: Sender | None = None
        self.started_at, self.booted_at = self.clock.wall(), self.clock.boot()
        self.household = HouseholdFile(home.folder)
        self._serve = serve
        self.stays = serve or stays
        self.hub = hub
        self._attended = attended
        self._machine = machine
        # Whether this start made the home the head of a household.
        self._founded = False
        self._customer: Customer | None = None
        self.inference: InferenceService | None = None
        self._customer_starts = asyncio.Lock()
        self._lock = lock or HomeLock(home)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> "Core":
        try:
            await self._open()
        except BaseException:
            if self._founded:
                # A home that did not come to serve stays what it was: else its next start would turn strangers away.
                self.household.forget()
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def _open(self) -> None:
        self._lock.acquire()
        self._exit.callback(self._lock.release)
        self.secret = identity.load(self.home.identity_file)
        if self.hub and self.household.get() is None:
            self.household.save(found(self.secret.public, (), own_name()))
            self._founded = True
        self.keys = ConversationKeys(self.secret)
        # One that others may write ends the start.
        permission(self.home, self.secret.public)
        self.allowance = Allowance(self.home, self.secret.public)
        database = self.database = await Database.open(self.home.database, SCHEMAS, label=self.home.network)
        self._exit.push_async_callback(database.close)
        link = load_link(self.home)
        if link is not None:
            await self._open_money(link)
        group = self.group = GroupCommit(database)
        group.start()
        self._exit.push_async_callback(group.close)
        self.journal = Journal(database, group)
        household = self.household.get()
        hub = self.hub or ("" if household is None else own_relay(self.config.relay))
        urls = relay_urls(self.config.relays, household, self.secret.public, local(hub))
        self.pool = RelayPool(urls, secret=self.secret, clock=self.clock)
        self.pool.start()
        self._exit.push_async_callback(self.pool.close)
        if household is not None and household.head != self.secret.public:
            await reach(self.pool, household, neighbourhood(self.config))
        if self._serve:
            await self._open_provider()
        self._exit.push_async_callback(self._close_customer)
        self._follow_household()
        await self.control.start()
        self._exit.push_async_callback(self.control.close)

    async def _open_money(self, link: NwcUri) -> None:
        lock = LinkLock(self.home, link)
        lock.acquire()
        self._exit.callback(lock.release)
        also = self.config.wallet.also_called
        self.wallet = await open_wallet(
            link, self.network, self.clock, self._exit, live=self._may_live, also_called=also
        )
        self.sender = Sender(self.database, self.wallet, self.allowance, self.clock)
        self._exit.push_async_callback(self.sender.close)
        await self.sender.outcomes.recover()

    async def _open_provider(self) -> None:
        inference = await self.open_inference()
        self.provider = Provider(
            secret=self.secret,
            keys=self.keys,
            pool=self.pool,
            inference=inference,
            journal=self.journal,
            settings=provider_settings(self.config, self.secret.public, self.household),
            model=model_id(self.config),
            clock=self.clock,
            takings=self._takings(),
        )
        if self.config.provider.pricing == "free" and self.wallet is not None:
            self._beside(collect_late(self._receiver(self.wallet)), "late payments")
        await self._open_watch(self.provider)
        await self.provider.start()
        self._exit.push_async_callback(self.provider.close)

    async def _open_watch(self, provider: Provider) -> None:
        # Before anybody is told that jobs are taken on here.
        rules = owner_rules(self.config, attended=self._attended)
        watch = OwnerWatch(self._machine or this_machine(), rules, provider, self.config.owner, self.clock)
        await watch.start()
        self._exit.push_async_callback(watch.close)
        self.watch = watch

    async def open_inference(self) -> InferenceService:
        """Loads the model of this machine for this core. Raises `ModelError`."""
        self.engine_spec = engine_spec(self.home, self.config)
        inference = self.inference = InferenceService(
            self.engine_spec,
            self.clock,
            limits=ChildLimits(unload_s=self.config.inference.unload_after_s),
            expected=self._expected_speed(),
        )
        await inference.start()
        self._exit.push_async_callback(inference.close)
        return inference

    def _expected_speed(self) -> tuple[float, float]:
        """What `pylon bench engine` measured here: told to customers until the engine has shown its own speed."""
        known = load_capacity(self.home.capacity_file, self.engine_spec.model)
        return (known.tokens_in_per_s, known.tokens_out_per_s) if known is not None else (0.0, 0.0)

    def _takings(self) -> Takings | None:
        """How payment is taken, or None when work is free. Raises `SetupError` without a wallet."""
        if self.config.provider.pricing == "free":
            return None
        self.need_permission('Or serve for free: `provider.pricing = "free"`.')
        wallet = self.need_wallet()
        return Takings(self.database, wallet, self._receiver(wallet))

    def _receiver(self, wallet: Wallet) -> Receiver:
        return Receiver(self.database, wallet, self.clock, network=self.network, live=self._may_live)

    def _may_live(self) -> bool:
        return self.allowance.live

    def need_permission(self, instead: str) -> None:
        """Raises `SetupError`, with what to do `instead`, where money is live and nobody allowed that."""
        if self.network.is_live and not self.allowance.live:
            raise SetupError("live money is not allowed here", hint=f"`pylon wallet go-live` allows it. {instead}")

    def need_wallet(self) -> Wallet:
        """The wallet. Raises `SetupError` where none was connected when this core began."""
        if self.wallet is None:
            raise lack_of_wallet(self.home)
        return self.wallet

    def need_sender(self) -> Sender:
        """What pays from the wallet. Raises `SetupError` as `need_wallet`."""
        if self.sender is None:
            raise lack_of_wallet(self.home)
        return self.sender

    def stop(self, *, at_once: bool) -> None:
        """Asks whoever runs this core to end it."""
        if at_once:
            self.hurry.set()
        self.stopping.set()

    async def customer(self) -> "Customer":
        """The customer's side, started when it is first needed."""
        async with self._customer_starts:
            if self._customer is None:
                # A node that only serves holds in memory nothing of what asking takes.
                from pylon.node.customer import Customer

                self._customer = await Customer.open(self)
        return self._customer

    def head(self) -> Head:
        """This node as the head of its household."""
        return Head(self.secret, self.keys, self.pool, self.household, self.clock, self.household_changed)

    def household_status(self) -> dict[str, Any] | None:
        """The household in a few words: `machines` counts its members, `strangers` says whether others are served."""
        known = self.household.get()
        if known is None:
            return None
        strangers = self.config.household.strangers
        if self.provider is not None:
            # Decided when it started to serve.
            strangers = not self.provider.settings.only_trusted
        return {"machines": len(known.members), "head": known.head == self.secret.public, "strangers": strangers}

    def household_changed(self) -> None:
        """Members came or went: whom this node asks follows. Whom it serves is looked up for each request."""
        if self._customer is not None:
            self._customer.household_changed()

    def _follow_household(self) -> None:
        following = follow(self.pool, self.secret, self.keys, self.household, self.household_changed)
        self._beside(following, "household")

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Has this done for as long as the core is open."""
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._exit.push_async_callback(end)

    async def _close_customer(self) -> None:
        if self._customer is not None:
            await self._customer.close()
