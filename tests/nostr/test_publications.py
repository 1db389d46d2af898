"""Publications that our own faults meet: told of, and nobody who published waits for ever."""

import asyncio
import logging

import pytest

from pylon.errors import RelayError
from pylon.nostr import messages as m
from pylon.nostr.client import pacing
from pylon.nostr.client.publications import Publications
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

EVENT = SecretKey(bytes(31) + b"\x07").sign(EventDraft(1, "hello"))


async def test_a_fault_while_events_are_sent_again_is_told_and_whoever_waits_hears_that_it_was_closed(
    monkeypatch, caplog
):
    logging.getLogger("pylon").propagate = True
    monkeypatch.setattr(pacing, "PAUSES_S", (0.0,))
    sent = list[bytes]()

    def send(frame: bytes) -> None:
        sent.append(frame)
        if len(sent) == 2:
            raise ZeroDivisionError

    publications = Publications("ws://relay", send, has_key=False)
    publishing = asyncio.create_task(publications.publish(EVENT, timeout=60))
    await asyncio.sleep(0)
    publications.answered(m.Ok(EVENT.id, False, "rate-limited: slow down"))
    async with asyncio.timeout(10):
        while len(sent) < 2:
            await asyncio.sleep(0)
        await publications.close()
        with pytest.raises(RelayError, match="closed"):
            await publishing
    assert "ZeroDivisionError" in caplog.text


async def test_an_event_whose_publication_was_cancelled_is_not_sent_on_the_next_connection():
    sent = list[bytes]()
    publications = Publications("ws://relay", sent.append, has_key=False)
    publishing = asyncio.create_task(publications.publish(EVENT, timeout=60))
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    sent.clear()
    await publications.opened()
    assert sent == []
    await publications.close()
