"""What a root model's turn says: the code to run, and an answer given in prose. Pure.

Code stands in fences marked `repl` or `python`. An answer may stand outside of them, as the paper's prompts have
it (arXiv 2512.24601, appendix): `FINAL(the answer)`, `FINAL_VAR(name)`; or `SUBMIT(…)` as DSPy's. Models misuse all
three, so this reads them generously: a name in quotes, no closing bracket, keyword arguments, brackets that count
points or smile. What a model thinks aloud (`<think>…</think>`) is neither code nor an answer.
"""

import ast
import re
from dataclasses import dataclass

_MARK = "```"
_WORD = re.compile(r"[\w+-]*")
_THINK = re.compile(r"[ \t]*<think>")
_THOUGHT = "</think>"
_FINAL = re.compile(r"^[ \t>*]*(FINAL_VAR|FINAL|SUBMIT)\**[ \t]*\(", re.MULTILINE)
# A value in quotes, and the bracket behind it.
_QUOTED = re.compile(
    r"""\s*([A-Za-z_]\w*\s*=\s*)?("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')\s*\)""", re.DOTALL
)
# Points of a list that end with a bracket: `1)`, `a)`.
_FIRST = re.compile(r"(?:^|[\s(:,;])(?:1|[aA])\Z")
_SECOND = re.compile(r"[\s(:,;](?:2|[bB])\Z")
_SIGNS = re.compile(r"[()\n]|\w+")
_SMILE = re.compile(r"[:;]-?\Z")
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
    fences, opened, prose = _fences(_spoken(reply))
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


def _spoken(reply: str) -> str:
    """A reply without what its model thought: from a line that begins with `<think>`, or from the start where a
    template has written that already, to `</think>`. In code both are text."""
    kept: list[str] = []
    place, mark, told = 0, "", False
    while place < len(reply):
        if not mark and (begun := _THINK.match(reply, place)):
            end = reply.find(_THOUGHT, begun.end())
            if end < 0:
                break
            told, place = True, end + len(_THOUGHT)
            continue
        end = reply.find("\n", place) + 1 or len(reply)
        line = reply[place:end]
        bare = line.strip()
        alone = bare == _THOUGHT or (not mark and (bare.startswith(_THOUGHT) or bare.endswith(_THOUGHT)))
        if alone and not told:
            kept, mark, told = [], "", True
            place += line.index(_THOUGHT) + len(_THOUGHT)
            continue
        if not mark:
            mark = _opening(bare)
        elif _closes(bare, mark):
            mark = ""
        kept.append(line)
        place = end
    return "".join(kept)


def _opening(bare: str) -> str:
    """The mark of a line that opens a fence. One with more of its signs behind it is a word of code in prose."""
    word = bare.lstrip("`")
    mark = bare[: len(bare) - len(word)]
    return mark if len(mark) >= len(_MARK) and "`" not in word else ""


def _closes(bare: str, mark: str) -> bool:
    return bare.startswith(mark) and not bare.strip("`")


def _fences(text: str) -> tuple[list[tuple[str, str]], tuple[str, str] | None, str]:
    """Closed fences with their words, one that was never closed, and the text outside of them."""
    closed: list[tuple[str, str]] = []
    prose: list[str] = []
    word: str | None = None
    inside: list[str] = []
    mark = ""
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if word is None and (opening := _opening(bare)):
            mark = opening
            found = _WORD.match(bare[len(mark) :].strip())
            word, inside = found[0].lower() if found else "", []
        elif word is None:
            prose.append(line)
        elif _closes(bare, mark):
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
    rest = prose[match.end() :]
    quoted = _QUOTED.match(rest)
    if quoted and (match[1] == "SUBMIT" or (match[1] == "FINAL" and not quoted[1])):
        return Final(text=_literal(quoted[2]))
    inner = _inside(rest).strip()
    if match[1] == "FINAL_VAR":
        return Final(variable=inner.strip("\"'` "))
    if match[1] == "SUBMIT":
        inner = _argument(inner)
    if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'":
        return Final(text=_literal(inner))
    return Final(text=inner, variable=inner if inner.isidentifier() else "")


def _inside(text: str) -> str:
    """Up to the bracket that closes; all of it when none does."""
    end = _closing(text, smiles=False)
    if end is None:
        end = _closing(text, smiles=True)
    return text[:end]


def _closing(text: str, *, smiles: bool) -> int | None:
    """The place of the bracket that closes: the first that none has opened.

    Where words follow it in its line, and the line ends with another such, it is that one. A list (`1) … 2) …`) may
    go on over lines, and none of its own brackets closes. With `smiles` those of `:)` count too.
    """
    first = last = None
    depth, points = 0, 0
    for found in _SIGNS.finditer(text):
        sign, place = found[0], found.start()
        if sign == "\n":
            if last is not None or (first is not None and not points):
                break
        elif sign not in "()":
            last = None
        elif not smiles and _SMILE.search(text, max(0, place - 2), place):
            continue
        elif sign == "(":
            depth += 1
        elif depth:
            depth -= 1
        else:
            if first is None:
                first, points = place, int(_FIRST.search(text, max(0, place - 2), place) is not None)
            elif points == 1 and _SECOND.search(text, place - 2, place):
                points = 2
            last = place if last is None else last
    return last if last is not None or points == 2 else first


def _argument(inner: str) -> str:
    """The one value of `SUBMIT(answer=…)`, as it is written."""
    return re.sub(r"\A[A-Za-z_]\w*\s*=\s*(?!=)", "", inner)


def _literal(quoted: str) -> str:
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError, MemoryError):
        return quoted[1:-1]
