"""What one request costs, from when it goes out until that is in the books.

    OPEN ──begin──> BOOKING ──book──────> BOOKED     its receipt holds, and says what it cost
                            ──take──────> TAKEN      it came without a receipt, and may be charged yet
                            ──end───────> ENDED      the relation with its provider has ended over its receipt
                            ──fail──────> as before  the books could not be written: a copy of it may be booked

One that was taken begins again when a receipt comes for it. A receipt that was found by itself (`LateReceipts`) is
booked from any state, and how the booking ends that was on its way then changes nothing.
"""

from enum import StrEnum

from pylon.money.msat import ZERO, Msat

# A job waits for an invoice of another job's, and then perhaps for one of its own. So many are looked at.
MOST_INVOICES = 4


class State(StrEnum):
    """See the module."""

    OPEN = "open"
    BOOKING = "being booked"
    TAKEN = "taken without a receipt"
    ENDED = "ended"
    BOOKED = "booked"


class Charge:
    """`before` is what its receipt charged before its run was taken up: that is in the run's sum. Steps that a charge
    cannot take raise `ValueError`."""

    __slots__ = ("_before", "_taken", "invoices", "paid", "state", "waived")

    def __init__(self, before: Msat = ZERO) -> None:
        self.state = State.OPEN
        self.paid = ZERO
        # Those that were asked for: the same feedback, found again in a relay's store, asks for nothing new.
        self.invoices: tuple[str, ...] = ()
        # Its provider said, with a code, that it does not do it: that costs nothing.
        self.waived = False
        self._before = before
        self._taken = False

    @property
    def is_known(self) -> bool:
        """Whether it is known what it cost, and nothing that comes for it changes that."""
        return self.state is State.BOOKED

    @property
    def is_settled(self) -> bool:
        """Whether its receipt was taken in: a copy of the result that comes another way changes nothing."""
        return self.state in (State.BOOKING, State.ENDED, State.BOOKED)

    @property
    def was_taken(self) -> bool:
        """Whether its answer was taken as it came: what comes now is no other one, but may say what it cost."""
        return self._taken

    @property
    def added(self) -> int | None:
        """What it adds to its run's sum, in msat; None: it may be charged later for all that was offered."""
        return None if self.state is State.TAKEN else max(0, int(self.paid) - int(self._before))

    def begin(self) -> bool:
        """Its receipt is about to be booked. False where one is, or was."""
        if self.is_settled:
            return False
        self.state = State.BOOKING
        return True

    def book(self, msat: Msat) -> None:
        """It is in the books. What was known before stands."""
        if not self.is_known:
            self.state, self.paid = State.BOOKED, msat

    def take(self) -> bool:
        """There is no receipt. Whether this is the first that came so, and counts."""
        self._leave(State.TAKEN)
        first, self._taken = not self._taken, True
        return first

    def end(self) -> None:
        """Nothing of its provider's is booked any more."""
        if not self.is_known:
            self._leave(State.ENDED)

    def fail(self) -> None:
        """The books could not be written."""
        if not self.is_known:
            self._leave(State.TAKEN if self._taken else State.OPEN)

    def waive(self) -> None:
        """Its provider does not do it."""
        self.waived = True

    def may_bill(self, invoice: str) -> bool:
        """Whether this invoice is a new one, and not one too many."""
        return invoice not in self.invoices and len(self.invoices) < MOST_INVOICES

    def bill(self, invoice: str) -> None:
        """It waits for this invoice to be paid."""
        if not self.may_bill(invoice):
            raise ValueError("this invoice is no new one, or one too many")
        self.invoices = (*self.invoices, invoice)

    def unbill(self, invoice: str) -> None:
        """It is not known whether this invoice is paid: when it is asked for again, it is looked at again."""
        self.invoices = tuple(one for one in self.invoices if one != invoice)

    def _leave(self, state: State) -> None:
        if self.state is not State.BOOKING:
            raise ValueError(f"a charge that is {self.state.value} becomes {state.value} by being booked alone")
        self.state = state
