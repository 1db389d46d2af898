"""Sentences for a terminal, broken between words: a terminal by itself breaks wherever its edge is."""

from textwrap import wrap


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most so many columns, each further one as far in as its first.

    A word that is longer, a key or a path, stays whole: whoever copies it wants it so. So does a command of ours that
    has its line to itself.
    """
    return "\n".join("\n".join(_lines(line, width)) for line in text.split("\n"))


def _lines(line: str, width: int) -> list[str]:
    said = line.lstrip(" ")
    if len(line) <= width or said.startswith("pylon "):
        return [line]
    indent = line[: len(line) - len(said)]
    return wrap(
        said,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
