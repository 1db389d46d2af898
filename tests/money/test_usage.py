import pytest

from pylon.money.accounts.account import Account, AskTopUp, Basis, Terms, admit, charge, credit, hold
from pylon.money.accounts.deposit import wish
from pylon.money.accounts.usage import TEMPLATE_TOKENS, Bounds, Usage, UsageFault, check_usage, quote_bound
from pylon.money.msat import Msat
from pylon.money.price import Price

PRICE = Price(Msat(100), Msat(1_000), Msat(2_000))
BOUNDS = Bounds(prompt_bytes=400, max_tokens=50)
sats = Msat.from_sats


def test_a_count_that_fits_is_believed():
    assert check_usage(Usage(100, 40), PRICE.charge(100, 40), PRICE, BOUNDS) is None
    assert check_usage(Usage(100, 40), 0, PRICE, BOUNDS) is None


@pytest.mark.parametrize(
    ("usage", "fault"),
    [
        (Usage(400 + TEMPLATE_TOKENS + 1, 40), UsageFault.PROMPT_TOKENS),
        (Usage(-1, 40), UsageFault.PROMPT_TOKENS),
        (Usage(100, 51), UsageFault.COMPLETION_TOKENS),
        (Usage(100, -1), UsageFault.COMPLETION_TOKENS),
    ],
)
def test_inflated_usage_is_seen(usage, fault):
    assert check_usage(usage, 0, PRICE, BOUNDS) is fault


def test_a_charge_above_the_price_list_is_seen():
    assert check_usage(Usage(100, 40), PRICE.charge(100, 40) + 1, PRICE, BOUNDS) is UsageFault.CHARGE


def test_the_bound_of_a_quote_covers_any_honest_charge():
    assert quote_bound(PRICE, BOUNDS) == PRICE.quote(400 + TEMPLATE_TOKENS, 50)


def test_a_first_deposit_is_worth_at_most_three_jobs():
    assert wish(sats(5), done=0, left=0, jobs_left=100, most=sats(1_000)) == sats(15)
    assert wish(Msat(1_500), done=0, left=0, jobs_left=100, most=sats(1_000)) == sats(5)


def test_deposits_grow_with_verified_work_and_never_past_the_work_that_is_left():
    assert wish(sats(5), done=sats(20), left=0, jobs_left=100, most=sats(1_000)) == sats(240)
    assert wish(sats(5), done=sats(200), left=0, jobs_left=10, most=sats(1_000)) == sats(50)
    assert wish(sats(5), done=sats(200), left=0, jobs_left=0, most=sats(1_000)) == sats(5)


def test_many_cheap_jobs_that_were_done_well_buy_no_deposit_for_dear_ones():
    """A provider that raises its price after a hundred jobs of a msat each is a stranger at that price."""
    assert wish(sats(50), done=100, left=0, jobs_left=100, most=sats(1_000)) == sats(150)
    assert wish(sats(50), done=sats(20), left=0, jobs_left=100, most=sats(1_000)) == sats(240)


def test_a_provider_that_asks_again_and_again_never_has_more_than_its_work_is_worth():
    for done in (0, sats(5), sats(20)):
        left = Msat(0)
        for _ in range(20):
            left += wish(sats(5), done=done, left=left, jobs_left=8, most=sats(1_000))
        assert left <= max(3 * sats(5), 12 * done)


def test_a_deposit_is_whole_sats_and_stays_below_what_is_allowed():
    assert wish(sats(5), done=0, left=0, jobs_left=100, most=Msat(9_999)) == sats(9)
    assert wish(sats(5), done=sats(10), left=0, jobs_left=100, most=sats(99)) == sats(99)


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_hundred_jobs_at_one_provider_take_three_payments(at_once):
    quote, account, terms = sats(5), Account("00" * 8), Terms()
    to_send, waiting, running, verified, payments = 100, [], 0, 0, 0
    while verified < 100:
        # As many at once as our money there covers, as deposits grow.
        while to_send and running + len(waiting) < min(at_once, max(1, account.balance // quote)):
            left = max(0, account.balance)
            waiting.append(wish(quote, done=quote * verified, left=left, jobs_left=to_send, most=sats(5_000)))
            to_send -= 1
        while waiting:
            decision = admit(account, terms, quote, wish=waiting[0])
            if isinstance(decision, AskTopUp):
                account, payments = credit(account, decision.amount), payments + 1
                continue
            account, running = hold(account, quote, Basis.PREPAID), running + 1
            waiting.pop(0)
        account, _ = charge(account, quote, Basis.PREPAID, quote)
        running, verified = running - 1, verified + 1
    assert (payments, account.balance) == (3, 0)
