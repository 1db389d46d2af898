"""What is remembered of opinions does not grow with the number of providers that ever had one."""

from pylon.swarm.checks import evidence as module
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.reputation import Reputation, Seen


def test_the_opinions_that_counted_last_are_remembered_and_no_more_of_them(monkeypatch):
    monkeypatch.setattr(module, "PROVIDERS", 3)
    evidence = Evidence(Reputation())
    for number in range(10):
        evidence.note(f"loser {number}", Seen.LOST, 1_000.0, by=(f"other {number}", "steady"))
    assert list(evidence._losses) == ["other 8", "other 9", "steady"]
    assert len(evidence._losses["steady"]) == 10
