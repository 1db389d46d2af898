from hypothesis import given
from hypothesis import strategies as st

from pylon.gateway.budget import Budget, Refuse, Wait


def test_what_cannot_be_paid_waits_only_while_something_may_come_back():
    budget = Budget(100)
    assert budget.hold(60, tries=1) == 60
    assert budget.hold(60, tries=1) == Wait()
    assert budget.hold(101, tries=1) == Refuse(100)
    budget.settle(60, 10)
    assert budget.hold(60, tries=1) == 60
    budget.settle(60, 60)
    assert budget.hold(60, tries=1) == Refuse(30)


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


@given(
    st.integers(0, 1_000), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 4), st.floats(0, 1)), max_size=40)
)
def test_no_history_spends_more_than_the_limit(limit, questions):
    budget = Budget(limit)
    out = []
    for most, tries, share in questions:
        held = budget.hold(most, tries=tries)
        if isinstance(held, Wait):
            assert out
            budget.settle(*out.pop(0))
        elif isinstance(held, int):
            # What is charged of it never passes what was set aside.
            out.append((held, int(held * share)))
        assert 0 <= budget.spent + budget.held <= limit
    for held, cost in out:
        budget.settle(held, cost)
    assert budget.held == 0 and budget.spent <= limit
