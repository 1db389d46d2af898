import pytest

from pylon.bench.endurance import growth


@pytest.mark.parametrize(
    ("sizes", "grown"),
    [
        ([50, 90, 100, 100, 100, 100, 100, 100], 0.0),
        ([50, 90, 100, 100, 100, 105, 110, 110], 0.1),
        ([50, 90, 100, 80, 100, 130, 100, 100, 70, 100, 100], 0.0),
        ([50], 0.0),
    ],
    ids=["flat after it was warm", "growing", "single samples off", "a single sample"],
)
def test_growth_is_told_from_what_comes_after_the_warm_requests(sizes, grown) -> None:
    assert growth(sizes, 2) == pytest.approx(grown, abs=0.002)
