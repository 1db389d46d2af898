"""The core of a node: what one process per home and network owns.

It opens the home, then the serving side if it is to serve, and the customer's side when a command first needs it.
Everything else calls it, in this process or over the control socket.
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
from pylon.node.calls.protocol import Method
from pylon.node.calls.server import ControlServer
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
    """An async context manager: while it is open, it holds the home's lock and listens on its control socket.

    With `serve` it is a provider too. `hub` is the address of the household's relay that runs beside it, or empty;
    with it, a home without a household becomes the head of one. `stays`: it outlasts its first command, as a core
    that serves does; all payments of one that does not are accounted as one run. `attended`: a person started it in a
    terminal. `machine` is what the owner rules read, this machine by default. A given `lock` may be acquired already,
    and is released at the end in any case.

    Entering raises `HomeBusyError` if another process holds the lock, `LinkBusyError` if another home has the wallet
    link open, `SetupError` and `ModelError` if key, database or model cannot be used.
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
        # Set when the core is asked to stop; `hurry` too if jobs in progress are not to be finished first.
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        # The calls that it answers, by name. Empty before it is entered, and filled before anybody can call.
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
                # A failed start must not leave a household behind: the next start would refuse strangers because of
                # it.
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
        """Asks the program that runs this core to end it, with `at_once` without finishing the jobs in progress."""
        if at_once:
            self.hurry.set()
        self.stopping.set()

    async def customer(self) -> "Customer":
        """The customer's side, which is opened by the first call of this. Raises as `Customer.open` does."""
        async with self._customer_starts:
            if self._customer is None:
                # Imported here, so that a node that only serves does not load the customer's modules.
                from pylon.node.customer import Customer

                inference = None if self.serving is None else self.serving.inference
                # `open` reads the household last, and there is no `await` in between: no change of it can be missed.
                self._customer = await Customer.open(self.opened, inference, stays=self._stays)
        return self._customer

    def household_status(self) -> dict[str, Any] | None:
        """The household for `status`: `machines` counts its members, `strangers` says whether others are served."""
        known = self._household.get()
        if known is None:
            return None
        strangers = self.config.household.strangers
        if self.serving is not None:
            # The running provider goes by the settings of its start.
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
        # The provider needs no notice: it looks up the members for each request.
        if self._customer is not None:
            self._customer.household_changed()

    async def _close_customer(self) -> None:
        if self._customer is not None:
            await self._customer.close()
