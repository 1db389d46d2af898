"""One error for the requests of many customers is judged by what protocol.md says of it."""

import time

import pytest

from pylon.conformance.answers import judge_feedback
from pylon.conformance.clauses import Clause, ClauseOutcome
from pylon.conformance.customer import Customer, Received
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

NOW = int(time.time())
PROVIDER = SecretKey.generate()
OTHERS = {"e": ("e", "ab" * 32), "p": ("p", SecretKey.generate().public)}


def shared(**changed) -> dict[Clause, ClauseOutcome]:
    """The verdicts on a shared refusal in which tags are replaced, or left out."""
    customer = Customer(["ws://127.0.0.1:9"], PROVIDER.public)
    sealed = (("p", PROVIDER.public), ("encrypted",), ("v", "pylon/1"))
    request = customer.sign(EventDraft(5940, customer.keys.encrypt(PROVIDER.public, b"{}"), sealed, NOW))
    tags = {
        "other e": OTHERS["e"],
        "e": ("e", request.id),
        "other p": OTHERS["p"],
        "p": ("p", customer.secret.public),
        "status": ("status", "error", "busy"),
        "v": ("v", "pylon/1"),
        "expiration": ("expiration", str(NOW + 60)),
        **changed,
    }
    event = PROVIDER.sign(EventDraft(7000, "full", tuple(tag for tag in tags.values() if tag), NOW))
    customer.heard.append(Received(event, 0.0))
    return {verdict.clause: verdict.outcome for verdict in judge_feedback([customer])}


def test_one_that_names_its_request_and_customer_among_others_is_right():
    assert shared() == {Clause.FEEDBACK: ClauseOutcome.PASS, Clause.CODES: ClauseOutcome.PASS}


@pytest.mark.parametrize(
    "changed",
    [
        {"e": ("e", "cd" * 32)},
        {"p": None},
        {"v": None},
        {"expiration": None},
        {"status": ("status", "processing")},
        {"encrypted": ("encrypted",)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_one_that_lacks_what_it_needs_or_tells_something_else_is_wrong(changed):
    assert shared(**changed)[Clause.FEEDBACK] is ClauseOutcome.FAIL


def test_its_code_has_to_be_in_the_list():
    assert shared(status=("status", "error", "flooded"))[Clause.CODES] is ClauseOutcome.FAIL
