"""Strangers that share the word that they are refused: in few events, and behind everybody's results."""

import asyncio

from pylon.jobs.codes import ErrorCode
from pylon.provider.intake import shared_refusals as module
from pylon.provider.intake.shared_refusals import TOGETHER, SharedRefusals
from pylon.provider.refusal import Refusal


class Replies:
    """Keeps what is said; a relay has it when a test says so."""

    def __init__(self) -> None:
        # The request of a refusal of its own, the requests of a shared one.
        self.said: list[tuple[str | list[str], str]] = []
        self.unacknowledged = []

    def shared_refusal(self, refusals):
        return [refusal.id for refusal in refusals]

    def refusal(self, refusal):
        return None if refusal.id == "had too many" else refusal.id

    def say(self, event, relay, done):
        self.said.append((event, relay))
        self.unacknowledged.append(done)


def no(id_: str, relay: str = "ws://r", code: ErrorCode = ErrorCode.BUSY) -> Refusal:
    return Refusal("customer", id_, True, relay, code, "")


async def told(monkeypatch, refusals) -> tuple[SharedRefusals, Replies]:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    replies = Replies()
    shared = SharedRefusals(replies)
    shared.start()
    for refusal in refusals:
        shared.add(refusal)
    await settled()
    return shared, replies


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_they_are_told_together_where_they_came_from_and_by_what_they_are_told(monkeypatch):
    many = [no(str(number)) for number in range(TOGETHER + 2)]
    shared, replies = await told(
        monkeypatch, [many[0], no("x", "ws://other"), *many[1:], no("y", code=ErrorCode.PAUSED)]
    )
    assert replies.said == [
        ([str(number) for number in range(TOGETHER)], "ws://r"),
        ("x", "ws://other"),
        ([str(TOGETHER), str(TOGETHER + 1)], "ws://r"),
        ("y", "ws://r"),
    ]
    await shared.close()


async def test_a_relay_that_is_slow_has_few_of_them_to_take_and_hears_of_the_rest_when_it_has_those(monkeypatch):
    monkeypatch.setattr(module, "MOST_OUT", 2)
    events = 4
    shared, replies = await told(monkeypatch, [no(str(number)) for number in range(events * TOGETHER)])
    assert len(replies.said) == 2
    for one in range(2):
        replies.unacknowledged[one](bool(one))
        await settled()
        assert len(replies.said) == 3 + one
    assert sorted(int(id_) for ids, _ in replies.said for id_ in ids) == list(range(events * TOGETHER))
    await shared.close()


async def test_a_refusal_that_nobody_shares_is_sealed_for_its_customer_as_long_as_that_has_not_had_too_many(
    monkeypatch,
):
    shared, replies = await told(monkeypatch, [no("had too many")])
    assert replies.said == [(["had too many"], "ws://r")]
    shared.add(no("x"))
    await settled()
    assert replies.said[1:] == [("x", "ws://r")]
    await shared.close()


async def test_of_too_many_the_latest_are_told(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    shared, replies = await told(monkeypatch, [no(str(number)) for number in range(5)])
    assert replies.said == [(["2", "3", "4"], "ws://r")]
    await shared.close()
