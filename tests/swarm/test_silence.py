"""How much one silence says, by how common silence is."""

import pytest

from pylon.swarm.dispatch.silence import FEWEST, MOST, Silence


def test_where_everybody_answers_two_silences_are_no_chance() -> None:
    silence = Silence()
    for _ in range(100):
        silence.saw(False)
    assert (silence.share, silence.enough, silence.is_common, silence.lost) == (0.0, FEWEST, False, 0.0)


@pytest.mark.parametrize(
    ("share", "enough", "lost"), [(0.14, 2, 0.0), (0.2, 3, 0.2), (0.3, 4, 0.3), (0.5, MOST, 0.5), (1.0, MOST, 0.5)]
)
def test_the_more_is_lost_the_more_silences_in_a_row_it_takes(share: float, enough: int, lost: float) -> None:
    silence = Silence()
    silence.share = share
    assert (silence.enough, silence.lost, silence.is_common) == (enough, lost, enough > FEWEST)


def test_the_share_follows_what_is_seen() -> None:
    silence = Silence()
    for _ in range(300):
        silence.saw(True)
    assert silence.share > 0.95 and silence.is_common
    for _ in range(300):
        silence.saw(False)
    assert silence.share < 0.05 and not silence.is_common
