"""Decides what `FINAL(word)` in prose means: the word itself, or the variable of that name. Pure."""

from collections.abc import Mapping
from enum import Enum

from pylon.rlm.parsing import Final

# Types in which code puts an answer together.
_HOLD_ANSWERS = {"str", "list", "dict", "tuple", "set", "Reply", "SubCallError"}
# Types whose values are never meant as an answer.
_HOLD_NONE = {"module", "function", "type", "builtin_function_or_method", "method", "NoneType"}


class Meant(Enum):
    """What is meant; with `EITHER` the root has to be asked."""

    TEXT = "text"
    VARIABLE = "variable"
    EITHER = "either"


def meant(final: Final, variables: Mapping[str, str]) -> Meant:
    """What a `Final` means. `variables` are those that the run's code has made, with the names of their types.

    `FINAL(total_count)` is the variable. `FINAL(yes)` may be the word even if code has counted in a variable `yes`.
    """
    if not final.text:
        return Meant.VARIABLE if final.variable else Meant.TEXT
    kind = variables.get(final.variable) if final.variable else None
    if kind is None or kind in _HOLD_NONE:
        return Meant.TEXT
    if kind in _HOLD_ANSWERS or not final.variable.isalpha():
        return Meant.VARIABLE
    return Meant.EITHER
