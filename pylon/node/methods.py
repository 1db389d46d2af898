"""What a core can be asked, by name: the calls behind the commands.

Every method takes a JSON object and yields events and one result, all JSON, so that a call means the same in
this process and over the control socket. The table in `docs/control.md` lists them.
"""

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylon import __version__
from pylon.errors import UsageError
from pylon.money.books.electricity import Tariff
from pylon.node.calls.control import Answers, Event, Method, Result
from pylon.node.calls.params import flag, number, text, whole
from pylon.node.calls.reservations import Reservations
from pylon.node.household import calls
from pylon.node.owner import OWNER
from pylon.node.settings import terms
from pylon.node.wallet import accounting, earnings, payees, undecided
from pylon.node.wallet.live import is_stopped
from pylon.nostr.bech32 import nip19
from pylon.provider.journal import Journal
from pylon.provider.rows import JobState
from pylon.provider.service import Provider

if TYPE_CHECKING:
    from pylon.node.core import Core

DRAIN_REPORT_S = 0.25


class Methods:
    """The methods of one core."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._reservations = Reservations(core.clock)

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
            "reservations": self._told,
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
            "invite": self._invite,
            "household": lambda params: calls.household(self._core, params),
            "household-remove": lambda params: calls.remove(self._core, params),
        }

    async def _ping(self, _: dict[str, Any]) -> Answers:
        yield Result(
            {
                "pid": os.getpid(),
                "serving": self._core.provider is not None,
                "version": __version__,
                "command": _command(),
                "started_at": self._core.started_at,
            }
        )

    async def _status(self, _: dict[str, Any]) -> Answers:
        core = self._core
        data: dict[str, Any] = {
            "running": True,
            "pid": os.getpid(),
            "version": __version__,
            "network": core.home.network,
            "home": str(core.home.root),
            "npub": nip19.npub(core.secret.public),
            "uptime_s": round(core.clock.boot() - core.booted_at, 1),
            "relays": [asdict(relay) for relay in core.pool.statuses],
            "refused": core.pool.refusals,
            "live_money": core.allowance.live,
            "spending_stopped": is_stopped(core.home.root),
            "spending": None,
            "household": core.household_status(),
            "provider": None,
            "price": None,
            "owner": None,
            "faults": core.control.faults.status(),
        }
        if core.sender is not None:
            data["spending"] = await accounting.spending(core.database, core.allowance.caps, core.clock.wall())
        if core.provider is not None:
            data["model"] = core.engine_spec.model
            data["provider"] = asdict(await core.provider.status())
            data["price"] = terms(core.config.provider)
        if core.watch is not None:
            data["owner"] = core.watch.status()
        yield Result(data)

    async def _stop(self, params: dict[str, Any]) -> Answers:
        at_once = flag(params, "at_once")
        # A command's own core lasts as long as that, and may be spending money.
        self._provider()
        self._core.stop(at_once=at_once)
        yield Result({"stopping": True})

    async def _pause(self, _: dict[str, Any]) -> Answers:
        await self._provider().pause()
        yield Result({"paused": OWNER})

    async def _resume(self, params: dict[str, Any]) -> Answers:
        provider, seconds = self._provider(), number(params, "for_s", None)
        if seconds == 0 and provider.paused == OWNER:
            raise UsageError(
                "this node is paused by hand, which no time ends: 0 s only has the owner rules hold again",
                hint="`pylon resume` ends the pause.",
            )
        watch = self._core.watch
        if seconds is not None and watch is not None:
            watch.waive(seconds)
        if seconds != 0:
            await provider.resume()
        yield Result({"paused": provider.paused, "owner": None if watch is None else watch.status()})

    async def _drain(self, _: dict[str, Any]) -> Answers:
        provider = self._provider()
        draining = asyncio.create_task(provider.drain(timeout=float("inf")))
        try:
            while not draining.done():
                status = await provider.status()
                left = {"running": status.running, "queued": status.queued, "unpublished": status.unpublished}
                yield Event(left)
                await asyncio.wait({draining}, timeout=DRAIN_REPORT_S)
        finally:
            draining.cancel()
        yield Result({"drained": True})

    async def _jobs(self, params: dict[str, Any]) -> Answers:
        state = text(params, "state", "")
        if state and state not in JobState:
            raise UsageError(f"there is no state {state!r}", hint=f"States are {', '.join(JobState)}.")
        limit = whole(params, "limit", 20)
        rows = await self._journal().rows(limit=limit, state=JobState(state) if state else None)
        yield Result({"jobs": [asdict(row) for row in rows]})

    async def _providers(self, params: dict[str, Any]) -> Answers:
        yield Result(await (await self._core.customer()).providers(params))

    async def _why_provider(self, params: dict[str, Any]) -> Answers:
        yield Result(await (await self._core.customer()).why_provider(params))

    async def _map(self, params: dict[str, Any]) -> Answers:
        with self._reservations.of(params) as reservation:
            async for answer in (await self._core.customer()).map(params, reservation):
                yield answer

    async def _ask(self, params: dict[str, Any]) -> Answers:
        # Before anything is waited for: a call that is cancelled at once is known all the same.
        with self._reservations.of(params) as reservation:
            async for answer in (await self._core.customer()).ask(params, reservation):
                yield answer

    async def _told(self, params: dict[str, Any]) -> Answers:
        yield Result(self._reservations.told(params))

    async def _totals(self, _: dict[str, Any]) -> Answers:
        yield Result(await accounting.totals(self._core.database, self._core.network))

    async def _wallet_balance(self, _: dict[str, Any]) -> Answers:
        core = self._core
        now = core.clock.wall()
        yield Result(
            await accounting.balance(core.need_wallet(), core.database, core.network, core.allowance.caps, now)
        )

    async def _wallet_history(self, params: dict[str, Any]) -> Answers:
        yield Result(await accounting.history(self._core.database, self._core.network, params))

    async def _wallet_invoice(self, params: dict[str, Any]) -> Answers:
        yield Result(await accounting.invoice(self._core.need_wallet(), self._core.network, params))

    async def _wallet_pay(self, params: dict[str, Any]) -> Answers:
        core = self._core
        yield Result(await accounting.pay(core.need_sender(), core.network, params))

    async def _wallet_audit(self, _: dict[str, Any]) -> Answers:
        core = self._core
        yield Result(await accounting.examine(core.wallet, core.database, core.network))

    async def _wallet_payees(self, _: dict[str, Any]) -> Answers:
        yield Result(await payees.offers(self._core.database, self._core.network))

    async def _wallet_trust_payee(self, params: dict[str, Any]) -> Answers:
        core = self._core
        yield Result(await payees.trust(core.database, core.network, core.clock.wall(), params))

    async def _wallet_undecided(self, params: dict[str, Any]) -> Answers:
        core = self._core
        yield Result(await undecided.payments(core.need_sender(), core.database, core.network, params))

    async def _wallet_decide(self, params: dict[str, Any]) -> Answers:
        core = self._core
        yield Result(await undecided.decide(core.need_sender(), core.network, params))

    async def _earnings(self, params: dict[str, Any]) -> Answers:
        core = self._core
        tariff = Tariff(**core.config.earnings.model_dump())
        yield Result(await earnings.earnings(core.database, core.network, tariff, params))

    async def _invite(self, params: dict[str, Any]) -> Answers:
        numbers = {name: whole(params, name, 1) for name in ("count", "minutes") if params.get(name) is not None}
        rest = {name: value for name, value in params.items() if name not in ("count", "minutes")}
        async for answer in calls.invite(self._core, rest | numbers):
            yield answer

    def _provider(self) -> Provider:
        provider = self._core.provider
        if provider is None:
            raise UsageError("this node does not serve", hint="Start one that does with `pylon start`.")
        return provider

    def _journal(self) -> Journal:
        return self._core.journal


def _command() -> str:
    """What this process was started as: the name of a command and no more, since the rest may be a prompt."""
    program = Path(sys.argv[0])
    if program.name != "pylon" and program.parts[-2:] != ("cli", "main.py"):
        return program.name
    return " ".join(("pylon", *sys.argv[1:2]))
