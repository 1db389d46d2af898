"""Python that is nested too deep, refused before the parser goes down into it.

Code reads lists that sub-calls answered with by `ast.literal_eval`, and an answer may be anything. In WebAssembly
some 150 brackets in one another, or 1,000 signs in a row, end the whole sandbox in CPython's parser, and every
variable with it.
"""

import ast
import builtins
import inspect
import sys
import tokenize
from functools import wraps
from io import StringIO
from typing import Any

# The parser's stack for a bracket is that of several operators.
_BRACKET = 6
# Less than half of what was seen to end it.
DEEPEST = 400
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")
# Of those that are names, what makes an expression deeper by one.
_WORDS = frozenset({"not", "if", "else", "lambda", "await", "yield", "and", "or", "in", "is"})


def is_deep(text: str) -> bool:
    """Whether an expression in this text may be deeper than the parser can go.

    Counted are brackets around a place, and operators in a row beside it: as many in a flat row are refused as well.
    Text that is no Python is not deep as far as it is some: the parser stops there too.
    """
    # Too short to be deep, and need not be read.
    if sum(map(text.count, "([{")) * _BRACKET + len(text) <= DEEPEST:
        return False
    # Of each bracket that is open: the operators in a row in it, and the lambdas whose colon is to come. A comma ends
    # the row, but for one between a lambda's parameters.
    rows: list[tuple[int, int]] = [(0, 0)]
    depth = 0
    try:
        for token in tokenize.generate_tokens(StringIO(text).readline):
            kind = tokenize.tok_name[token.type]
            row, lambdas = rows[-1]
            if kind.endswith("STRING_START") or token.string in _OPENS:
                rows.append((0, 0))
                depth += _BRACKET
            elif (kind.endswith("STRING_END") or token.string in _CLOSES) and len(rows) > 1:
                rows.pop()
                depth -= _BRACKET + row
                # A call of what was called, an index of what was indexed.
                rows[-1] = (rows[-1][0] + 1, rows[-1][1])
                depth += 1
            elif kind == "NEWLINE" or (not lambdas and token.string in (",", ";")):
                rows[-1] = (0, 0)
                depth -= row
            elif token.string in _WORDS or kind == "OP":
                begun = (token.string == "lambda") - (token.string == ":")
                rows[-1] = (row + 1, max(0, lambdas + begun))
                depth += 1
            if depth > DEEPEST:
                return True
    except (tokenize.TokenError, SyntaxError):
        pass
    return False


def guard() -> None:
    """Has `ast.parse`, `ast.literal_eval`, `eval`, `exec` and `compile` of this interpreter raise SyntaxError for
    what is too deep, as CPython does for too many brackets: who reads an answer catches that."""
    ast.parse = _guarded(ast.parse, bytes, bytearray)
    # That ends in a compile, and an import in one of bytes: looked at, a module takes half as long again to load.
    builtins.compile = _guarded(compile, str)
    builtins.eval = _where_called(eval)
    builtins.exec = _where_called(exec)


def _guarded(read: Any, *kinds: type[str | bytes | bytearray]) -> Any:
    @wraps(read)
    def guarded(source: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(source, kinds):
            _refuse_deep(source)
        return read(source, *args, **kwargs)

    return guarded


def _where_called(run: Any) -> Any:
    """The names that the code sees are those of whoever calls."""

    @wraps(run)
    def guarded(source: Any, /, globals: Any = None, locals: Any = None, **more: Any) -> Any:  # noqa: A002
        if isinstance(source, str | bytes | bytearray):
            _refuse_deep(source)
        if globals is None:
            caller = sys._getframe(1)
            globals = caller.f_globals  # noqa: A001
            if locals is None:
                in_function = caller.f_code.co_flags & inspect.CO_OPTIMIZED
                locals = dict(caller.f_locals) if in_function else caller.f_locals  # noqa: A001
        return run(source, globals, locals, **more)

    return guarded


def _refuse_deep(source: str | bytes | bytearray) -> None:
    if is_deep(source if isinstance(source, str) else bytes(source).decode("utf-8", "replace")):
        raise SyntaxError("this Python is nested too deep for this sandbox to read")
