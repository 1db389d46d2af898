"""What a root model's turn says: the code to run, and an answer given in prose. Pure.

Code stands in fences marked `repl` or `python`. An answer may stand outside of them, as the paper's prompts have
it (arXiv 2512.24601, appendix): `FINAL(the answer)`, `FINAL_VAR(name)`; or `SUBMIT(…)` as DSPy's. Models misuse all
three, so this reads them generously: a name in quotes, no closing bracket, keyword arguments, brackets that count
points or smile. What a model thinks aloud (`<think>…</think>`) is neither code nor an answer.
"""

import ast
import re
from dataclasses import dataclass

from pylon.rlm.brackets import inside, is_closed

_MARK = "```"
_WORD = re.compile(r"[\w+-]*")
_THINK = re.compile(r"[ \t]*<think>")
_THOUGHT = "</think>"
_FINAL = re.compile(r"^[ \t>*]*(FINAL_VAR|FINAL|SUBMIT)\**[ \t]*\(", re.MULTILINE)
# A value in quotes, and the bracket behind it.
_QUOTED = re.compile(
    r"""\s*([A-Za-z_]\w*\s*=\s*)?("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')\s*\)""", re.DOTALL
)
# Only what may run is worth parsing.
_MOST_PARSED = 200_000
# Of blocks whose ends are looked for, in a turn.
_MOST_PARSES = 16
_QUOTES = ('"""', "'''")
_LANGUAGES = {"repl", "python", "py", "python3"}


@dataclass(frozen=True, slots=True)
class Final:
    """An answer in prose: its text, or the name of the variable that holds it. With both it may be either."""

    text: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """`blocks` in their order; `prose` is what stands outside of fences. `cut_off` tells that the last fence was
    opened and never closed, `final_cut_off` that the answer was."""

    blocks: tuple[str, ...]
    final: Final | None = None
    cut_off: bool = False
    prose: str = ""
    final_cut_off: bool = False


def parse_turn(reply: str, *, cut_off: bool = False) -> Turn:
    """Reads a reply in linear time. Never raises; what is no code and no answer gives an empty turn.

    Of one that was `cut_off` nothing counts as whole that no fence or bracket closes.
    """
    fences, opened, prose = _fences(_spoken(reply))
    blocks = [code for language, code in fences if language in _LANGUAGES]
    if not blocks:
        # Small models forget the word behind the fence.
        blocks = [code for language, code in fences if not language and is_code(code)]
    block_cut_off = False
    if opened is not None and opened[0] in _LANGUAGES:
        block_cut_off = cut_off or not is_code(opened[1])
        if not block_cut_off:
            blocks.append(opened[1])
    final, closed = _final(prose)
    return Turn(
        tuple(code for code in blocks if code.strip()), final, block_cut_off, prose.strip(),
        final_cut_off=cut_off and final is not None and not closed,
    )  # fmt: skip


def _spoken(reply: str) -> str:
    """A reply without what its model thought: from a line that begins with `<think>`, or from the start where a
    template has written that already, to `</think>`. In code both are text, and so is a `</think>` at the end of a
    line of prose that comes after code or an answer."""
    kept: list[str] = []
    place, mark, told, said, text = 0, "", False, False, False
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
        if mark:
            ends = bare == _THOUGHT and not (told or text)
            # Once for a fence, or many of these in it would take long.
            if ends and _is_closed(reply, end, mark):
                ends, text = False, True
        else:
            ends = not told and (bare.startswith(_THOUGHT) or (bare.endswith(_THOUGHT) and not said))
        if ends:
            kept, mark, told = [], "", True
            place += line.index(_THOUGHT) + len(_THOUGHT)
            continue
        if not mark:
            mark = _opening(bare)
            said = said or bool(_FINAL.match(line))
        elif _closes(bare, mark):
            mark, said, text = "", True, False
        kept.append(line)
        place = end
    return "".join(kept)


def _is_closed(reply: str, place: int, mark: str) -> bool:
    """Whether a fence that is open at this place is closed before another is opened."""
    while place < len(reply):
        end = reply.find("\n", place) + 1 or len(reply)
        bare = reply[place:end].strip()
        if bare.startswith(mark) and _opening(bare):
            return _closes(bare, mark)
        place = end
    return False


def _opening(bare: str) -> str:
    """The mark of a line that opens a fence. One with more of its signs behind it is a word of code in prose."""
    word = bare.lstrip("`")
    mark = bare[: len(bare) - len(word)]
    return mark if len(mark) >= len(_MARK) and "`" not in word else ""


def _closes(bare: str, mark: str) -> bool:
    return bare.startswith(mark) and not bare.strip("`")


def _fences(text: str) -> tuple[list[tuple[str, str]], tuple[str, str] | None, str]:
    """Closed fences with their words, one that was never closed, and the text outside of them."""
    lines = text.splitlines(keepends=True)
    closed: list[tuple[str, str]] = []
    prose: list[str] = []
    parses = _MOST_PARSES
    place = 0
    while place < len(lines):
        bare = lines[place].strip()
        place += 1
        mark = _opening(bare)
        if not mark:
            prose.append(lines[place - 1])
            continue
        found = _WORD.match(bare[len(mark) :].strip())
        word, indent = found[0].lower() if found else "", len(lines[place - 1]) - len(lines[place - 1].lstrip())
        end = _next_close(lines, place, mark)
        code = _dedented(lines[place:end], indent)
        if end < len(lines) and word in {*_LANGUAGES, ""} and any(quotes in code for quotes in _QUOTES):
            # What is no code may go on: its quotes hold a fence, and this was the end of that.
            further = end
            while parses and further < len(lines):
                parses -= 1
                if is_code(longer := _dedented(lines[place:further], indent)):
                    end, code = further, longer
                    break
                further = _next_close(lines, further + 1, mark)
        if end == len(lines):
            return closed, (word, code), "".join(prose)
        closed.append((word, code))
        place = end + 1
    return closed, None, "".join(prose)


def _next_close(lines: list[str], place: int, mark: str) -> int:
    """The line that closes a fence with that mark, from this one on; how many there are when none does."""
    return next((at for at in range(place, len(lines)) if _closes(lines[at].strip(), mark)), len(lines))


def _dedented(lines: list[str], indent: int) -> str:
    """Without what a fence that is indented has in front of its lines; as it is where they do not have that."""
    first = next((line for line in lines if line.strip()), "")
    if not indent or first[:indent].strip():
        return "".join(lines)
    return "".join(line[len(line[:indent]) - len(line[:indent].lstrip(" \t")) :] for line in lines)


def is_code(text: str) -> bool:
    """Whether it is a Python program of at least one statement."""
    try:
        return len(text) <= _MOST_PARSED and bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _final(prose: str) -> tuple[Final | None, bool]:
    """The answer, and whether it surely ends where it is read to end."""
    match = None
    for match in _FINAL.finditer(prose):  # noqa: B007 - the last one is meant
        pass
    if match is None:
        return None, False
    rest = prose[match.end() :]
    quoted = _QUOTED.match(rest)
    if quoted and (match[1] == "SUBMIT" or (match[1] == "FINAL" and not quoted[1])):
        return Final(text=_literal(quoted[2])), True
    return _read(match[1], inside(rest).strip()), is_closed(rest)


def _read(name: str, inner: str) -> Final:
    if name == "FINAL_VAR":
        return Final(variable=inner.strip("\"'` "))
    if name == "SUBMIT":
        inner = _argument(inner)
    if _is_quoted(inner):
        return Final(text=_literal(inner))
    return Final(text=inner, variable=inner if inner.isidentifier() else "")


def _is_quoted(inner: str) -> bool:
    """Whether one pair of quotes stands around all of it: in `"a" and "b"` the second ends what the first began."""
    quote = inner[:1]
    if len(inner) < 2 or quote not in "\"'" or inner[-1] != quote:
        return False
    try:
        return isinstance(ast.literal_eval(inner), str)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # Quotes that nobody escaped: what the first encloses goes on behind it.
        second = inner.find(quote, 1, -1)
        return second < 0 or inner[second + 1].isalnum()


def _argument(inner: str) -> str:
    """The one value of `SUBMIT(answer=…)`, as it is written."""
    return re.sub(r"\A[A-Za-z_]\w*\s*=\s*(?!=)", "", inner)


def _literal(quoted: str) -> str:
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return quoted[1:-1]
