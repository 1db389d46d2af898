"""Which expressions cannot fail, whatever the answers are: after them a loop always goes on.

`Harmless.kind` gives an expression's type where it can neither raise nor do anything, else None. Types are names of
plain classes; `any` is plain data of some type, `hashable` plain data that can be a key.
"""

import ast
from collections.abc import Callable

from .purity import MODULE_FUNCTIONS

_STR = "str"
_TEXT_METHODS = {
    "strip": (_STR, 1),
    "lstrip": (_STR, 1),
    "rstrip": (_STR, 1),
    "lower": (_STR, 0),
    "upper": (_STR, 0),
    "title": (_STR, 0),
    "capitalize": (_STR, 0),
    "casefold": (_STR, 0),
    "swapcase": (_STR, 0),
    "removeprefix": (_STR, 1),
    "removesuffix": (_STR, 1),
    "replace": (_STR, 2),
    "startswith": ("bool", 1),
    "endswith": ("bool", 1),
    "isdigit": ("bool", 0),
    "isalpha": ("bool", 0),
    "isspace": ("bool", 0),
    "isnumeric": ("bool", 0),
    "find": ("int", 1),
    "count": ("int", 1),
    "splitlines": ("list", 0),
}
_HASHABLE = {"str", "int", "float", "bool", "none", "hashable"}
_SIZED = {"str", "list", "dict", "set", "tuple"}
_NUMBER = {"int", "float", "bool"}
_CLASSES = {"str", "int", "float", "bool", "list", "dict", "set", "tuple", "SubCallError"}


class Harmless:
    """`name_kind` tells a name's type (or None); `foreseen` tells whether a part is worked out beforehand anyway."""

    def __init__(
        self,
        name_kind: Callable[[str, frozenset[str]], str | None],
        foreseen: Callable[[ast.expr, bool], bool],
        is_answer: Callable[[ast.expr], bool],
        known: set[str],
    ) -> None:
        self._name_kind = name_kind
        self._foreseen = foreseen
        self._is_answer = is_answer
        self._known = known

    def kind(self, node: ast.expr, wanted: frozenset[str] = frozenset()) -> str | None:
        """`wanted` are the types that would do; a name of unknown type is then to be checked for one of them."""
        if isinstance(node, ast.Constant):
            return "none" if node.value is None else type(node.value).__name__
        if self._is_answer(node):
            return _STR
        if isinstance(node, ast.Name):
            return self._name_kind(node.id, wanted)
        found = self._compound(node)
        if found is None and self._foreseen(node, "hashable" in wanted):
            return "hashable" if "hashable" in wanted else "any"
        return found

    def hashable(self, node: ast.expr) -> bool:
        return self.kind(node, frozenset({"hashable"})) in _HASHABLE

    def _compound(self, node: ast.expr) -> str | None:
        match node:
            case ast.JoinedStr():
                return _STR if all(self._formatted(part) for part in node.values) else None
            case ast.BinOp():
                return self._binary(node.op, self.kind(node.left), self.kind(node.right))
            case ast.BoolOp():
                kinds = {self.kind(value) for value in node.values}
                return _one(kinds)
            case ast.UnaryOp(op=ast.Not()):
                return "bool" if self.kind(node.operand) else None
            case ast.IfExp():
                return _one({self.kind(node.body), self.kind(node.orelse)}) if self.kind(node.test) else None
            case ast.Compare():
                return self._compare(node)
            case ast.Tuple() | ast.List():
                return type(node).__name__.lower() if all(self.kind(item) for item in node.elts) else None
            case ast.Set():
                return "set" if all(self.hashable(item) for item in node.elts) else None
            case ast.Dict():
                sound = all(key is not None and self.hashable(key) for key in node.keys)
                return "dict" if sound and all(self.kind(value) for value in node.values) else None
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
        return None

    def _formatted(self, part: ast.expr) -> bool:
        if isinstance(part, ast.FormattedValue):
            return part.format_spec is None and self.kind(part.value) is not None
        return isinstance(part, ast.Constant)

    @staticmethod
    def _binary(operator: ast.operator, left: str | None, right: str | None) -> str | None:
        if isinstance(operator, ast.Add) and left == right and left in (_STR, "list"):
            return left
        if isinstance(operator, ast.Add | ast.Sub | ast.Mult) and left == right == "int":
            return "int"
        return None

    def _compare(self, node: ast.Compare) -> str | None:
        if len(node.ops) != 1:
            return None
        left, right = self.kind(node.left), self.kind(node.comparators[0])
        if left is None or right is None:
            return None
        match node.ops[0]:
            case ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot():
                sound = True
            case ast.In() | ast.NotIn():
                sound = (right == _STR and left == _STR) or right in ("list", "tuple")
                sound = sound or (right in ("dict", "set") and left in _HASHABLE)
            case _:
                sound = (left == right == _STR) or (left in _NUMBER and right in _NUMBER)
        return "bool" if sound else None

    def _subscript(self, node: ast.Subscript) -> str | None:
        """Only slices, and the first part of a split by a separator, which there always is."""
        if isinstance(node.slice, ast.Slice):
            edges = (node.slice.lower, node.slice.upper)
            if node.slice.step is None and all(edge is None or self.kind(edge) == "int" for edge in edges):
                kind = self.kind(node.value)
                return kind if kind in (_STR, "list") else None
            return None
        first = isinstance(node.slice, ast.Constant) and node.slice.value == 0
        split = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        if first and split and isinstance(node.value, ast.Call) and node.value.args:
            return _STR if self._method(node.value) == "list" else None
        return None

    def _call(self, node: ast.Call) -> str | None:
        if isinstance(node.func, ast.Attribute):
            return None if ast.unparse(node.func) in MODULE_FUNCTIONS else self._method(node)
        if not isinstance(node.func, ast.Name):
            return None
        name = node.func.id
        if name == "isinstance" and len(node.args) == 2 and not node.keywords:
            of = node.args[1]
            if isinstance(of, ast.Name) and of.id in _CLASSES and self.kind(node.args[0]):
                self._known |= {name, of.id}
                return "bool"
            return None
        kinds = [self.kind(argument, frozenset(_SIZED) if name == "len" else frozenset()) for argument in node.args]
        if None in kinds:
            return None
        if name == "print" and all(k.arg in ("sep", "end", "flush") and _constant(k.value) for k in node.keywords):
            self._known.add(name)
            return "none"
        if node.keywords or len(kinds) != 1:
            return None
        result = {"len": "int", "str": _STR, "repr": _STR, "bool": "bool"}.get(name)
        if result is None or (name == "len" and kinds[0] not in _SIZED):
            return None
        self._known.add(name)
        return result

    def _method(self, node: ast.Call) -> str | None:
        assert isinstance(node.func, ast.Attribute)  # noqa: S101
        if node.keywords or self.kind(node.func.value) != _STR:
            return None
        if node.func.attr == "split":
            separators = node.args[:1]
            return "list" if len(node.args) <= 1 and all(_constant_text(one) for one in separators) else None
        kind, most = _TEXT_METHODS.get(node.func.attr, ("", -1))
        if len(node.args) > most or (node.func.attr in _ALL_ARGUMENTS and len(node.args) != most):
            return None
        return kind if all(self.kind(argument) == _STR for argument in node.args) else None


_ALL_ARGUMENTS = {"removeprefix", "removesuffix", "replace", "startswith", "endswith", "find", "count"}


def _one(kinds: set[str | None]) -> str | None:
    if None in kinds:
        return None
    return kinds.pop() if len(kinds) == 1 else "any"


def _constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bool)


def _constant_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""
