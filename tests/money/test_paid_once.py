"""Whatever a wallet answers, however late it pays and whenever we die: no job is paid twice, and the audit knows."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pylon.money import audit
from pylon.money.payment import PaymentRefusedError
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision, DecisionRefusedError
from pylon.money.states import PaymentState
from pylon.money.wallet import Lookup, LookupState, PayResult, PayState, WalletCode
from tests.money.fakes import FakeLightning, clock
from tests.money.test_sender import ORDER, Side, hash_of

LOST = (LookupState.NOT_FOUND, LookupState.UNSETTLED, LookupState.EXPIRED, LookupState.PENDING)


class PaidOnce(RuleBasedStateMachine):
    """Invoices for one job, one after the other, from a wallet that may pay each of them at any later time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.lightning = FakeLightning(clock())
        self.side = Side(self.folder, self.lightning)
        self.run(self.side.start())
        self.accepted: list[str] = []

    def run(self, work):  # type: ignore[no-untyped-def]
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.side.sender.close())
        self.run(self.side.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(
        answer=st.sampled_from(
            [
                WalletCode.PAYMENT_FAILED,
                WalletCode.TIMEOUT,
                WalletCode.INTERNAL,
                WalletCode.RESTRICTED,
                "paid",
                "dies",
            ]
        ),
        said=st.sampled_from(LOST),
    )
    def pay(self, answer: WalletCode | str, said: LookupState) -> None:
        ask = self.run(self.side.ask())
        payment_hash = hash_of(ask)

        async def pay(invoice, *, fee_limit):  # type: ignore[no-untyped-def]
            if answer is WalletCode.RESTRICTED:
                return PayResult(PayState.FAILED, code=answer)
            self.accepted.append(payment_hash)
            if answer == "dies":
                raise SystemError("killed")
            if answer == "paid":
                self.move(payment_hash)
                return PayResult(PayState.SETTLED, self.lightning.slips[payment_hash].preimage.hex())
            state = PayState.FAILED if answer is WalletCode.PAYMENT_FAILED else PayState.UNKNOWN
            return PayResult(state, code=WalletCode(answer))

        self.side.wallet.pay = pay
        self.says(said)
        try:
            self.run(self.side.sender.pay(ask, ORDER))
        except PaymentRefusedError:
            pass
        except SystemError:
            self.crash()

    @rule(said=st.sampled_from(LOST))
    def says(self, said: LookupState) -> None:
        """What the wallet says of whatever it has not paid; of what it has paid it tells the truth."""
        self.side.wallet.lookup_as = lambda found: found if found.state is LookupState.SETTLED else Lookup(said)

    @rule(at=st.integers(0, 3))
    def settles_late(self, at: int) -> None:
        if self.accepted:
            self.move(self.accepted[at % len(self.accepted)])

    def move(self, payment_hash: str) -> None:
        # A wallet pays an invoice once.
        if payment_hash not in self.lightning.moved:
            self.side.wallet.move(payment_hash)

    @rule()
    def check(self) -> None:
        self.run(self.side.sender.check())

    @rule(seconds=st.sampled_from([1.0, 700.0, 1_300.0, 5_000.0, 5_000.0]))
    def wait(self, seconds: float) -> None:
        self.side.clock.advance(seconds)
        self.check()

    @rule(preimage=st.booleans())
    def owner_decides(self, preimage: bool) -> None:
        """Says that it was paid where that is so, and otherwise that it was not, which may turn out wrong."""
        for payment in self.run(payment_store.in_state(self.side.database, PaymentState.UNKNOWN)):
            paid = payment.payment_hash in self.lightning.moved
            proof = self.lightning.slips[payment.payment_hash].preimage.hex() if paid and preimage else ""
            try:
                self.run(self.side.sender.decide(payment.payment_hash, Decision(paid, proof)))
            except DecisionRefusedError:
                assert not paid

    @rule()
    def crash(self) -> None:
        self.run(self.side.restart())
        self.run(self.side.sender.recover())

    @invariant()
    def no_job_is_paid_twice(self) -> None:
        assert len(self.lightning.moved) <= 1

    @invariant()
    def the_audit_knows_what_was_paid(self) -> None:
        books = self.run(audit.collect(self.side.database))
        assert audit.examine(books) == []
        failed = self.run(payment_store.in_state(self.side.database, PaymentState.FAILED))
        paid = [p.payment_hash for p in failed if p.payment_hash in self.lightning.moved]
        found = self.run(audit.compare_with_wallet(self.side.wallet, books))
        assert [finding.code for finding in found] == ["paid_after_all"] * len(paid)


TestPaidOnce = PaidOnce.TestCase
TestPaidOnce.settings = settings(max_examples=50, stateful_step_count=12, deadline=None)
