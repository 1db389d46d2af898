"""Why nothing is taken on, for its owner and for others."""

from types import SimpleNamespace

import pytest

from pylon.provider.pauses import Pauses


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


def reasons(pauses: Pauses) -> tuple[str, str]:
    return pauses.reason, pauses.public_reason


async def test_a_pause_by_hand_lasts_over_restarts_and_its_end_too(journal, disk):
    await Pauses(journal, disk).pause("owner")
    for expected in ("owner", ""):
        pauses = Pauses(journal, disk)
        await pauses.start()
        assert reasons(pauses) == (expected, expected)
        await pauses.resume()


async def test_owner_rules_are_named_to_the_owner_and_others_hear_what_they_may(journal, disk):
    pauses = Pauses(journal, disk)
    assert pauses.hold("battery", "owner") and not pauses.hold("battery", "owner")
    assert reasons(pauses) == ("battery", "owner")
    assert pauses.hold("battery", "battery")
    assert pauses.hold("", "") and reasons(pauses) == ("", "")


async def test_each_reason_lasts_beside_the_others(journal, disk):
    pauses = Pauses(journal, disk)
    disk.reason = "disk"
    pauses.hold("battery", "owner rule")
    await pauses.pause("owner")
    assert reasons(pauses) == ("owner", "owner")
    await pauses.resume()
    assert reasons(pauses) == ("battery", "owner rule")
    pauses.hold("", "")
    assert reasons(pauses) == ("disk", "disk")
    disk.reason = ""
    assert reasons(pauses) == ("", "")


async def test_others_hear_of_a_drain_first_and_its_owner_knows(journal, disk):
    pauses = Pauses(journal, disk)
    await pauses.pause("owner")
    pauses.draining = True
    assert reasons(pauses) == ("owner", "draining")
    await pauses.resume()
    assert reasons(pauses) == ("", "")
