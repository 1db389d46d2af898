"""Why a request could not be sent: each reason says what to do next, and none says another's."""

import asyncio
import sqlite3
import time

import pytest

from pylon.errors import RelayError
from pylon.nostr.client.connection import RelayStatus
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import failed
from pylon.swarm.wire.unsent import not_made, not_taken, not_written

OPEN = [RelayStatus("ws://one", "open"), RelayStatus("ws://two", "open")]
DOWN = [RelayStatus("ws://one", "connecting", error="ConnectionRefusedError"), RelayStatus("ws://two", "closed")]
SHUT = [RelayStatus("ws://one", "open", error="the relay refused our key: restricted: not a member")]
LATE = "ws://one did not acknowledge an event in time"
# What is said, how the relays are, and what only the hint of this reason says.
REASONS = {
    "restricted": ("ws://one refused an event: restricted: members only", OPEN, "household"),
    "auth-required": ("ws://one refused an event: auth-required: who are you?", OPEN, "authenticate"),
    "blocked": ("ws://one refused an event: blocked: no events of kind 5940", OPEN, "of this kind"),
    "pow": ("ws://one refused an event: pow: 26 bits of work", OPEN, "proof of work"),
    "invalid": ("ws://one refused an event: invalid: created_at is ahead", OPEN, "clock"),
    "rate-limited": ("ws://one refused an event: rate-limited: slow down", OPEN, "ask again later"),
    "error": ("ws://one refused an event: error: could not connect to the database", OPEN, "`pylon doctor`"),
    "no word of it": ("ws://one refused an event: ", OPEN, "`pylon doctor`"),
    "silent": (LATE, OPEN, "overloaded"),
    "not connected": (LATE, DOWN, "No relay is connected"),
    "not let in": (LATE, SHUT, "household"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_own_hint(reason) -> None:
    said, relays, tells = REASONS[reason]
    fault = not_taken(RelayError(said), relays)
    assert fault.reason is Failure.NOT_SENT and tells in fault.hint
    others = {only for _, _, only in REASONS.values() if only != tells}
    assert not [other for other in others if other in fault.hint]
    outcome = failed(fault.reason, None, 3, fault.detail, fault.hint)
    assert str(outcome) == f"the request could not be sent: {fault.detail}" and outcome.hint == fault.hint


def test_a_request_that_a_relay_may_have_passed_on_is_not_said_to_be_unsent() -> None:
    fault = not_taken(RelayError(LATE, may_have_arrived=True), OPEN)
    outcome = failed(fault.reason, None, 3, fault.detail, fault.hint)
    assert str(outcome) == f"no relay confirmed the request: {LATE}"


def test_what_no_other_try_changes_comes_before_what_may_pass() -> None:
    said = f"no relay took the event: {LATE}; ws://two refused an event: restricted: members only"
    fault = not_taken(RelayError(said), OPEN)
    assert "household" in fault.hint and fault.detail == said.removeprefix("no relay took the event: ")


def test_a_relay_of_that_name_or_that_says_so_elsewhere_is_not_taken_at_another_word() -> None:
    fault = not_taken(RelayError("ws://restricted:7447 refused an event: error: pow: invalid: none of these"), OPEN)
    assert "`pylon doctor`" in fault.hint


def test_a_disk_that_takes_nothing_and_a_fault_of_ours_accuse_no_relay() -> None:
    written, made = not_written(sqlite3.OperationalError("database or disk is full")), not_made(KeyError("x"))
    assert "disk is full" in written.detail and "space on the disk" in written.hint
    assert "KeyError" in made.detail and "log" in made.hint
    for fault in (written, made):
        assert fault.reason is Failure.NOT_SENT and "relay" not in f"{fault.detail} {fault.hint}"


async def test_the_words_are_those_in_which_the_pool_tells_what_a_real_relay_says() -> None:
    secret = SecretKey.generate()
    async with RelayServer(limits=RelayLimits(kinds=frozenset({1}))) as relay:
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        try:
            await pool.wait_open()
            with pytest.raises(RelayError) as refused:
                await pool.publish(secret.sign(EventDraft(5940, "", (), int(time.time()))))
            assert "of this kind" in not_taken(refused.value, pool.statuses).hint
        finally:
            await pool.close()
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    try:
        await asyncio.sleep(0)
        with pytest.raises(RelayError) as lost:
            await pool.publish(secret.sign(EventDraft(5940, "", (), int(time.time()))), timeout=0.3)
        assert "No relay is connected" in not_taken(lost.value, pool.statuses).hint
    finally:
        await pool.close()
