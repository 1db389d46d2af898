"""Fan-out while the code runs: asks a loop's sub-calls together, then lets the loop run as it was written.

`rewrite.py` wraps a loop's iterable and marks the calls in its body. When the loop begins, the prompts of all its
iterations are worked out and sent at once; then the unchanged body runs and finds its answers there. Should a prompt
turn out otherwise than foreseen, it is asked as if nothing had been foreseen: the result is right in any case.

What is foreseen must also be *asked* in any case, and that rests on the syntax (see `analysis.py`) and on what is
looked at here: that names mean what they seem to, and that nothing the prompts are made of can change under way.
"""

import builtins
import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..calls import Query, Reply, SubCallError

# Values that never change, and containers that only code of ours or the loop's own can change.
_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), range, slice, type(...), Reply, SubCallError})
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
_ITERATORS = frozenset(
    {enumerate, zip, reversed}
    | {type(iter(kind())) for kind in (list, tuple, dict, set, str, bytes)}
    | {type(iter("é")), type(iter({}.values())), type(iter({}.items())), type(iter(range(0))), type(reversed([]))}
)
_LOOPED_OVER = _CONTAINERS | _VIEWS | _ITERATORS | {str, range}
_MUTATED = {list, dict, set}
# Looking at more objects than this costs more than it can bring.
_MOST_OBJECTS = 2_000_000

# A loop's plan: for each iteration, pairs of a call's number in the loop and its arguments.
type Planned = Iterable[Iterable[tuple[int, tuple[Any, ...], dict[str, Any]]]]


class Fan:
    """What rewritten code calls, under a name that is not the code's."""

    NAME = "__pylon__"

    def __init__(self) -> None:
        self._local = threading.local()

    def loop(
        self,
        key: int,
        items: Any,
        plan: Callable[[list[Any]], Planned],
        queries: Callable[[], tuple[Any, ...]],
        known: Callable[[], tuple[tuple[Any, str], ...]],
        read: Callable[[], tuple[Any, ...]],
        mutated: Callable[[], tuple[Any, ...]],
        typed: Callable[[], tuple[tuple[Any, str], ...]],
    ) -> Any:
        """The loop's items, its sub-calls asked beforehand where that is safe.

        `queries` gives the functions that the calls name, `known` pairs of a value and the builtin that it must be,
        `read` what the prompts are made of, `mutated` what the body changes, `typed` pairs of a value and its type.
        """
        answers = self._answers()
        answers.pop(key, None)
        if type(items) not in _LOOPED_OVER:
            return items
        try:
            functions = queries()
            sure = (
                all(isinstance(function, Query) for function in functions)
                and all(value is _builtin(name) for value, name in known())
                and all(_is_of(value, name) for value, name in typed())
                and _apart((items, *read()), mutated())
            )
        except Exception:  # a name that is not bound yet: the loop itself will say so
            return items
        if not sure:
            return items
        drawn = list(items)
        asked = list(_foreseen(plan, drawn))
        if len(asked) > 1:
            answers[key] = self._ask(functions, asked)
        return iter(drawn)

    def take(self, key: int, call: int, function: Any) -> Any:
        """Instead of a marked call's function: answers from what was asked beforehand, or calls it."""
        answers = self._answers().get(key)
        if not answers or not isinstance(function, Query):
            return function

        def answer(*args: Any, **kwargs: Any) -> Any:
            if answers and answers[0][:4] == (call, function, args, kwargs):
                return answers.popleft()[4]
            return function(*args, **kwargs)

        return answer

    def later(self, function: Any) -> Any:
        """Instead of the function in `await llm_query(…)`: the coroutine's way to ask together with others."""
        import asyncio

        from ..concurrency import GuestLoop

        loop = asyncio.get_running_loop()
        if isinstance(function, Query) and isinstance(loop, GuestLoop):
            return lambda *args, **kwargs: loop.later(function, *args, **kwargs)
        return function

    def _answers(self) -> dict[int, deque[tuple[int, Any, Any, Any, Reply]]]:
        """By loop; threads do not meet."""
        if not hasattr(self._local, "answers"):
            self._local.answers = {}
        answers: dict[int, deque[tuple[int, Any, Any, Any, Reply]]] = self._local.answers
        return answers

    def _ask(
        self, functions: tuple[Any, ...], asked: list[tuple[int, tuple[Any, ...], dict[str, Any]]]
    ) -> deque[tuple[int, Any, Any, Any, Reply]]:
        groups: dict[tuple[Query, Any], list[int]] = {}
        for place, (call, args, kwargs) in enumerate(asked):
            model = args[1] if len(args) > 1 else kwargs.get("model")
            groups.setdefault((functions[call], model), []).append(place)
        replies: dict[int, Reply] = {}
        for (function, model), places in groups.items():
            prompts = [_prompt(*asked[place][1:]) for place in places]
            replies |= zip(places, function.batch(prompts, model), strict=True)
        return deque(
            (call, functions[call], args, kwargs, replies[place]) for place, (call, args, kwargs) in enumerate(asked)
        )


def _foreseen(plan: Callable[[list[Any]], Planned], items: list[Any]) -> Iterator[Any]:
    """Up to the iteration in which the plan, and so the loop itself, runs into an error."""
    try:
        for calls in plan(items):
            found = list(calls)
            if not all(_callable_with(args, kwargs) for _, args, kwargs in found):
                return
            yield from found
    except Exception:
        return


def _callable_with(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a query takes these arguments, and nothing of its prompt runs code."""
    values = dict(zip(("prompt", "model"), args, strict=False)) | kwargs
    return (
        len(args) + len(kwargs) == len(values)
        and len(args) <= 2
        and set(values) <= {"prompt", "model"}
        and type(values.get("prompt")) in (str, Reply)
        and type(values.get("model")) in (str, type(None))
    )


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["prompt"]


def _builtin(name: str) -> object:
    if name == "SubCallError":
        return SubCallError
    module, _, function = name.rpartition(".")
    return getattr(sys.modules[module] if module else builtins, function)


def _apart(read: tuple[Any, ...], mutated: tuple[Any, ...]) -> bool:
    """Whether everything that is read is plain data, and nothing of it is among what is changed."""
    if not all(type(one) in _MUTATED for one in mutated):
        return False
    changed = {id(one) for one in mutated}
    seen: set[int] = set()
    waiting = list(read)
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind in _ATOMS:
            continue
        if id(one) in changed or kind not in _CONTAINERS | _VIEWS | _ITERATORS:
            return False
        if id(one) not in seen:
            seen.add(id(one))
            waiting += gc.get_referents(one)
            if len(waiting) + len(seen) > _MOST_OBJECTS:
                return False
    return True


def _is_of(value: Any, name: str) -> bool:
    if name == "plain":
        return _apart((value,), ())
    kind = type(value)
    return kind in _SIZED if name == "sized" else kind in _PLAIN and kind.__name__ == name


_SIZED = frozenset({str, list, dict, set, tuple})
_PLAIN = _SIZED | {int, float, bool}
