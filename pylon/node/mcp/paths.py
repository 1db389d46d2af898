"""Which files a client of `pylon mcp` may have read: those below folders that a person named, unless they are hidden.

A language model steers the client, perhaps by instructions that it found in a file, and what it reads goes to the
swarm. So it may read only below the folder in which the server was started, or below those of `--allow`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pylon.errors import UsageError

_SIGNS = "*?["


def default_roots(cwd: Path) -> tuple[Path, ...]:
    """The folder in which the server was started; empty if that is the user's home or the root of a disk, where
    desktops start their programs."""
    cwd = cwd.resolve()
    return () if cwd in (Path(cwd.anchor), Path.home().resolve()) else (cwd,)


class Readable:
    """Decides what may be read: files below `roots`, but none in PYLON_HOME (`home`). Relative paths start at
    `cwd`."""

    def __init__(self, roots: Sequence[Path], home: Path, cwd: Path) -> None:
        self.roots = tuple(root.resolve() for root in roots)
        self._home = home.resolve()
        self._cwd = cwd

    def expand(self, given: Sequence[str]) -> tuple[str, ...]:
        """The files, folders and globs as absolute paths, with links resolved.

        Blocking. Raises `UsageError` for the first that may not be read, whether or not it exists.
        """
        return tuple(str(path) for one in given for path in self._paths(one))

    def _paths(self, given: str) -> list[Path]:
        if "\0" in given:
            raise UsageError("a path must not contain zero bytes")
        path = self._cwd / given
        if not any(sign in given for sign in _SIGNS) or os.path.lexists(path):
            return [self._allowed(path, given)]
        # The folder before the pattern must be allowed by itself: otherwise a pattern could walk the whole disk.
        parts = path.parts
        first = next(n for n, part in enumerate(parts) if any(sign in part for sign in _SIGNS))
        above, pattern = Path(*parts[:first]), parts[first:]
        if ".." in pattern:
            raise UsageError(f"{given} has .. after its pattern", hint="Give the folder itself.")
        above = self._below_a_root(above, given)
        # A pattern with several `**` finds a file several times over.
        found = sorted({match for match in above.glob(str(Path(*pattern))) if match.is_file()})
        if not found:
            raise UsageError(f"no file matches {given}", hint="Give the files themselves.")
        return [self._allowed(match, given) for match in found if not _hidden(match.relative_to(above))]

    def _allowed(self, path: Path, given: str) -> Path:
        real = self._below_a_root(path, given)
        if real.is_relative_to(self._home) or self._home.is_relative_to(real):
            raise UsageError(f"{given} contains Pylon's own files", hint="Name the folders next to it instead.")
        return real

    def _below_a_root(self, path: Path, given: str) -> Path:
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{given} cannot be followed") from error
        if not any(real.is_relative_to(root) and not _hidden(real.relative_to(root)) for root in self.roots):
            folders = ", ".join(map(str, self.roots)) or "nothing"
            hint = f"This server reads {folders}; `pylon mcp --allow FOLDER` adds more. Or send the text itself."
            raise UsageError(f"{given} may not be read: it is hidden, or outside the allowed folders", hint=hint)
        return real


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
