"""Refuses Python source that is nested too deep for the sandbox in WebAssembly, before it is parsed.

Code reads answers of sub-calls by `ast.literal_eval`, and an answer may be anything. In WebAssembly some 150 nested
brackets, or 1,000 operators in a row, overflow the stack in CPython's parser: the sandbox ends and its variables are
lost.
"""

import ast
import builtins
import inspect
import sys
import tokenize
from functools import wraps
from io import StringIO
from typing import Any

# How many operators take as much of the parser's stack as one bracket.
_BRACKET = 6
# The greatest depth, in operators: less than half of what was seen to end the sandbox.
DEEPEST = 400
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")
# Operators and keywords that are words, and make an expression deeper by one.
_WORDS = frozenset({"not", "if", "else", "lambda", "await", "yield", "and", "or", "in", "is"})


def is_deep(text: str) -> bool:
    """Whether an expression in this source may be nested too deep for the parser.

    It counts the brackets around each place and the operators in the same row, so that long flat rows are refused as
    well. Text that is not Python is checked up to there: the parser stops there, too.
    """
    # Too short to be deep: it need not be read.
    if sum(map(text.count, "([{")) * _BRACKET + len(text) <= DEEPEST:
        return False
    # For each open bracket: the operators in its current row, and the lambdas whose colon has not come yet. A comma
    # ends the row, except between the parameters of a lambda.
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
                # Calls and subscripts in a row, as in `f()()[0]`, are nested too.
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
    """Makes `ast.parse`, `ast.literal_eval`, `eval`, `exec` and `compile` of this interpreter refuse deep source.

    They raise SyntaxError, as CPython does for too many brackets: code that reads answers catches that.
    """
    ast.parse = _guarded(ast.parse, bytes, bytearray)
    # `ast.parse` ends in a call of compile. So does an import, but with bytes, which are not checked: that would make
    # loading a module half as slow again.
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
    """`eval` or `exec`, checked, with the caller's variables as the default."""

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
