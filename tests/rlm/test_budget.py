"""Budgets: what is allowed, what waits, and that the sums hold whatever happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.rlm.budget import Bound, Budget, Cost, Limits, Refusal, estimate_map


def test_what_was_reserved_cannot_be_reserved_again_until_it_is_settled():
    budget = Budget(Limits(msat=100), now=0)
    first = budget.reserve(Cost(msat=60, calls=1), now=0)
    refused = budget.reserve(Cost(msat=60, calls=1), now=0)
    assert isinstance(refused, Refusal) and (refused.bound, refused.left, refused.waits) == (Bound.SATS, 40, True)
    budget.settle(first, Cost(msat=10, calls=1))
    assert not isinstance(budget.reserve(Cost(msat=60, calls=1), now=0), Refusal)
    assert budget.spent == Cost(msat=10, calls=1)


def test_what_no_release_can_make_room_for_does_not_wait():
    budget = Budget(Limits(calls=2), now=0)
    budget.settle(budget.reserve(Cost(calls=1), now=0), Cost(calls=1))
    budget.reserve(Cost(calls=1), now=0, keep=True)
    refused = budget.reserve(Cost(calls=1), now=0)
    assert isinstance(refused, Refusal) and not refused.waits


def test_a_childs_spending_is_its_parents_and_its_own_limit_is_tighter():
    top = Budget(Limits(calls=10, depth=1), now=0)
    child = top.child(Limits(calls=2), now=0)
    assert isinstance(child, Budget)
    for _ in range(2):
        child.settle(child.reserve(Cost(calls=1), now=0), Cost(msat=7, calls=1))
    assert isinstance(child.reserve(Cost(calls=1), now=0), Refusal)
    assert top.spent == Cost(msat=14, calls=2)
    assert top.left(now=0).calls == 8


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_loops_stand_as_deep_as_the_first_limit_says_and_no_deeper(depth):
    budget = Budget(Limits(depth=depth), now=0)
    for _ in range(depth):
        child = budget.child(now=0)
        assert isinstance(child, Budget)
        budget = child
    refused = budget.child(Limits(depth=99), now=0)
    assert isinstance(refused, Refusal) and refused.bound is Bound.DEPTH


def test_wall_time_and_prompt_size_are_bounds_too():
    budget = Budget(Limits(wall_s=5, prompt_chars=10), now=100)
    assert isinstance(budget.reserve(Cost(), now=101, prompt_chars=11), Refusal)
    assert budget.left(now=101).wall_s == 4
    refused = budget.reserve(Cost(), now=105)
    assert isinstance(refused, Refusal) and refused.bound is Bound.WALL and not refused.waits


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (
            Refusal(Bound.SATS, 1_234_567_891, 40),
            "this needs up to 1,234,567.891 of the run's `max_sats`, and 0.04 are",
        ),
        (Refusal(Bound.SATS, 500_000, -3), "this needs up to 500 of the run's `max_sats`, and 0 are left"),
        (Refusal(Bound.CALLS, 1, -2), "used up (0 left)"),
        (Refusal(Bound.TOKENS, 1_234_567, 1_000_000), "this needs about 1,234,567 tokens, and 1,000,000 are left"),
        (Refusal(Bound.PROMPT, 1_234_567, 1_000_000), "1,234,567 characters is over the limit of 1,000,000"),
    ],
)
def test_a_refusal_says_the_whole_figures_and_claims_no_money_of_a_certain_network(refusal, says):
    assert says in refusal.message
    assert " sat" not in refusal.message


def test_a_reservation_ends_once():
    budget = Budget(Limits(), now=0)
    held = budget.reserve(Cost(calls=1), now=0)
    budget.settle(held, Cost())
    with pytest.raises(KeyError):
        budget.settle(held, Cost(calls=1))


def test_an_estimate_counts_the_pieces_of_a_map():
    assert estimate_map(1_500, piece=1_500, overlap=150, most_msat=5, limits=Limits()).calls == 1
    much = estimate_map(250_000, piece=1_500, overlap=150, most_msat=660, limits=Limits(calls=100))
    assert (much.calls, much.msat, much.over) == (186, 186 * 660, {Bound.CALLS})


costs = st.builds(Cost, st.integers(0, 50), st.integers(0, 3), st.integers(0, 100))


@given(
    limits=st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(0, 500)),
    steps=st.lists(st.tuples(st.sampled_from("RRRKSXC"), costs, st.floats(0, 1), st.integers(0, 9)), max_size=60),
)
def test_in_every_history_the_sums_hold_and_nothing_is_let_through_above_a_limit(limits, steps):
    top = Budget(Limits(*limits, depth=3), now=0)
    budgets, out, paid = [top], [], []
    for action, cost, part, where in steps:
        budget = budgets[where % len(budgets)]
        if action in "RK":
            granted = budget.reserve(cost, now=0, keep=action == "K")
            if isinstance(granted, Refusal):
                held = sum((c.cost for _, c in out if not c.kept), Cost())
                name = {Bound.SATS: "msat", Bound.CALLS: "calls", Bound.TOKENS: "tokens"}[granted.bound]
                assert granted.left < getattr(cost, name)
                assert granted.waits == (getattr(cost, name) <= granted.left + getattr(held, name))
            else:
                out.append((budget, granted))
        elif action in "SX" and out:
            budget, held = out.pop(where % len(out))
            spent = Cost(*(int(part * value) for value in (held.cost.msat, held.cost.calls, held.cost.tokens)))
            if action == "S":
                budget.settle(held, spent)
                paid.append(spent)
            else:
                budget.settle(held, Cost())
        elif action == "C":
            child = budget.child(now=0)
            if isinstance(child, Budget):
                budgets.append(child)
        assert top.spent == sum(paid, Cost())
        assert top.reserved + top.kept == sum((held.cost for _, held in out), Cost())
        all_in = top.spent + top.reserved + top.kept
        assert (all_in.msat, all_in.calls, all_in.tokens) <= (10**9,) * 3
        assert all_in.msat <= limits[0] and all_in.calls <= limits[1] and all_in.tokens <= limits[2]
    for budget, held in out:
        budget.settle(held, Cost())
    assert all(budget.reserved == budget.kept == Cost() for budget in budgets)
