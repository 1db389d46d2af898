"""Wraps text for a terminal between words. By itself a terminal breaks words at its edge."""

from textwrap import wrap


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` columns. Further lines have the indent of the first.

    A longer word, such as a key or a path, is not broken, so that it can be copied. Neither is a line that is a
    `pylon` command.
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
