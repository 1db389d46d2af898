"""Output for people: what is printed, tables, durations, short keys."""

import time
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pylon.cli.wrapping import wrapped
from pylon.nostr.bech32 import nip19
from pylon.text import clean_line, clean_text

_SMALL = 10
_SHORTEST_S = 0.001
# Tokens a second: less is not worth a figure.
_SLOWEST = 0.01


class _Terminal(Console):
    """Much of what is shown, strangers wrote: no text is markup, and none gives orders to the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            objects = tuple(wrapped(one, self.width) if isinstance(one, str) else one for one in objects)
        super().print(*objects, **options)

    def whole(self, text: str) -> None:
        """Prints one line that is to be copied, however long it is: a break in it would be copied, too."""
        super().print(Text(clean_line(text)))

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(clean_text(text), **options)


class _Table(Table):
    """Each cell is one line of what stands in it."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(clean_line(cell) if isinstance(cell, str) else cell for cell in cells), **options)


out = _Terminal()
err = _Terminal(stderr=True)


def table(*columns: str, **options: Any) -> Table:
    """A plain table. Columns whose name starts with `>` are right-aligned figures, each on one line; what stands in
    those with `|` is for commands, and never cut.
    """
    made = _Table(box=None, pad_edge=False, header_style="bold", **options)
    for column in columns:
        right, whole = column.startswith(">"), column.startswith("|")
        # What has no blanks, such as a model's name, is folded where there is no room for it.
        made.add_column(
            column.lstrip(">|"), justify="right" if right else "left", no_wrap=right or whole, overflow="fold"
        )
    return made


def ago(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def figure(number: float) -> str:
    """Two digits of what is below 10, and the whole of what is more."""
    return f"{number:.2g}" if number < _SMALL else f"{number:.0f}"


def brief(seconds: float) -> str:
    """How long something took that is most often a few seconds: `under 1 ms`, `0.04 s`, `140 s`."""
    return f"{figure(seconds)} s" if seconds >= _SHORTEST_S else "under 1 ms"


def speed(per_s: float) -> str:
    """Tokens a second for a table; nobody has measured what is 0."""
    return "?" if not per_s else figure(per_s) if per_s >= _SLOWEST else f"under {_SLOWEST}"


def rest_text(rests: dict[str, Any]) -> str:
    """Until when a provider is left alone: `rests until 17:22:05`."""
    return f"rests until {time.strftime('%H:%M:%S', time.localtime(rests['ends_at']))}"


def short(key: str) -> str:
    """A key as it fits a table: of a Nostr key the beginning of its npub, which commands take for it."""
    key = nip19.shown_key(key)
    return f"{key[:14]}…" if key.startswith("npub1") else f"{key[:10]}…{key[-6:]}"


def counted(number: int, noun: str, many: str = "") -> str:
    """`1 provider`, `2 providers`; `many` where an s is not all that more of them take."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
