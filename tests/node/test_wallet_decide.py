"""`pylon wallet decide`: with and without a node that runs, and killed at every step."""

import asyncio
import hashlib
import signal
import sys
import time
from contextlib import AsyncExitStack

import orjson
import pytest
from typer.testing import CliRunner

from pylon import config as settings
from pylon.cli.program import app
from pylon.cli.wallet_live import spending_lines
from pylon.errors import MoneyError, UsageError
from pylon.loop_thread import Blocking
from pylon.money.invoices.invoice import decode
from pylon.money.limits import Spend
from pylon.money.msat import Msat
from pylon.money.nwc.nip47 import Response
from pylon.money.payment import Payment
from pylon.money.payments import store as payment_store
from pylon.money.states import PaymentState
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.open_home import SCHEMAS
from pylon.node.session import LocalNode
from pylon.nostr.bech32 import nip19
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from tests.money.craft import honest
from tests.node.homes import move_in
from tests.node.nwc_service import WillingWallet

THEM = "aa" * 32
PREIMAGE = b"\x07" * 32
HASH = hashlib.sha256(PREIMAGE).hexdigest()
# Nobody listens there, and nobody is asked for jobs.
NOWHERE = "ws://127.0.0.1:9"


class Forgetful(WillingWallet):
    """One that looks up nothing and lists nothing."""

    def respond(self, method: str) -> Response:
        if method in ("lookup_invoice", "list_transactions"):
            return Response(method, error="NOT_IMPLEMENTED", message="not here")
        return super().respond(method)


class Town(Blocking):
    """A relay with that wallet on it, beside the commands of a test."""

    link: str

    async def _open(self) -> None:
        self._stack = AsyncExitStack()
        relay = await self._stack.enter_async_context(RelayServer())
        self.link = (await Forgetful(relay.url, "play", "bcrt").start(self._stack)).link.reveal()

    async def _close(self) -> None:
        await self._stack.aclose()


@pytest.fixture(scope="module")
def town():
    with Town("wallet") as town:
        yield town


@pytest.fixture
def home(tmp_path, monkeypatch, town) -> Home:
    """One whose wallet gave no answer to a payment, long ago."""
    home = move_in(tmp_path, town.link)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setenv("PYLON_RELAYS", f'["{NOWHERE}"]')
    asyncio.run(unknown(home, PREIMAGE, age_s=7_200))
    return home


async def unknown(home: Home, preimage: bytes, *, age_s: float, state: str = "unknown") -> str:
    """A payment of 15 sat in the books; its hash."""
    database = await Database.open(home.database, SCHEMAS, label=home.network)
    sent = time.time() - age_s
    text = honest(
        15, currency="bcrt", payment_hash=hashlib.sha256(preimage).digest(), created_at=int(sent), expiry_s=600
    )
    async with database.transaction() as tx:
        spend = Spend(Msat.from_sats(15), Msat.from_sats(10), f"job of {preimage.hex()}", THEM, "run")
        payment = await payment_store.reserve(tx, decode(text), spend, sent)
        await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", sent)
        if state == "unknown":
            await payment_store.move(tx, payment.payment_hash, PaymentState.UNKNOWN, "wallet_timeout", sent)
    await database.close()
    return payment.payment_hash


def row(home: Home, payment_hash: str = HASH) -> Payment:
    async def read() -> Payment:
        database = await Database.open(home.database, SCHEMAS, label=home.network)
        payment = await payment_store.get(database, payment_hash)
        await database.close()
        return payment

    return asyncio.run(read())


def wallet(*arguments: str, typed: str = ""):
    return CliRunner().invoke(app, ["wallet", *arguments], input=typed)


def decide(*arguments: str, typed: str = ""):
    return wallet("decide", *arguments, typed=typed)


def test_what_is_unknown_is_listed_with_what_is_to_be_done(home):
    said = decide().output
    for told in (HASH, nip19.npub(THEM), "15 play sat", "wallet_timeout", "--preimage", "--not-paid"):
        assert told in said
    [found] = orjson.loads(decide("--json").stdout)["payments"]
    assert (found["payment"], found["state"], found["amount_msat"]) == (HASH, "unknown", 15_000)
    assert found["releasable_at"] == found["expires_at"] + 600


def test_a_preimage_settles_it_without_a_question_and_the_books_say_who_decided(home):
    done = decide(HASH[:8], "--preimage", PREIMAGE.hex().upper(), "--fee", "2", "--json")
    assert done.exit_code == 0
    told = orjson.loads(done.stdout)
    assert (told["state"], told["decided_by"], told["proof"], told["changed"]) == ("settled", "owner", True, True)
    assert (row(home).state, row(home).preimage, row(home).fee) == (PaymentState.SETTLED, PREIMAGE.hex(), 2_000)
    again = orjson.loads(decide(HASH, "--paid", "--yes", "--json").stdout)
    assert (again["changed"], again["proof"]) == (False, True)
    entries = orjson.loads(wallet("history", "--json").stdout)["entries"]
    assert [(one["kind"], one["decided"]) for one in entries] == [("fee_paid", True), ("topup_paid", True)]
    assert wallet("history").output.count("decided") == 2
    audited = wallet("audit")
    assert "decided by you" in audited.output and "with its preimage" in audited.output
    assert "no payment has an unknown outcome" in decide().output


@pytest.mark.parametrize(
    ("arguments", "typed", "state"),
    [
        (("--paid",), "paid\n", "settled"),
        (("--paid", "--yes"), "", "settled"),
        (("--not-paid",), "not  paid\n", "failed"),
        (("--paid",), "yes\n", "unknown"),
        (("--paid",), "", "unknown"),
        (("--not-paid",), "paid\n", "unknown"),
        (("--not-paid",), "y\n", "unknown"),
        (("--not-paid", "--yes"), "not paid\n", "unknown"),
        (("--not-paid", "--fee", "1"), "not paid\n", "unknown"),
        (("--paid", "--not-paid"), "paid\n", "unknown"),
        ((), "paid\n", "unknown"),
        (("--preimage", "ab" * 32), "paid\n", "unknown"),
    ],
)
def test_without_a_proof_it_takes_the_word_that_is_asked_for(home, arguments, typed, state):
    ran = decide(HASH, *arguments, typed=typed)
    assert (ran.exit_code == 0) is (state != "unknown")
    assert row(home).state == state
    if typed and ran.exit_code == 0:
        assert ("A mistake pays twice" if state == "failed" else "nothing proves") in ran.output
    if state == "failed":
        assert "decided by you" in (said := wallet("audit").output) and "not paid" in said


def test_one_that_may_still_arrive_is_not_unpaid_and_nothing_is_asked(home):
    young = asyncio.run(unknown(home, b"\x08" * 32, age_s=60))
    ran = decide(young, "--not-paid", typed="not paid\n")
    assert ran.exit_code == UsageError.exit_code
    assert "it may still be paid" in ran.output and "Type `not paid`" not in ran.output
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row(home, young).expires_at + 600))
    assert f"Try again after {until}." in " ".join(ran.output.split())
    assert row(home, young).state is PaymentState.UNKNOWN


def test_what_is_meant_is_one_payment_that_is_there(home):
    other = next(
        preimage for preimage in (n.to_bytes(32) for n in range(1, 999))
        if hashlib.sha256(preimage).hexdigest()[0] == HASH[0]
    )  # fmt: skip
    asyncio.run(unknown(home, other, age_s=7_200))
    assert "2 payments begin with" in decide(HASH[0], "--paid", "--yes").output
    assert "no payment of unknown outcome begins with 'zz'" in decide("zz", "--paid", "--yes").output
    assert "no payment of unknown outcome begins with ''" in decide("", "--paid", "--yes").output
    assert decide("ab" * 32, "--paid", "--yes").exit_code == MoneyError.exit_code
    assert decide("--not-paid", typed="not paid\n").exit_code == UsageError.exit_code
    assert decide("ab" * 32, "--paid", "--yes", "--json").exit_code == MoneyError.exit_code


def test_one_that_has_ended_is_refused_with_what_it_is(home):
    assert decide(HASH, "--paid", "--yes").exit_code == 0
    ran = decide(HASH, "--not-paid", "--json", typed="not paid\n")
    error = orjson.loads(ran.stdout)["error"]
    assert (
        error["type"] == "DecisionRefusedError" and "this payment is paid, decided by its owner" in error["message"]
    )


def test_status_balance_and_doctor_name_the_command(home):
    assert "1 payment of unknown outcome" in (said := wallet_status(home)) and "pylon wallet decide" in said
    found = orjson.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["findings"]
    [one] = [finding for finding in found if finding["check"] == "payments"]
    assert (
        one["verdict"] == "warning" and "1 of unknown outcome" in one["said"] and "pylon wallet decide" in one["todo"]
    )
    assert decide(HASH, "--paid", "--yes").exit_code == 0
    found = orjson.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["findings"]
    assert "payments" not in [finding["check"] for finding in found]


def wallet_status(home: Home) -> str:
    async def read() -> str:
        async with Core(home, settings.parse({"relays": [NOWHERE]}), serve=False) as core:
            return "\n".join(spending_lines((await result_of(LocalNode(core), "status"))["spending"], "play sat"))

    return asyncio.run(read())


async def test_beside_a_node_that_runs_it_is_that_node_that_decides(home):
    async with Core(home, settings.parse({"relays": [NOWHERE]}), serve=False) as core:
        code, said = await program("wallet", "decide", HASH, "--preimage", PREIMAGE.hex(), "--json")
        assert (code, orjson.loads(said)["state"]) == (0, "settled")
        assert (await payment_store.get(core.opened.database, HASH)).state is PaymentState.SETTLED
        # What waits for it in that node hears of it.
        assert core.opened.money is not None
        assert [one.payment_hash for one in await core.opened.money.sender.check()] == [HASH]


async def test_what_a_dead_process_was_sending_is_unknown_as_soon_as_anybody_looks(home):
    died = await unknown(home, b"\x09" * 32, age_s=7_200, state="sending")
    async with Core(home, settings.parse({"relays": [NOWHERE]}), serve=False) as core:
        assert (await payment_store.get(core.opened.database, died)).state is PaymentState.UNKNOWN


# --- killed ---------------------------------------------------------------------------------------------------------

# The command, in a process that is killed just before a step of it.
KILLED = """
import os, signal, sys
from pylon.money.payments import outcome as payment_outcome, store as payment_store
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
step = sys.argv.pop(1)
if step == "settle":
    payment_store.settle = die
elif step == "book":
    payment_outcome.book = die
elif step == "commit":
    book = payment_outcome.book
    async def booked(tx, entries):
        await book(tx, entries)
        die()
    payment_outcome.book = booked
elif step == "answer":
    payment_outcome.Decided = die
from pylon.cli.main import main
main()
"""


async def program(*arguments: str, code: str = "from pylon.cli.main import main; main()") -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", code, *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode or 0, said


@pytest.mark.slow
@pytest.mark.parametrize("step", ["settle", "book", "commit", "answer"])
async def test_killed_at_any_step_it_is_decided_whole_or_not_at_all_and_saying_it_again_is_enough(home, step):
    arguments = ("wallet", "decide", HASH, "--preimage", PREIMAGE.hex(), "--json")
    code, said = await program(step, *arguments, code=KILLED)
    assert (code, said) == (-signal.SIGKILL, b"")
    database = await Database.open(home.database, SCHEMAS, label=home.network)
    before = await payment_store.get(database, HASH)
    [entries] = await database.fetch_one("SELECT count(*) FROM money_ledger")
    await database.close()
    assert (before.state, entries) == (("settled", 1) if step == "answer" else ("unknown", 0))
    code, said = await program(*arguments)
    told = orjson.loads(said)
    assert (code, told["state"], told["changed"]) == (0, "settled", step != "answer")
    database = await Database.open(home.database, SCHEMAS, label=home.network)
    [entries] = await database.fetch_one("SELECT count(*) FROM money_ledger")
    await database.close()
    assert entries == 1
