"""The charge of one request: a state machine from its publication until its cost is in the books.

    OPEN ──begin──> BOOKING ──book──────> BOOKED     its receipt holds, and says what it cost
                            ──take──────> TAKEN      it came without a receipt, and may be charged yet
                            ──end───────> ENDED      the relation with its provider has ended over its receipt
                            ──fail──────> as before  the books could not be written: a copy of it may be booked

A charge in TAKEN begins again when a receipt comes for it. A receipt that was found separately (`LateReceipts`) is
booked from any state; a booking that was under way then changes nothing more.
"""

from enum import StrEnum

from pylon.money.msat import ZERO, Msat

# How many invoices of one job are looked at: it may wait for one of another job, and then for one of its own.
MOST_INVOICES = 4


class State(StrEnum):
    """See the module."""

    OPEN = "open"
    BOOKING = "being booked"
    TAKEN = "taken without a receipt"
    ENDED = "ended"
    BOOKED = "booked"


class Charge:
    """See the module. `before` is what its receipt charged before its run was taken up, which the run's sum already
    has.

    Steps that are not allowed raise `ValueError`.
    """

    __slots__ = ("_before", "_taken", "invoices", "paid", "state", "waived")

    def __init__(self, before: Msat = ZERO) -> None:
        self.state = State.OPEN
        self.paid = ZERO
        # The invoices it waited for: the same feedback, found again in a relay's store, asks for nothing new.
        self.invoices: tuple[str, ...] = ()
        # Its provider said, with a code, that it does not do the job, which costs nothing then.
        self.waived = False
        self._before = before
        self._taken = False

    @property
    def is_known(self) -> bool:
        """Whether its cost is known and final."""
        return self.state is State.BOOKED

    @property
    def is_settled(self) -> bool:
        """Whether its receipt was taken in, so that another copy of the result changes nothing."""
        return self.state in (State.BOOKING, State.ENDED, State.BOOKED)

    @property
    def was_taken(self) -> bool:
        """Whether its answer was accepted without a receipt: another copy is no new answer, but may bring the
        receipt."""
        return self._taken

    @property
    def added(self) -> int | None:
        """What it adds to its run's sum, in msat; None: not known, it may still be charged up to the offer."""
        return None if self.state is State.TAKEN else max(0, int(self.paid) - int(self._before))

    def begin(self) -> bool:
        """Begins to book its receipt; False if one is booked or being booked."""
        if self.is_settled:
            return False
        self.state = State.BOOKING
        return True

    def book(self, msat: Msat) -> None:
        """Its receipt is in the books, for so much. A known cost stays."""
        if not self.is_known:
            self.state, self.paid = State.BOOKED, msat

    def take(self) -> bool:
        """Its answer came without a receipt; True for the first copy, which counts."""
        self._leave(State.TAKEN)
        first, self._taken = not self._taken, True
        return first

    def end(self) -> None:
        """The relation with its provider has ended: its receipt is not booked."""
        if not self.is_known:
            self._leave(State.ENDED)

    def fail(self) -> None:
        """The books could not be written."""
        if not self.is_known:
            self._leave(State.TAKEN if self._taken else State.OPEN)

    def waive(self) -> None:
        """Its provider said that it does not do the job."""
        self.waived = True

    def may_bill(self, invoice: str) -> bool:
        """Whether it may wait for this invoice: a new one, and not one too many."""
        return invoice not in self.invoices and len(self.invoices) < MOST_INVOICES

    def bill(self, invoice: str) -> None:
        """It waits for this invoice to be paid. Raises `ValueError` where `may_bill` is False."""
        if not self.may_bill(invoice):
            raise ValueError("this invoice is no new one, or one too many")
        self.invoices = (*self.invoices, invoice)

    def unbill(self, invoice: str) -> None:
        """Forgets an invoice whose payment is uncertain, so that it is looked at when it is asked for again."""
        self.invoices = tuple(one for one in self.invoices if one != invoice)

    def _leave(self, state: State) -> None:
        if self.state is not State.BOOKING:
            raise ValueError(f"a charge that is {self.state.value} becomes {state.value} by being booked alone")
        self.state = state
