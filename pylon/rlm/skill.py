"""The skill: a page that tells a coding assistant when `pylon rlm` pays off and how to call it (agentskills.io).

An installed file ends with a mark that holds the hash of the text above it. The mark tells a file that Pylon wrote
and nobody changed from any other, and only such a file is ever replaced.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pylon.errors import SetupError, UsageError

NAME = "pylon-rlm"

type Assistant = Literal["claude", "codex"]
FOLDERS: dict[Assistant, str] = {"claude": ".claude/skills", "codex": ".agents/skills"}
"""Where each assistant looks for skills, below a user's home folder and below a project."""

_MARK = re.compile(r"\A(.*)<!-- written by `pylon skill install`, sha256 ([0-9a-f]{64}) -->\n\Z", re.DOTALL)
_TEXT = (Path(__file__).parent / "skill.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Installed:
    """The path of the installed skill, and whether installing it changed anything."""

    path: Path
    changed: bool


def skill() -> str:
    """The text of the skill's file, mark included."""
    return f"{_TEXT}<!-- written by `pylon skill install`, sha256 {_digest(_TEXT)} -->\n"


def is_ours(text: str) -> bool:
    """Whether a version of Pylon wrote this text and nobody has changed it."""
    found = _MARK.match(text)
    return found is not None and _digest(found[1]) == found[2]


def install(assistant: Assistant, below: Path) -> Installed:
    """Writes the skill where that assistant looks for skills, below the folder `below`. Raises `UsageError` when
    another file is there, `SetupError` when it cannot be written."""
    path = below / FOLDERS[assistant] / NAME / "SKILL.md"
    new = path.with_name("SKILL.md.new")
    try:
        if path.is_symlink() or path.exists():
            old = "" if path.is_symlink() else path.read_text(encoding="utf-8", errors="replace")
            if old == skill():
                return Installed(path, changed=False)
            if not is_ours(old):
                raise UsageError(
                    f"{path} was not written by Pylon, or has changed since",
                    hint="Move it away, or replace its content with the output of `pylon skill show`.",
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(skill())
        new.replace(path)
    except FileExistsError as error:
        raise UsageError(f"{new} is in the way", hint="Delete it, and try again.") from error
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from error
    return Installed(path, changed=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
