"""What `FINAL(word)` in prose means: the word, or the variable of that name. Pure."""

from collections.abc import Mapping
from enum import Enum

from pylon.rlm.parsing import Final

# What code puts an answer together in.
_HOLD_ANSWERS = {"str", "list", "dict", "tuple", "set", "Reply", "SubCallError"}
# Nobody means what these are called.
_HOLD_NONE = {"module", "function", "type", "builtin_function_or_method", "method", "NoneType"}


class Meant(Enum):
    """`EITHER` is to be asked about."""

    TEXT = "text"
    VARIABLE = "variable"
    EITHER = "either"


def meant(final: Final, variables: Mapping[str, str]) -> Meant:
    """`variables` are those that the run's code has made, by name, with the names of their types.

    `FINAL(yes)` is a word also where code has counted in `yes`, and `FINAL(total_count)` is none.
    """
    if not final.text:
        return Meant.VARIABLE if final.variable else Meant.TEXT
    kind = variables.get(final.variable) if final.variable else None
    if kind is None or kind in _HOLD_NONE:
        return Meant.TEXT
    if kind in _HOLD_ANSWERS or not final.variable.isalpha():
        return Meant.VARIABLE
    return Meant.EITHER
