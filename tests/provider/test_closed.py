"""Why nothing is taken on, for its owner and for others."""

from types import SimpleNamespace

import pytest

from pylon.provider.closed import Closed


class Settings:
    """A stand-in for a journal that outlives processes."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def setting(self, name):
        return self.kept.get(name, "")

    async def remember(self, name, value):
        self.kept[name] = value


@pytest.fixture
def journal():
    return Settings()


@pytest.fixture
def disk():
    return SimpleNamespace(reason="")


def reasons(closed: Closed) -> tuple[str, str]:
    return closed.reason, closed.told


async def test_a_pause_by_hand_lasts_over_restarts_and_its_end_too(journal, disk):
    await Closed(journal, disk).pause("owner")
    for expected in ("owner", ""):
        closed = Closed(journal, disk)
        await closed.start()
        assert reasons(closed) == (expected, expected)
        await closed.resume()


async def test_owner_rules_are_named_to_the_owner_and_others_hear_what_they_may(journal, disk):
    closed = Closed(journal, disk)
    assert closed.hold("battery", "owner") and not closed.hold("battery", "owner")
    assert reasons(closed) == ("battery", "owner")
    assert closed.hold("battery", "battery")
    assert closed.hold("", "") and reasons(closed) == ("", "")


async def test_each_reason_lasts_beside_the_others(journal, disk):
    closed = Closed(journal, disk)
    disk.reason = "disk"
    closed.hold("battery", "owner rule")
    await closed.pause("owner")
    assert reasons(closed) == ("owner", "owner")
    await closed.resume()
    assert reasons(closed) == ("battery", "owner rule")
    closed.hold("", "")
    assert reasons(closed) == ("disk", "disk")
    disk.reason = ""
    assert reasons(closed) == ("", "")


async def test_others_hear_of_a_drain_first_and_its_owner_knows(journal, disk):
    closed = Closed(journal, disk)
    await closed.pause("owner")
    closed.draining = True
    assert reasons(closed) == ("owner", "draining")
    await closed.resume()
    assert reasons(closed) == ("", "")
