"""The context of a run: files, folders, globs, standard input, or a value of the caller's.

The REPL reads the files itself. This process reads them once, piece by piece, for length and hash, and never holds
the whole text.
"""

import codecs
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import orjson

from pylon.errors import UsageError, refusal
from pylon.rlm import withheld
from pylon.rlm.repl.protocol import ContextFile, ContextSource
from pylon.rlm.trajectory import TrajectoryError
from pylon.text import clean_line

Shape = Literal["auto", "text", "json", "files"]
type Kind = Literal["text", "PDF", "UTF-16", "binary"]

_PIECE = 1 << 20
# The marks with which Windows and spreadsheets begin such a file.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REPLACEMENT = "\ufffd"
_MOST_DOUBTS = 8
MAX_FILES = 100_000
_REFUSED = "{} contains a secret key or a wallet link, and a context is sent to strangers"


class Readable(Protocol):
    """What standard input is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file as it was when the run began: `size` in bytes, `chars` in characters. `name` is valid Unicode,
    whatever the disk calls it.

    `replaced` counts the characters U+FFFD that replace bytes which are not UTF-8; `kind` is `PDF`, `UTF-16` or
    `binary` if the file is not text that the REPL can read.
    """

    name: str
    path: Path
    size: int
    chars: int
    sha256: str
    replaced: int = 0
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a run. `skipped` counts files of folders that were left out, as they are not text or are held
    back."""

    source: ContextSource
    files: tuple[FileFacts, ...]
    skipped: int = 0

    @property
    def chars(self) -> int:
        return sum(file.chars for file in self.files)

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def replaced(self) -> int:
        return sum(file.replaced for file in self.files)

    def doubts(self) -> list[str]:
        """Warnings for people: what of the context may not be the text that they meant."""
        if not self.chars:
            return ["the context is empty: an answer can come from the question alone"]
        named = [one for file in self.files if (one := _doubt(file))]
        more = len(named) - _MOST_DOUBTS
        return named if more <= 0 else [*named[:_MOST_DOUBTS], f"and {more:,} more files are not UTF-8 text"]

    def describe(self) -> str:
        """What the variable `context` holds, in words for the root model."""
        if self.source.kind == "text":
            return f"a str of {self.chars:,} characters"
        if self.source.kind == "json":
            return f"what a JSON file of {self.chars:,} characters holds"
        names = ", ".join(repr(file.name) for file in self.files[:8])
        more = ", …" if len(self.files) > 8 else ""
        return f"a dict of {len(self.files):,} texts by name, {self.chars:,} characters in all ({names}{more})"


def from_paths(given: Sequence[str], *, shape: Shape, spool: Path, stdin: Readable | None = None) -> Context:
    """The context from files, folders, globs, and `-` for standard input, which is written to `spool` first.

    `auto` makes a str of a single file and a dict of texts by name of anything else. Since the text goes to
    strangers, Pylon's own homes and files that hold a key or a wallet's link are left out of folders and globs, and
    refused if they are named themselves or come from standard input. Blocking. Raises `UsageError`.
    """
    found: list[tuple[str, Path]] = []
    skipped = 0
    if given.count("-") > 1:
        raise UsageError("standard input can be read only once, but --context names it twice")
    # Cached, since many files have the same parent folders.
    is_home = cache(withheld.is_home)
    for one in given:
        if one == "-":
            found.append(("stdin", _standard_input(stdin, spool)))
        else:
            files, left_out = _files_of(one, is_home)
            found += files
            skipped += left_out
    single = len(given) == 1 and (given[0] == "-" or Path(given[0]).expanduser().is_file())
    if not found:
        raise UsageError(
            "--context contains no text",
            hint="In folders, only text is read; hidden files, keys and Pylon's own homes are skipped.",
        )
    found = _distinct(found)
    if len(found) > MAX_FILES:
        raise UsageError(f"--context names {len(found):,} files; the maximum is {MAX_FILES:,}")
    kind: Literal["text", "json", "files"] = shape if shape != "auto" else "text" if single else "files"
    if kind != "files" and len(found) != 1:
        raise UsageError(f"--as {kind} takes one file, but --context names {len(found):,}")
    facts = tuple(file_facts(name, path.absolute()) for name, path in found)
    if not any(file.chars for file in facts):
        named = clean_line(facts[0].name) if len(facts) == 1 else f"each of {len(facts):,} files"
        raise UsageError(
            f"the context is empty: {named} contains nothing",
            hint="Name a file that contains text. To ask a question without a text, use `pylon ask`.",
        )
    source = ContextSource(kind, tuple(ContextFile(file.name, file.path) for file in facts))
    return Context(source, facts, skipped)


def _files_of(one: str, is_home: Callable[[Path], bool]) -> tuple[list[tuple[str, Path]], int]:
    """The files that one --context names, with their names, and how many files of a folder or glob were left out.
    `is_home` is `withheld.is_home`, cached. Raises `UsageError`."""
    path = Path(one).expanduser()
    if not one:
        # As from an unset shell variable. `Path("")` would be the working directory.
        raise UsageError("a --context is empty", hint="Name a file, a folder or a glob, or - for standard input.")
    if path.is_dir():
        return withheld.text_files(path)
    if path.is_file():
        if withheld.is_secret(path):
            raise UsageError(_REFUSED.format(one))
        return [(one, path)], 0
    if any(sign in one for sign in withheld.SIGNS):
        matches = sorted(match for match in _glob(one) if match.is_file())
        if not matches:
            raise UsageError(
                f"no file matches {one}", hint="Put quotes around the pattern, or give the files themselves."
            )
        wanted = [
            match
            for match in matches
            if not (withheld.is_hidden_from(match, one) or withheld.is_kept_back(match, is_home))
        ]
        return [(str(match), match) for match in wanted], len(matches) - len(wanted)
    if path.exists():
        raise UsageError(f"{one} is neither a file nor a folder", hint="Pipe it in and use standard input: -c -")
    raise UsageError(f"file {one} does not exist", hint="--context takes files, folders, globs, or - for stdin.")


def _standard_input(stdin: Readable | None, spool: Path) -> Path:
    """Writes standard input to `spool`, which it returns. Raises `UsageError` if there is none, or it holds a
    secret."""
    if stdin is None:
        raise UsageError("standard input is closed")
    _write(spool, iter(lambda: stdin.read(_PIECE), b""))
    if withheld.is_secret(spool):
        spool.unlink()
        raise UsageError(_REFUSED.format("standard input"))
    return spool


def from_value(value: object, spool: Path) -> Context:
    """The context from a str, or a list, dict or other JSON value, which is written to `spool`. Blocking. Raises
    `UsageError`."""
    if isinstance(value, str):
        kind: Literal["text", "json"] = "text"
        data = value.encode("utf-8", "replace")
    else:
        kind = "json"
        try:
            data = orjson.dumps(value)
        except TypeError as error:
            raise UsageError(
                f"this cannot be used as a context: {error}", hint="Give text, or anything that JSON can represent."
            ) from error
    _write(spool, [data])
    facts = (file_facts("context", spool),)
    return Context(ContextSource(kind, (ContextFile("context", spool),)), facts)


def _doubt(file: FileFacts) -> str:
    name = clean_line(file.name)
    if file.kind == "PDF":
        return f"{name} is a PDF; the REPL sees its bytes, not its text. Convert it to text first"
    if file.kind == "UTF-16":
        return f"{name} is UTF-16: the REPL finds no words in it. Convert it to UTF-8 first: iconv -f UTF-16 -t UTF-8"
    unread = f"{file.replaced:,} of its {file.chars:,} characters could not be read and were replaced by U+FFFD"
    if file.kind == "binary":
        return f"{name} is not text: it contains NUL bytes" + (f", and {unread}" if file.replaced else "")
    return f"{name} is not UTF-8: {unread}" if file.replaced else ""


def readable(name: str) -> str:
    """A file's name or path as valid Unicode. Bytes that are not UTF-8 are escaped as in Python: `caf\\xe9.txt`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _distinct(found: Iterable[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Each file once, under a distinct name. Files of two folders that have the same name are named by their
    paths."""
    files: dict[Path, tuple[str, Path]] = {}
    for given, path in found:
        files.setdefault(path.absolute(), (readable(given), path))
    shared = Counter(name for name, _ in files.values())
    named: dict[str, Path] = {}
    for name, path in files.values():
        wanted = name if shared[name] == 1 else readable(str(path))
        # A name with escaped bytes may equal the name of another file.
        others = (f"{wanted} ({number})" for number in itertools.count(2))
        named[next(one for one in itertools.chain([wanted], others) if one not in named)] = path
    return list(named.items())


def _glob(pattern: str) -> Iterable[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return Path().glob(pattern)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        raise TrajectoryError(
            f"the context cannot be stored with its run: {refusal(error)}",
            hint=f"Free some space on the disk of {path.parent}.",
        ) from error


def file_facts(name: str, path: Path) -> FileFacts:
    """Reads a file once for its facts. Blocking. Raises `UsageError`."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    digest = hashlib.sha256()
    size = chars = replaced = 0
    kind: Kind = "text"
    before = b""
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                if not size and piece.startswith(withheld.PDF):
                    kind = "PDF"
                elif not size and piece.startswith(_UTF_16):
                    kind = "UTF-16"
                elif kind == "text" and b"\0" in piece:
                    kind = "binary"
                size += len(piece)
                text = decoder.decode(piece)
                chars += len(text)
                # U+FFFD that the file itself contains is no replacement.
                replaced += text.count(_REPLACEMENT) - (before + piece).count(_REPLACEMENT.encode())
                before = (before + piece)[-2:]
    except OSError as error:
        raise UsageError(f"{readable(str(path))} cannot be read: {error.strerror}") from error
    rest = decoder.decode(b"", final=True)
    return FileFacts(name, path, size, chars + len(rest), digest.hexdigest(), replaced + len(rest), kind)
