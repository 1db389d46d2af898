"""`pylon skill`: tell a coding assistant about `pylon rlm`."""

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
        typer.Option("--for", help="claude: .claude/skills; codex: .agents/skills, where other assistants look too."),
    ],
    project: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Install for this project alone, in that folder (default: for you, in your home folder).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the skill where an assistant finds it: when `pylon rlm` pays off, and how to call it.

    A file that Pylon wrote before is brought up to date. Any other is left as it is, and the command fails.
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
    """Print the skill, as it would be written."""
    if as_json:
        print_json({"name": skill.NAME, "text": skill.skill()})
    else:
        sys.stdout.write(skill.skill())
