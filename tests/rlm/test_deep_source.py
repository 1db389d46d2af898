"""Which Python the guest takes for too deep."""

import ast
import builtins

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.rlm.repl.guest import deep_source
from pylon.rlm.repl.guest.deep_source import DEEPEST, is_deep

_VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(alphabet="[](){}\"'\\#-\n"),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(alphabet="[{(\"'\\"), inner),
    max_leaves=40,
)
# What makes an expression deeper by one.
_LAYERS = st.lists(
    st.sampled_from(
        ["({})", "[{}]", "{{1: {}}}", "({},)", "-{}", "~{}", "not {}", "lambda: {}", "1 + {}", "2 ** {}",
         "1 if {} else 2", "({}).a", "({})()", "({})[0]", "f'{{{}}}'", "(x := {})", '"[(" + ({})', "lambda a, b: {}"]
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@given(_VALUES)
def test_what_python_writes_of_data_is_not_deep_however_much_of_it_there_is(value):
    assert not is_deep(repr([value, ["[(" * 300] * 60, [-1, {"a": -2.5}] * 500]))


@given(_LAYERS)
def test_any_nesting_of_hundreds_is_deep_whatever_it_is_made_of(layers):
    text = "1"
    for number in range(DEEPEST + 1):
        text = layers[number % len(layers)].replace("{}", text).replace("{{", "{").replace("}}", "}")
    assert is_deep(text)
    assert is_deep(f"x = 1\n{text}\n")
    assert is_deep("[1, 2, " + text)


@pytest.mark.parametrize("row", ["+1", ".a", "()", "[0]", " if 1 else 1"])
def test_a_long_row_of_operators_is_deep_and_a_short_one_is_not(row):
    assert is_deep("x" + row * (DEEPEST + 1))
    assert not is_deep("x" + row * 60)


_SHORT = st.sampled_from(
    [
        "lambda: 1",
        "lambda a, b=2: a + b",
        "lambda a=lambda b, c: b, d=1: a",
        "lambda x: x[1:2]",
        "-1",
        "{1: lambda: 2}",
    ]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_SHORT, min_size=1, max_size=3))
def test_a_flat_row_of_short_lambdas_is_not_deep_however_long_it_is(lambdas):
    assert not is_deep(f"[{', '.join(lambdas * 220)}]")
    assert not is_deep(f"{'; '.join(lambdas * 220)}")


def test_parameters_of_nested_lambdas_end_no_row():
    assert is_deep("lambda a, b=lambda c, d: 1: " * DEEPEST + "1")
    assert is_deep("lambda a, b=" * DEEPEST + "1")


def test_text_that_is_no_python_is_judged_as_far_as_it_goes():
    assert is_deep("(" * 1_000)
    assert is_deep("(" * 100 + "'")
    assert not is_deep("(" * 20 + "'" + "(" * 1_000)
    assert not is_deep("-" * 20 + " ?? " + "[" * 20)


@pytest.fixture
def guarded(monkeypatch):
    """This interpreter as the guest's is."""
    monkeypatch.setattr(ast, "parse", ast.parse)
    for name in ("compile", "eval", "exec"):
        monkeypatch.setattr(builtins, name, getattr(builtins, name))
    deep_source.guard()


@pytest.mark.usefixtures("guarded")
def test_what_is_too_deep_is_refused_wherever_it_is_read_and_the_rest_is_left():
    assert ast.literal_eval(" [1, {'a': (2,)}]") == [1, {"a": (2,)}]
    assert ast.literal_eval(ast.Constant(3)) == 3
    assert ast.parse(b"x = 1").body
    reads = (ast.parse, eval, exec, lambda text: compile(text, "x", "exec"))
    for deep in ("[" * 200, "-" * 2_000 + "1"):
        for read in reads:
            with pytest.raises(SyntaxError, match="nested too deep"):
                read(deep)
        for read in reads[:3]:
            with pytest.raises(SyntaxError, match="nested too deep"):
                read(deep.encode())
    with pytest.raises(SyntaxError, match="nested too deep"):
        ast.literal_eval("[" * 200 + "]" * 200)


GLOBAL = "of the module"


@pytest.mark.usefixtures("guarded")
def test_a_guarded_eval_sees_and_sets_the_names_that_a_plain_one_does():
    local = 2
    assert eval("local + 1") == 3
    assert eval("GLOBAL") == "of the module"
    assert [eval("local * item") for item in (1, 2)] == [2, 4]
    assert eval("local", {"local": 5}) == 5
    assert eval("a + b", {"a": 1}, {"b": 2}) == 3
    assert eval(compile("local", "x", "eval")) == 2
    # A function's own names are not set by what it has executed.
    exec("local = 7; other = 1")
    assert local == 2
    assert "other" not in locals()
    names = {}
    exec("x = 1\nclass A:\n    y = eval('z') if (exec('z = 3') or True) else 0", names)
    assert (names["x"], names["A"].y, names["A"].z) == (1, 3, 3)
