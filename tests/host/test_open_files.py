from resource import RLIM_INFINITY

import pytest

from pylon.host import open_files


@pytest.mark.parametrize(
    ("limits", "raised", "gives"),
    [
        ((256, 100_000), (4_000, 100_000), 4_000),
        ((256, 1_000), (1_000, 1_000), 1_000),
        ((256, RLIM_INFINITY), (4_000, RLIM_INFINITY), 4_000),
        ((10_000, 100_000), None, 4_000),
        ((RLIM_INFINITY, RLIM_INFINITY), None, 4_000),
        ((1_000, 1_000), None, 1_000),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed_and_allowed(monkeypatch, limits, raised, gives):
    asked = []
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(open_files.resource, "setrlimit", lambda _, pair: asked.append(pair))
    assert open_files.allow_files(4_000) == gives
    assert asked == ([] if raised is None else [raised])


def test_a_mac_that_refuses_what_is_wanted_gives_what_every_mac_gives(monkeypatch):
    most_per_process = 61_440

    def sets(_: int, pair: tuple[int, int]) -> None:
        if pair[0] > most_per_process:
            raise ValueError("current limit exceeds maximum limit")
        taken.append(pair)

    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (256, RLIM_INFINITY))
    monkeypatch.setattr(open_files.resource, "setrlimit", sets)
    assert open_files.allow_files(100_000) == 10_240
    assert open_files.allow_files(40_000) == 40_000
    assert taken == [(10_240, RLIM_INFINITY), (40_000, RLIM_INFINITY)]


def test_where_the_system_allows_no_more_than_it_tells_what_there_is_stays(monkeypatch):
    def refuses(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (256, RLIM_INFINITY))
    monkeypatch.setattr(open_files.resource, "setrlimit", refuses)
    assert open_files.allow_files(4_000) == 256
