"""Calls in a rehearsal: the code's own functions are interpreted, built-in ones that change nothing are called."""

import ast
import functools
import json
import sys
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from ..calls import Query
from .closures import Closure, bound, prompt_and_model
from .machine import Frame
from .methods import DATA, Method, Methods, Pool, Task
from .natives import CALLED, INTERPRETED, ITERATORS, SEARCHES, VIEWS, factory
from .shadow import LazyMap
from .source import Function
from .unknown import Ended, Opaque, Unknown, function_kind

# Steps that entering a function costs.
_ENTERING = 50


class Calling(Methods):
    """Calls of functions, queries and thread pools."""

    @abstractmethod
    def evaluate(self, node: ast.expr) -> Any:
        """An expression's value."""

    @abstractmethod
    def run_body(self, node: Function) -> Any:
        """The result of a function's body. Its frame is the last of `frames`."""

    def call(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of a call. Raises Ended for any function that cannot be followed."""
        self.step()
        if isinstance(function, Closure):
            return self._enter(function, arguments, keywords)
        if isinstance(function, Method):
            return self._on(function, arguments, keywords)
        kind = type(function)
        if kind is FunctionType and function not in CALLED:
            return self._enter(self._as_closure(function), arguments, keywords)
        if kind is functools.partial:
            given = {**function.keywords, **keywords}
            return self.call(function.func, [*function.args, *arguments], given)
        if kind is Query:
            return self.ask(function, *prompt_and_model(arguments, keywords))
        if kind is MethodType:
            return self._batch(function.__self__, arguments, keywords)
        if isinstance(function, Opaque):
            raise Ended
        if function in self.pools:
            return self._pool(*arguments, **keywords)
        if function in INTERPRETED:
            return self._interpreted(INTERPRETED[function], arguments, keywords)
        if function in CALLED:
            return self._built_in(function, arguments, keywords)
        raise Ended

    def _interpreted(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        match name, arguments:
            case "print", values:
                return self._print(values, **keywords)
            case "defaultdict", _:
                return self._defaultdict(*arguments, **keywords)
            case "time" | "perf_counter" | "monotonic", [] if not keywords:
                return Unknown("float")
            case "isinstance", [value, of] if not keywords:
                return self._is_a(value, of)
            case "map" | "filter", [function, first, *others] if not keywords and (name == "map" or not others):
                # Whatever it is given to draws from it at once, or ends the rehearsal.
                return LazyMap(function, [iter(self.items(one)) for one in (first, *others)], name == "filter")
            case "partial", [function, *rest]:
                return functools.partial(function, *rest, **keywords)
        raise Ended

    def _on(self, method: Method, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        of, name = method.of, method.name
        if isinstance(of, Query) and name == "batch":
            return self._batch(of, arguments, keywords)
        if isinstance(of, Pool):
            return self._pooled(name, arguments, keywords)
        if isinstance(of, Task):
            if name != "result":
                raise Ended
            return of.result
        return self.of_value(method, arguments, keywords)

    def closure(self, node: Function) -> Closure:
        """The function that a `def` or a `lambda` makes."""
        arguments = node.args
        self.enclosing.add(self.frames[-1])
        return Closure(
            node,
            self.frames[-1],
            [self.evaluate(one) for one in arguments.defaults],
            {
                one.arg: self.evaluate(default)
                for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                if default is not None
            },
        )

    def _as_closure(self, function: FunctionType) -> Closure:
        """A function of the running code as one of the rehearsal's. Raises Ended if no cell defines it."""
        node = self.sources.function(function.__code__)
        if node is None or function.__globals__ is not self.module.base:
            raise Ended
        frame = self.module
        names = function.__code__.co_freevars
        if names:
            # The rehearsal has assigned variables that this function sees in its cells, where they are unchanged.
            if self.root_cells & set(names) & set(self.root.variables):
                raise Ended
            cells = {name: cell.cell_contents for name, cell in zip(names, function.__closure__ or (), strict=True)}
            frame = Frame(set(names), self.module, cells)
        keywords = {name: self.shadows.of(value) for name, value in (function.__kwdefaults__ or {}).items()}
        return Closure(node, frame, [self.shadows.of(one) for one in function.__defaults__ or ()], keywords)

    def _enter(self, closure: Closure, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        self.steps += _ENTERING
        variables = bound(closure, arguments, keywords)
        self.frames.append(self.function_frame(closure.node, closure.frame, variables))
        result = self.deeper(lambda: self.run_body(closure.node))
        self.frames.pop()
        return result

    def function_frame(self, node: Function, parent: Frame, variables: dict[str, Any]) -> Frame:
        """The frame of a call of a function that was made in `parent`. `variables` are its arguments."""
        names, outer = self.sources.scope(node)
        local = (names | set(variables)) - outer
        return Frame(local, parent, variables=variables, outer=outer, is_function=True)

    def _is_a(self, value: Any, of: Any) -> Any:
        classes = of if type(of) is tuple else (of,)
        if not all(type(one) is type for one in classes):
            raise Ended
        if self.is_known(value) and type(value) in DATA:
            return isinstance(value, of)
        # An answer is a str; whether it is a SubCallError is not known.
        if self.kind(value) in ("str", "int", "bool", "float") and of in (str, list, dict, tuple, set):
            return self.kind(value) == of.__name__
        return Unknown("bool")

    def _batch(self, query: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if "prompts" in keywords:
            keywords = {("prompt" if key == "prompts" else key): value for key, value in keywords.items()}
        prompts, model = prompt_and_model(arguments, keywords)
        if type(prompts) not in (list, tuple) or not self.is_known(prompts):
            raise Ended
        for prompt in prompts:
            if self.kind(prompt) != "str":
                raise Ended
        return [self.ask(query, prompt, model) for prompt in prompts]

    def _built_in(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if function in (list, tuple, sorted) and len(arguments) == 1 and isinstance(arguments[0], LazyMap):
            if keywords and function is not sorted:
                # An error, before anything is drawn.
                raise Ended
            arguments = [list(self.mapped(arguments[0]))]
        if function is len and self.contents_known(arguments[0] if arguments else None) and not keywords:
            (of,) = arguments
            return len(self.members.get(id(of), of))
        if callable(keywords.get("key")) or isinstance(keywords.get("key"), Opaque):
            return self._by_key(function, arguments, **keywords)
        every = [*arguments, *keywords.values()]
        if any(callable(one) and not isinstance(one, Unknown) for one in every):
            # It may be called, and change or ask anything.
            raise Ended
        if any(not self.is_known(one) for one in every):
            return self._of_unknown_arguments(function, arguments, keywords)
        if function in (str, repr) and not self.text_known(every):
            return Unknown("str")
        if function in (sum, max, min) and not keywords and self.holds_unknown(every):
            return self._reckoned(every)
        if function is set and self.holds_unknown(every):
            for value in self.items(every[0]):
                self.key_known(value)
            return self.blurred(set())
        shallow = function in (len, list, tuple, bool)
        self.require_contents([one for one in every if not shallow or type(one) in VIEWS | ITERATORS])
        self.mark_drawn(every)
        return function(*arguments, **keywords)

    def _of_unknown_arguments(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of a built-in function, as far as the kinds of its arguments tell it."""
        every = [*arguments, *keywords.values()]
        if function is sorted and len(every) == 1 and id(every[0]) in self.members:
            return self._sorted(self.members[id(every[0])])
        if function in SEARCHES.values():
            return self.searched(function.__name__, arguments, keywords)
        kinds = [self.kind(one) for one in every]
        if function is Counter and kinds in (["lines"], ["numbers"]):
            return self.blurred(Counter())
        kind = None if keywords else function_kind(CALLED[function], kinds)
        return self._may_fail_as(function, kinds) if kind is None else Unknown(kind)

    def _may_fail_as(self, function: Any, kinds: list[str]) -> Unknown:
        """The result of a built-in function that may raise an error for arguments of these kinds; see `may_fail`."""
        self.may_fail(ValueError if function in (int, float) and kinds == ["str"] else Exception)
        if function is json.loads:
            return Unknown("data")
        return Unknown(function.__name__ if function in (int, float, str) else "any")

    def _reckoned(self, values: list[Any]) -> Unknown:
        numbers = self.items(values[0]) if len(values) == 1 else values
        if all(self.kind(one) in ("int", "bool") for one in numbers):
            return Unknown("int")
        return self.may_fail()

    def _by_key(self, function: Any, arguments: list[Any], key: Any, reverse: Any = False) -> Any:
        """The result of `sorted`, `max` or `min` with a `key` function."""
        if function not in (sorted, max, min) or len(arguments) != 1 or not isinstance(reverse, bool | int):
            raise Ended
        if function is not sorted and reverse is not False:
            raise Ended
        values: list[Any] = []
        keys: list[Any] = []
        # `sorted` draws all values first; the others compare one before they draw the next.
        for value in list(self.items(arguments[0])) if function is sorted else self.rounds(arguments[0]):
            values.append(value)
            keys.append(self.deeper(functools.partial(self.call, key, [value], {})))
            if function is not sorted and self.kind(keys[-1]) not in ("int", "float", "bool"):
                raise Ended
        self.require_contents(keys)
        if function is sorted:
            return [
                values[place] for place in sorted(range(len(values)), key=keys.__getitem__, reverse=bool(reverse))
            ]
        return values[function(range(len(values)), key=keys.__getitem__)]

    def _sorted(self, members: set[Any]) -> list[Any]:
        """The sorted members of a set whose order is not known. Raises Ended if their sorted order depends on it."""
        if not all(isinstance(one, str | int) for one in members):
            raise Ended
        return sorted(members)

    def mapped(self, lazy: LazyMap) -> Iterator[Any]:
        """The items that a `map` or a `filter` gives."""
        for arguments in zip(*map(self.rounds, lazy.iterators), strict=False):
            call = functools.partial(self.call, lazy.function, list(arguments), {})
            if not lazy.keeps:
                yield self.deeper(call)
                continue
            truth = self.truth(arguments[0] if lazy.function is None else self.deeper(call))
            if truth is None:
                raise Ended
            if truth:
                yield arguments[0]

    def _print(self, values: list[Any], **keywords: Any) -> None:
        """Rehearses a `print`, which prints nothing. Raises Ended if printing may fail."""
        if sys.stdout is not self.output or self.output.closed or set(keywords) - {"sep", "end", "flush"}:
            raise Ended
        if any(self.kind(keywords.get(name)) not in ("str", "NoneType") for name in ("sep", "end")):
            raise Ended
        self.text_known(values)

    def _defaultdict(self, made_by: Any = None) -> Any:
        made: defaultdict[Any, Any] = defaultdict(made_by)
        factory(made)
        return made

    def _pool(self, max_workers: Any = None) -> Pool:
        if max_workers is not None and (type(max_workers) is not int or max_workers <= 0):
            raise Ended
        return Pool()

    def _pooled(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        match name, arguments:
            case "map", [function, *lists] if lists:
                if set(keywords) - {"timeout", "chunksize"}:
                    raise Ended
                # One by one: a task may change the list that the next one's arguments come from.
                rounds = zip(*(self.rounds(one) for one in lists), strict=False)
                return iter([self.call(function, list(one), {}) for one in rounds])
            case "submit", [function, *rest]:
                return Task(self.call(function, rest, keywords))
            case "shutdown", _:
                return None
        raise Ended
