"""Output for people: terminals, tables, durations and short keys."""

import time
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pylon.cli.wrapping import wrapped
from pylon.nostr.bech32 import nip19
from pylon.text import clean_line, clean_text

# The narrowest column in which words are still read, and the space between two columns.
_LETTERS = 4
_GAP = 2
# Figures below this have two digits.
_SMALL = 10
_SHORTEST_S = 0.001
# The least speed that is shown as a figure, in tokens per second.
_SLOWEST = 0.01


class _Terminal(Console):
    """A console for text that strangers may have written: markup in it has no effect, and control characters are
    removed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            objects = tuple(wrapped(one, self.width) if isinstance(one, str) else one for one in objects)
        super().print(*objects, **options)

    def whole(self, text: str) -> None:
        """Prints a line that people copy, without line breaks: those would be copied, too."""
        super().print(Text(clean_line(text)))

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(clean_text(text), **options)


class _Table(Table):
    """A table whose cells have no line breaks and no control characters. Where its figures and keys would be cut off,
    which makes other ones of them, each row is a paragraph instead."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(clean_line(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [(str(column.header), list(map(str, column.cells))) for column in self.columns]
        widths = [max(map(cell_len, (head, *cells))) for head, cells in columns]
        least = [
            wide if column.no_wrap else min(wide, _LETTERS) for column, wide in zip(self.columns, widths, strict=True)
        ]
        gaps = _GAP * (len(widths) - 1)
        if not console.is_terminal:
            # A file or a program that reads lines: each row is one, however long.
            options = options.update(max_width=max(options.max_width, sum(widths) + gaps))
        if sum(least) + gaps <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        heads = [head for head, _ in columns[1:]]
        for first, *others in zip(*(cells for _, cells in columns), strict=True):
            yield Text(first)
            told = ", ".join(f"{head} {cell}" for head, cell in zip(heads, others, strict=True) if cell)
            yield Padding(Text(told, no_wrap=False, overflow="fold"), (0, 0, 0, _GAP))


out = _Terminal()
err = _Terminal(stderr=True)


def table(*columns: str, **options: Any) -> Table:
    """A plain table. A column whose name starts with `>` holds right-aligned figures, one whose name starts with `|`
    what people copy into commands. Both keep each cell on one line.
    """
    made = _Table(box=None, pad_edge=False, header_style="bold", **options)
    for column in columns:
        right, whole = column.startswith(">"), column.startswith("|")
        # A long word, such as a model's name, is folded and not cut.
        made.add_column(
            column.lstrip(">|"), justify="right" if right else "left", no_wrap=right or whole, overflow="fold"
        )
    return made


def ago(seconds: float) -> str:
    """A duration for people: `2.5 d`, `3.0 h`, `12 s`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def figure(number: float) -> str:
    """A number with two significant digits if it is below 10, and as a whole number otherwise."""
    return f"{number:.2g}" if number < _SMALL else f"{number:.0f}"


def brief(seconds: float) -> str:
    """A short duration for people: `under 1 ms`, `0.04 s`, `140 s`."""
    return f"{figure(seconds)} s" if seconds >= _SHORTEST_S else "under 1 ms"


def speed(per_s: float) -> str:
    """A speed in tokens per second, for a table; `?` for 0, which means not measured."""
    return "?" if not per_s else figure(per_s) if per_s >= _SLOWEST else f"under {_SLOWEST}"


def rest_text(rests: dict[str, Any]) -> str:
    """`rests until 17:22:05`, of a provider that is given no jobs until then."""
    return f"rests until {time.strftime('%H:%M:%S', time.localtime(rests['ends_at']))}"


def short(key: str) -> str:
    """A key cut short for a table. A Nostr key is the beginning of its npub, which commands accept."""
    key = nip19.shown_key(key)
    return f"{key[:14]}…" if key.startswith("npub1") else f"{key[:10]}…{key[-6:]}"
