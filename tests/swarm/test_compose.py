"""What a request to a provider that charges says of money and of its answer's length."""

import random
import time

import pytest

from pylon.jobs.request import JobRequest, parse_request
from pylon.money.accounts.usage import quote_bound
from pylon.money.msat import ZERO, Msat
from pylon.money.price import FREE, Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept, Load, Refuse, admit
from pylon.provider.settings import ProviderSettings
from pylon.swarm.compose import bounds_of, request_draft
from pylon.swarm.job import DEFAULT_MAX_TOKENS, JobSpec
from pylon.swarm.providers.listing import Listing
from pylon.swarm.spending.purse import Offer

PRICE = Price(Msat(1_000), Msat(1_000), Msat(10_000))
CUSTOMER, PROVIDER = SecretKey.generate(), SecretKey.generate()
KEYS, BID = ConversationKeys(CUSTOMER), Msat(1_000_000)
SPEC = JobSpec("How many legs has a spider?", system="Answer with a number.")


def sent(spec: JobSpec, price: Price) -> JobRequest:
    listing, bounds = Listing(PROVIDER.public, price=price), bounds_of(spec)
    offer = Offer(listing, bounds, quote_bound(price, bounds), ZERO if price.is_free else BID)
    now = int(time.time())
    draft = request_draft(spec, listing, offer, KEYS, random.Random(1), created_at=now, expires_at=now + 60)
    return parse_request(CUSTOMER.sign(draft), ConversationKeys(PROVIDER)).job


def verdict(spec: JobSpec, *, announced: Price, charges: Price, default_max_tokens: int = 512):
    now = int(time.time())
    listing, bounds = Listing(PROVIDER.public, price=announced), bounds_of(spec)
    offer = Offer(listing, bounds, quote_bound(announced, bounds), BID)
    draft = request_draft(spec, listing, offer, KEYS, random.Random(1), created_at=now, expires_at=now + 60)
    request = parse_request(CUSTOMER.sign(draft), ConversationKeys(PROVIDER))
    settings = ProviderSettings(price=charges, default_max_tokens=default_max_tokens)
    return admit(request, settings, Load((("m", ""),)), provider=PROVIDER.public, now=now)


@pytest.mark.parametrize("max_tokens", [None, 8, 4_000])
def test_the_bid_is_what_the_job_may_cost_by_the_announced_price_and_no_provider_learns_of_more(max_tokens) -> None:
    spec = JobSpec(SPEC.prompt, max_tokens=max_tokens)
    assert sent(spec, PRICE).bid == quote_bound(PRICE, bounds_of(spec)) < BID
    assert sent(spec, FREE).bid == ZERO


@pytest.mark.parametrize("max_tokens", [None, 8, 4_000])
@pytest.mark.parametrize("announced", [PRICE, FREE], ids=["priced", "free"])
def test_a_price_that_rose_since_it_was_announced_is_a_refusal_and_not_a_charge_that_looks_like_fraud(
    announced, max_tokens
) -> None:
    spec = JobSpec(SPEC.prompt, max_tokens=max_tokens)
    assert isinstance(verdict(spec, announced=announced, charges=announced), Accept)
    raised = Price(*(Msat(2 * rate + 500) for rate in announced.rates().values()))
    assert isinstance(verdict(spec, announced=announced, charges=raised), Refuse)


def test_an_answer_is_no_longer_than_its_customer_takes_it_to_be_whatever_a_provider_s_own_limit_is() -> None:
    taken = verdict(SPEC, announced=PRICE, charges=PRICE, default_max_tokens=4_096)
    assert isinstance(taken, Accept) and taken.max_tokens == DEFAULT_MAX_TOKENS
    assert sent(SPEC, FREE).parameters.max_tokens is None, "nothing is charged for a longer one"
