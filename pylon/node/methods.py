"""The calls that a core answers, by name.

Every method takes a JSON object, and yields events and then one result, all JSON. So a call is the same in this
process and over the control socket. docs/control.md lists the calls.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylon import __version__
from pylon.errors import UsageError
from pylon.money.books.electricity import Tariff
from pylon.node.calls.node_faults import NodeFaults
from pylon.node.calls.params import flag, number, text, whole
from pylon.node.calls.protocol import Answers, Event, Method, Result
from pylon.node.calls.reservations import Reservations
from pylon.node.hindrance import OWNER, paused_line, unreached
from pylon.node.household.calls import HouseholdCalls
from pylon.node.open_home import OpenHome
from pylon.node.serving import Serving
from pylon.node.settings import model_id, terms
from pylon.node.wallet import accounting, earnings, payees, undecided
from pylon.node.wallet.live import is_stopped
from pylon.nostr.bech32 import nip19
from pylon.nostr.client.relay_status import RelayStatus
from pylon.provider.rows import JobState, Row
from pylon.tasks import end

if TYPE_CHECKING:
    # A node that only serves does not load it.
    from pylon.node.customer import Customer

# Seconds between two events of `drain`.
DRAIN_REPORT_S = 0.25


class Methods:
    """The calls of one core. `serving` is None if it does not serve. `customer` opens the customer's side when it is
    first called. `stop` asks the core to end. `faults` records calls that failed by a fault of the node."""

    def __init__(
        self,
        opened: OpenHome,
        serving: Serving | None,
        household: HouseholdCalls,
        *,
        customer: "Callable[[], Awaitable[Customer]]",
        stop: Callable[..., None],
        household_status: Callable[[], dict[str, Any] | None],
        faults: NodeFaults,
    ) -> None:
        self._opened = opened
        self._serving = serving
        self._household = household
        self._customer = customer
        self._stop_core = stop
        self._household_status = household_status
        self._faults = faults
        self._reservations = Reservations(opened.clock)

    def table(self) -> dict[str, Method]:
        """Every method by its name."""
        return {
            "ping": self._ping,
            "status": self._status,
            "stop": self._stop,
            "pause": self._pause,
            "resume": self._resume,
            "drain": self._drain,
            "jobs": self._jobs,
            "providers": self._providers,
            "why-provider": self._why_provider,
            "map": self._map,
            "ask": self._ask,
            "reservations": self._reservation_rows,
            "totals": self._totals,
            "wallet-balance": self._wallet_balance,
            "wallet-history": self._wallet_history,
            "wallet-invoice": self._wallet_invoice,
            "wallet-pay": self._wallet_pay,
            "wallet-audit": self._wallet_audit,
            "wallet-payees": self._wallet_payees,
            "wallet-trust-payee": self._wallet_trust_payee,
            "wallet-undecided": self._wallet_undecided,
            "wallet-decide": self._wallet_decide,
            "earnings": self._earnings,
            "invite": self._household.invite,
            "household": self._household.household,
            "household-remove": self._household.remove,
        }

    async def _ping(self, _: dict[str, Any]) -> Answers:
        yield Result(
            {
                "pid": os.getpid(),
                "serving": self._serving is not None,
                "version": __version__,
                "command": _command(),
                "started_at": self._opened.opened_at,
            }
        )

    async def _status(self, _: dict[str, Any]) -> Answers:
        opened = self._opened
        data: dict[str, Any] = {
            "running": True,
            "pid": os.getpid(),
            "version": __version__,
            "network": opened.home.network,
            "home": str(opened.home.root),
            "npub": nip19.npub(opened.secret.public),
            "uptime_s": round(opened.clock.boot() - opened.booted_at, 1),
            "relays": [_relay(relay) for relay in opened.pool.statuses],
            "refused": opened.pool.refusals,
            "live_money": opened.allowance.live,
            "spending_stopped": is_stopped(opened.home.root),
            "spending": None,
            "household": self._household_status(),
            "provider": None,
            "price": None,
            "owner": None,
            "hindrance": "",
            "faults": self._faults.status(),
        }
        if opened.money is not None:
            caps, now = opened.allowance.caps, opened.clock.wall()
            data["spending"] = await accounting.spending(opened.database, caps, now)
        if self._serving is not None:
            data["model"] = model_id(opened.config)
            provider = await self._serving.provider.status()
            data["provider"] = asdict(provider)
            data["price"] = terms(opened.config.provider)
            data["owner"] = self._serving.watch.status()
            data["hindrance"] = (
                paused_line(provider.paused, data["owner"])
                if provider.paused
                else unreached(opened.pool.statuses, data["refused"], provider.unannounced)
            )
        yield Result(data)

    async def _stop(self, params: dict[str, Any]) -> Answers:
        at_once = flag(params, "at_once")
        # A core that does not serve belongs to the command that started it, and may be paying for its jobs.
        self._need_serving()
        self._stop_core(at_once=at_once)
        yield Result({"stopping": True})

    async def _pause(self, _: dict[str, Any]) -> Answers:
        await self._need_serving().provider.pause()
        yield Result({"paused": OWNER})

    async def _resume(self, params: dict[str, Any]) -> Answers:
        serving, seconds = self._need_serving(), number(params, "for_s", None)
        provider, watch = serving.provider, serving.watch
        if seconds == 0 and provider.paused == OWNER:
            raise UsageError(
                "this node is paused by hand, and 0 s only puts the owner rules back in force",
                hint="`pylon resume` ends the pause.",
            )
        if seconds is not None:
            watch.waive(seconds)
        if seconds != 0:
            await provider.resume()
        yield Result({"paused": provider.paused, "owner": watch.status()})

    async def _drain(self, _: dict[str, Any]) -> Answers:
        provider = self._need_serving().provider
        draining = asyncio.create_task(provider.drain(timeout=float("inf")), name="draining")
        try:
            while True:
                yield Event(asdict(provider.left))
                await asyncio.wait({draining}, timeout=DRAIN_REPORT_S)
                # If the node was resumed, it takes new jobs, and this drain never ends.
                if draining.done() or not provider.draining:
                    break
            drained = draining.done() and await draining and provider.draining
        finally:
            # A finished task is not ended here: its result was used above.
            await end(None if draining.done() else draining)
        yield Result({"drained": drained})

    async def _jobs(self, params: dict[str, Any]) -> Answers:
        state = text(params, "state", "")
        if state and state not in JobState:
            raise UsageError(f"unknown state {state!r}", hint=f"The states are {', '.join(JobState)}.")
        limit = whole(params, "limit", 20)
        rows = await self._opened.journal.rows(limit=limit, state=JobState(state) if state else None)
        yield Result({"jobs": [_job(row) for row in rows]})

    async def _providers(self, params: dict[str, Any]) -> Answers:
        yield Result(await (await self._customer()).providers(params))

    async def _why_provider(self, params: dict[str, Any]) -> Answers:
        yield Result(await (await self._customer()).why_provider(params))

    async def _map(self, params: dict[str, Any]) -> Answers:
        with self._reservations.of(params) as reservation:
            async for answer in (await self._customer()).map(params, reservation):
                yield answer

    async def _ask(self, params: dict[str, Any]) -> Answers:
        # Before the first `await`, so that a call that is cancelled at once has its reservation too.
        with self._reservations.of(params) as reservation:
            async for answer in (await self._customer()).ask(params, reservation):
                yield answer

    async def _reservation_rows(self, params: dict[str, Any]) -> Answers:
        yield Result(self._reservations.rows(params))

    async def _totals(self, _: dict[str, Any]) -> Answers:
        yield Result(await accounting.totals(self._opened.database, self._opened.network))

    async def _wallet_balance(self, _: dict[str, Any]) -> Answers:
        opened = self._opened
        wallet, caps, now = opened.need_money().wallet, opened.allowance.caps, opened.clock.wall()
        yield Result(await accounting.balance(wallet, opened.database, opened.network, caps, now))

    async def _wallet_history(self, params: dict[str, Any]) -> Answers:
        yield Result(await accounting.history(self._opened.database, self._opened.network, params))

    async def _wallet_invoice(self, params: dict[str, Any]) -> Answers:
        yield Result(await accounting.invoice(self._opened.need_money().wallet, self._opened.network, params))

    async def _wallet_pay(self, params: dict[str, Any]) -> Answers:
        opened = self._opened
        yield Result(await accounting.pay(opened.need_money().sender, opened.network, params))

    async def _wallet_audit(self, _: dict[str, Any]) -> Answers:
        opened = self._opened
        yield Result(await accounting.examine(opened.wallet, opened.database, opened.network))

    async def _wallet_payees(self, _: dict[str, Any]) -> Answers:
        yield Result(await payees.offers(self._opened.database, self._opened.network))

    async def _wallet_trust_payee(self, params: dict[str, Any]) -> Answers:
        opened = self._opened
        yield Result(await payees.trust(opened.database, opened.network, opened.clock.wall(), params))

    async def _wallet_undecided(self, params: dict[str, Any]) -> Answers:
        opened = self._opened
        yield Result(await undecided.payments(opened.need_money().sender, opened.database, opened.network, params))

    async def _wallet_decide(self, params: dict[str, Any]) -> Answers:
        opened = self._opened
        yield Result(await undecided.decide(opened.need_money().sender, opened.network, params))

    async def _earnings(self, params: dict[str, Any]) -> Answers:
        opened = self._opened
        tariff = Tariff(**opened.config.earnings.model_dump())
        yield Result(await earnings.earnings(opened.database, opened.network, tariff, params))

    def _need_serving(self) -> Serving:
        if self._serving is None:
            raise UsageError("this node does not serve", hint="Start a serving node with `pylon start`.")
        return self._serving


def _job(row: Row) -> dict[str, Any]:
    job = asdict(row)
    del job["charge_msat"]
    return {**job, "customer": nip19.npub(row.customer), "earned_msat": row.charge_msat}


def _relay(status: RelayStatus) -> dict[str, Any]:
    relay = asdict(status)
    del relay["since"]
    return {**relay, "changed_at": status.since}


def _command() -> str:
    """The command that started this process, such as `pylon start`, without arguments: they may hold a prompt."""
    program = Path(sys.argv[0])
    if program.name != "pylon" and program.parts[-2:] != ("cli", "main.py"):
        return program.name
    return " ".join(("pylon", *sys.argv[1:2]))
