"""What is said of requests that are not taken on, and what of those that were taken on before."""

from types import SimpleNamespace

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.provider.customers import Customers
from pylon.provider.intake import refusals as module
from pylon.provider.intake.refusals import Refusals
from pylon.provider.refusal import Refusal
from pylon.provider.refusal_budget import RefusalLimits
from tests.manual_clock import ManualClock


class Desk:
    """`Refusals` with stand-ins around it, which note in which order they are called."""

    def __init__(self) -> None:
        self.did: list[tuple[str, ...]] = []
        # As a journal: with its result, or None, what was taken on.
        self.taken_on: dict[str, str | None] = {}
        self.here: set[str] = set()
        self.codes: dict[str, ErrorCode] = {}
        self.mute: set[str] = set()
        self.customers = Customers()
        self.forgotten_until = 0.0
        self.refusals = Refusals(
            trusted={"friend"}.__contains__,
            journal=self,
            active_jobs=SimpleNamespace(
                has=self.here.__contains__, say_again=lambda job_id: self.did.append(("said again", job_id))
            ),
            results=SimpleNamespace(repeat=lambda result, relay: self.did.append(("repeated", result, relay))),
            replies=self,
            refused=self,
            shared_refusals=self,
            outbox=SimpleNamespace(also=lambda job_id, relay: self.did.append(("also", job_id, relay))),
            clock=ManualClock(),
            customers=self.customers,
        )

    async def known(self, ids):
        return {id_: self.taken_on[id_] for id_ in ids if id_ in self.taken_on}

    # As what was refused.
    def code(self, request):
        return self.codes.get(request)

    def may_be_forgotten(self, created_at):
        return created_at <= self.forgotten_until

    async def remember(self, refusals):
        self.did += [("remembered", id_, code.value) for id_, code in refusals]

    # As replies.
    def refusal(self, refusal):
        return None if refusal.customer in self.mute else f"no to {refusal.id}"

    # As the crowd that is told together.
    def add(self, refusal):
        self.did.append(("with others", refusal.id))

    def say(self, word, relay):
        self.did.append((word, relay))


@pytest.fixture
def desk():
    return Desk()


def no(id_: str, customer: str = "somebody", code: ErrorCode = ErrorCode.BUSY) -> Refusal:
    return Refusal(customer, id_, True, "ws://r", code, "")


def job(id_: str, customer: str = "somebody") -> SimpleNamespace:
    request = SimpleNamespace(customer=customer, id=id_, private=True, plain=False, created_at=1_000)
    return SimpleNamespace(id=id_, request=request, relay="ws://r")


async def test_every_no_is_on_disk_before_the_first_is_said(desk):
    await desk.refusals.refuse([no("a"), no("b", code=ErrorCode.PAUSED)], live=True)
    assert desk.did == [
        ("remembered", "a", "busy"),
        ("remembered", "b", "paused"),
        ("no to a", "ws://r"),
        ("no to b", "ws://r"),
    ]


async def test_what_is_not_said_is_not_remembered(desk):
    desk.mute = {"somebody"}
    await desk.refusals.refuse([no("a")], live=True)
    assert desk.did == []


async def test_noise_is_answered_to_friends_and_to_whoever_had_a_job_here_and_to_nobody_else(desk):
    noise = [no(f"of {who}", who, ErrorCode.MALFORMED) for who in ("stranger", "friend", "regular")]
    desk.customers.served("regular", 0.0)
    await desk.refusals.refuse(noise, live=True)
    assert [words for words in desk.did if words[0] != "remembered"] == [
        ("no to of friend", "ws://r"),
        ("no to of regular", "ws://r"),
    ]


async def test_what_was_refused_before_is_said_again_to_whoever_asks_now_and_not_of_stored_requests(desk):
    desk.codes["a"] = ErrorCode.BUSY
    await desk.refusals.refuse([no("a")], live=False)
    assert desk.did == []
    await desk.refusals.refuse([no("a"), no("b")], live=True)
    assert desk.did[-2:] == [("no to a", "ws://r"), ("no to b", "ws://r")]
    before = desk.refusals.earlier(job("a"))
    assert (before.id, before.code) == ("a", ErrorCode.BUSY)
    assert desk.refusals.earlier(job("b")) is None


async def test_when_many_strangers_are_refused_they_share_words_and_customers_keep_theirs(desk, monkeypatch):
    monkeypatch.setattr(module, "STRANGERS", RefusalLimits(total_burst=2.0, total_per_s=0.0))
    desk = Desk()
    desk.customers.served("customer", 0.0)
    crowd = [no(f"s{number}", f"stranger {number}") for number in range(4)]
    others = [no("c", "customer"), no("f", "friend"), no("p", "another stranger", ErrorCode.PAUSED)]
    await desk.refusals.refuse([*crowd, *others], live=True)
    remembered = [words[1] for words in desk.did if words[0] == "remembered"]
    assert sorted(remembered) == sorted(one.id for one in (*crowd, *others))
    assert desk.did[len(remembered) :] == [
        ("no to s0", "ws://r"),
        ("no to s1", "ws://r"),
        ("no to c", "ws://r"),
        ("no to f", "ws://r"),
        ("with others", "s2"),
        ("with others", "s3"),
        ("with others", "p"),
    ]


async def test_a_stranger_s_noise_gets_no_word_in_a_crowd_either(desk, monkeypatch):
    monkeypatch.setattr(module, "STRANGERS", RefusalLimits(total_burst=0.0, total_per_s=0.0))
    desk = Desk()
    await desk.refusals.refuse([no("a", code=ErrorCode.MALFORMED)], live=True)
    assert desk.did == []


async def test_what_may_have_been_refused_and_is_forgotten_is_not_taken_on(desk):
    asked = job("a")
    assert desk.refusals.earlier(asked) is None
    desk.forgotten_until = asked.request.created_at
    assert desk.refusals.earlier(asked).code is ErrorCode.BUSY


async def test_what_was_taken_on_before_is_answered_as_it_was_then_and_only_where_it_is_asked_for_now(desk):
    desk.taken_on = {"done": "its result", "runs": None, "over": None}
    desk.here.add("runs")
    asked = [no("done"), no("runs"), no("over")]
    await desk.refusals.refuse(asked, live=False)
    assert desk.did == []
    said = [("repeated", "its result", "ws://r"), ("also", "runs", "ws://r"), ("said again", "runs")]
    await desk.refusals.refuse(asked, live=True)
    assert desk.did == said
    desk.did.clear()
    for one in asked:
        await desk.refusals.repeat(job(one.id))
    assert desk.did == said


async def test_no_key_is_answered_anew_without_end_but_friends_are(desk, monkeypatch):
    monkeypatch.setattr(module, "AGAIN", RefusalLimits(burst=2.0, per_s=0.0))
    desk = Desk()
    desk.taken_on = {"done": "its result"}
    for _ in range(5):
        await desk.refusals.repeat(job("done"))
    assert len(desk.did) == 2
    for _ in range(5):
        await desk.refusals.repeat(job("done", "friend"))
    assert len(desk.did) == 7
