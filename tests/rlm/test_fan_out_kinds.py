"""What is told of an operation on values of which only the type is known."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.rlm.repl.guest.fanout.unknown import formats, operator_kind
from tests.rlm.plain import run

_VALUES = {
    "str": st.text(max_size=5),
    "int": st.integers() | st.sampled_from([10**400, -1]),
    "float": st.floats(),
    "bool": st.booleans(),
}
_FORMS = st.from_regex(r"(.?[<>=^])?[-+ z#]{0,2}0?[0-9]{0,2}[,_]?(\.[0-9]{1,2})?[bcdeEfFgGnosxX%]?", fullmatch=True)
_OPERATIONS = {"Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv}
_START = "import time\nP = [str(n) for n in range(6)]\nr = []\nt0 = time.time()\n"


@given(st.data(), _FORMS, st.sampled_from(sorted(_VALUES)))
def test_a_form_that_fits_a_kind_fits_each_of_its_values(data, form, kind):
    if formats(form, kind):
        assert isinstance(format(data.draw(_VALUES[kind]), form), str)


@pytest.mark.parametrize(("form", "kind"), [(",", "int"), (">9", "int"), (".1f", "float"), ("<20", "str")])
def test_common_forms_fit(form, kind):
    assert formats(form, kind)


@pytest.mark.parametrize(
    ("form", "kind"),
    [("c", "int"), (".1f", "int"), ("%", "int"), (",", "str"), ("x", "float"), ("", "any"), (None, "str")],
)
def test_a_form_that_may_fail_does_not_fit(form, kind):
    assert not formats(form, kind)


@given(
    st.data(),
    st.sampled_from(sorted(_OPERATIONS)),
    st.sampled_from(sorted(_VALUES)),
    st.sampled_from(sorted(_VALUES)),
)
def test_an_operation_that_has_a_kind_gives_one_of_it(data, name, left, right):
    kind = operator_kind(name, left, right)
    if kind is not None:
        result = _OPERATIONS[name](data.draw(_VALUES[left]), data.draw(_VALUES[right]))
        assert type(result).__name__ == kind


@pytest.mark.parametrize(
    "told",
    [
        "print(f'[{p}] {len(a):,} chars')",
        "print(f'{a:<20}|{a!r:>9}')",
        "print(f'{p}: {time.time() - t0:.1f} s')",
        "took = time.time() - t0\n    print('took', round(took, 1) if a is None else took)",
    ],
)
def test_what_is_told_of_each_answer_holds_no_call_up(told):
    code = f"{_START}for p in P:\n    a = llm_query(p)\n    {told}\n    r.append(a)"
    together = run(code)
    assert together[2] is None and together[0]["r"] == list("012345")
    assert len(together[3].batches) == 1
