"""Expressions in a rehearsal, evaluated as Python does. What an answer decides gives an unknown value."""

import ast
import itertools
from typing import Any

from .comprehensions import Comprehensions, GeneratorArgument
from .followed import EXPRESSIONS
from .methods import DATA, Method
from .unknown import ITEMS, Ended, Unknown, can_compare, concatenated, formats, item_of

_CONVERSIONS = {-1: None, ord("s"): str, ord("r"): repr, ord("a"): ascii}


class Expressions(Comprehensions):
    """All kinds of expressions."""

    def evaluate(self, node: ast.expr) -> Any:
        """The value of an expression. Raises Ended where it cannot be followed."""
        self.step()
        if type(node) not in EXPRESSIONS:
            raise Ended
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.look_up(name)
            case ast.Call():
                return self._call(node)
            case ast.Attribute(value=of, attr=name):
                return self.attribute(self.evaluate(of), name)
            case ast.JoinedStr(values=parts):
                return self._formatted(parts)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.evaluate(left), self.evaluate(right))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                truth = self.truth(self.evaluate(operand))
                return Unknown("bool") if truth is None else not truth
            case ast.UnaryOp(op=op, operand=operand):
                return self.native(op, None, self.evaluate(operand))
            case ast.BoolOp(op=op, values=values):
                return self._either_of(isinstance(op, ast.And), values)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self._chosen(test, body, other)
            case ast.Compare():
                return self._compare(node)
            case ast.Subscript(value=of, slice=part):
                return self._part(of, part)
            case ast.Slice(lower=lower, upper=upper, step=step):
                edges = [None if one is None else self.evaluate(one) for one in (lower, upper, step)]
                return slice(*edges)
            case ast.Tuple(elts=elements):
                return tuple(self.evaluate_all(elements))
            case ast.List(elts=elements):
                return self.evaluate_all(elements)
            case ast.Set(elts=elements):
                return self._displayed(elements)
            case ast.Dict(keys=keys, values=values):
                made: dict[Any, Any] = {}
                for key, value in zip(keys, values, strict=True):
                    if key is None:
                        raise Ended
                    self.put(made, self.evaluate(key), self.evaluate(value))
                return made
            case ast.ListComp(elt=element):
                return self.all_of(node, lambda: self.evaluate(element))
            case ast.SetComp(elt=element):
                return self.set_of(node, lambda: self.evaluate(element))
            case ast.DictComp(key=key, value=element):
                pairs: dict[Any, Any] = {}
                self.each(node, lambda: self.put(pairs, self.evaluate(key), self.evaluate(element)))
                return pairs
            case ast.Lambda():
                return self.closure(node)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                result = self.evaluate(value)
                self.assign(name, result)
                return result
        raise Ended

    def _compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1:
            values = self.evaluate_all([node.left, *node.comparators])
            if not all(self.is_known(value) for value in values):
                raise Ended
            # All operands are evaluated here, where Python may stop before the last.
            if not all(isinstance(one, ast.Name | ast.Constant) for one in node.comparators):
                raise Ended
            return all(self.native(op, *values[place : place + 2]) for place, op in enumerate(node.ops))
        op, left, right = node.ops[0], self.evaluate(node.left), self.evaluate(node.comparators[0])
        if self.is_known(left) and self.is_known(right):
            return self.native(op, left, right)
        if isinstance(op, ast.Is | ast.IsNot) and left is right:
            return isinstance(op, ast.Is)
        if isinstance(op, ast.In | ast.NotIn) and id(right) in self.members and self.key_known(left):
            return (left in self.members[id(right)]) is isinstance(op, ast.In)
        kinds = self.kind(left), self.kind(right)
        if isinstance(op, ast.Is | ast.IsNot) and kinds in (("str", "NoneType"), ("NoneType", "str")):
            return isinstance(op, ast.IsNot)
        return Unknown("bool") if can_compare(type(op).__name__, *kinds) else self.may_fail()

    def _formatted(self, parts: list[ast.expr]) -> Any:
        texts: list[Any] = []
        for part in parts:
            if isinstance(part, ast.Constant):
                texts.append(str(part.value))
                continue
            if not isinstance(part, ast.FormattedValue):
                raise Ended
            value = self.evaluate(part.value)
            form = "" if part.format_spec is None else self.evaluate(part.format_spec)
            if not self.text_known([value]):
                convert = _CONVERSIONS[part.conversion]
                if form != "" and not formats(form, "str" if convert else self.kind(value)):
                    self.may_fail()
                texts.append(value if self.kind(value) == "str" and not convert and form == "" else Unknown("str"))
                continue
            if not self.is_known(form) or (type(value) not in DATA):
                raise Ended
            convert = _CONVERSIONS[part.conversion]
            texts.append(format(convert(value) if convert else value, form))
        return concatenated(texts)

    def _either_of(self, every: bool, values: list[ast.expr]) -> Any:
        first, *rest = values
        value = self.evaluate(first)
        if not rest:
            return value
        truth = self.truth(value)
        if truth is not None:
            return self._either_of(every, rest) if truth is every else value
        start = self.snapshot()
        other = self.doubtful(lambda: self._either_of(every, rest))
        self.join([self.snapshot(), start])
        return self.either(value, other)

    def _chosen(self, test: ast.expr, body: ast.expr, other: ast.expr) -> Any:
        believe = self.believing(test)
        truth = self.truth(self.evaluate(test))
        if truth is not None:
            return self.evaluate(body if truth else other)
        start = self.snapshot()
        believe(True)
        one = self.doubtful(lambda: self.evaluate(body))
        after = self.snapshot()
        self.restore(start)
        believe(False)
        two = self.doubtful(lambda: self.evaluate(other))
        self.join([self.snapshot(), after])
        return self.either(one, two)

    def _displayed(self, elements: list[ast.expr]) -> set[Any]:
        """The set that `{…}` makes. Its order is not known: it depends on what the compiler has compiled before."""
        values = self.evaluate_all(elements)
        made: set[Any] = set()
        known = [self.key_known(value) for value in values]
        if all(known):
            self.unordered(made).update(values)
        else:
            self.blur(made)
        return made

    def _part(self, node: ast.expr, index: ast.expr) -> Any:
        of = self._untouched(node)
        if of is None:
            return self.part(self.evaluate(node), self.evaluate(index))
        part = self.evaluate(index)
        edges = (part.start, part.stop, part.step) if type(part) is slice else (part,)
        if self.shadows.untouched(of) and all(type(edge) in (int, str, type(None)) for edge in edges):
            return self.shadows.of(of[part])
        return self.part(self.shadows.of(of), part)

    def _untouched(self, node: ast.expr) -> Any:
        """The running code's container that an expression names, if a part of it can be copied alone; else None."""
        match node:
            case ast.Name(id=name):
                return self.untouched(name)
            case ast.Subscript(value=of, slice=ast.Constant(value=int() | str() as key)):
                whole = self._untouched(of)
                part = None if whole is None else whole[key]
                return part if self.shadows.untouched(part) else None
        return None

    def _call(self, node: ast.Call) -> Any:
        function = self.evaluate(node.func)
        if function is len and len(node.args) == 1 and not node.keywords:
            whole = self._untouched(node.args[0])
            if whole is not None:
                return len(whole)
        arguments: list[Any] = []
        for one in node.args:
            if isinstance(function, Method) and self.kind(function.of) == "data" and _is_empty(one):
                # Nothing else refers to this container.
                arguments.append(Unknown("data"))
            elif isinstance(one, ast.GeneratorExp):
                arguments.append(GeneratorArgument(one))
            else:
                arguments += self.evaluate_all([one])
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise Ended
            keywords[keyword.arg] = self.evaluate(keyword.value)
        if any(isinstance(one, GeneratorArgument) for one in arguments):
            return self.deeper(lambda: self.call_drawing(function, arguments, keywords))
        return self.call(function, arguments, keywords)

    def bind(self, target: ast.expr, value: Any) -> None:
        """Assigns a value to a target of an assignment."""
        match target:
            case ast.Name(id=name):
                self.assign(name, value)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                if any(isinstance(one, ast.Starred) for one in targets):
                    raise Ended
                if self.kind(value) in ITEMS:
                    self.may_fail(Exception if self.kind(value) == "data" else ValueError)
                    for one in targets:
                        self.bind(one, item_of(value))
                    return
                # Of more items than there are targets, Python draws one too many, and fails.
                values = list(itertools.islice(self.rounds(value), len(targets) + 1))
                if len(values) != len(targets):
                    raise Ended
                for one, other in zip(targets, values, strict=True):
                    self.bind(one, other)
            case ast.Subscript(value=of, slice=part):
                self.put(self.evaluate(of), self.evaluate(part), value)
            case _:
                raise Ended


def _is_empty(node: ast.expr) -> bool:
    return (isinstance(node, ast.List) and not node.elts) or (isinstance(node, ast.Dict) and not node.keys)
