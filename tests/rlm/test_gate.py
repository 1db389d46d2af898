"""The queue before a run's budgets."""

from pylon.clock import SystemClock
from pylon.rlm.budget import Budget, Cost, Limits, Refusal, Reservation
from pylon.rlm.gate import Gate


class Queue:
    """A gate before a budget of 100 tokens, and what it has said to whom."""

    def __init__(self):
        self.clock = SystemClock()
        self.budget = Budget(Limits(tokens=100), now=self.clock.monotonic())
        self.gate = Gate(self.clock)
        self.said = {}

    def enter(self, name, tokens):
        return self.gate.enter(self.budget, Cost(tokens=tokens), lambda granted: self.said.update({name: granted}))


def test_who_comes_later_waits_for_the_first_and_is_let_through_when_that_one_leaves():
    queue = Queue()
    queue.enter("held", 60)
    first = queue.enter("first", 100)
    queue.enter("second", 40)
    queue.enter("third", 1)
    assert set(queue.said) == {"held"}
    queue.gate.leave({first})
    # Nobody settles anything in between.
    assert isinstance(queue.said["second"], Reservation) and set(queue.said) == {"held", "second"}


def test_what_is_settled_lets_through_in_order_and_what_can_never_fit_is_refused_at_once():
    queue = Queue()
    queue.enter("held", 60)
    queue.enter("first", 90)
    queue.enter("never", 101)
    queue.enter("last", 10)
    queue.gate.settle(queue.budget, queue.said["held"], Cost())
    assert list(queue.said) == ["held", "first", "never", "last"]
    assert isinstance(queue.said["never"], Refusal) and isinstance(queue.said["last"], Reservation)
