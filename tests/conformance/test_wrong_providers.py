"""Deliberately wrong providers: each fails the clause it breaks, and no other."""

import time

import pytest

from pylon.conformance.clauses import Clause, ClauseOutcome
from pylon.conformance.run import examine
from pylon.relay.server import RelayServer
from tests.conformance.bare import SHARES, BareProvider


class SlowClock:
    """Five minutes behind: a relay that still takes what has expired."""

    def wall(self) -> float:
        return time.time() - 300

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
async def relay():
    async with RelayServer(clock=SlowClock()) as server:
        yield server


async def verdicts(relay, fault=""):
    async with BareProvider(relay.url, fault) as provider:
        return await examine(provider.public, [relay.url], answer_s=4.0, silence_s=0.8)


@pytest.mark.parametrize("way", ["", SHARES])
async def test_a_provider_of_bare_events_that_keeps_to_the_schema_passes(relay, way):
    report = await verdicts(relay, way)
    assert [verdict for verdict in report.verdicts if verdict.outcome is not ClauseOutcome.PASS] == []
    assert report.passed


async def test_what_another_provider_answers_is_not_held_against_this_one(relay):
    async with BareProvider(relay.url, "serves others' requests"):
        report = await verdicts(relay)
    assert [verdict.clause for verdict in report.of(ClauseOutcome.FAIL)] == []


FAULTS = {
    "lets another sign": Clause.AUTHOR,
    "leaves out e": Clause.NAMES_REQUEST,
    "answers in the clear": Clause.SEALED,
    "answers twice": Clause.ONCE,
    "answers bare lists in the envelope": Clause.PLAIN_SEALED,
    "times to the millisecond": Clause.TIMING,
    "has no heartbeat": Clause.HEARTBEAT_FRESH,
    "accepts what expired": Clause.EXPIRED,
    "does what is old": Clause.STALE,
    "bills what is old": Clause.STALE,
    "bills what expired": Clause.EXPIRED,
    "bills every kind": Clause.UNSERVED_KIND,
}
MORE_FAULTS = {
    "announces nothing": Clause.ANNOUNCEMENT,
    "announces no version": Clause.ANNOUNCEMENT,
    "announces no relay address": Clause.ANNOUNCEMENT,
    "announces a short hash": Clause.ANNOUNCED_MODELS,
    "prices in no money": Clause.ANNOUNCED_PRICE,
    "beats without an end": Clause.HEARTBEAT,
    "beat long ago": Clause.HEARTBEAT_FRESH,
    "is silent": Clause.ANSWERED,
    "answers in another kind": Clause.RESULT_KIND,
    "names somebody else first": Clause.NAMES_CUSTOMER,
    "shows the model": Clause.SEALED,
    "leaves out v": Clause.VERSION,
    "leaves out expiration": Clause.EXPIRATION,
    "leaves out model": Clause.MODEL,
    "leaves out usage": Clause.USAGE,
    "leaves out timing": Clause.TIMING,
    "leaves out finish": Clause.FINISH,
    "was told to stop by nobody": Clause.FINISH,
    "writes control characters": Clause.CLEAN_TEXT,
    "writes more than asked": Clause.MAX_TOKENS,
    "reads no zstd": Clause.ZSTD,
    "reads no bare lists": Clause.PLAIN_SEALED,
    "shows plain customers the model": Clause.PLAIN_SEALED,
    "reads no chats": Clause.CHAT,
    "serves one kind": Clause.KINDS,
    "refuses open requests": Clause.OPEN_ANSWERED,
    "seals open answers": Clause.OPEN_FORM,
    "echoes nothing": Clause.OPEN_ECHO,
    "overlooks parameters": Clause.UNKNOWN_PARAM,
    "confuses codes": Clause.UNKNOWN_MODEL,
    "fetches inputs": Clause.FETCHING_INPUT,
    "passes over what does not open": Clause.UNDECRYPTABLE,
    "passes over bombs": Clause.BOMB,
    "serves every kind": Clause.UNSERVED_KIND,
    "answers the malformed": Clause.MALFORMED,
    "serves others' requests": Clause.NOT_FOR_US,
    "ignores cancellations": Clause.CANCEL,
    "lets anybody cancel": Clause.FOREIGN_CANCEL,
    "refuses in the clear": Clause.FEEDBACK,
    "makes codes up": Clause.CODES,
}


CASES = [
    *(pytest.param(*case, id=case[0]) for case in FAULTS.items()),
    *(pytest.param(*case, id=case[0], marks=pytest.mark.slow) for case in MORE_FAULTS.items()),
]


@pytest.mark.parametrize(("fault", "clause"), CASES)
async def test_a_wrong_provider_fails_exactly_the_clause_it_breaks(relay, fault, clause):
    report = await verdicts(relay, fault)
    assert {verdict.clause.value: verdict.why for verdict in report.of(ClauseOutcome.FAIL)}.keys() == {clause.value}
    assert not report.passed


def test_every_clause_has_a_wrong_provider_that_fails_it():
    assert {*FAULTS.values(), *MORE_FAULTS.values()} == set(Clause)
