"""Publications side by side: in their order but for what goes first, a bounded number at once."""

import asyncio

from pylon.swarm.errands import Work
from pylon.swarm.wire.outbox import Outbox


async def test_what_goes_first_is_sent_before_all_that_waits_and_no_more_are_out_than_allowed() -> None:
    sent, most, out = [], 0, 0
    outbox = Outbox(limit=2)

    def publication(name: str) -> Work:
        async def publish() -> None:
            nonlocal most, out
            out += 1
            most = max(most, out)
            sent.append(name)
            await asyncio.sleep(0)
            out -= 1

        return publish()

    for name in ("a", "b", "c", "d", "e"):
        outbox.put(lambda name=name: publication(name))
    await asyncio.sleep(0)
    outbox.put(lambda: publication("cancelled"), first=True)
    await outbox.close(within=5)
    assert sent == ["a", "b", "cancelled", "c", "d", "e"]
    assert most == 2


async def test_what_cannot_be_made_or_is_not_wanted_any_more_holds_up_nobody() -> None:
    sent: list[str] = []
    outbox = Outbox(limit=1)

    async def publish() -> None:
        sent.append("a")

    def broken() -> Work:
        raise ZeroDivisionError

    for make in (broken, lambda: None, publish):
        outbox.put(make)
    await outbox.close(within=5)
    assert sent == ["a"]
