from hypothesis import given
from hypothesis import strategies as st

from pylon.gateway.budget import Budget, Cost, Refuse, Wait


def test_what_cannot_be_paid_waits_only_while_something_may_come_back():
    budget = Budget(100)
    assert budget.hold(60, tries=1) == 60
    assert budget.hold(60, tries=1) == Wait()
    assert budget.hold(101, tries=1) == Refuse(100)
    budget.settle(60, Cost(10, 10))
    assert budget.hold(60, tries=1) == 60
    budget.settle(60, Cost(60, 60))
    assert budget.hold(60, tries=1) == Refuse(30)


def test_nobody_waits_for_what_is_over_and_may_be_charged_yet_and_it_comes_back_when_it_was_not():
    budget = Budget(100)
    assert budget.hold(50, tries=1) == 50
    assert budget.hold(50, tries=1) == 50
    budget.settle(50, Cost(10, 40))
    assert (budget.spent, budget.open, budget.left) == (10, 30, 10)
    assert budget.hold(60, tries=1) == Wait()
    assert budget.hold(61, tries=1) == Refuse(60, 30)
    budget.settle(50, Cost(50, 50))
    assert budget.hold(20, tries=1) == Refuse(10, 30)
    budget.settle_open(Cost(10, 40), Cost(15, 15))
    assert (budget.spent, budget.open, budget.left) == (65, 0, 35)


def test_a_second_try_is_set_aside_as_far_as_there_is_money():
    budget = Budget(100)
    assert budget.hold(40, tries=2) == 80
    assert budget.hold(15, tries=2) == 20


def test_where_there_is_plenty_a_question_may_leave_a_deposit():
    assert Budget(10_000).hold(10, tries=2) == 50
    assert Budget(1_000_000).hold(10, tries=2) == 240


def test_free_questions_are_never_held_up():
    budget = Budget(0)
    assert budget.hold(0, tries=2) == 0
    # Nor where a question was charged more than was set aside for it.
    budget = Budget(100)
    assert budget.hold(50, tries=1) == 50
    budget.settle(50, Cost(130, 130))
    assert budget.hold(0, tries=2) == 0 and budget.hold(1, tries=2) == Refuse(-30)


# How a question goes: the most of a try, how many of them, and what is known of it from one moment to the next: what
# was charged, and of the rest, what may be.
_PARTS = st.tuples(st.floats(0, 1), st.floats(0, 1))
_QUESTIONS = st.tuples(st.integers(0, 300), st.integers(1, 4), st.lists(_PARTS, min_size=1, max_size=4))


def narrowed(before, charged, most):
    """A cost that is known better: more was charged, or less can be."""
    now = before.charged + int(charged * before.open)
    return Cost(now, now + int(most * (before.most - now)))


@given(st.integers(0, 1_000), st.lists(_QUESTIONS, max_size=40), st.randoms(use_true_random=False))
def test_no_history_spends_more_than_the_limit_and_none_loses_what_was_not_charged(limit, questions, rng):
    budget = Budget(limit)
    out, over = [], []
    charged = 0

    def goes_on():
        """Something happens to one that is out, or to one that is over and not decided."""
        nonlocal charged
        if out and (not over or rng.random() < 0.6):
            held, parts = out.pop(rng.randrange(len(out)))
            before, cost = Cost(0, held), narrowed(Cost(0, held), *parts.pop())
            budget.settle(held, cost)
        else:
            before, parts = over.pop(rng.randrange(len(over)))
            cost = narrowed(before, *parts.pop()) if parts else Cost(before.charged, before.charged)
            budget.settle_open(before, cost)
        charged += cost.charged - before.charged
        if cost.open:
            over.append((cost, parts))

    for most, tries, parts in questions:
        held = budget.hold(most, tries=tries)
        if isinstance(held, Wait):
            assert out
            goes_on()
        elif isinstance(held, int):
            out.append((held, parts))
        elif over:
            assert held.open
        assert budget.spent == charged
        assert min(budget.held, budget.open, budget.left) >= 0
    while out or over:
        goes_on()
        assert budget.left >= 0
    assert (budget.held, budget.open) == (0, 0)
    assert limit - budget.left == budget.spent == charged
