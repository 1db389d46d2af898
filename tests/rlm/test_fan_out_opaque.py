"""Values that stand for what a rehearsal does not know: nothing but the rehearsal can look into them."""

import importlib
import pkgutil
import sys

import pytest

from pylon.rlm.repl.guest import fanout
from pylon.rlm.repl.guest.fanout.unknown import Ended, Opaque, end

_DATA = (int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range, slice)
# What makes an object and tells its attributes: nothing is learned of a value by them.
_OF_EVERY_OBJECT = {
    "class", "class_getitem", "delattr", "doc", "getattribute", "getformat", "getnewargs", "init", "init_subclass",
    "new", "setattr", "sizeof", "subclasshook",
}  # fmt: skip
_OPERATIONS = sorted(
    {name for kind in _DATA for name in dir(kind) if name.startswith("__")}.difference(
        f"__{name}__" for name in _OF_EVERY_OBJECT
    )
    | {"__call__", "__next__", "__await__", "__enter__", "__exit__", "__fspath__", "__getattr__", "__matmul__"}
)


def _opaque():
    for module in pkgutil.iter_modules(fanout.__path__):
        importlib.import_module(f"{fanout.__name__}.{module.name}")
    found = [Opaque]
    for one in found:
        found += one.__subclasses__()
    # The class that `dataclass(slots=True)` replaces lives on until garbage is collected.
    kept = [one for one in found if getattr(sys.modules[one.__module__], one.__qualname__, None) is one]
    return sorted(dict.fromkeys(kept), key=lambda kind: kind.__qualname__)


_opaque_kinds = pytest.mark.parametrize("kind", _opaque(), ids=lambda kind: kind.__name__)


@_opaque_kinds
def test_every_special_method_of_an_opaque_value_ends_the_rehearsal(kind):
    assert {name: getattr(kind, name, None) for name in _OPERATIONS} == dict.fromkeys(_OPERATIONS, end)


@_opaque_kinds
@pytest.mark.parametrize(
    "use",
    [
        repr, str, format, hash, bool, len, list, float, ascii, dir, "{}".format, "%s".__mod__, {}.get, [0].index,
        lambda one: f"{[one]}", lambda one: one == one, lambda one: one < 1, lambda one: one.anything,
        lambda one: sorted([one, one]), lambda one: {one},
    ],
)  # fmt: skip
def test_no_function_of_python_sees_what_an_opaque_value_is(kind, use):
    value = object.__new__(kind)
    with pytest.raises(Ended):
        use(value)
