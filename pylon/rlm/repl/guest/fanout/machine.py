"""Where a rehearsal stands: its variables, what may not be happening, what has been asked so far."""

import ast
import builtins
import functools
import gc
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..calls import Ask, Query, Reply, text_of
from .budget import Budget
from .natives import ATOMS, CONTAINERS, DICTS, ITERATORS, VIEWS
from .shadow import Shadows
from .source import Sources
from .unknown import Ended, Unknown, joined

# Steps of a rehearsal, about a microsecond each: all of them, and those in which nothing is asked.
_STEPS = 1_000_000
_STEPS_WITHOUT = 200_000
# How deep a call may stand that is gone into, from the cell's own statements on: plain execution comes deeper in any
# sandbox, even if each goes by way of a sort's key, where WebAssembly has some 40.
DEEPEST = 30
# Levels of containers and bits of an int that can be shown without fear: an int may not have more digits than Python
# can be told to show at the least.
_SHOWN_DEEP, _SHOWN_BITS = 20, 2000
# So many steps from one look at the clock to the next: any of them may be a native call that takes long.
_LOOKING = 8
# A name that may have no value.
MAYBE = Unknown("maybe")
_PLAIN_KINDS = frozenset(
    {"str", "int", "float", "bool", "NoneType", "bytes", "list", "lines", "dict", "set", "tuple", "any"}
)
_SHOWN_WHOLE = ATOMS - {int}
_TOLD = frozenset({"str", "int", "float", "bool", "NoneType"})

type Variables = list[tuple["Frame", dict[str, Any]]]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Frame:
    """Variables of one scope. `base` is what the code has there already, `local` the names that are the scope's own,
    None for a module's: all of them."""

    local: set[str] | None
    parent: "Frame | None"
    base: Mapping[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    outer: frozenset[str] = frozenset()  # declared `global`
    is_function: bool = False
    # Ways out that may have been taken: their value, and the variables as they were.
    returned: list[tuple[Any, Variables]] = field(default_factory=list)


class Machine:
    """`waiting` are answers that the code has not come to yet, `room` is how many sub-calls its cell may make."""

    def __init__(
        self,
        sources: Sources,
        namespace: Mapping[str, Any],
        waiting: Mapping[Ask, deque[Reply]],
        room: int,
        budget: Budget,
    ) -> None:
        self.sources = sources
        self.shadows = Shadows(budget)
        self._budget = budget
        self.module = Frame(None, None, namespace)
        self.frames = [self.module]
        self.root = self.module
        self.root_cells: frozenset[str] = frozenset()
        self.pools: tuple[type, ...] = ()
        self.output: Any = None  # what the code prints to, if it has put nothing else there
        # By comprehension: items that the code has evaluated already, to be drawn from once.
        self.given: dict[ast.AST, Any] = {}
        # Those that a function made in them holds, which they hold.
        self.enclosing: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.found: list[Ask] = []
        # More than 0 where what is rehearsed may not be happening.
        self.doubt = 0
        # Of each `try` with one handler: what that catches, and where something may have failed.
        self.failing: list[tuple[tuple[type, ...], list[Variables]]] = []
        self.vague: dict[int, Any] = {}  # containers of which no more than the type is known
        # Known of these all the same: the members of a set, in whatever order, and the kind of the values of a dict.
        self.members: dict[int, set[Any]] = {}
        self._held: dict[int, str] = {}
        self.depth = 0
        self._waiting = {ask: deque(replies) for ask, replies in list(waiting.items())}
        self._exact = True  # whether every sub-call until now is known
        self.room = room
        self.asked = 0
        self.steps = 0
        self._last = 0
        self._looked = 0

    def clear(self) -> None:
        """Lets go of all values, at once: they may be as large as the code's own, and hold each other."""
        for frame in {self.module, self.root, *self.frames, *self.enclosing}:
            frame.base, frame.variables, frame.returned = {}, {}, []
        self.frames, self.failing = [], []
        self.given, self.vague, self.members = {}, {}, {}
        self.shadows.clear()

    def step(self) -> None:
        self.steps += 1
        if self.steps - self._looked >= _LOOKING:
            self._looked = self.steps
            self._budget.look()
        if self.steps > _STEPS or self.steps - self._last > _STEPS_WITHOUT:
            raise Ended

    def ask(self, query: Query, prompt: Any, model: Any) -> Any:
        """The answer, as far as it is known."""
        if not isinstance(model, str | None):
            raise Ended
        self.asked += 1
        if isinstance(prompt, Unknown) or self.doubt:
            # Anything that is no text may fail to become one.
            if self.kind(prompt) not in _TOLD:
                raise Ended
            self._exact = False
            return Unknown("str")
        if not isinstance(prompt, str) and not self.shown([prompt]):
            self._exact = False
            return Unknown("str")
        ask = (query.kind, model, text_of(prompt))
        replies = self._waiting.get(ask)
        if replies:
            reply = replies.popleft()
            # One before it may have the same prompt, and take this answer.
            return reply if self._exact else Unknown("str")
        if self.asked <= self.room:
            self.found.append(ask)
            self._budget.found()
            self._last = self.steps
        return Unknown("str")

    def may_fail(self, error: type[Exception] = Exception) -> Unknown:
        """Something that may raise such an error: a value of which nothing is known, where a `try` catches it."""
        if not self.failing:
            raise Ended
        caught, snapshots = self.failing[-1]
        if not issubclass(error, caught):
            raise Ended
        snapshots.append(self.snapshot())
        self.doubt += 1
        return Unknown("any")

    def kind(self, value: Any) -> str:
        if isinstance(value, Unknown):
            return value.kind
        if isinstance(value, str):
            return "str"
        return type(value).__name__

    def is_known(self, value: Any) -> bool:
        """Whether it is known itself; what is in it may not be."""
        return not isinstance(value, Unknown) and id(value) not in self.vague

    def plain(self, values: list[Any]) -> None:
        """Raises Ended where a built-in function would look into a container that is not known."""
        if not self.vague:
            return
        seen: set[int] = set()
        waiting = list(values)
        while waiting:
            one = waiting.pop()
            if id(one) in self.vague:
                raise Ended
            if (type(one) in (list, tuple) or type(one) in DICTS) and id(one) not in seen:
                seen.add(id(one))
                waiting += one.values() if type(one) in DICTS else one
            elif type(one) in VIEWS | ITERATORS:
                waiting += gc.get_referents(one)

    def drew(self, values: list[Any]) -> None:
        """Iterators of which it is not known afterwards whether they have been drawn from."""
        waiting = [one for one in values if type(one) in ITERATORS] if self.doubt else []
        while waiting:
            one = waiting.pop()
            self.blur(one)
            waiting += [inner for inner in gc.get_referents(one) if type(inner) in ITERATORS]

    def shown(self, values: list[Any]) -> bool:
        """Whether the text of these values is known. Raises Ended where showing them may fail or tells an address."""
        known = True
        for _ in range(_SHOWN_DEEP):
            self.steps += len(values)
            inside: list[Any] = []
            for one in values:
                kind = type(one)
                if not self.is_known(one):
                    known = False
                elif kind in CONTAINERS or kind in VIEWS:
                    self.plain([one] if kind in VIEWS else [])
                    for held in (one.keys(), one.values()) if kind in DICTS else (one,):
                        if not set(map(type, held)) <= _SHOWN_WHOLE:
                            inside += held
                elif kind not in ATOMS or (kind is int and one.bit_length() > _SHOWN_BITS):
                    raise Ended
            if not inside:
                return known
            values = inside
        raise Ended

    def deeper[T](self, run: Callable[[], T]) -> T:
        """What a function gives that the code's own call, or a built-in function's, would run."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Ended
        result = run()
        self.depth -= 1
        return result

    def changes(self, container: Any) -> bool:
        """Whether a change to it can be made here; if not, no more than its type is known from now on."""
        if self.doubt or not self.is_known(container):
            self.blur(container)
            return False
        return True

    def blur(self, container: Any) -> None:
        """From now on no more than its type is known of it, and of what kind a dict's values are."""
        self.vague[id(container)] = container
        self.members.pop(id(container), None)
        if type(container) in DICTS:
            self._held[id(container)] = self.held(container)
            if type(container) is defaultdict:
                # Any of them is what a key of which nothing is known may give.
                for one in container.values():
                    self._blur_part(one)

    def _blur_part(self, value: Any) -> None:
        if type(value) in CONTAINERS and self.is_known(value):
            self.blur(value)

    def held(self, container: Any) -> str:
        """The kind of a dict's values, empty where it has none."""
        if id(container) in self._held:
            return self._held[id(container)]
        self.steps += len(container)
        return functools.reduce(joined, map(self.kind, container.values()), "")

    def put_somewhere(self, container: Any, value: Any) -> None:
        """Puts it into a container of which no more than the type is known from now on."""
        self.shown([value])
        self.blur(container)
        if type(container) in DICTS:
            self._held[id(container)] = joined(self._held[id(container)], self.kind(value))
            if type(container) is defaultdict:
                self._blur_part(value)

    def unordered(self, of: set[Any]) -> set[Any]:
        """What a set holds, to be changed; its order is not known from now on."""
        if id(of) not in self.members:
            self.blur(of)
            self.members[id(of)] = set(of)
        return self.members[id(of)]

    # Variables.

    def look_up(self, name: str) -> Any:
        frame: Frame | None = self.frames[-1]
        while frame is not None:
            if name in frame.outer:
                frame = self.module
            if frame.local is None or name in frame.local:
                value = self.value_in(frame, name)
                if value is not MAYBE:
                    return value
                if frame.local is not None or name in frame.variables:
                    raise Ended
            frame = frame.parent
        if not hasattr(builtins, name):
            raise Ended
        return self.shadows.of(getattr(builtins, name))

    def untouched(self, name: str) -> Any:
        """A variable's container of the code's own, of which nothing has been copied; None for any other value."""
        frame: Frame | None = self.frames[-1]
        while frame is not None:
            if name in frame.outer:
                frame = self.module
            if frame.local is None or name in frame.local:
                value = None if name in frame.variables else frame.base.get(name)
                return value if self.shadows.untouched(value) else None
            frame = frame.parent
        return None

    def value_in(self, frame: Frame, name: str) -> Any:
        """A variable's value, MAYBE where it may have none."""
        if name in frame.variables:
            return frame.variables[name]
        return self.shadows.of(frame.base[name]) if name in frame.base else MAYBE

    def assign(self, name: str, value: Any) -> None:
        frame = self.module if name in self.frames[-1].outer else self.frames[-1]
        if frame.local is not None and name not in frame.local:
            raise Ended
        frame.variables[name] = value

    def snapshot(self) -> Variables:
        self.steps += len(self.frames)
        return [(frame, dict(frame.variables)) for frame in dict.fromkeys([self.module, *self.frames])]

    def restore(self, snapshot: Variables) -> None:
        for frame, variables in snapshot:
            frame.variables = dict(variables)

    def join(self, snapshots: list[Variables]) -> None:
        """Goes on with variables that are as in one of these."""
        first, *others = snapshots
        self.restore(first)
        for other in others:
            for frame, variables in other:
                for name in {*frame.variables, *variables}:
                    mine = self.value_in(frame, name)
                    theirs = variables[name] if name in variables else self._base(frame, name)
                    frame.variables[name] = self.either(mine, theirs)

    def _base(self, frame: Frame, name: str) -> Any:
        return self.shadows.of(frame.base[name]) if name in frame.base else MAYBE

    def either(self, one: Any, other: Any) -> Any:
        """A value that is one of two."""
        if one is other:
            return one
        kinds = self.kind(one), self.kind(other)
        if not set(kinds) <= _PLAIN_KINDS:
            return MAYBE
        if type(one) is type(other) and type(one) in (str, int, bool) and one == other:
            return one
        return Unknown(joined(*kinds))
