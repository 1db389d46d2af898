"""Short descriptions of variables. Their methods may be the code's own, and may fail or say anything."""

import reprlib

from .calls import Reply, SubCallError
from .endings import CellTime

PREVIEW_CHARS = 200


def type_name(value: object) -> str:
    """The name of a value's class."""
    # Not by `type(value).__name__`, which a metaclass may define as anything.
    return str(type.__dict__["__name__"].__get__(type(value)))[:100]


def preview(value: object) -> str:
    """The start of a value's repr, without making the whole of it."""
    try:
        if isinstance(value, str | bytes):
            start = value[:PREVIEW_CHARS]
            text = repr(str(start) if isinstance(start, str) else start)
        else:
            text = _short.repr(value)
    except CellTime:
        raise
    except BaseException as error:  # a repr may raise anything
        text = f"<repr failed: {type(error).__name__}>"
    return text[:PREVIEW_CHARS]


_short = reprlib.Repr(maxlevel=3, maxlist=8, maxtuple=8, maxdict=8, maxset=8, maxstring=80, maxother=PREVIEW_CHARS)


def size(value: object) -> int | None:
    """The length of a value, None unless its class is a built-in container or text."""
    if type(value) in (str, bytes, list, tuple, dict, set, frozenset, Reply, SubCallError):
        return len(value)  # type: ignore[arg-type]
    return None
