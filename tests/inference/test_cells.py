from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.llama.cells import ROW_TOKENS, CellPlan
from pylon.inference.memory import MemoryPlan

SIZES = st.integers(0, 10**12)


@given(limit=SIZES, weights=SIZES, token=st.integers(0, 10**7), row=st.integers(0, 10**8), rows=st.integers(1, 200))
def test_the_pool_the_weights_and_what_each_sequence_takes_stay_under_the_soft_limit(
    limit, weights, token, row, rows
):
    memory = MemoryPlan(limit, weights, token, row)
    plan = CellPlan.within(memory, rows, rows + 18, context=32_768)
    assert 0 <= plan.total <= rows * ROW_TOKENS
    if plan.total:
        assert weights + (rows + 18) * row + plan.total * token <= memory.soft


def test_a_model_of_short_context_gets_no_more_than_its_rows_can_use() -> None:
    assert CellPlan.within(MemoryPlan(10**12, 0, 1, 0), 16, 34, context=2_048).total == 16 * 2_048


def test_what_nobody_holds_is_free() -> None:
    assert CellPlan(1_000).free([100, 200], prefixes=300) == 400
    assert CellPlan(1_000).free([800], prefixes=300) < 0
