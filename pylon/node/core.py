"""The core of a node: what one process per home and network owns.

It puts the rooms together: key, database, relays, then the serving side when asked to serve, and the customer's
side as soon as a command needs it. Everything else speaks to it, here or over the control socket.
"""

import asyncio
import uuid
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.config import Config, InferenceSection
from pylon.errors import SetupError, WireError
from pylon.inference.capacity import load_capacity
from pylon.inference.engine import EngineSpec
from pylon.inference.service import ChildLimits, InferenceService
from pylon.inference.weights import gguf_file, model_directory, model_name
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.nwc_uri import NwcUri
from pylon.money.price import FREE, Price
from pylon.money.receiver import Receiver
from pylon.money.schema import MONEY
from pylon.money.sender import Sender, SendPolicy
from pylon.money.wallet import Wallet
from pylon.node import identity
from pylon.node.accounting import need_wallet
from pylon.node.control import ControlServer
from pylon.node.home import Home, HomeLock
from pylon.node.household.inviting import Head
from pylon.node.household.joining import follow
from pylon.node.household.lan import neighbourhood, reach
from pylon.node.household.members import Household, HouseholdFile, Trusted, relay_urls
from pylon.node.link_lock import LinkLock
from pylon.node.live import caps, is_allowed, is_stopped
from pylon.node.methods import Methods
from pylon.node.purse import load_link, open_wallet
from pylon.node.remembering import Remembering
from pylon.node.rescoring import ModelRescorer
from pylon.nostr import nip19
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import SCHEMA, Journal
from pylon.provider.service import Provider, Takings
from pylon.provider.settings import ProviderSettings
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm import reputation_store
from pylon.swarm.client import SwarmClient
from pylon.swarm.purse import AccountPurse
from pylon.swarm.reach import Reach
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings

logger = log.get("node")

SCHEMAS = (SCHEMA, MONEY, SWARM)


class Core:
    """An async context manager: entered, it holds the home's lock and listens on its control socket.

    With `serve` it is a provider too. Raises `HomeBusyError` when another process holds the lock, `LinkBusyError`
    when another home has its wallet link open, `SetupError` when key, model or database cannot be used.
    """

    def __init__(self, home: Home, config: Config, *, serve: bool, clock: Clock | None = None) -> None:
        self.home = home
        self.config = config
        self.clock = clock or SystemClock()
        # Set when asked to stop; `hurry` as well when what is there shall not be finished first.
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.methods = Methods(self)
        self.control = ControlServer(home.socket, self.methods.table())
        self.provider: Provider | None = None
        self.secret: SecretKey
        self.pool: RelayPool
        self.engine_spec: EngineSpec
        self.journal: Journal
        self.database: Database
        self.group: GroupCommit
        self.network = Network(config.network)
        # Whether a person allowed live money for this key.
        self.live = False
        self.wallet: Wallet | None = None
        self.sender: Sender | None = None
        self.started_at = self.clock.wall()
        self.household = HouseholdFile(home.folder)
        self._serve = serve
        self._customer: SwarmClient | None = None
        self._customer_pool: RelayPool | None = None
        self._inference: InferenceService | None = None
        self._remembering: Remembering | None = None
        self._purse: AccountPurse | None = None
        self._customer_starts = asyncio.Lock()
        self._lock = HomeLock(home)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> "Core":
        try:
            await self._open()
        except BaseException:
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
        self._keys = ConversationKeys(self.secret)
        self.live = is_allowed(self.home, self.secret.public)
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
        urls = relay_urls(self.config.relays, household, self.secret.public)
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
        self.wallet = await open_wallet(link, self.network, self.clock, self._exit, live=self.live, also_called=also)
        stopped = partial(is_stopped, self.home.root)
        policy = SendPolicy(self.network, caps(self.network), stopped, self.live)
        self.sender = Sender(self.database, self.wallet, policy, self.clock)
        self._exit.push_async_callback(self.sender.close)

    async def _open_provider(self) -> None:
        self.engine_spec = engine_spec(self.home, self.config)
        inference = await self._open_inference()
        self.provider = Provider(
            self.secret,
            self._keys,
            self.pool,
            inference,
            self.journal,
            provider_settings(self.config, self.secret.public, self.household),
            model_id(self.config),
            self.clock,
            self._takings(),
        )
        await self.provider.start()
        self._exit.push_async_callback(self.provider.close)

    async def _open_inference(self) -> InferenceService:
        inference = self._inference = InferenceService(
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
        self._need_permission('Or serve for free: `provider.pricing = "free"`.')
        wallet = need_wallet(self.wallet)
        receiver = Receiver(self.database, wallet, self.clock, network=self.network, live=self.live)
        return Takings(self.database, wallet, receiver)

    def _need_permission(self, instead: str) -> None:
        if self.network.is_live and not self.live:
            raise SetupError("live money is not allowed here", hint=f"`pylon wallet go-live` allows it. {instead}")

    def stop(self, *, at_once: bool) -> None:
        """Asks whoever runs this core to end it."""
        if at_once:
            self.hurry.set()
        self.stopping.set()

    async def customer(self) -> SwarmClient:
        """The customer's side, started when it is first needed."""
        async with self._customer_starts:
            if self._customer is None:
                self._customer = await self._open_customer()
        return self._customer

    async def _open_customer(self) -> SwarmClient:
        purse: AccountPurse | None = None
        if self.sender is not None and self.config.customer.bid_msat:
            self._need_permission("Or ask free providers only: `customer.bid_msat = 0`.")
            purse = self._purse = AccountPurse(
                self.database,
                self.group,
                self.sender,
                self.clock,
                self.secret.public,
                caps(self.network).payment,
                run=uuid.uuid4().hex,
            )
        if self.config.customer.rescore and self._inference is None:
            self.engine_spec = engine_spec(self.home, self.config)
            await self._open_inference()
        settings = swarm_settings(self.config, self.household.get(), self.secret.public)
        reputation = await reputation_store.load(self.database, self.clock.wall(), own=settings.own)
        self._remembering = Remembering(self.database, reputation)
        self._remembering.start()
        # Relays that strangers name are the customer's alone: the serving side neither reads nor announces them.
        relays = self._customer_pool = self.pool.extended()
        client = SwarmClient(
            relays,
            self.secret,
            settings=settings,
            keys=self._keys,
            clock=self.clock,
            purse=purse,
            reputation=reputation,
            rescorer=None if self._inference is None else ModelRescorer(self._inference),
            reach=Reach(relays, most=self.config.customer.further_relays),
        )
        if purse is not None:
            purse.changed = client.reconsider
            await purse.start()
        await client.start()
        return client

    def head(self) -> Head:
        """This node as the head of its household."""
        return Head(self.secret, self._keys, self.pool, self.household, self.clock)

    def household_changed(self) -> None:
        """Members came or went: whom this node asks follows. Whom it serves is looked up for each request."""
        if self._customer is not None:
            settings = swarm_settings(self.config, self.household.get(), self.secret.public)
            self._customer.change_company(allow=settings.allow, own=settings.own)

    def _follow_household(self) -> None:
        following = follow(self.pool, self.secret, self._keys, self.household, self.household_changed)
        task = asyncio.create_task(following, name="household")

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._exit.push_async_callback(end)

    async def _close_customer(self) -> None:
        if self._customer is not None:
            await self._customer.close()
        if self._remembering is not None:
            await self._remembering.close()
        if self._customer_pool is not None:
            await self._customer_pool.close()
        if self._purse is not None:
            await self._purse.close()


def model_id(config: Config) -> str:
    """The id under which the model is announced: a stand-in is named as one."""
    match config.inference.engine:
        case "instant":
            return "stand-in-instant"
        case "llama":
            return model_name(config.inference.model)
        case _:
            return config.inference.model


def engine_spec(home: Home, config: Config) -> EngineSpec:
    """What the inference child runs. Raises `ModelError` when the model is not on this machine."""
    directory = file = None
    section = config.inference
    if section.engine == "mlx":
        directory = model_directory(section.model, home.models)
    elif section.engine == "llama":
        file = gguf_file(section.model, home.models)
    return EngineSpec(
        engine=config.inference.engine,
        model=model_id(config),
        model_dir=directory,
        model_file=file,
        slots=config.inference.slots,
        hash_cache=home.models / "weights.json",
        memory=int(section.memory_gb * 1e9),
        options=_engine_options(section),
    )


def _engine_options(section: InferenceSection) -> dict[str, object]:
    match section.engine:
        case "instant":
            return {"delay_s": section.instant_delay_s}
        case "openai":
            return {
                "base_url": section.openai_url,
                "key_file": section.openai_key_file,
                "context": section.openai_context,
            }
        case _:
            return {}


def swarm_settings(config: Config, household: Household | None, key: str) -> SwarmSettings:
    """The customer's rules. A household asks its own members only, unless it is told otherwise.

    One's own key is trusted as the members are: a node may ask itself. Raises `SetupError`.
    """
    section = config.customer
    members = frozenset() if household is None else frozenset(household.members)
    allow = public_keys("customer.allow", section.allow) or None
    if household is not None and not config.household.strangers:
        allow = members
    return SwarmSettings(
        dispatch=DispatchSettings(width=section.width, patience_s=section.patience_s),
        checks=CheckSettings(section.check_share) if section.check_share else None,
        own=frozenset({key}) | members | public_keys("customer.trusted", section.trusted),
        allow=allow,
        block=public_keys("customer.block", section.block),
        plain=section.plain,
        network=config.network,
        bid=Msat(section.bid_msat),
    )


def provider_settings(config: Config, own: str, household: HouseholdFile) -> ProviderSettings:
    """The owner's decisions. One's own key is trusted: a node may ask itself. Raises `SetupError`."""
    section = config.provider
    price = FREE
    if section.pricing == "paid":
        price = Price(Msat(section.base_msat), Msat(section.in_msat_per_1k), Msat(section.out_msat_per_1k))
    return ProviderSettings(
        name=section.name,
        about=section.about,
        price=price,
        network=config.network,
        serve_open=section.serve_open,
        serve_broadcast=section.serve_broadcast,
        trusted=Trusted(frozenset({own, *public_keys("provider.trusted", section.trusted)}), household),
        only_trusted=household.get() is not None and not config.household.strangers,
        blocked=public_keys("provider.blocked", section.blocked),
        max_queue=section.max_queue,
        max_per_customer=section.max_per_customer,
        max_prompt_bytes=section.max_prompt_bytes,
        max_tokens=section.max_tokens,
        default_max_tokens=section.default_max_tokens,
    )


def public_keys(setting: str, texts: list[str]) -> frozenset[str]:
    """The keys in a setting. Raises `SetupError`."""
    try:
        return frozenset(nip19.parse_public_key(text) for text in texts)
    except WireError as error:
        raise SetupError(f"{setting} holds something that is no public key: {error}") from error
