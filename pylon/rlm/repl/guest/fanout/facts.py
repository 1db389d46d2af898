"""What a condition tells of a text: after `if ":" in line` the line can be split there."""

import ast


def held(test: ast.expr, holds: bool) -> list[tuple[str, str]]:
    """Names whose values contain a text, with that text, if the condition holds, or if it does not."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return held(operand, not holds)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) is holds:
            return [fact for value in values for fact in held(value, holds)]
        case ast.Compare(left=ast.Constant(value=str(part)), ops=[op], comparators=[ast.Name(id=name)]) if part:
            return [(name, part)] if isinstance(op, ast.In if holds else ast.NotIn) else []
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=name), attr="startswith" | "endswith"),
            args=[ast.Constant(value=str(part))],
            keywords=[],
        ) if part and holds:
            return [(name, part)]
    return []
