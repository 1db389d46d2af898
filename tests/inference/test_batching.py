from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.mlx.grouping import MOST_PADDING, alike


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_a_group_holds_the_first_and_little_padding(lengths: list[int], most: int) -> None:
    group = alike(lengths, most)
    assert 0 in group
    assert len(group) <= most
    assert len(set(group)) == len(group)
    padded = max(lengths[place] for place in group) * len(group)
    assert 1 - sum(lengths[place] for place in group) / padded <= MOST_PADDING


def test_prompts_of_like_length_go_together_past_others_between_them() -> None:
    assert alike([100, 900, 98, 20, 101, 102], 4) == [0, 2, 4, 5]
