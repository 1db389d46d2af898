"""Which sub-calls of a loop's body will be made whatever they are answered, and with which prompts.

A body is walked once, in order. What can be worked out beforehand becomes a clause of the plan (a generator
expression over the loop's items); everything else must be harmless: unable to fail, to leave the loop, or to change
what the plan rests on. One statement that is neither, and the loop stays as it was written.
"""

import ast

from .harmless import Harmless
from .plan import ANSWER, Plan, UnsafeError, answered, asks_first, sub_calls
from .purity import Reads, bound_names, has_query, plain_target, pure

_APPENDING = {"append": "list", "extend": "list", "add": "set"}


class Body:
    """Walks one loop's body. `assigned` are all names that it assigns, `target` what the loop itself does. With
    `risking`, what follows a sub-call in a `try` may fail, and what catches that must be harmless."""

    def __init__(self, target: ast.expr, assigned: set[str], changed: set[str], *, risking: bool = False) -> None:
        if not plain_target(target):
            raise UnsafeError
        self.plan = Plan()
        self._targets = bound_names(target)
        self._assigned = assigned
        self._changed = changed
        self._risking = risking
        self._given = set(self._targets)  # names that the plan binds, as far as the walk has come
        self._kinds: dict[str, str] = {}  # types of names that the body assigns, as far as the walk has come
        self._fresh: set[str] = set()  # containers that the body made in this iteration
        self._carried: dict[str, str] = {}  # names read before they are assigned, and the type that they must keep
        self._final: dict[str, set[str]] = {}
        self._conditional = 0
        self._harmless = Harmless(self._name_kind, self._foreseen, self.plan.asks, self.plan.reads.known)

    def finish(self) -> Plan:
        """Raises UnsafeError when it does not hold together, or there is nothing to ask."""
        if not self.plan.calls:
            raise UnsafeError
        for name, kind in self._carried.items():
            if self._final.get(name, {kind}) != {kind}:
                raise UnsafeError
        if self.plan.mutated & self._given or self.plan.reads.known & (self._assigned | self._targets):
            raise UnsafeError
        return self.plan

    def statements(self, body: list[ast.stmt], *, ends: bool = True) -> None:
        """`ends` tells that the iteration ends where these do, so that a `continue` among them leaves out the rest of
        these and nothing else."""
        for place, statement in enumerate(body):
            rest = body[place + 1 :]
            match statement:
                case ast.If(test=test, body=[*skipped, ast.Continue()], orelse=[]) if self._may_skip(rest):
                    self._maybe(skipped)
                    self.condition(ast.UnaryOp(ast.Not(), test))
                case ast.If(test=test, body=[*left, ast.Continue()], orelse=others) if ends:
                    self._branch(test, left, [*others, *rest], ends=True)
                    return
                case ast.If(test=test, body=kept, orelse=[*left, ast.Continue()]) if ends:
                    self._branch(test, [*kept, *rest], left, ends=True)
                    return
                case _:
                    self._statement(statement, ends=ends and not rest)

    def _may_skip(self, rest: list[ast.stmt]) -> bool:
        """Whether a `continue` decides on sub-calls: then it must be known beforehand."""
        return not self.plan.calls and not self._conditional and any(map(has_query, rest))

    def expression(self, node: ast.expr) -> str:
        """Its type. Raises UnsafeError unless it is harmless but for its sub-calls, which join the plan."""
        self._take_calls(node)
        return self._sound(self._harmless.kind(node))

    def key(self, node: ast.expr) -> None:
        """An expression whose value becomes a key."""
        self._take_calls(node)
        if not self._harmless.hashable(node):
            raise UnsafeError

    def condition(self, node: ast.expr) -> None:
        """The rest of the iteration happens only where it holds."""
        if self.plan.calls or self._conditional or not self._pure(node):
            raise UnsafeError
        self.plan.only_where(node)

    def _statement(self, node: ast.stmt, *, ends: bool) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name()))) if self._is_change(node.value):
                self._change(node.value)
            case ast.Expr():
                self.expression(node.value)
            case ast.Assign(targets=[target]):
                self._assign(target, node.value)
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                self._assign(target, value)
            case ast.AugAssign(target=ast.Name(id=name)):
                self._augment(name, node.op, node.value)
            case ast.If():
                self._branch(node.test, node.body, node.orelse, ends=ends)
            case ast.Try() if not self._risking and any(map(has_query, node.body)):
                self._ask_in_try(node, ends=ends)
            case ast.Try():
                self._attempt(node)
            case ast.For(target=ast.Name(id=name), orelse=[]) if not has_query(node):
                if self.expression(node.iter) != "list" or not isinstance(node.iter, ast.Call):
                    raise UnsafeError
                self._maybe_often(node.body, line=name)
            case _:
                raise UnsafeError

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            self.expression(value)
            self._root(target.value.id, "dict")
            self.key(target.slice)
            return
        names = bound_names(target)
        if not plain_target(target):
            raise UnsafeError
        if not has_query(value) and not self._conditional and not names & self._changed and self._pure(value):
            self.plan.bind(target, value)
            self._given |= names
            for name in names:
                self._kinds.pop(name, None)
                self._final.setdefault(name, set()).add("any")
            return
        if not isinstance(target, ast.Name):
            raise UnsafeError
        self._bind(target.id, self.expression(value), fresh=isinstance(value, ast.List | ast.Dict | ast.Set))

    def _bind(self, name: str, kind: str, *, fresh: bool = False) -> None:
        if name in self._targets:
            raise UnsafeError
        self._given.discard(name)
        self._kinds[name] = kind
        self._final.setdefault(name, set()).add(kind)
        (self._fresh.add if fresh and not self._conditional else self._fresh.discard)(name)

    def _augment(self, name: str, operator: ast.operator, value: ast.expr) -> None:
        kind = self.expression(value)
        numbers = isinstance(operator, ast.Add | ast.Sub) and kind == "int"
        text = isinstance(operator, ast.Add) and kind == "str"
        # A list would be changed in place, by whatever names it has.
        if not (numbers or text) or self._name_kind(name, frozenset({kind})) != kind:
            raise UnsafeError
        self._bind(name, kind)

    def _is_change(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _APPENDING

    def _change(self, node: ast.expr) -> None:
        """`out.append(…)` and the like."""
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=[value], keywords=[]):
                if method == "add":
                    self.key(value)
                elif self.expression(value) not in (("list", "str", "tuple") if method == "extend" else _ANYTHING):
                    raise UnsafeError
                self._root(name, _APPENDING[method])
            case _:
                raise UnsafeError

    def _root(self, name: str, kind: str) -> None:
        """A container that the body changes: one that it made itself just now, or one from outside, to be checked."""
        if name in self._fresh and self._kinds.get(name) == kind:
            return
        if name in self._assigned or name in self._targets:
            raise UnsafeError
        self._want(name, kind)
        self.plan.mutated.add(name)

    def _branch(self, test: ast.expr, body: list[ast.stmt], others: list[ast.stmt], *, ends: bool) -> None:
        # What decides whether a sub-call is made must be known beforehand.
        if any(map(has_query, [*body, *others])):
            raise UnsafeError
        self.expression(test)
        self._maybe(body, ends=ends)
        self._maybe(others, ends=ends)

    def _maybe(self, body: list[ast.stmt], *, given: str | None = None, kind: str = "", ends: bool = False) -> None:
        """Statements that run or do not: what they assign is not known afterwards. `given` is a name that they find,
        and `kind` its type."""
        before = dict(self._kinds)
        self._conditional += 1
        if given is not None:
            self._bind(given, kind)
        self.statements(body, ends=ends)
        self._conditional -= 1
        self._forget(before)

    def _maybe_often(self, body: list[ast.stmt], *, line: str) -> None:
        """The same for those of a loop over a text's lines: what one round assigns, the next one finds."""
        before: dict[str, str] | None = None
        while before != self._kinds:
            before = dict(self._kinds)
            self._maybe(body, given=line, kind="str", ends=True)

    def _forget(self, before: dict[str, str]) -> None:
        """What was assigned since may be so, or as it was before."""
        for name, kind in self._kinds.items():
            if name not in before and self._carried.get(name) == kind:
                before[name] = kind
            elif before.get(name) != kind:
                before[name] = "any" if before.get(name, "maybe") != "maybe" else "maybe"
        self._kinds = before

    def _ask_in_try(self, node: ast.Try, *, ends: bool) -> None:
        """Its body cannot fail but where the plan ends too; so what catches errors never runs under a plan."""
        if node.finalbody or node.orelse or self._conditional:
            raise UnsafeError
        self.statements(node.body, ends=ends)
        for name in {name for handler in node.handlers for name in bound_names(handler)}:
            self._given.discard(name)

    def _attempt(self, node: ast.Try) -> None:
        """`try: value = json.loads(answer)` with something harmless for every error that can come of it. A sub-call
        in it comes first, before anything can fail."""
        handler = _catching_all(node)
        if handler.type is not None:
            self.plan.reads.known.add(ast.unparse(handler.type))
        body = list(node.body)
        if any(map(has_query, body)) and self._ask_first(body):
            body.pop(0)
        before = dict(self._kinds)
        tried: dict[str, str] = {}
        self._conditional += 1
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    tried[name] = self._tame(value)
                    self._bind(name, tried[name])
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=name), "append"), [value], [])):
                    self._tame(value)
                    self._root(name, "list")
                case _:
                    raise UnsafeError
        self._conditional -= 1
        self._forget(before)
        self._maybe(handler.body, given=handler.name, kind="any")
        if handler.name:
            # It is deleted.
            self._bind(handler.name, "maybe")
        for name, kind in tried.items():
            caught = [
                self._harmless.kind(statement.value)
                for statement in handler.body
                if isinstance(statement, ast.Assign) and bound_names(statement) == {name}
            ]
            self._kinds[name] = "maybe" if not caught else kind if caught == [kind] else "any"

    def _ask_first(self, body: list[ast.stmt]) -> bool:
        """Takes the sub-call with which these begin. True where its statement is `name = …` that cannot fail at all
        and is done with. Raises UnsafeError for others, which an error may keep from being made."""
        match body[0]:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(), "append"), [value], [])):
                name = ""
            case _:
                raise UnsafeError
        if any(map(has_query, body[1:])) or not asks_first(value) or len(sub_calls(value)) > 1:
            raise UnsafeError
        self._take_calls(value)
        kind = self._harmless.kind(value) if name else None
        if kind is None:
            return False
        self._bind(name, kind)
        return True

    def _tame(self, node: ast.expr) -> str:
        """The type of an expression that may fail but does nothing else. Raises UnsafeError."""
        reads = Reads()
        sure = self._given | {name for name, kind in self._kinds.items() if kind != "maybe"} | {ANSWER}
        if not pure(answered(node), (self._assigned | self._targets) - sure, sure, reads):
            raise UnsafeError
        self.plan.reads.known |= reads.known
        for name in reads.read:
            self._want(name, "plain")
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        return called if called in ("int", "float", "str") else "any"

    def _take_calls(self, node: ast.expr) -> None:
        """Puts the sub-calls in it into the plan, in the order in which they are evaluated."""
        for call in sub_calls(node):
            parts = [*call.args, *(keyword.value for keyword in call.keywords)]
            if self._conditional or not all(self._pure(part) for part in parts):
                raise UnsafeError
            self.plan.ask(call)

    def _pure(self, node: ast.expr) -> bool:
        reads = Reads()
        unknown = self._assigned | self._targets
        if not pure(node, unknown, self._given, reads):
            return False
        self.plan.reads.read |= reads.read
        self.plan.reads.known |= reads.known
        return True

    def _foreseen(self, node: ast.expr, as_key: bool) -> bool:
        """Lets the plan work it out too, so that where it fails the plan ends."""
        if has_query(node) or not self._pure(node):
            return False
        (self.plan.work_out_key if as_key else self.plan.work_out)(node)
        return True

    def _name_kind(self, name: str, wanted: frozenset[str]) -> str | None:
        if name in self._kinds:
            kind = self._kinds[name]
            return None if kind == "maybe" else kind
        if name in self._given:
            if "hashable" in wanted:
                return "hashable" if self._foreseen(ast.Name(name, ast.Load()), True) else None
            return "any"
        if name in self._assigned:
            # Its value of the iteration before, or of before the loop: one type through and through.
            if len(wanted) != 1:
                return None
            (kind,) = wanted
            if kind == "hashable" or self._carried.setdefault(name, kind) != kind:
                return None
            self._want(name, kind)
            return kind
        if "hashable" in wanted:
            return None
        kind = "plain" if not wanted else "sized" if len(wanted) > 1 else next(iter(wanted))
        self._want(name, kind)
        return {"plain": "any", "sized": "list"}.get(kind, kind)

    def _want(self, name: str, kind: str) -> None:
        """To be looked at when the loop begins."""
        self.plan.typed.add((name, kind))

    @staticmethod
    def _sound(kind: str | None) -> str:
        if kind is None:
            raise UnsafeError
        return kind


def _catching_all(node: ast.Try) -> ast.ExceptHandler:
    """The one handler of a `try` that catches whatever comes. Raises UnsafeError."""
    match node:
        case ast.Try(handlers=[ast.ExceptHandler() as only], orelse=[], finalbody=[]):
            if only.type is None or (
                isinstance(only.type, ast.Name) and only.type.id in ("Exception", "BaseException")
            ):
                return only
    raise UnsafeError


_ANYTHING = frozenset(["str", "int", "float", "bool", "none", "list", "dict", "set", "tuple", "any", "hashable"])
