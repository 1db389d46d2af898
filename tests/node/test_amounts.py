"""What commands say of amounts: by the name of their network, to the msat."""

from pylon.cli import earnings, map_report, rlm_report
from pylon.cli.estimate_rows import estimated
from pylon.node.rlm.run import _first_round
from pylon.rlm.budget import Bound, Estimate, Limits
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import failed
from pylon.text import counted

FOUND = {
    "jobs": 2, "checks": 0, "unaskable": 0, "faults": [], "providers": 1, "slots": 1, "least_msat": 2_500,
    "most_msat": 4_001, "prompt_tokens": 2, "most_completion_tokens": 2, "wall_s": None,
}  # fmt: skip
MAPPED = {
    "answered": 1, "jobs": 1, "wall_s": 1.0, "providers": {"a": 1}, "p50_ms": 5, "p99_ms": 5, "checked": 0,
    "paid_msat": 3_250, "beside_msat": 1, "resumed": 0,
}  # fmt: skip


def test_a_map_and_its_estimate_name_the_money():
    assert dict(estimated(FOUND, None, "play sat"))["cost"] == "2.5 play sat to 4.001 play sat at most"
    summary = map_report.summary(MAPPED, "play sat")
    assert summary.endswith("3.25 play sat (0.001 play sat of it for checks and unused answers)")


def test_an_estimate_with_one_price_names_one_figure_and_a_speed_that_nobody_knows_is_not_made_up():
    free = dict(estimated({**FOUND, "least_msat": 0, "most_msat": 0}, None, "play sat"))
    same = dict(estimated({**FOUND, "least_msat": 4_001, "wall_s": 4.25}, None, "play sat"))
    assert (free["cost"], free["time"]) == ("0 play sat", "unknown: no provider's speed has been measured")
    assert same["cost"] == "4.001 play sat at most" and same["time"].startswith("about 4.2 s")
    nobody = dict(estimated({**FOUND, "providers": 0}, None, "sat"))
    assert (nobody["cost"], nobody["time"]) == ("unknown", "no provider can take it now")


def test_an_estimate_says_when_the_budget_is_below_it():
    assert "budget" not in dict(estimated(FOUND, 4_001, "sat"))
    assert dict(estimated(FOUND, 4_000, "sat"))["budget"] == "4 sat, which may not cover all of them"
    assert dict(estimated(FOUND, 2_000, "sat"))["budget"] == "2 sat, which does not cover all of them"


def test_a_map_that_nobody_answered_has_no_times():
    nothing = {**MAPPED, "answered": 0, "p50_ms": None, "p99_ms": None}
    assert "ms" not in map_report.summary(nothing, "sat")


def test_a_run_of_the_rlm_names_the_money():
    report = {
        "turns": 1,
        "calls": 2,
        "failed": 0,
        "cancelled": 0,
        "truncated": 0,
        "refused": 0,
        "repeated": 0,
        "models": [],
        "providers": ["a"],
        "paid_msat": 1,
        "wall_s": 1.0,
        "id": "x",
    }
    assert "1 turn, 2 sub-calls, 1 provider, 0.001 play sat, 1.0 s" in rlm_report.summary(report, "play sat")


def test_a_job_beyond_the_budget_names_what_makes_it_cheaper():
    refused = failed(Failure.BUDGET, None, 0)
    assert "spent" not in str(refused), "nothing may have been"
    assert "--max-tokens" in refused.hint


def test_one_of_a_thing_is_called_so():
    assert [counted(number, "entry", "entries") for number in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
    assert counted(1, "payment") == "1 payment"


def test_what_a_run_expects_is_told_of_its_first_round_alone():
    told = _first_round(Estimate(29, 14_500, frozenset()), Limits(msat=500_000), "play sat")
    assert told == (
        "first round: about 29 sub-calls, up to 14.5 play sat; more may follow; the run stops at 500 play sat"
    )
    dear = Estimate(29, 14_500, frozenset({Bound.SATS}))
    assert "up to 14.5 play sat, which is over the budget" in _first_round(dear, Limits(msat=9_000), "play sat")
    free = Estimate(91, 0, frozenset({Bound.CALLS}))
    assert _first_round(free, Limits(calls=3), "play sat") == (
        "first round: about 91 sub-calls, of which the budget allows 3, free; more may follow"
    )


def test_earnings_count_paid_jobs_and_say_so():
    total = {
        "group": "2026-01-01", "paid_jobs": 0, "earned_msat": 0, "free_jobs": 0, "free_prompt_tokens": 0,
        "free_completion_tokens": 0, "kwh": None, "electricity": None, "worth": None,
    }  # fmt: skip
    made = earnings._table({"lines": [], "total": total, "currency": "", "unit": "play sat"}, "day")
    assert [column.header for column in made.columns] == ["day", "paid jobs", "earned"]
