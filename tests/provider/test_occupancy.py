"""How full it is, for admission and for heartbeats."""

from types import SimpleNamespace

import pytest

from pylon.provider.customers import Customers, Standing
from pylon.provider.occupancy import Occupancy


class Queue(list):
    """As many jobs as a test puts in; in the line of strangers there are five of three customers."""

    def in_line(self, standing: Standing) -> tuple[int, int]:
        return (5, 3) if standing is Standing.STRANGER else (0, 0)


class Machine:
    """An engine of two slots, and what waits for it: plain values, as a test says."""

    def __init__(self) -> None:
        self.engine = SimpleNamespace(slots=2, state="ready", model=None, follows_schemas=True)
        self.runner = SimpleNamespace(queue=Queue(), running=[], computing=0, seconds_per_job=3.0)
        self.active_jobs = SimpleNamespace(
            wallet_down=False, newcomers_full=True, paid_of=lambda _: 2, unpaid_of=lambda _: 1
        )
        self.pauses = SimpleNamespace(public_reason="")
        self.customers = Customers()
        self.occupancy = Occupancy(
            inference=self.engine,
            model="m",
            runner=self.runner,
            active_jobs=self.active_jobs,
            pauses=self.pauses,
            customers=self.customers,
        )


@pytest.fixture
def machine():
    return Machine()


def job(customer: str, standing: Standing = Standing.STRANGER, *, trusted: bool = False) -> SimpleNamespace:
    request = SimpleNamespace(customer=customer)
    return SimpleNamespace(request=request, standing=standing, trusted=trusted)


def test_what_goes_before_a_job_counts_for_everybody_and_for_its_own_customer(machine):
    load = machine.occupancy.load("alice", [job("alice"), job("bob"), job("alice")])
    assert (load.waiting, load.of_customer, load.unpaid_of_customer) == (8, 5, 1)
    assert (load.others, load.turn_s) == (5, 5 / 2 * 3.0)


def test_who_waits_in_another_line_and_who_is_trusted_does_not_count(machine):
    ahead = [job("bob", Standing.RECENT), job("carol", Standing.REGULAR), job("friend", trusted=True)]
    load = machine.occupancy.load("alice", ahead)
    assert (load.standing, load.waiting, load.others) == (Standing.STRANGER, 5, 3)
    machine.customers.served("alice", 0.0)
    load = machine.occupancy.load("alice", ahead)
    assert (load.standing, load.waiting, load.others) == (Standing.RECENT, 1, 1)


def test_that_no_newcomer_may_wait_for_a_payment_concerns_strangers_alone(machine):
    machine.customers.served("known", 1.0)
    assert [machine.occupancy.load(key, []).newcomers_full for key in ("alice", "known")] == [True, False]


def test_weights_are_named_once_the_model_is_there(machine):
    load = machine.occupancy.load("alice", [])
    assert (load.models, load.max_completion_tokens) == ((("m", ""),), 0)
    machine.engine.model = SimpleNamespace(sha256="ab" * 32, max_completion_tokens=64)
    load = machine.occupancy.load("alice", [])
    assert (load.models, load.max_completion_tokens) == ((("m", "ab" * 32),), 64)


def test_an_engine_that_has_failed_takes_nothing_on_and_any_other_reason_is_named_first(machine):
    machine.engine.state = "failed"
    assert machine.occupancy.load("alice", []).paused == "engine"
    machine.pauses.public_reason = "owner"
    assert machine.occupancy.load("alice", []).paused == "owner"
    assert machine.occupancy.room() == (2, 0.0, "owner")


@pytest.mark.parametrize(
    ("computing", "running", "queued", "free"),
    [(0, 0, 0, 2), (1, 1, 0, 1), (2, 2, 3, 0), (0, 2, 0, 2), (0, 3, 0, 1), (0, 4, 0, 0), (1, 1, 1, 0)],
)
def test_answers_that_are_being_written_down_take_no_slot_until_there_are_as_many_as_slots(
    machine, computing, running, queued, free
):
    machine.runner.computing, machine.runner.running, machine.runner.queue = (
        computing,
        [0] * running,
        Queue([0] * queued),
    )
    assert machine.occupancy.room()[:2] == (free, queued / 2 * 3.0)
