import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.models.catalogue import CATALOGUE, GB, OF_TOTAL, choices
from pylon.inference.models.weights import is_model_id


@given(st.integers(0, 600 * GB))
def test_the_first_choice_is_the_largest_that_fits(total: int) -> None:
    made = choices(total, metal=True)
    fitting = [choice for choice in made if choice.needs_bytes <= total * OF_TOTAL]
    assert made[0].fits == bool(fitting) and made[: len(fitting)] == fitting
    if fitting:
        assert made[0] == max(fitting, key=lambda choice: choice.model.parameters)
    assert {choice.model for choice in made} == set(CATALOGUE)
    assert not any(choice.gguf for choice in made)


@given(st.integers(0, 600 * GB))
def test_without_an_accelerator_the_first_choice_reads_the_least_of_those_that_fit(total: int) -> None:
    made = choices(total, metal=False)
    fitting = [choice for choice in made if choice.needs_bytes <= total * OF_TOTAL]
    assert made[0].fits == bool(fitting) and made[: len(fitting)] == fitting
    if fitting:
        assert made[0].read_bytes == min(choice.read_bytes for choice in fitting)
    assert all(choice.gguf and choice.id.endswith("-GGUF") for choice in made)


def test_the_arithmetic_is_shown_with_every_choice() -> None:
    four = next(choice for choice in choices(16 * GB, metal=True) if "4B" in choice.model.mlx)
    assert four.arithmetic == (
        "4 G weights × 4.5 bits = 2.2 GB + 8 jobs × 2,048 tokens × 147 kB = 2.4 GB → 4.7 GB of 10.4 GB"
    )


@pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.mlx)
def test_an_entry_names_repositories(model) -> None:
    assert is_model_id(model.mlx) and model.mlx.endswith("-4bit")
    assert is_model_id(model.gguf) and model.gguf.endswith("-GGUF")
