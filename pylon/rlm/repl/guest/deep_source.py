"""Python that is nested too deep, refused before the parser goes down into it.

Code reads lists that sub-calls answered with by `ast.literal_eval`, and an answer may be anything. In WebAssembly
some 150 brackets in one another, or 1,000 signs in a row, end the whole sandbox in CPython's parser, and every
variable with it.
"""

import ast
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
    """Has `ast.parse` and `ast.literal_eval` of this interpreter raise SyntaxError for what is too deep, as CPython
    does for too many brackets: who reads an answer catches that."""
    parse = ast.parse

    @wraps(parse)
    def guarded(source: Any, *args: Any, **kwargs: Any) -> Any:
        text = bytes(source).decode("utf-8", "replace") if isinstance(source, bytes | bytearray) else source
        if isinstance(text, str) and is_deep(text):
            raise SyntaxError("this Python is nested too deep for this sandbox to read")
        return parse(source, *args, **kwargs)

    ast.parse = guarded
