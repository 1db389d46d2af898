"""`pylon skill`: tells a coding assistant about `pylon rlm`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pylon.cli.output import err
from pylon.cli.running import Json, fail, print_json
from pylon.errors import PylonError
from pylon.rlm import skill

app = typer.Typer(no_args_is_help=True, help="Tell a coding assistant when and how to use `pylon rlm`.")


@app.command("install")
def install_(
    assistant: Annotated[
        Literal["claude", "codex"],
        typer.Option(
            "--for",
            help=("claude writes to .claude/skills; codex to .agents/skills, which other assistants read too."),
        ),
    ],
    project: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help=("Install only for the project in this folder (default: for your user, in your home folder)."),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Install the skill for a coding assistant: when to use `pylon rlm`, and how.

    Updates a file that Pylon wrote before. If the file is not Pylon's, the command leaves it alone and fails.
    """
    try:
        done = skill.install(assistant, project or Path.home())
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"path": str(done.path), "changed": done.changed})
    else:
        err.print(f"{done.path} {'written' if done.changed else 'is up to date'}")


@app.command("show")
def show_(as_json: Json = False) -> None:
    """Print the skill as it would be written."""
    if as_json:
        print_json({"name": skill.NAME, "text": skill.skill()})
    else:
        sys.stdout.write(skill.skill())
