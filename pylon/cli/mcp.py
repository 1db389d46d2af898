"""`pylon mcp`: offers the RLM as tools to programs that speak the Model Context Protocol."""

from pathlib import Path
from typing import Annotated

import typer

from pylon.cli.running import run
from pylon.errors import UsageError
from pylon.node.home import open_home
from pylon.node.mcp.paths import Readable, default_roots


def mcp(
    allow: Annotated[
        list[Path] | None,
        typer.Option(
            "--allow",
            help=(
                "A folder whose files clients may ask about. Repeatable (default: the current "
                "folder, unless that is your home folder or the root of the disk)."
            ),
        ),
    ] = None,
) -> None:
    """Serve the tools `rlm`, `rlm_status` and `rlm_cancel` over standard input and output (MCP).

    MCP clients start this command themselves; docs/mcp.md explains how to configure them. It ends when its input
    ends.
    """
    run(_mcp(allow))


async def _mcp(allow: list[Path] | None) -> None:
    home, config = open_home()
    cwd = Path.cwd()
    for folder in allow or ():
        if not folder.is_dir():
            raise UsageError(f"folder {folder} does not exist")
    roots = tuple(folder.absolute() for folder in allow) if allow else default_roots(cwd)
    # Its library is large, and no other command needs it.
    from pylon.node.mcp.server import serve

    await serve(home, config, Readable(roots, home.root, cwd))
