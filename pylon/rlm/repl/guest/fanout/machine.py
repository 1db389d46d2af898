"""The state of a rehearsal: its variables, its depth, and the sub-calls that it has found so far."""

import ast
import builtins
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..calls import Ask, Query, Reply, text_of
from .budget import Budget
from .facts import assigned, told
from .knowledge import Knowledge
from .shadow import Shadows
from .source import Sources
from .unknown import LISTS, Ended, Found, Unknown, common_kind, edges, narrowed

# The most steps of a rehearsal, each about a microsecond: in all, and since it last found a sub-call.
_STEPS = 1_000_000
_STEPS_WITHOUT = 200_000
# The most nested calls, from the cell's own statements on, that a rehearsal enters. Plain execution gets deeper in
# every sandbox: where each call goes through a sort's key, WebAssembly allows some 40.
DEEPEST = 30
# Steps between two looks at the clock; any step may be a native call that takes long.
_LOOKING = 8
# In place of the value of a name that may have none.
MAYBE = Unknown("maybe")
_PLAIN_KINDS = frozenset(
    LISTS | {"str", "int", "float", "bool", "NoneType", "bytes", "dict", "set", "tuple", "match", "data", "any"}
)
TOLD = frozenset({"str", "int", "float", "bool", "NoneType"})

type Variables = list[tuple["Frame", dict[str, Any]]]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Frame:
    """The variables of one scope.

    `base` are the values that the running code has there, `variables` those that the rehearsal has assigned. `local`
    are the names that belong to the scope, None for a module, to which all belong.
    """

    local: set[str] | None
    parent: "Frame | None"
    base: Mapping[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    outer: frozenset[str] = frozenset()  # names declared `global`
    is_function: bool = False
    result: Any = None  # the value of its latest `return`
    # Returns that may have happened: their value, and the variables at that point.
    returned: list[tuple[Any, Variables]] = field(default_factory=list)
    # For each of its loops that is being rehearsed, the variables where the current round may have ended at a
    # `continue`, and where the loop may have ended at a `break`.
    continued: list[list[Variables]] = field(default_factory=list)
    broken: list[list[Variables]] = field(default_factory=list)

    def clear(self) -> None:
        """Releases all values."""
        self.base, self.variables, self.result = {}, {}, None
        self.returned, self.continued, self.broken = [], [], []


class Machine(Knowledge):
    """Variables, sub-calls and limits of one rehearsal.

    `waiting` are answers to calls that were asked ahead and that the code has not made yet; `room` is how many
    sub-calls the cell may still make.
    """

    def __init__(
        self,
        sources: Sources,
        namespace: Mapping[str, Any],
        waiting: Mapping[Ask, deque[Reply]],
        room: int,
        budget: Budget,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.shadows = Shadows(budget)
        self._budget = budget
        self.module = Frame(None, None, namespace)
        self.frames = [self.module]
        self.root = self.module
        self.root_cells: frozenset[str] = frozenset()
        self.pools: tuple[type, ...] = ()
        self.output: Any = None  # the cell's standard output
        # How many calls deep the rehearsal stands, those of the running code among them.
        self.depth = 0
        # The items of comprehensions that the running code has evaluated already; each is used once.
        self.given: dict[ast.comprehension, Any] = {}
        # Frames that functions made in them refer to, and which hold those functions: cycles that `clear` breaks.
        self.enclosing: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.found: list[Ask] = []
        # For each enclosing `try`: what its handlers catch, and the variables wherever an error may occur.
        self.failing: list[tuple[tuple[type, ...], list[Variables]]] = []
        self._waiting = {ask: deque(replies) for ask, replies in list(waiting.items())}
        # By kind and model, how the prompts begin and end of calls that are not certain or whose prompt is not known.
        # Such a call may take an answer that waits for a later one.
        self._takers: dict[tuple[str, str | None], set[tuple[str, str]]] = {}
        self.room = room
        self.asked = 0  # sub-calls so far, certain or not
        self._last = 0  # steps when a sub-call was found last
        self._looked = 0  # steps at the last look at the clock

    def clear(self) -> None:
        """Releases all values at once: they may be as large as the code's own, and refer to each other."""
        for frame in {self.module, self.root, *self.frames, *self.enclosing}:
            frame.clear()
        self.frames, self.failing = [], []
        self.given, self.vague, self.members = {}, {}, {}
        self.shadows.clear()

    def step(self) -> None:
        """Counts one step. Raises Ended when steps or time have run out."""
        self.steps += 1
        if self.steps - self._looked >= _LOOKING:
            self._looked = self.steps
            self._budget.look()
        if self.steps > _STEPS or self.steps - self._last > _STEPS_WITHOUT:
            raise Ended

    def ask(self, query: Query, prompt: Any, model: Any) -> Any:
        """The answer to a sub-call, as far as it is known. A call that is certain is added to `found`."""
        if not isinstance(model, str | None):
            raise Ended
        if self.asked >= self.room:
            # From here on the cell's calls are refused.
            raise Ended
        self.asked += 1
        if isinstance(prompt, Unknown) or self.doubt:
            # Turning any other value into text may fail.
            if self.kind(prompt) not in TOLD:
                raise Ended
            known = False
        else:
            known = isinstance(prompt, str) or self.text_known([prompt])
        if not known:
            self._takers.setdefault((query.kind, model), set()).add(edges(prompt))
            return Unknown("str")
        ask = (query.kind, model, text_of(prompt))
        replies = self._waiting.get(ask)
        if replies:
            reply = replies.popleft()
            return Unknown("str") if self._may_be_taken(ask) else reply
        self.found.append(ask)
        self._budget.found()
        self._last = self.steps
        return Unknown("str")

    def _may_be_taken(self, ask: Ask) -> bool:
        """Whether a call before this one may have the same prompt, and take its answer."""
        kind, model, text = ask
        takers = self._takers.get((kind, model), set())
        self.steps += len(takers) // 8
        return any(text.startswith(begin) and text.endswith(end) for begin, end in takers)

    def may_fail(self, error: type[Exception] = Exception) -> Unknown:
        """The result of an operation that may raise such an error.

        Raises Ended unless the innermost `try` catches the error; from here on the code may not be running.
        """
        if not self.failing:
            raise Ended
        caught, snapshots = self.failing[-1]
        if not issubclass(error, caught):
            raise Ended
        snapshots.append(self.snapshot())
        self.doubt += 1
        return Unknown("any")

    def deeper[T](self, run: Callable[[], T]) -> T:
        """The result of `run`, one call deeper. Raises Ended beyond `DEEPEST`."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Ended
        result = run()
        self.depth -= 1
        return result

    def look_up(self, name: str) -> Any:
        """The value of a name, looked for as Python does. Raises Ended where it may have none."""
        frame = self._scope_of(name)
        value = self.value_in(frame, name)
        if value is not MAYBE:
            return value
        if frame is not self.module or name in frame.variables or not hasattr(builtins, name):
            raise Ended
        return self.shadows.of(getattr(builtins, name))

    def untouched(self, name: str) -> Any:
        """The running code's container in a variable if nothing of it has been copied yet; None for anything else."""
        frame = self._scope_of(name)
        value = None if name in frame.variables else frame.base.get(name)
        return value if self.shadows.untouched(value) else None

    def _scope_of(self, name: str) -> Frame:
        """The frame of the scope that a name belongs to, whether or not it has a value there."""
        frame: Frame | None = self.frames[-1]
        while frame is not None and frame.local is not None and name not in frame.outer:
            if name in frame.local:
                return frame
            frame = frame.parent
        return self.module

    def value_in(self, frame: Frame, name: str) -> Any:
        """The value of a variable in one frame, MAYBE if it may have none."""
        return frame.variables[name] if name in frame.variables else self._base(frame, name)

    def assign(self, name: str, value: Any) -> None:
        frame = self.module if name in self.frames[-1].outer else self.frames[-1]
        if frame.local is not None and name not in frame.local:
            raise Ended
        frame.variables[name] = value

    def believing(self, test: ast.expr) -> Callable[[bool], None]:
        """To be called before a condition is evaluated: a function that takes its truth for given from then on."""
        variables = self.frames[-1].variables
        before = {name: variables.get(name) for holds in (True, False) for name, _ in told(test, holds)}
        given = assigned(test)

        def believe(holds: bool) -> None:
            variables = self.frames[-1].variables
            for name, fact in told(test, holds) if before else ():
                value = variables.get(name)
                # The condition itself may have given the name another value.
                if isinstance(value, Unknown) and (name == given or value is before[name]):
                    variables[name] = narrowed(value, fact)

        return believe

    def snapshot(self) -> Variables:
        self.steps += len(self.frames)
        return [(frame, dict(frame.variables)) for frame in dict.fromkeys([self.module, *self.frames])]

    def restore(self, snapshot: Variables) -> None:
        for frame, variables in snapshot:
            frame.variables = dict(variables)

    def join(self, snapshots: list[Variables]) -> None:
        """Continues with variables that are as in one of these snapshots, whichever it is."""
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
        """A value that is one of these two."""
        if one is other:
            return one
        kinds = self.kind(one), self.kind(other)
        if not set(kinds) <= _PLAIN_KINDS:
            return MAYBE
        if type(one) is type(other) and type(one) in (str, int, bool) and one == other:
            return one
        if isinstance(one, Found) and isinstance(other, Found) and one.pattern is other.pattern:
            return Found(one.pattern)
        return Unknown(common_kind(kinds))
