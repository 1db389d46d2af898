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


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room, such as `provider`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(f"pylon.{name}")
    return logger


def configure(level: str = "info", *, file: Path | None = None, json: bool = False, stderr: bool = True) -> None:
    """Sets logging up for this process, once.

    `level` is one of debug, info, warning, error. With `file`, lines go there too; it is rotated at 5 MB and
    five old ones are kept. With `json`, each line on standard error is one JSON object.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger("pylon")
    root.handlers.clear()
    root.setLevel(level.upper())
    root.propagate = False
    plain = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    handlers: list[tuple[logging.Handler, structlog.typing.Processor]] = []
    if stderr:
        colours = sys.stderr.isatty()
        console = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)
        handlers.append((logging.StreamHandler(sys.stderr), structlog.processors.JSONRenderer() if json else console))
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotating = logging.handlers.RotatingFileHandler(
            file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8"
        )
        handlers.append((rotating, plain))
    if not handlers:
        root.addHandler(logging.NullHandler())
    for handler, renderer in handlers:
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
            )
        )
        root.addHandler(handler)
