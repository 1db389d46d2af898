"""What a root model's turn says: the code to run, and an answer given in prose. Pure.

Code stands in fences marked `repl` or `python`. An answer may stand outside of them, as the paper's prompts have
it (arXiv 2512.24601, appendix): `FINAL(the answer)`, `FINAL_VAR(name)`; or `SUBMIT(…)` as DSPy's. Models misuse all
three, so this reads them generously: a name in quotes, no closing bracket, keyword arguments.
"""

import ast
import re
from dataclasses import dataclass

_MARK = "```"
_WORD = re.compile(r"[\w+-]*")
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FINAL = re.compile(r"^[ \t>*]*(FINAL_VAR|FINAL|SUBMIT)\**[ \t]*\(", re.MULTILINE)
# Only what may run is worth parsing.
_MOST_PARSED = 200_000
_LANGUAGES = {"repl", "python", "py", "python3"}


@dataclass(frozen=True, slots=True)
class Final:
    """An answer in prose: its text, or the name of the variable that holds it. With both it may be either."""

    text: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """`blocks` in their order; `prose` is what stands outside of fences. `cut_off` tells that the last fence was
    opened and never closed."""

    blocks: tuple[str, ...]
    final: Final | None = None
    cut_off: bool = False
    prose: str = ""


def parse_turn(reply: str) -> Turn:
    """Reads a reply in linear time. Never raises; what is no code and no answer gives an empty turn."""
    fences, opened, prose = _fences(_THINKING.sub("", reply))
    blocks = [code for language, code in fences if language in _LANGUAGES]
    if not blocks:
        # Small models forget the word behind the fence.
        blocks = [code for language, code in fences if not language and is_code(code)]
    cut_off = False
    if opened is not None and opened[0] in _LANGUAGES:
        cut_off = not is_code(opened[1])
        if not cut_off:
            blocks.append(opened[1])
    return Turn(tuple(code for code in blocks if code.strip()), _final(prose), cut_off, prose.strip())


def _fences(text: str) -> tuple[list[tuple[str, str]], tuple[str, str] | None, str]:
    """Closed fences with their words, one that was never closed, and the text outside of them."""
    closed: list[tuple[str, str]] = []
    prose: list[str] = []
    word: str | None = None
    inside: list[str] = []
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if word is None and bare.startswith(_MARK):
            found = _WORD.match(bare[len(_MARK) :].strip())
            word, inside = found[0].lower() if found else "", []
        elif word is None:
            prose.append(line)
        elif bare == _MARK:
            closed.append((word, "".join(inside)))
            word = None
        else:
            inside.append(line)
    return closed, None if word is None else (word, "".join(inside)), "".join(prose)


def is_code(text: str) -> bool:
    """Whether it is a Python program of at least one statement."""
    try:
        return len(text) <= _MOST_PARSED and bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _final(prose: str) -> Final | None:
    match = None
    for match in _FINAL.finditer(prose):  # noqa: B007 - the last one is meant
        pass
    if match is None:
        return None
    inner = _inside(prose[match.end() :]).strip()
    if match[1] == "FINAL_VAR":
        return Final(variable=inner.strip("\"'` "))
    if match[1] == "SUBMIT":
        inner = _argument(inner)
    if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'":
        return Final(text=_literal(inner))
    return Final(text=inner, variable=inner if inner.isidentifier() else "")


def _inside(text: str) -> str:
    """Up to the bracket that closes; all of it when none does."""
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return text[:place]
    return text


def _argument(inner: str) -> str:
    """The one value of `SUBMIT(answer=…)`, as it is written."""
    return re.sub(r"\A[A-Za-z_]\w*\s*=\s*(?!=)", "", inner)


def _literal(quoted: str) -> str:
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError, MemoryError):
        return quoted[1:-1]
