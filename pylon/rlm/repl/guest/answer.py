"""The answer that a cell gives: its text, what the text lacks, or why the value cannot be an answer."""

from types import BuiltinFunctionType, CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType

from .calls import SubCallError, as_text
from .endings import CellTime
from .port import Message, cut
from .shown import preview, type_name

# The most bytes of an answer as JSON. A cell's outcome holds two streams of output too, each up to six times as long
# in JSON as it is.
ANSWER_BYTES = 2 * 1024 * 1024
PARTIAL_CHARS = 2_000
_SAID_CHARS = 300
_NO_ANSWERS = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, CoroutineType, type)
# Their text is an address. To draw from them may run code and ask sub-calls, so that is left to the code.
_UNDRAWN = (GeneratorType, map, filter, zip, enumerate, reversed)


def read(answer: object) -> tuple[Message | None, str]:
    """The answer in the variable `answer`, for the host; None if it is not taken, with the reason for the root."""
    if isinstance(answer, dict):
        content, ready = answer.get("content", ""), _is_yes(answer.get("ready", False))
        partial = answer.get("partial", "")
    else:
        # Some models write `answer = "…"`, which does not say that it is final.
        content, ready, partial = ("" if answer is None else answer), False, ""
    why_not = no_answer(content)
    if why_not:
        return None, f"`answer` was not taken: it is {why_not}" if ready else ""
    text, lacks, fault = described(content)
    if fault:
        return None, f"What `answer` holds cannot be made text: {fault}"
    said = str(partial) if isinstance(partial, str) else ""
    partial = "; ".join(filter(None, (lacks, said)))[:PARTIAL_CHARS]
    return {"content": text, "ready": ready, "partial": partial}, ""


def withdraw(answer: object) -> None:
    """Marks an answer that was not taken as not ready, so that the next cell does not give it again."""
    if isinstance(answer, dict):
        dict.__setitem__(answer, "ready", False)


def no_answer(value: object) -> str:
    """Why a value cannot be the answer to any question, an empty text if it can."""
    # Only its type is looked at, since the methods of a value may be the code's own.
    kind = type(value)
    if value is None or (issubclass(kind, str) and not str.strip(value, " \t\r\n")):  # type: ignore[arg-type]
        return "nothing"
    if issubclass(kind, _NO_ANSWERS):
        return f"a {type_name(value)}"
    if issubclass(kind, _UNDRAWN):
        return f"a {type_name(value)}, whose values were not drawn yet; make a list or a text of them first"
    failed, count = _failed(value)
    if failed and len(failed) == count:
        code = failed[0].code if type(failed[0].code) is str else "failed"
        return f"a failed call ({code}): {str(failed[0])[:_SAID_CHARS]}"
    return ""


def described(value: object) -> tuple[str, str, str]:
    """The text of a value, what the text lacks, and why there is none: turning a value into text may fail."""
    try:
        whole = as_text(value)
        text = cut(whole, ANSWER_BYTES)
    except CellTime:
        raise
    except BaseException as error:  # its methods are the code's own
        return "", "", f"{type_name(error)}: {preview(error)}"[:1_000]
    lacks = []
    if len(text) < len(whole):
        lacks.append(f"the answer is too long: of its {len(whole)} characters the first {len(text)} are given")
    failed, count = _failed(value)
    if failed:
        are = "is a failed call" if len(failed) == 1 else "are failed calls"
        lacks.append(f"{len(failed)} of the {count} values in it {are}")
    return text, "; ".join(lacks), ""


def _failed(value: object) -> tuple[list[SubCallError], int]:
    """The failed sub-calls among the values in a container, and how many values it holds; 1 for any other value."""
    inside = value.values() if type(value) is dict else value
    values = list(inside) if type(value) in (dict, list, tuple) else [value]  # type: ignore[call-overload]
    return [one for one in values if type(one) is SubCallError], len(values)


def _is_yes(value: object) -> bool:
    """Whether a value means yes: models write `1`, `"yes"` and `"True"` for True."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "y", "1", "ready", "done")
    return isinstance(value, int | float) and bool(value)
