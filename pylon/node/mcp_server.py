"""`pylon mcp`: the RLM as three tools of the Model Context Protocol, over standard input and output.

The library is imported here alone, and this file by that command alone. Errors come as the results of tools, marked
as errors, with what `--json` shows of them: a client's model reads them and may do better.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import orjson
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from pylon import __version__
from pylon.config import Config
from pylon.errors import PylonError, UsageError
from pylon.node.home import Home
from pylon.node.mcp_paths import Readable
from pylon.node.mcp_runs import McpRun, McpRuns, told
from pylon.node.rlm import Question

INSTRUCTIONS = """Questions about texts that are too long to read. A text becomes a variable in a sandbox, a program
or a root model cuts it up, and a swarm of models is asked about the pieces. Use it for texts beyond some 16,000
tokens: to find what stands anywhere in them, to count, to compare. Read shorter texts yourself. What is asked about
goes to providers of the swarm, and each run may cost sats."""

RunId = Annotated[str, Field(description="The id of a run, as `rlm` gave it.")]


def make_server(runs: McpRuns, readable: Readable) -> MCPServer:
    """The server with its tools. The caller closes `runs` when it has ended."""
    server = MCPServer("pylon", title="Pylon", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")

    @server.tool(title="Ask about a long text", annotations=ToolAnnotations(read_only_hint=False))
    async def rlm(
        ctx: Context,
        question: Annotated[str, Field(description="What is asked about the text, in full.", min_length=1)],
        paths: Annotated[
            list[str] | None, Field(description="Files, folders or globs that hold it, in place of `text`.")
        ] = None,
        text: Annotated[str | None, Field(description="The text itself, in place of `paths`.")] = None,
        strategy: Annotated[
            Literal["rlm", "map-reduce", "search"] | None,
            Field(description="rlm needs a root model in the settings; search looks for the question's words first."),
        ] = None,
        model: Annotated[str | None, Field(description="The model that sub-calls ask for.")] = None,
        max_sats: Annotated[int | None, Field(ge=0, description="The most that it may cost, in sats.")] = None,
        max_calls: Annotated[int | None, Field(ge=0, description="The most sub-calls.")] = None,
        max_tokens: Annotated[int | None, Field(ge=0, description="The most tokens, of all models together.")] = None,
        max_seconds: Annotated[float | None, Field(gt=0, description="The most seconds.")] = None,
        max_depth: Annotated[int | None, Field(ge=0, description="How deep loops may stand in each other.")] = None,
        wait: Annotated[bool, Field(description="false gives the id at once; rlm_status tells the rest.")] = True,
    ) -> CallToolResult:
        """Answers a question about a text of any length. `partial` tells that turns or budget ran out."""
        wishes = {
            "sub_model": model, "max_sats": max_sats, "max_calls": max_calls, "max_tokens": max_tokens,
            "max_wall_s": max_seconds, "max_depth": max_depth,
        }  # fmt: skip

        async def work() -> dict[str, Any]:
            if (paths is None) == (text is None):
                raise UsageError("either `paths` or `text` is needed, and not both")
            files = await asyncio.to_thread(readable.expand, paths or [])
            if paths is not None and not files:
                raise UsageError("there is no file in `paths`")
            run = runs.start(Question(question, files, text or "", strategy=strategy, wishes=wishes))
            if wait:
                await runs.follow(run, _progress(ctx))
                if run.error is not None:
                    raise run.error
            return run.told()

        return await _result(work())

    @server.tool(title="How far a run is", annotations=ToolAnnotations(read_only_hint=True))
    async def rlm_status(run: RunId = "last") -> CallToolResult:
        """Tells how far a run is, and its answer once there is one."""
        return await _result(runs.status(run))

    @server.tool(title="End a run", annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=True))
    async def rlm_cancel(run: RunId) -> CallToolResult:
        """Ends a run; sub-calls that are out are cancelled, and what they cost until then is paid."""
        return await _result(runs.cancel(run))

    return server


async def serve(home: Home, config: Config, readable: Readable) -> None:
    """Serves until standard input ends; runs under way are cancelled then."""
    runs = McpRuns(home, config)
    try:
        await make_server(runs, readable).run_stdio_async()
    finally:
        await runs.close()


def _progress(ctx: Context) -> Callable[[McpRun], Awaitable[None]]:
    """Tells the client whenever something has come back; the number only grows, as the protocol asks."""
    last = -1

    async def hear(run: McpRun) -> None:
        nonlocal last
        done = run.tally.turns + run.tally.calls + run.tally.repeated
        if done > last:
            last = done
            await ctx.report_progress(done, None, run.tally.line)

    return hear


async def _result(work: Awaitable[dict[str, Any]]) -> CallToolResult:
    try:
        value, failed = await work, False
    except PylonError as error:
        value, failed = {"error": told(error)}, True
    text = TextContent(type="text", text=orjson.dumps(value).decode())
    return CallToolResult(content=[text], structured_content=value, is_error=failed)
