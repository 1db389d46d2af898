"""What a condition tells of a value: after `if ":" in line` the line can be split there, `if m` tells of a match."""

import ast
import enum


class Fact(enum.Enum):
    """What a condition tells of a value, other than a text that it contains."""

    TRUE = enum.auto()
    NOT_NONE = enum.auto()


def told(test: ast.expr, holds: bool) -> list[tuple[str, Fact | str]]:
    """Names of which the condition tells something if it holds, or if it does not: a text in it, or a fact."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return told(operand, not holds)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) is holds:
            return [fact for value in values for fact in told(value, holds)]
        case ast.Compare(left=ast.Constant(value=str(part)), ops=[op], comparators=[ast.Name(id=name)]) if part:
            return [(name, part)] if isinstance(op, ast.In if holds else ast.NotIn) else []
        case ast.Compare(
            left=ast.Name(id=name) | ast.NamedExpr(target=ast.Name(id=name)),
            ops=[op],
            comparators=[ast.Constant(value=None)],
        ):
            return [(name, Fact.NOT_NONE)] if isinstance(op, ast.IsNot if holds else ast.Is) else []
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=name), attr="startswith" | "endswith"),
            args=[ast.Constant(value=str(part))],
            keywords=[],
        ) if part and holds:
            return [(name, part)]
        case ast.Name(id=name) | ast.NamedExpr(target=ast.Name(id=name)) if holds:
            return [(name, Fact.TRUE)]
    return []


def assigned(test: ast.expr) -> str | None:
    """The name that a condition gives the value it looks at, as the last thing that it does."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return assigned(operand)
        case (
            ast.NamedExpr(target=ast.Name(id=name))
            | ast.Compare(
                left=ast.NamedExpr(target=ast.Name(id=name)),
                ops=[ast.Is() | ast.IsNot()],
                comparators=[ast.Constant()],
            )
        ):
            return name
    return None
