"""Logs: one line an event, names before values, on standard error and in a rotated file.

Callers give values as keywords (`log.info("job signed", job=job_id)`). Secrets, prompts and answers are never
given.
"""

import logging
import logging.handlers
import sys
from pathlib import Path

import structlog

FILE_BYTES = 5_000_000
FILES_KEPT = 5


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)

# A program that uses Pylon as a library, and never calls `configure`, hears nothing.
logging.getLogger("pylon").addHandler(logging.NullHandler())
logging.getLogger("pylon").propagate = False


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room, such as `provider`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"pylon.{name}"),
        processors=_SHARED,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def configure(level: str = "info", *, file: Path | None = None, json: bool = False, stderr: bool = True) -> None:
    """Sets logging up for this process, once.

    `level` is one of debug, info, warning, error. With `file`, lines go there too; it is rotated at 5 MB and
    five old ones are kept. With `json`, each line on standard error is one JSON object.
    """
    root = logging.getLogger("pylon")
    root.handlers.clear()
    root.addHandler(logging.NullHandler())
    root.setLevel(level.upper())
    if stderr:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
        renderer = structlog.processors.JSONRenderer() if json else console
        _add(root, logging.StreamHandler(sys.stderr), renderer)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotating = logging.handlers.RotatingFileHandler(
            file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8"
        )
        _add(root, rotating, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0))


def _add(root: logging.Logger, handler: logging.Handler, renderer: structlog.typing.Processor) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root.addHandler(handler)
