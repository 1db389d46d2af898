"""The customer's side of a core: its swarm client with purse and reputation, and the calls that ask the swarm.

Imported by the first such call, so that a node that only serves does not load it.
"""

import uuid
from contextlib import AsyncExitStack
from typing import Any

from pylon.inference.service import InferenceService
from pylon.money.msat import Msat
from pylon.node.asking import Books, ask_all
from pylon.node.calls.protocol import Answers
from pylon.node.household.members import Household
from pylon.node.household.status import members
from pylon.node.inference import open_inference
from pylon.node.open_home import OpenHome
from pylon.node.providers import providers, why_provider
from pylon.node.reputation_writer import ReputationWriter
from pylon.node.rescoring import ModelRescorer
from pylon.node.settings import public_keys
from pylon.node.single import ask_one
from pylon.sections import Config
from pylon.swarm.checks import reputation_store
from pylon.swarm.client import SwarmClient
from pylon.swarm.providers.reach import Reach
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings
from pylon.swarm.spending.account_purse import AccountPurse


class Customer:
    """See the module. Created by `open`."""

    def __init__(self, opened: OpenHome, client: SwarmClient, exit_stack: AsyncExitStack) -> None:
        self.client = client
        self._opened = opened
        self._exit = exit_stack
        # The `map` runs in progress.
        self._open_runs: set[str] = set()

    @classmethod
    async def open(cls, opened: OpenHome, inference: InferenceService | None, *, stays: bool) -> "Customer":
        """`inference` is the model that serves here, if there is one; for `stays` see `Core`. Raises `SetupError` for
        an invalid setting, or if it is to pay live money without permission; `ModelError` if answers are to be
        rescored here and no model can be loaded."""
        stack = AsyncExitStack()
        try:
            customer = cls(opened, await _client(opened, stack, inference, stays=stays), stack)
            # The household may have changed while the client was opening, when nobody could be told.
            customer.household_changed()
        except BaseException:
            await stack.aclose()
            raise
        return customer

    async def close(self) -> None:
        await self._exit.aclose()

    def household_changed(self) -> None:
        """Takes over a change of the household's members."""
        opened = self._opened
        settings = swarm_settings(opened.config, opened.household.get(), opened.secret.public)
        self.client.change_circle(allow=settings.allow, own=settings.own)

    async def map(self, params: dict[str, Any], reservation: CallReservation | None) -> Answers:
        """The `map` call."""
        opened = self._opened
        books = Books(opened.database, opened.group, opened.clock, self._open_runs)
        async for answer in ask_all(self.client, opened.pool, opened.config.customer, books, params, reservation):
            yield answer

    async def ask(self, params: dict[str, Any], reservation: CallReservation | None) -> Answers:
        """The `ask` call."""
        opened = self._opened
        async for answer in ask_one(self.client, opened.pool, opened.config.customer, params, reservation):
            yield answer

    async def providers(self, params: dict[str, Any]) -> dict[str, Any]:
        """The `providers` call."""
        opened = self._opened
        household = opened.household.get()
        names = {} if household is None else household.members
        return await providers(self.client, opened.pool, opened.config.customer, params, names)

    async def members(self, household: Household) -> list[dict[str, Any]]:
        """The state of the household's members."""
        return await members(household, self._opened.secret.public, self.client)

    async def why_provider(self, params: dict[str, Any]) -> dict[str, Any]:
        """The `why-provider` call."""
        household = self._opened.household.get()
        names = {} if household is None else household.members
        return await why_provider(self.client, self._opened.clock.wall(), params, names)


async def _client(
    opened: OpenHome, stack: AsyncExitStack, inference: InferenceService | None, *, stays: bool
) -> SwarmClient:
    purse = _purse(opened, stays=stays)
    if purse is not None:
        stack.push_async_callback(purse.close)
    if opened.config.customer.rescore and inference is None:
        inference = await open_inference(stack, opened.home, opened.config, opened.clock)
    settings = swarm_settings(opened.config, opened.household.get(), opened.secret.public)
    reputation = await reputation_store.load(opened.database, opened.clock.wall())
    # Relays that strangers name are for the customer's side only: the serving side neither reads nor announces them.
    relays = opened.pool.extended()
    stack.push_async_callback(relays.close)
    writer = ReputationWriter(opened.database, reputation)
    writer.start()
    stack.push_async_callback(writer.close)
    client = SwarmClient(
        relays,
        opened.secret,
        settings=settings,
        keys=opened.keys,
        clock=opened.clock,
        purse=purse,
        reputation=reputation,
        rescorer=None if inference is None else ModelRescorer(inference),
        reach=Reach(relays, most=opened.config.customer.further_relays),
    )
    if purse is not None:
        purse.changed = client.reconsider
        await purse.start()
    await client.start()
    stack.push_async_callback(client.close)
    return client


def _purse(opened: OpenHome, *, stays: bool) -> AccountPurse | None:
    if opened.money is None or not opened.config.customer.bid_msat:
        return None
    opened.need_permission("Or ask only free providers: set `customer.bid_msat = 0`.")
    return AccountPurse(
        database=opened.database,
        group=opened.group,
        sender=opened.money.sender,
        clock=opened.clock,
        customer=opened.secret.public,
        # A core that stays pays for many runs, and credit left with a provider serves them all: they are no single
        # run.
        run="" if stays else uuid.uuid4().hex,
    )


def swarm_settings(config: Config, household: Household | None, key: str) -> SwarmSettings:
    """The customer's settings. Within a household only its members are asked, unless the settings let strangers in.

    The own `key` is trusted as the members are, since a node may ask itself. Raises `SetupError`.
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
