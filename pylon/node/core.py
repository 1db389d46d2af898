"""The core of a node: what one process per home and network owns.

It puts the rooms together: the open home, then the serving side when asked to serve, and the customer's side as soon
as a command needs it. Everything else speaks to it, here or over the control socket.
"""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pylon.clock import Clock, SystemClock
from pylon.errors import UsageError
from pylon.host.readings import Machine
from pylon.node import identity
from pylon.node.background import run_in_background
from pylon.node.calls.control import ControlServer, Method
from pylon.node.home import Home, HomeLock
from pylon.node.household.address import own_name
from pylon.node.household.calls import HouseholdCalls
from pylon.node.household.inviting import Head, new_household
from pylon.node.household.joining import follow
from pylon.node.household.members import Household, HouseholdFile
from pylon.node.methods import Methods
from pylon.node.open_home import OpenHome
from pylon.node.serving import Serving, open_serving
from pylon.sections import Config

if TYPE_CHECKING:
    from pylon.node.customer import Customer


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
        # Set when asked to stop; `hurry` as well if jobs in progress are not to be finished first.
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        # The calls that it answers, by name: complete before anybody can call, and empty before it is entered.
        self.methods: dict[str, Method] = {}
        self.control = ControlServer(home.socket, self.methods)
        # None if it does not serve.
        self.serving: Serving | None = None
        self._serve = serve
        self._stays = serve or stays
        self._hub = hub
        self._attended = attended
        self._machine = machine
        self._clock = clock or SystemClock()
        self._lock = lock or HomeLock(home)
        self._household = HouseholdFile(home.folder)
        # Whether this start made the home the head of a household.
        self._founded = False
        self._opened: OpenHome | None = None
        self._customer: Customer | None = None
        self._customer_starts = asyncio.Lock()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> "Core":
        try:
            await self._open()
        except BaseException:
            if self._founded:
                # A home that failed to start serving does not stay a household's head: else its next start would
                # refuse strangers.
                self._household.forget()
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    @property
    def opened(self) -> OpenHome:
        """The open home. Raises `UsageError` before the core is entered."""
        if self._opened is None:
            raise UsageError("this core is not open", hint="Use it inside `async with`.")
        return self._opened

    def stop(self, *, at_once: bool) -> None:
        """Asks the program that runs this core to end it; `at_once`: without finishing the jobs in progress."""
        if at_once:
            self.hurry.set()
        self.stopping.set()

    async def customer(self) -> "Customer":
        """The customer's side, started when it is first needed."""
        async with self._customer_starts:
            if self._customer is None:
                # Imported here, so that a node that only serves does not load the customer's modules.
                from pylon.node.customer import Customer

                inference = None if self.serving is None else self.serving.inference
                # There is no `await` between its last look at the household and this.
                self._customer = await Customer.open(self.opened, inference, stays=self._stays)
        return self._customer

    def household_status(self) -> dict[str, Any] | None:
        """The household for `status`: `machines` counts its members, `strangers` says whether others are served."""
        known = self._household.get()
        if known is None:
            return None
        strangers = self.config.household.strangers
        if self.serving is not None:
            # Decided when it started to serve.
            strangers = not self.serving.provider.settings.only_trusted
        head = known.head == self.opened.secret.public
        return {"machines": len(known.members), "head": head, "strangers": strangers}

    async def _open(self) -> None:
        self._lock.acquire()
        self._exit.callback(self._lock.release)
        secret = identity.load(self.home.identity_file)
        if self._hub and self._household.get() is None:
            self._household.save(new_household(secret.public, (), own_name()))
            self._founded = True
        opened = self._opened = await OpenHome.open(
            self._exit, self.home, self.config, secret, self._household, self._clock, hub=self._hub
        )
        if self._serve:
            self.serving = await open_serving(self._exit, opened, attended=self._attended, machine=self._machine)
        self._exit.push_async_callback(self._close_customer)
        following = follow(opened.pool, secret, opened.keys, self._household, self._household_changed)
        run_in_background(self._exit, following, "household")
        self.methods.update(self._methods(opened).table())
        await self.control.start()
        self._exit.push_async_callback(self.control.close)

    def _methods(self, opened: OpenHome) -> Methods:
        head = Head(opened.secret, opened.keys, opened.pool, self._household, opened.clock, self._household_changed)
        only_trusted = None if self.serving is None else self.serving.provider.settings.only_trusted
        return Methods(
            opened,
            self.serving,
            HouseholdCalls(head, self.config, hub=self._hub, only_trusted=only_trusted, member_rows=self._members),
            customer=self.customer,
            stop=self.stop,
            household_status=self.household_status,
            faults=self.control.faults,
        )

    async def _members(self, household: Household) -> list[dict[str, Any]]:
        return await (await self.customer()).members(household)

    def _household_changed(self) -> None:
        # Whom this node asks follows. Whom it serves is looked up for each request.
        if self._customer is not None:
            self._customer.household_changed()

    async def _close_customer(self) -> None:
        if self._customer is not None:
            await self._customer.close()
