"""The simulation: it can be repeated, its measures are right, and what it models shows in its report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pylon.bench.simulation.cost import PLACES, Side
from pylon.bench.simulation.machine import Behaviour, Machine
from pylon.bench.simulation.measures import gini, ideal_s, quantile
from pylon.bench.simulation.messages import Invoice, Refusal, Result, SentRequest
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.run import Simulation, simulate
from pylon.bench.simulation.scale import FIGURES, SWEEPS, picture, scale, table, ticks
from pylon.bench.simulation.sizes import MAX_TOKENS
from pylon.cli.simulate import simulate_
from pylon.errors import UsageError
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.provider.settings import ProviderSettings


def played(**changes):
    """A small run."""
    return simulate(Plan(**{"providers": 40, "jobs": 120, **changes}))


def without_cost(report):
    return {name: value for name, value in report.items() if name != "cost"}


def test_every_job_has_one_outcome_and_none_is_quicker_than_can_be():
    report = played()
    assert report["answered"] == 120
    assert report["failed"] == {}
    assert report["ratio"] >= 1
    assert report["traffic"]["request"]["events_in"] >= 120
    assert report["traffic"]["result"]["bytes_out"] > report["traffic"]["result"]["events_out"]


def test_the_same_plan_gives_the_same_report_whatever_the_hash_seed():
    code = (
        "import json; from pylon.bench.simulation.plan import Plan; from pylon.bench.simulation.run import simulate; "
        "plan = Plan(providers=30, jobs=60, customers=2, relays=2, liars=0.2, churn=0.5, lost=0.1, paid=True); "
        "r = simulate(plan); "
        "del r['cost']; print(json.dumps(r))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert json.loads(said[0]) == json.loads(said[1])


def test_another_seed_gives_another_run():
    assert without_cost(played(seed=1)) != without_cost(played(seed=2))


def test_all_customers_get_their_answers():
    report = played(customers=4)
    assert report["answered"] == 120
    assert report["traffic"]["heartbeat"]["events_out"] == 4 * report["traffic"]["heartbeat"]["events_in"]


def test_lost_events_and_dying_machines_cost_attempts_not_answers():
    report = played(lost=0.1, churn=1.0)
    assert report["answered"] + sum(report["failed"].values()) == 120
    assert report["answered"] >= 115
    assert report["sent_per_job"] > 1


def test_wrong_answers_are_counted_where_they_are_delivered():
    assert played()["wrong"] == 0
    assert played(liars=0.5)["wrong"] > 0


def test_paid_work_moves_money_and_an_overcharge_ends_the_relation():
    report = played(paid=True, liars=0.25)
    assert report["topups"] > 0
    assert report["paid_sats"] > 0
    assert report["answered"] == 120


def test_a_machine_with_a_short_queue_turns_customers_away():
    report = played(customers=10, max_queue=1)
    assert report["sent_per_job"] > played(customers=10)["sent_per_job"]


class OneMachine:
    """A modelled machine that takes about ten seconds a job, without customers of its own around it."""

    def __init__(self, price=FREE, **settings):
        self.world = Simulation(Plan(providers=1, jobs=1)).world
        self.machine = Machine(
            self.world, Behaviour.HONEST, ProviderSettings(price=price, **settings), job_s=10.0, relays=(0,)
        )
        # What each customer heard, without word that its job is processed.
        self.heard = []

    def ask(self, customer):
        """One more request of this customer."""

        def reply(_, said):
            if isinstance(said, Refusal | Invoice | Result):
                self.heard.append((customer, said))

        now = int(self.world.clock.wall)
        job = JobRequest("x", JobParameters(max_tokens=MAX_TOKENS), topup=Msat(1_000_000), expiration=now + 600)
        request = ReceivedRequest(self.world.new_id(), customer, now, job, True, (self.machine.key,))
        self.machine.take(SentRequest(request, (0,), reply, reply))

    def pass_(self, seconds):
        until = self.world.clock.now + seconds
        self.world.clock.at(until, lambda: None)
        while self.world.clock.now < until:
            self.world.clock.step()

    @property
    def answered(self):
        return [customer for customer, said in self.heard if isinstance(said, Result)]


def test_strangers_who_fill_their_line_at_a_modelled_machine_leave_known_customers_theirs():
    one = OneMachine(max_customers=2)
    one.ask("known")
    one.pass_(20)
    assert one.answered == ["known"]
    for n in range(5):
        one.ask(f"stranger {n}")
    one.ask("known")
    one.pass_(100)
    # One runs, two wait, two are refused. The known customer waits for the one that runs and for one turn.
    refused = [customer for customer, said in one.heard if isinstance(said, Refusal)]
    assert refused == ["stranger 3", "stranger 4"]
    assert one.answered == ["known", "stranger 0", "stranger 1", "known", "stranger 2"]


def test_who_pays_ahead_does_not_wait_among_strangers_at_a_modelled_machine():
    one = OneMachine(price=Price(Msat(1_000)))
    one.ask("busy")
    for n in range(5):
        one.ask(f"stranger {n}")
    one.ask("payer")
    one.machine.credit("payer", Msat(1_000_000))
    one.ask("payer")
    one.pass_(200)
    assert one.answered.index("payer") <= 2


def test_a_dead_relay_costs_time():
    assert played(relays=2, dead_relays=0.5)["wall_s"] > played(relays=2)["wall_s"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"liars": 2.0}, "liars is 2.0: it must be between 0 and 1"),
        ({"jobs": 0}, "jobs is 0: it must be between 1 and 1,000,000"),
        ({"providers": 200_000}, "providers is 200,000: it must be between 1 and 100,000"),
        ({"relays": 0}, "relays is 0: it must be between 1 and 100,000"),
        ({"job_s": float("nan")}, "job_s is nan: it must be between 0.001 and 1,000,000"),
        ({"customers": 2, "jobs": 1}, "2 customers are more than the jobs: 1"),
        ({"liars": 0.6, "stragglers": 0.6}, "stragglers and liars are more than all machines"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_the_name_of_what_is_wrong(changes, said):
    with pytest.raises(UsageError, match=said):
        Plan(**changes)


def test_a_plan_that_does_not_fit_every_sweep_is_refused_before_the_first_one_runs(tmp_path):
    said = []
    with pytest.raises(UsageError, match="64 customers are more than the jobs: 40"):
        scale(Plan(providers=20, jobs=40), tmp_path / "pictures", said.append)
    assert said == []
    assert not (tmp_path / "pictures").exists()


def test_pictures_and_costs_are_not_asked_for_at_once(tmp_path):
    with pytest.raises(typer.Exit) as refused:
        simulate_(pictures=tmp_path, cost=1)
    assert refused.value.exit_code == UsageError.exit_code


def test_the_ideal_is_the_least_time_of_equal_jobs_on_unequal_machines():
    assert ideal_s(3, [(1.0, 1), (2.0, 1)], width=10) == pytest.approx(2.0, rel=2e-3)
    assert ideal_s(4, [(1.0, 2)], width=10) == pytest.approx(2.0, rel=2e-3)
    # One job out at a time: the quicker machine does them all.
    assert ideal_s(4, [(1.0, 2)], width=1) == pytest.approx(4.0, rel=2e-3)


def test_gini_is_nought_for_equals_and_near_one_for_a_winner():
    assert gini([2.0] * 5) == pytest.approx(0.0)
    assert gini([0.0] * 99 + [1.0]) == pytest.approx(0.99)
    assert gini([0.0, 0.0]) == 0.0


def test_quantiles_of_nothing_are_nought():
    assert quantile([], 0.5) == 0.0
    assert quantile([1.0, 2.0, 3.0], 0.99) == 3.0


@pytest.mark.parametrize("top", [0.0, 0.3, 1.0, 7.7, 88.0, 40_000.0])
def test_a_scale_begins_at_nought_and_reaches_the_top_in_a_few_steps(top):
    found = ticks(top)
    assert found[0] == 0
    assert found[-1] >= top
    assert 2 <= len(found) <= 9


def test_every_sweep_has_a_picture_and_a_row_of_figures():
    report = played()
    figures = {sweep.name: [report for _ in sweep.values] for sweep in SWEEPS}
    for sweep in SWEEPS:
        assert picture(sweep, figures[sweep.name]).count("<polyline") == len(sweep.curves)
    assert table(figures).count("\n") > 20


def test_the_table_of_the_page_is_that_of_its_figures():
    docs = Path(__file__).resolve().parents[2] / "docs"
    figures = json.loads((docs / "scale" / FIGURES).read_bytes())
    page = (docs / "scale.md").read_text(encoding="utf-8")
    assert table(figures) in page
    for sweep in SWEEPS:
        assert f"scale/{sweep.name}.svg" in page
        assert (docs / "scale" / f"{sweep.name}.svg").exists()


@pytest.mark.parametrize("changes", [{}, {"paid": True, "liars": 0.2, "churn": 1.0, "lost": 0.1, "customers": 2}])
def test_what_is_timed_alone_are_the_decisions_of_the_simulation(changes):
    side = Side(Plan(**{"providers": 40, "jobs": 600, **changes}))
    side.begin()
    while side.take_turn():
        pass
    within, alone = (side.costs()[place] for place in PLACES)
    assert alone.commands == within.commands >= 1_200
    assert alone.beats == within.beats > 0
