"""The NWC client against wallet services that answer late, wrongly, twice or not at all."""

import asyncio
import hashlib

import pytest

from pylon.errors import RelayError
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.nwc import nip47
from pylon.money.nwc.client import NwcWallet
from pylon.money.nwc.listing import SLACK_S
from pylon.money.nwc.nip47 import Cipher, Response, Scheme
from pylon.money.nwc.uri import NwcUri
from pylon.money.payments.guard import GuardedWallet
from pylon.money.wallet import Hint, Lookup, LookupState, PayResult, PayState, WalletCode, WalletError
from pylon.nostr.event import EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from tests.money.craft import NOW, honest
from tests.money.fakes import LoopRelay, clock
from tests.waiting import until

CLIENT, WALLET, STRANGER = (SecretKey(bytes([n]) * 32) for n in (3, 4, 5))
PREIMAGE = b"\x09" * 32
HASH = hashlib.sha256(PREIMAGE).hexdigest()
URI = NwcUri(WALLET.public, ("ws://127.0.0.1:1",), CLIENT)
PAID = {"preimage": PREIMAGE.hex(), "fees_paid": 12}


class Service:
    """A wallet service whose answers are scripted: a result, an error code, or None for silence."""

    def __init__(self, relay: LoopRelay, info: EventDraft | None = None) -> None:
        self.relay, self.cipher = relay, Cipher(WALLET, CLIENT.public)
        self.answers: dict[str, list[object]] = {}
        self.requests: list[nip47.Request] = []
        self.events = []
        self.info = info or EventDraft(13194, "pay_invoice list_transactions", (("encryption", "nip44_v2 nip04"),))

    async def run(self) -> None:
        await self.relay.publish(WALLET.sign(self.info))
        subscription = self.relay.subscribe(lambda: (Filter(kinds=frozenset({nip47.REQUEST})),))
        async for received in subscription:
            event = received.event
            self.events.append(event)
            request = nip47.parse_request(event, self.cipher)
            self.requests.append(request)
            script = self.answers.get(request.method, [])
            answer = script.pop(0) if len(script) > 1 else script[0] if script else None
            if answer is None:
                continue
            response = answer if isinstance(answer, Response) else Response(request.method, answer)  # type: ignore[arg-type]
            await self.relay.publish(
                WALLET.sign(nip47.response_draft(self.cipher, request.scheme, event.id, response))
            )


# Where nobody answers. Whoever does answer has time to, however busy the machine is.
silent = pytest.mark.parametrize("pair", [0.05], indirect=True)


@pytest.fixture
async def pair(request):
    timeout_s = getattr(request, "param", 10.0)
    relay = LoopRelay()
    service = Service(relay)
    task = asyncio.create_task(service.run())
    wallet = NwcWallet(URI, relay, clock(), read_timeout_s=timeout_s, pay_timeout_s=timeout_s)
    await wallet.start()
    yield wallet, service
    await wallet.close()
    task.cancel()


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr("pylon.money.nwc.requests.ANSWER_GRACE_S", 0.05)


async def test_balance_and_info_are_read(pair):
    wallet, service = pair
    service.answers = {
        "get_balance": [{"balance": 21_000}],
        "get_info": [{"network": "regtest", "alias": "w", "methods": ["pay_invoice"]}],
    }
    assert await wallet.balance() == Msat(21_000)
    info = await wallet.info()
    assert (info.network, info.alias, info.methods) == ("regtest", "w", {"pay_invoice"})
    assert all(request.scheme is Scheme.NIP44 for request in service.requests)
    assert all(event.tag("expiration") for event in service.events)


async def test_a_payment_is_settled_with_its_preimage(pair):
    wallet, service = pair
    service.answers = {"pay_invoice": [PAID]}
    assert await wallet.pay("lnbcrt1x", fee_limit=Msat(1)) == PayResult(PayState.SETTLED, PREIMAGE.hex(), Msat(12))
    assert service.requests[-1].params == {"invoice": "lnbcrt1x"}


async def test_a_payment_is_sent_without_another_query_once_the_wallet_is_ready(pair, monkeypatch):
    wallet, service = pair
    service.answers = {"pay_invoice": [PAID], "get_info": [{"network": "regtest"}]}
    guard = GuardedWallet(wallet, Network.REGTEST)
    await guard.ready()
    asked = len(service.requests)
    monkeypatch.setattr(service.relay, "query", None)
    assert (await guard.pay(honest(5), fee_limit=Msat(1))).state is PayState.SETTLED
    assert [request.method for request in service.requests[asked:]] == ["pay_invoice"]


async def test_whoever_waits_for_an_answer_when_the_wallet_is_closed_asks_no_more(pair):
    service = pair[1]
    wallet = NwcWallet(URI, service.relay, clock(), read_timeout_s=2.0, pay_timeout_s=0.05)
    await wallet.start()
    waits = asyncio.create_task(wallet.balance())
    while not service.requests:
        await asyncio.sleep(0)
    await wallet.close()
    with pytest.raises(WalletError, match="closed") as caught:
        await waits
    assert caught.value.code is WalletCode.TIMEOUT
    # What was not sent is known not to have been paid.
    assert await wallet.pay("i", fee_limit=Msat(1)) == PayResult(PayState.FAILED, code=WalletCode.UNREACHABLE)
    assert len(service.requests) == 1


@silent
async def test_no_answer_to_a_payment_is_unknown_and_it_is_asked_once(pair):
    wallet, service = pair
    assert await wallet.pay("i", fee_limit=Msat(1)) == PayResult(PayState.UNKNOWN, code=WalletCode.TIMEOUT)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ("INSUFFICIENT_BALANCE", PayState.FAILED),
        ("QUOTA_EXCEEDED", PayState.FAILED),
        ("RESTRICTED", PayState.FAILED),
        ("UNAUTHORIZED", PayState.FAILED),
        ("RATE_LIMITED", PayState.FAILED),
        ("PAYMENT_FAILED", PayState.FAILED),
        ("INTERNAL", PayState.UNKNOWN),
        ("OTHER", PayState.UNKNOWN),
        ("SOMETHING_NEW", PayState.UNKNOWN),
        # Codes that only we give: that nothing was sent, for one.
        ("WALLET_UNREACHABLE", PayState.UNKNOWN),
        ("WALLET_WRONG_NETWORK", PayState.UNKNOWN),
    ],
)
async def test_only_an_outright_refusal_is_a_failure(pair, error, state):
    wallet, service = pair
    service.answers = {"pay_invoice": [Response("pay_invoice", error=error, message="m")]}
    result = await wallet.pay("i", fee_limit=Msat(1))
    assert result.state is state
    assert result.code == (error.lower() if error in nip47.ErrorCode else "other")


@pytest.mark.parametrize("answer", [{}, {"preimage": None}, {"preimage": "zz"}, {"preimage": 5}])
async def test_an_answer_without_a_preimage_is_unknown(pair, answer):
    wallet, service = pair
    service.answers = {"pay_invoice": [answer]}
    assert (await wallet.pay("i", fee_limit=Msat(1))).state is PayState.UNKNOWN


async def test_a_relay_that_does_not_answer_leaves_a_payment_unknown(pair):
    wallet, service = pair
    service.answers = {"get_balance": [{"balance": 1}]}
    await wallet.balance()

    async def refuse(event):
        raise RelayError("silence")

    service.relay.publish = refuse
    assert (await wallet.pay("i", fee_limit=Msat(1))).state is PayState.UNKNOWN


async def test_a_wallet_that_never_announced_itself_is_unreachable_and_nothing_is_sent():
    relay = LoopRelay()
    wallet = NwcWallet(URI, relay, clock(), read_timeout_s=0.05)
    await wallet.start()
    with pytest.raises(WalletError) as caught:
        await wallet.balance()
    assert caught.value.code is WalletCode.UNREACHABLE
    assert await wallet.pay("i", fee_limit=Msat(1)) == PayResult(PayState.FAILED, code=WalletCode.UNREACHABLE)
    assert relay.published == []
    await wallet.close()


@silent
async def test_a_lost_answer_to_a_question_is_asked_for_again(pair):
    wallet, service = pair
    service.answers = {"get_balance": [None, None, {"balance": 5}]}
    assert await wallet.balance() == 5
    assert len(service.requests) == 3


@silent
async def test_a_wallet_that_stays_silent_times_out(pair):
    wallet, _ = pair
    with pytest.raises(WalletError) as caught:
        await wallet.balance()
    assert caught.value.code is WalletCode.TIMEOUT


async def test_an_invoice_is_asked_for_again_where_the_wallet_had_no_time_for_it(pair, monkeypatch):
    wallet, service = pair
    monkeypatch.setattr("pylon.money.nwc.requests.BUSY_S", 0.0)
    busy = Response("make_invoice", error="RATE_LIMITED", message="m")
    service.answers = {"make_invoice": [busy, busy, {"invoice": "lnbcrt1x"}]}
    assert await wallet.create_invoice(Msat(5_000), description="d", expiry_s=60) == "lnbcrt1x"
    service.answers = {"make_invoice": [busy]}
    with pytest.raises(WalletError) as caught:
        await wallet.create_invoice(Msat(5_000), description="d", expiry_s=60)
    assert (caught.value.code, len(service.requests)) == (WalletCode.RATE_LIMITED, 6)


@silent
async def test_an_invoice_is_asked_for_once(pair):
    wallet, service = pair
    with pytest.raises(WalletError):
        await wallet.create_invoice(Msat(5_000), description="d", expiry_s=60)
    assert len(service.requests) == 1
    assert service.requests[0].params == {"amount": 5_000, "description": "d", "expiry": 60}
    service.answers = {"make_invoice": [{"invoice": "ln"}]}
    assert await wallet.create_invoice(Msat(5_000), description="d", expiry_s=60) == "ln"
    service.answers = {"make_invoice": [{}]}
    with pytest.raises(WalletError):
        await wallet.create_invoice(Msat(5_000), description="d", expiry_s=60)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"state": "settled", "preimage": PREIMAGE.hex(), "amount": 5, "fees_paid": 1},
         Lookup(LookupState.SETTLED, Msat(5), Msat(1), PREIMAGE.hex())),
        ({"state": "pending", "preimage": PREIMAGE.hex()}, Lookup(LookupState.PENDING, preimage=PREIMAGE.hex())),
        ({"state": "accepted"}, Lookup(LookupState.PENDING)),
        ({"state": "failed"}, Lookup(LookupState.FAILED)),
        ({"state": "expired"}, Lookup(LookupState.EXPIRED)),
        ({"settled_at": 1_700_000_000}, Lookup(LookupState.SETTLED)),
        ({"settled_at": None, "preimage": PREIMAGE.hex()}, Lookup(LookupState.UNSETTLED, preimage=PREIMAGE.hex())),
        ({"settled_at": 0}, Lookup(LookupState.UNSETTLED)),
        ({"type": "outgoing", "preimage": PREIMAGE.hex()}, Lookup(LookupState.SETTLED, preimage=PREIMAGE.hex())),
        ({"type": "outgoing", "preimage": "00" * 32}, Lookup(LookupState.UNSETTLED, preimage="00" * 32)),
        ({"state": "settled", "amount": -1, "fees_paid": "x", "preimage": "short"}, Lookup(LookupState.SETTLED)),
        ({}, Lookup(LookupState.UNSETTLED)),
    ],
)  # fmt: skip
async def test_a_lookup_means_what_the_wallet_can_vouch_for(pair, result, found):
    wallet, service = pair
    service.answers = {"lookup_invoice": [{"payment_hash": HASH, **result}]}
    assert await wallet.lookup(HASH) == found


async def test_an_error_without_a_result_type_is_an_error_and_a_malformed_answer_is_not_waited_out(pair):
    wallet, service = pair

    async def answer(method: str, value: dict[str, object]) -> None:
        while not service.events or service.requests[-1].method != method:
            await asyncio.sleep(0)
        content = service.cipher.encrypt(Scheme.NIP04, value)
        tags = (("p", CLIENT.public), ("e", service.events[-1].id))
        await service.relay.publish(WALLET.sign(EventDraft(nip47.RESPONSE, content, tags)))

    task = asyncio.create_task(answer("lookup_invoice", {"error": {"code": "NOT_FOUND", "message": "no"}}))
    service.answers = {"list_transactions": [{"transactions": []}]}
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.NOT_FOUND
    await task
    task = asyncio.create_task(answer("get_balance", {"result": {"balance": 5}}))
    with pytest.raises(WalletError) as caught:
        await wallet.balance()
    assert caught.value.code is WalletCode.MALFORMED
    await task


async def test_an_answer_about_another_hash_is_not_taken(pair):
    wallet, service = pair
    service.answers = {"lookup_invoice": [{"payment_hash": "00" * 32, "state": "settled"}]}
    with pytest.raises(WalletError) as caught:
        await wallet.lookup(HASH)
    assert caught.value.code is WalletCode.MALFORMED


async def test_a_wallet_that_looks_up_invoices_only_is_asked_for_its_list(pair):
    wallet, service = pair
    service.answers = {
        "lookup_invoice": [Response("lookup_invoice", error="NOT_FOUND")],
        "list_transactions": [{"transactions": [{"payment_hash": "00"}, {"payment_hash": HASH, "state": "settled"}]}],
    }
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.SETTLED
    assert service.requests[-1].params["type"] == "outgoing"
    service.answers["list_transactions"] = [{"transactions": []}]
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.NOT_FOUND


def listed(first: int, count: int) -> dict[str, object]:
    return {"transactions": [{"payment_hash": f"{n:064x}"} for n in range(first, first + count)]}


async def test_a_payment_is_sought_in_all_that_a_wallet_lists(pair):
    wallet, service = pair
    found = {"transactions": [{"payment_hash": HASH, "state": "settled"}]}
    service.answers = {
        "lookup_invoice": [Response("lookup_invoice", error="NOT_FOUND")],
        "list_transactions": [listed(0, 20), listed(20, 20), found],
    }
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.SETTLED
    assert [request.params.get("offset") for request in service.requests[-3:]] == [None, 20, 40]
    service.answers["list_transactions"] = [listed(0, 20), listed(20, 5), {"transactions": []}]
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.NOT_FOUND


async def test_a_wallet_that_lists_its_newest_payments_only_does_not_say_that_one_is_not_there(pair):
    wallet, service = pair
    service.answers = {
        "lookup_invoice": [Response("lookup_invoice", error="NOT_FOUND")],
        "list_transactions": [listed(0, 20)],
    }
    with pytest.raises(WalletError, match="does not list all"):
        await wallet.lookup(HASH, since=NOW)
    # Where it pages not at all but is short, that is all of it.
    service.answers["list_transactions"] = [listed(0, 7)]
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.NOT_FOUND


async def test_a_wallet_that_looks_up_nothing_is_asked_for_its_list(pair):
    wallet, service = pair
    service.answers = {
        "lookup_invoice": [Response("lookup_invoice", error="NOT_IMPLEMENTED")],
        "list_transactions": [{"transactions": [{"payment_hash": HASH, "state": "settled"}]}],
    }
    assert (await wallet.lookup(HASH, since=NOW)).state is LookupState.SETTLED
    assert service.requests[-1].params["from"] == NOW - SLACK_S
    for error in ("RESTRICTED", "INTERNAL"):
        service.answers["lookup_invoice"] = [Response("lookup_invoice", error=error)]
        with pytest.raises(WalletError):
            await wallet.lookup(HASH, since=NOW)


async def test_an_invoice_of_ours_is_not_sought_among_payments(pair):
    wallet, service = pair
    service.answers = {"lookup_invoice": [Response("lookup_invoice", error="NOT_FOUND")]}
    assert (await wallet.lookup(HASH)).state is LookupState.NOT_FOUND
    service.answers = {"lookup_invoice": [Response("lookup_invoice", error="NOT_IMPLEMENTED")]}
    with pytest.raises(WalletError):
        await wallet.lookup(HASH)
    assert {request.method for request in service.requests} == {"lookup_invoice"}


async def test_a_wallet_without_an_end_leaves_a_payment_unknown(pair):
    wallet, service = pair
    service.answers = {
        "lookup_invoice": [Response("lookup_invoice", error="NOT_FOUND")],
        "list_transactions": [listed(20 * page, 20) for page in range(101)],
    }
    with pytest.raises(WalletError, match="does not list all"):
        await wallet.lookup(HASH, since=NOW)
    assert len(service.requests) == 101


async def test_nip04_is_used_with_a_wallet_that_announces_nothing_newer():
    relay = LoopRelay()
    service = Service(relay, EventDraft(13194, "get_balance"))
    service.answers = {"get_balance": [{"balance": 5}]}
    task = asyncio.create_task(service.run())
    wallet = NwcWallet(URI, relay, clock(), read_timeout_s=0.5)
    await wallet.start()
    await until(lambda: relay.published and len(relay.subscriptions) > 1)
    assert await wallet.balance() == 5
    assert service.requests[0].scheme is Scheme.NIP04
    assert service.events[0].tag("encryption") is None
    await wallet.close()
    task.cancel()


async def test_an_older_announcement_that_a_relay_still_has_changes_nothing(pair):
    wallet, service = pair
    service.answers = {"get_balance": [{"balance": 1}]}
    await wallet.balance()
    [newest] = await service.relay.query((Filter(kinds=frozenset({nip47.INFO})),))
    await service.relay.publish(
        WALLET.sign(EventDraft(nip47.INFO, "pay_invoice", (), created_at=newest.created_at - 1))
    )
    # The first of these has the announcement read.
    await wallet.balance()
    await wallet.balance()
    assert [request.scheme for request in service.requests] == [Scheme.NIP44] * 3


async def test_a_wallet_that_refuses_nip44_is_spoken_to_in_nip04(pair):
    wallet, service = pair
    service.answers = {
        "get_balance": [Response("get_balance", error="UNSUPPORTED_ENCRYPTION"), {"balance": 5}, {"balance": 6}]
    }
    assert await wallet.balance() == 5
    assert await wallet.balance() == 6
    assert [request.scheme for request in service.requests] == [Scheme.NIP44, Scheme.NIP04, Scheme.NIP04]


@silent
async def test_answers_by_others_and_notices_for_others_are_ignored(pair):
    wallet, service = pair
    forger = Cipher(STRANGER, CLIENT.public)

    async def forge() -> None:
        while not service.events:
            await asyncio.sleep(0)
        draft = nip47.response_draft(forger, Scheme.NIP44, service.events[0].id, Response("pay_invoice", PAID))
        # Straight to the client, whatever the relay filters.
        for subscription in service.relay.subscriptions:
            subscription._filters = (Filter(),)
        await service.relay.publish(STRANGER.sign(draft))
        notice = nip47.notification_draft(forger, Scheme.NIP44, "payment_received", {"payment_hash": HASH})
        await service.relay.publish(STRANGER.sign(notice))

    task = asyncio.create_task(forge())
    assert (await wallet.pay("i", fee_limit=Msat(1))).state is PayState.UNKNOWN
    await task
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(wallet.events()), 0.05)


@pytest.mark.parametrize("scheme", Scheme)
async def test_a_notice_is_a_hint_however_often_it_comes(pair, scheme):
    wallet, service = pair
    for body in ({"payment_hash": HASH}, {"payment_hash": HASH, "state": "pending"}, {"payment_hash": 5}, {}):
        draft = nip47.notification_draft(service.cipher, scheme, "payment_received", body)
        await service.relay.publish(WALLET.sign(draft))
    draft = nip47.notification_draft(service.cipher, scheme, "hold_invoice_accepted", {"payment_hash": HASH})
    await service.relay.publish(WALLET.sign(draft))
    hints = wallet.events()
    assert [await anext(hints), await anext(hints)] == [Hint(HASH), Hint(HASH)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(hints), 0.05)


async def test_garbage_from_the_wallet_does_not_stop_the_reader(pair):
    wallet, service = pair
    await service.relay.publish(WALLET.sign(EventDraft(nip47.NOTIFICATION, "garbage", (("p", CLIENT.public),))))
    service.answers = {"get_balance": [{"balance": 5}]}
    assert await wallet.balance() == 5


async def test_a_fault_of_ours_in_one_message_leaves_the_others_to_be_read(pair, monkeypatch):
    wallet, service = pair

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(nip47, "parse_notification", fail)
    await service.relay.publish(WALLET.sign(EventDraft(nip47.NOTIFICATION, "any", (("p", CLIENT.public),))))
    service.answers = {"get_balance": [{"balance": 5}]}
    assert await wallet.balance() == 5


async def test_an_answer_to_another_question_is_not_taken(pair):
    wallet, service = pair
    service.answers = {"get_balance": [Response("get_info", {"balance": 5})]}
    with pytest.raises(WalletError) as caught:
        await wallet.balance()
    assert caught.value.code is WalletCode.MALFORMED


def test_the_secret_is_not_shown():
    wallet = NwcWallet(URI, LoopRelay(), clock())
    assert CLIENT.secret_bytes.hex() not in repr(wallet)
