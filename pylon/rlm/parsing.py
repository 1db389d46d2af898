"""Parses a root model's turn: the code to run, and an answer given in prose. Pure.

Code is in fences marked `repl` or `python`. An answer may come outside of them, in the form of the paper's prompts
(arXiv 2512.24601, appendix), `FINAL(the answer)` or `FINAL_VAR(name)`, or of DSPy's, `SUBMIT(…)`. Models misuse all
three, so the parser is tolerant: of a name in quotes, a missing closing bracket, keyword arguments, and brackets of
list points or smileys. What a model thinks aloud (`<think>…</think>`) is neither code nor an answer.
"""

import ast
import re
import warnings
from dataclasses import dataclass
from functools import partial

from pylon.rlm.brackets import inside, is_closed

_MARK = "```"
_WORD = re.compile(r"[\w+-]*")
_THINK = re.compile(r"[ \t]*<think>")
_THOUGHT = "</think>"
_FINAL = re.compile(r"^[ \t>*]*(FINAL_VAR|FINAL|SUBMIT)\**[ \t]*\(", re.MULTILINE)
# A value in quotes, and the bracket after it.
_QUOTED = re.compile(
    r"""\s*([A-Za-z_]\w*\s*=\s*)?("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')\s*\)""", re.DOTALL
)
# Longer texts are not parsed, as they are too long to be run.
_MOST_PARSED = 200_000
# How often in a turn the end of a block is searched by parsing it.
_MOST_PARSES = 16
_QUOTES = ('"""', "'''")
# The parser warns of escapes such as `\d` in what the root wrote, which is no concern of whoever runs this program.
_quiet = partial(warnings.catch_warnings, action="ignore", category=SyntaxWarning)
_LANGUAGES = {"repl", "python", "py", "python3"}


@dataclass(frozen=True, slots=True)
class Final:
    """An answer in prose: its text, or the name of the variable that holds it. If both are given it may be either."""

    text: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A parsed turn: its code `blocks` in order, its `final` answer, and the `prose` outside of fences. `cut_off`
    tells that the last block of code was cut off, `final_cut_off` that the answer was."""

    blocks: tuple[str, ...]
    final: Final | None = None
    cut_off: bool = False
    prose: str = ""
    final_cut_off: bool = False


def parse_turn(reply: str, *, cut_off: bool = False) -> Turn:
    """Parses a reply, in linear time. Never raises; without code and answer the turn is empty.

    If the reply was `cut_off`, only what a fence or bracket closes counts as complete.
    """
    fences, opened, prose = _fences(_spoken(reply))
    blocks = [code for language, code in fences if language in _LANGUAGES]
    if not blocks:
        # Small models forget the word after the fence.
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
    """A reply without its thoughts: from a line that begins with `<think>`, or from the start if the chat template
    has written that already, to `</think>`. In code both tags are plain text, and so is a `</think>` at the end of a
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
            # Searched once for each fence: a fence with many such lines would otherwise take quadratic time.
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
    """Whether the fence that is open at this place is closed before another one is opened."""
    while place < len(reply):
        end = reply.find("\n", place) + 1 or len(reply)
        bare = reply[place:end].strip()
        if bare.startswith(mark) and _opening(bare):
            return _closes(bare, mark)
        place = end
    return False


def _opening(bare: str) -> str:
    """The mark of a line that opens a fence, else empty. A line with further backticks is inline code in prose."""
    word = bare.lstrip("`")
    mark = bare[: len(bare) - len(word)]
    return mark if len(mark) >= len(_MARK) and "`" not in word else ""


def _closes(bare: str, mark: str) -> bool:
    return bare.startswith(mark) and not bare.strip("`")


def _fences(text: str) -> tuple[list[tuple[str, str]], tuple[str, str] | None, str]:
    """The closed fences as (language, code), a last one that was never closed, and the text outside of fences."""
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
            # If the block does not parse, this mark may be within a string of the code: try the next ones.
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
    """The number of the line, from `place` on, that closes a fence with this mark; `len(lines)` if none does."""
    return next((at for at in range(place, len(lines)) if _closes(lines[at].strip(), mark)), len(lines))


def _dedented(lines: list[str], indent: int) -> str:
    """The lines of a fence, joined, without the indentation of the fence itself; unchanged if they lack it."""
    first = next((line for line in lines if line.strip()), "")
    if not indent or first[:indent].strip():
        return "".join(lines)
    return "".join(line[len(line[:indent]) - len(line[:indent].lstrip(" \t")) :] for line in lines)


def is_code(text: str) -> bool:
    """Whether a text is a Python program of at least one statement."""
    try:
        with _quiet():
            return len(text) <= _MOST_PARSED and bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _final(prose: str) -> tuple[Final | None, bool]:
    """The answer, and whether its end is certain."""
    match = None
    for match in _FINAL.finditer(prose):  # noqa: B007 - the last one counts
        pass
    if match is None:
        return None, False
    rest = prose[match.end() :]
    quoted = _QUOTED.match(rest)
    if quoted and (match[1] == "SUBMIT" or (match[1] == "FINAL" and not quoted[1])):
        return Final(text=_literal(quoted[2])), True
    return _read(match[1], inside(rest).strip()), is_closed(rest)


def _read(name: str, inner: str) -> Final:
    """The answer that `name(inner)` gives; `name` is FINAL, FINAL_VAR or SUBMIT."""
    if name == "FINAL_VAR":
        return Final(variable=inner.strip("\"'` "))
    if name == "SUBMIT":
        inner = _argument(inner)
    if _is_quoted(inner):
        return Final(text=_literal(inner))
    return Final(text=inner, variable=inner if inner.isidentifier() else "")


def _is_quoted(inner: str) -> bool:
    """Whether one pair of quotes encloses the whole text, unlike `"a" and "b"`, where the second quote ends the
    first string."""
    quote = inner[:1]
    if len(inner) < 2 or quote not in "\"'" or inner[-1] != quote:
        return False
    try:
        with _quiet():
            return isinstance(ast.literal_eval(inner), str)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # With an unescaped quote inside, as in 'it's': a letter follows that quote directly.
        second = inner.find(quote, 1, -1)
        return second < 0 or inner[second + 1].isalnum()


def _argument(inner: str) -> str:
    """The value of `SUBMIT(answer=…)`, as it is written."""
    return re.sub(r"\A[A-Za-z_]\w*\s*=\s*(?!=)", "", inner)


def _literal(quoted: str) -> str:
    """The value of a string in quotes; the text between them if it is no valid literal."""
    try:
        with _quiet():
            return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return quoted[1:-1]
