#!/usr/bin/env python3
"""Writes the reference pages that are made from the code: docs/commands.md, docs/settings.md,
config/pylon.example.toml and a table in docs/sandbox.md. A test fails while they differ from what this writes.

    .venv/bin/python scripts/make_docs.py
"""

import inspect
import sys
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pylon.cli.program import app  # noqa: E402
from pylon.node.example import example_toml  # noqa: E402
from pylon.rlm.repl.guest.fanout import followed  # noqa: E402
from pylon.sections import Config  # noqa: E402


def commands_page() -> str:
    """docs/commands.md."""
    lines = [
        "# Commands",
        "",
        "Generated from the code by `scripts/make_docs.py`. Every command also takes `--help`. Exit codes are in",
        "[exit-codes.md](exit-codes.md).",
        "",
    ]
    root: Any = typer.main.get_command(app)
    for path, command in _walk(root, "pylon"):
        lines += [f"## `{path}`", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            lines += ["| argument or option | default | |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _walk(group: Any, path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, command in sorted(group.commands.items()):
        inner = f"{path} {name}"
        found += _walk(command, inner) if hasattr(command, "commands") else [(inner, command)]
    return found


def _row(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if option else str(parameter.metavar or parameter.name).upper()
    default = parameter.default
    shown = "" if default in (None, False, ()) or not isinstance(default, str | int | float) else f"`{default}`"
    if option and parameter.required:
        shown = "required"
    return f"| `{name}` | {shown} | {getattr(parameter, 'help', None) or ''} |"


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Generated from the code by `scripts/make_docs.py`. Settings live in `config.toml` in PYLON_HOME",
        "(`~/.pylon`). Environment variables override them. `config/pylon.example.toml` lists them as a file.",
        "A running node keeps the settings and environment that it started with, and the commands of its home go",
        "through that node. Restart the node to apply a change.",
        "",
        "| setting | in the environment | default | |",
        "|---|---|---|---|",
    ]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, setting in field.annotation.model_fields.items():
                variable = f"PYLON_{name}__{inner}".upper()
                lines.append(f"| `{name}.{inner}` | `{variable}` | `{setting.default!r}` | {setting.description} |")
        else:
            lines.append(f"| `{name}` | `PYLON_{name.upper()}` | `{field.default!r}` | {field.description} |")
    lines += [
        "",
        "Two more exist only as environment variables: `PYLON_HOME`, the folder that holds everything, and",
        "`PYLON_PASSPHRASE`, which unlocks a key that is protected by a passphrase.",
        "",
    ]
    return "\n".join(lines)


_TABLE = "<!-- This table is made by scripts/make_docs.py from pylon/rlm/repl/guest/fanout/followed.py. -->\n\n"


def sandbox_page() -> str:
    """docs/sandbox.md, with the table of what a rehearsal follows as it is now."""
    before, _, rest = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8").partition(_TABLE)
    _, _, after = rest.partition("\n\n")
    return before + _TABLE + "\n".join(_followed()) + "\n\n" + after


def _followed() -> list[str]:
    rows = {
        "statements": followed.STATEMENTS.values(),
        "expressions": followed.EXPRESSIONS.values(),
        "within some of these": followed.WITHIN.values(),
        "operators": [one.__name__ for one in followed.OPERATORS],
    }
    for module in sorted({*followed.CALLED, *followed.INTERPRETED}):
        names = followed.CALLED.get(module, frozenset()) | followed.INTERPRETED.get(module, frozenset())
        rows["functions" if module == "builtins" else f"functions of `{module}`"] = sorted(names)
    for kind, methods in followed.METHODS.items():
        rows[f"methods of `{kind}`"] = sorted(methods | followed.CHANGING.get(kind, frozenset()))
    rows["methods of an answer"] = sorted({*followed.OF_AN_ANSWER, *followed.OF_AN_ANSWER_BY_VALUE})
    return ["| | followed |", "|---|---|"] + [
        f"| {what} | {' '.join(f'`{name}`' for name in names)} |" for what, names in rows.items()
    ]


PAGES = {
    "docs/commands.md": commands_page,
    "docs/settings.md": settings_page,
    "docs/sandbox.md": sandbox_page,
    "config/pylon.example.toml": example_toml,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
        print(f"wrote {name}")
