"""Pays invoices and books receipts, before anybody hears of the answers that they belong to.

`Answers` hands over what providers ask and send, and hears as `Settled` what came of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pylon import log
from pylon.errors import MoneyError
from pylon.jobs.answer import Amount
from pylon.jobs.result import JobResult
from pylon.money.accounts.usage import check_part
from pylon.money.msat import Msat
from pylon.nostr.event import Event
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import Back, Flight, Flights
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.spending.purse import Bill, Offer, Purse
from pylon.swarm.wire.meaning import PaymentAsked
from pylon.tasks import Tasks

logger = log.get("swarm")


class Settled(Protocol):
    """Who hears what came of it: `Answers`."""

    def answered(self, flight: Flight) -> None:
        """A result whose receipt is valid and booked; or one without a receipt, whose cost is not known."""

    def part_paid(self, flight: Flight) -> None:
        """A receipt was booked for what is no answer, or for an answer that was passed on before."""

    def not_paid(self, slot: int, detail: str) -> None:
        """The payment that a slot waits for was not made; `detail` says why."""

    def not_offered(self, slot: int, provider: str) -> None:
        """What a slot waits for is not paid, since its provider was offered nothing."""

    def wants_money(self, provider: str) -> None:
        """Somebody asks for money who was offered none."""


@dataclass(slots=True, kw_only=True)
class Settling:
    """Settles what flights cost. Without a `purse` nothing is paid, and no receipt is booked."""

    purse: Purse | None
    flights: Flights
    deciders: Deciders
    settled: Settled
    _errands: Tasks = field(default_factory=lambda: Tasks("a part of the customer stopped"))
    # Receipts that came in this turn of the event loop: they are booked together, by one task.
    _came: list[tuple[Flight, Awaitable[Msat | None], Callable[[Flight], None]]] = field(default_factory=list)
    # The (provider, invoice) pairs that are being paid. One payment serves all jobs that wait for it.
    _paying: set[tuple[str, str]] = field(default_factory=set)

    async def close(self) -> None:
        """Waits until all receipts that came are booked and all payments that began have ended, new ones included.

        The database must not be closed before that.
        """
        while self._came or self._errands:
            self._begin()
            await self._errands.wait()

    def asked(self, event: Event, flight: Flight, asked: PaymentAsked) -> None:
        """A provider wants to be paid before it does the job."""
        # A request that was cancelled is not worked on, whatever is paid, and one that was answered needs no payment.
        waited_for = self.deciders.dispatcher.is_live(asked.attempt) and flight.back is not Back.BEFORE
        if not waited_for or flight.charge.is_settled:
            return
        if self.purse is None or flight.offer is None or not flight.offer.quote:
            self.settled.not_offered(flight.slot, flight.provider)
            self.deciders.tell(m.Refused(asked.attempt, None, unpaid=True))
            self.settled.wants_money(flight.provider)
            return
        self.deciders.tell(m.Acknowledged(asked.attempt))
        invoice = (asked.amount.bolt11 if asked.amount is not None else None) or ""
        if not flight.charge.may_bill(invoice) or self._is_anothers(flight, asked.amount):
            return
        flight.charge.bill(invoice)
        if (flight.provider, invoice) not in self._paying:
            bill = Bill(event.pubkey, event.tag("p") or "", flight.request, event.created_at)
            self._errands.begin(self._pay(self.purse, flight, flight.offer, bill, asked.amount, invoice), "payment")

    def _is_anothers(self, flight: Flight, amount: Amount | None) -> bool:
        """Whether the amount is more than this job offered, but within the offer of another job that waits for the
        same provider: then that job pays."""
        if amount is None or amount.msat is None or _offers(flight, amount.msat):
            return False
        return any(one is not flight and _offers(one, amount.msat) for one in self._waiting(flight.provider))

    def _waiting(self, provider: str) -> list[Flight]:
        return [
            one
            for one in self.flights
            if one.provider == provider
            and not one.charge.is_settled
            and self.deciders.dispatcher.is_live(one.attempt)
        ]

    def _billed(self, provider: str, invoice: str) -> list[Flight]:
        """The flights that wait for this payment."""
        return [one for one in self._waiting(provider) if invoice in one.charge.invoices]

    def result(self, event: Event, flight: Flight) -> None:
        """A provider's result came."""
        if self.purse is None or flight.offer is None:
            self.settled.answered(flight)
        elif (result := flight.result) is not None:
            self._book(
                self.purse, flight, flight.offer, bill_of(event, flight, result), result, self.settled.answered
            )

    def taken_back(self, event: Event, flight: Flight, result: JobResult) -> None:
        """A provider was told to stop, and charges for the part of the answer that it had sent."""
        if self.purse is None or flight.offer is None:
            self.settled.part_paid(flight)
            return
        shown = flight.shown.bytes if flight.stream else None
        if shown is not None and check_part(result.completion_tokens, shown) is not None:
            # It charges for more than we were shown, but relays lose events. Stored ones are looked for: by the inbox
            # while the slot is open, later when the account shows a gap, or at the next start.
            return
        bill = bill_of(event, flight, result, shown)
        self._book(self.purse, flight, flight.offer, bill, result, self.settled.part_paid)

    def _book(
        self,
        purse: Purse,
        flight: Flight,
        offer: Offer,
        bill: Bill,
        result: JobResult,
        then: Callable[[Flight], None],
    ) -> None:
        if not flight.charge.begin():
            return
        try:
            booking = purse.accept(bill, offer, result)
        except Exception as error:
            self._unbooked(flight, error)
            return
        if booking is None:
            self._without_receipt(flight, then)
            return
        self._came.append((flight, booking, self.settled.part_paid if flight.charge.was_taken else then))
        if len(self._came) == 1:
            asyncio.get_running_loop().call_soon(self._begin)

    async def _pay(
        self, purse: Purse, flight: Flight, offer: Offer, bill: Bill, amount: Amount | None, invoice: str
    ) -> None:
        provider = flight.provider

        def wanted() -> bool:
            return self.deciders.dispatcher.is_live(flight.attempt) or bool(self._billed(provider, invoice))

        self._paying.add((provider, invoice))
        try:
            await purse.pay(bill, offer, amount, wanted=wanted)
        except MoneyError as error:
            code, reason = str(getattr(error, "code", "")), str(error)
            # What is wrong with an invoice is said without its code, which docs/money.md explains: it is added.
            logger.warning(
                "a provider was not paid",
                provider=provider,
                reason=reason if code in reason else f"{reason} ({code})",
            )
            # The jobs that wait for this payment would wait until the invoice expires. Jobs that run there go on.
            for other in self._billed(provider, invoice):
                self.settled.not_paid(other.slot, str(error))
                self.deciders.tell(m.Refused(other.attempt, None, unpaid=True))
        except Exception as error:
            logger.failed("what a provider asks for could not be paid", error, provider=provider)
            for other in self._billed(provider, invoice):
                other.charge.unbill(invoice)
                # Without a code: it may be paid all the same, so runs' budgets keep all that these could cost.
                self.deciders.tell(m.Refused(other.attempt, None, ours=True))
        finally:
            self._paying.discard((provider, invoice))

    def _begin(self) -> None:
        came, self._came = self._came, []
        if came:
            self._errands.begin(self._accept(came), "receipts")

    async def _accept(self, came: list[tuple[Flight, Awaitable[Msat | None], Callable[[Flight], None]]]) -> None:
        for flight, booking, then in came:
            # A fault with one receipt must not hold up the answers of the others.
            try:
                try:
                    charged = await booking
                except Exception as error:
                    self._unbooked(flight, error)
                    continue
                if charged is None:
                    flight.charge.end()
                    self.deciders.tell(m.Refused(flight.attempt, None))
                else:
                    flight.charge.book(charged)
                    then(flight)
                self.flights.booked(flight)
            except Exception as error:
                logger.failed("what became of a result could not be dealt with", error)

    def _without_receipt(self, flight: Flight, then: Callable[[Flight], None]) -> None:
        """The answer counts. All that it may cost stays reserved, since the provider may still charge for it."""
        if flight.charge.take():
            logger.info("a result has no receipt", job=flight.request, provider=flight.provider)
            then(flight)
        self.flights.booked(flight)

    def _unbooked(self, flight: Flight, error: Exception) -> None:
        """The receipt could not be booked: its answer does not count until it is."""
        logger.failed("a result could not be settled", error)
        # While the slot is open, a copy that a look finds is booked and counts. Later it is one of the late receipts,
        # which are asked for by what was ordered.
        flight.charge.fail()
        # Without a code: the provider may have charged, so the run's budget keeps all that the attempt could cost.
        self.deciders.tell(m.Refused(flight.attempt, None, ours=True))


def bill_of(event: Event, flight: Flight, result: JobResult, sent_bytes: int | None = None) -> Bill:
    """The bill in a provider's result."""
    customer = result.address.customer
    signed_at = max(event.created_at, flight.created_at)
    return Bill(event.pubkey, customer, flight.request, signed_at, sent_bytes, flight.charge.waived)


def _offers(flight: Flight, amount: Msat) -> bool:
    """Whether this job's offered deposit, rounded up to a sat, covers the amount. Every priced job offers one."""
    topup = None if flight.offer is None else flight.offer.topup
    return topup is not None and amount <= Msat.from_sats(topup.sats_up())
