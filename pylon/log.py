"""Logs: one line per event, names before values, on standard error and in a rotated file.

Callers give values as keywords (`log.info("job signed", job=job_id)`). Secrets, prompts and answers are never
given.
"""

import json
import logging
import logging.handlers
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pylon.errors import PylonError
from pylon.text import clean_text

FILE_BYTES = 5_000_000
FILES_KEPT = 5
_COLORS = {"debug": "32", "info": "32", "warning": "33", "error": "31"}

# A program that uses Pylon as a library, and never calls `configure`, hears nothing.
logging.getLogger("pylon").addHandler(logging.NullHandler())
logging.getLogger("pylon").propagate = False


class Logger(logging.LoggerAdapter[logging.Logger]):
    """The standard library's logger, with values as keywords. `exc_info` is an error to log with its traceback."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        exc_info = kwargs.pop("exc_info", None)
        return msg, {"exc_info": exc_info, "extra": {"values": dict(kwargs)}}

    def failed(self, said: str, error: BaseException, **values: Any) -> None:
        """Logs an error: with its traceback, unless it is a `PylonError`, whose message says all there is to know."""
        self.error(said, **values, error=repr(error), exc_info=None if isinstance(error, PylonError) else error)


def get(name: str) -> Logger:
    """The logger of one room, such as `provider`."""
    return Logger(logging.getLogger(f"pylon.{name}"))


def configure(
    level: str = "info", *, file: Path | None = None, json_lines: bool = False, stderr: bool = True
) -> None:
    """Sets logging up for this process, once.

    `level` is one of debug, info, warning, error. With `file`, lines go there too; it is rotated at 5 MB and
    five old ones are kept. With `json_lines`, each line on standard error is one JSON object.
    """
    root = logging.getLogger("pylon")
    root.handlers.clear()
    root.addHandler(logging.NullHandler())
    root.setLevel(level.upper())
    if stderr:
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(JsonLines() if json_lines else Lines(colors=sys.stderr.isatty()))
        root.addHandler(console)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotating = _File(file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        rotating.setFormatter(Lines())
        root.addHandler(rotating)


def file() -> Path | None:
    """Where this process logs to, besides standard error; None where that is all."""
    handlers = logging.getLogger("pylon").handlers
    return next((Path(each.baseFilename) for each in handlers if isinstance(each, _File)), None)


class _File(logging.handlers.RotatingFileHandler):
    """Drops lines while the disk refuses them, and logs how many were lost as soon as it takes lines again."""

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        before = self._lost
        super().emit(record)
        if before and self._lost == before:
            self._lost = 0
            super().emit(_gap(before))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the standard library's
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
            return
        self._lost += 1
        # The stream may hold half a line, and be refused again. Without it, the next line opens the file anew.
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()


class Lines(logging.Formatter):
    """`2026-11-26T07:14:11.114495Z [info     ] job signed job=abc`, and a traceback below where there is one."""

    def __init__(self, *, colors: bool = False) -> None:
        super().__init__()
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        shown = f"\x1b[{_COLORS.get(level, '0')}m{level:9}\x1b[0m" if self._colors else f"{level:9}"
        values = "".join(f" {name}={_plain(value)}" for name, value in sorted(_values(record).items()))
        # An error's message may hold a stranger's words.
        trace = f"\n{clean_text(self.formatException(record.exc_info))}" if record.exc_info else ""
        return f"{_time(record)} [{shown}] {record.getMessage()}{values}{trace}"


class JsonLines(logging.Formatter):
    """One JSON object per event."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"event": record.getMessage(), "level": record.levelname.lower(), "timestamp": _time(record)}
        trace = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({**_values(record), **said, **trace}, default=repr)


def _gap(lost: int) -> logging.LogRecord:
    said = {"levelname": "WARNING", "msg": "this log could not be written for a while", "values": {"lost": lost}}
    return logging.makeLogRecord(said)


def _values(record: logging.LogRecord) -> dict[str, object]:
    return getattr(record, "values", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    """The value as shown. Text other than one plain word is quoted, so that a stranger's can neither end the line nor
    control a terminal.
    """
    if not isinstance(value, str):
        return repr(value)
    return value if value.isprintable() and value and " " not in value else repr(value)
