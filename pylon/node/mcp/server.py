"""`pylon mcp`: the RLM as three tools of the Model Context Protocol, over standard input and output.

Only this file imports the MCP library, and only that command imports this file. Errors are returned as tool results
that are marked as errors, in the form of `--json`: the client's model reads them and can correct its call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import orjson
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, Field, ValidationError

from pylon import __version__
from pylon.config import faults
from pylon.errors import PylonError, UsageError, error_row
from pylon.node.home import Home
from pylon.node.mcp.paths import Readable
from pylon.node.mcp.runs import McpRun, McpRuns
from pylon.node.rlm.run import Question
from pylon.sections import Config

INSTRUCTIONS = """Questions about texts that are too long to read. A text becomes a variable in a sandbox, a program
or a root model cuts it up, and a swarm of models is asked about the pieces. Use it for texts beyond some 16,000
tokens: to find what stands anywhere in them, to count, to compare. Read shorter texts yourself. What is asked about
goes to providers of the swarm, and each run may cost sats."""

RunId = Annotated[str, Field(description="The run's id, as returned by `rlm`.")]


def make_server(runs: McpRuns, readable: Readable) -> MCPServer:
    """The server with its tools. The caller closes `runs` after the server has ended."""
    given = _Tools(runs, readable)
    tools = [
        _strict(given.rlm, "Ask about a long text", ToolAnnotations(read_only_hint=False)),
        _strict(given.rlm_status, "Progress of a run", ToolAnnotations(read_only_hint=True)),
        _strict(given.rlm_cancel, "End a run", ToolAnnotations(read_only_hint=False, idempotent_hint=True)),
    ]
    return _Server(
        "pylon", title="Pylon", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING", tools=tools
    )


class _Tools:
    """The tools. Their names, signatures and docstrings are what a client's model reads."""

    def __init__(self, runs: McpRuns, readable: Readable) -> None:
        self._runs = runs
        self._readable = readable

    async def rlm(
        self,
        ctx: Context,
        question: Annotated[str, Field(description="The full question about the text.", min_length=1)],
        paths: Annotated[
            list[str] | None, Field(description="Files, folders or globs with the text; use instead of `text`.")
        ] = None,
        text: Annotated[str | None, Field(description="The text itself; use instead of `paths`.")] = None,
        strategy: Annotated[
            Literal["rlm", "map-reduce", "search"] | None,
            Field(
                description=(
                    "rlm needs a root model in the settings; search first looks for the words of the question."
                )
            ),
        ] = None,
        model: Annotated[str | None, Field(description="The model for sub-calls.")] = None,
        max_sats: Annotated[int | None, Field(ge=0, description="The most it may cost, in sats.")] = None,
        max_calls: Annotated[int | None, Field(ge=0, description="The most sub-calls.")] = None,
        max_tokens: Annotated[int | None, Field(ge=0, description="The most tokens, over all models.")] = None,
        max_seconds: Annotated[float | None, Field(gt=0, description="The most seconds.")] = None,
        max_depth: Annotated[int | None, Field(ge=0, description="How deeply recursive calls may nest.")] = None,
        wait: Annotated[bool, Field(description="false returns the id at once; rlm_status returns the rest.")] = True,
    ) -> CallToolResult:
        """Answers a question about a text of any length. `partial` tells that turns or budget ran out; `warnings` say
        what of the text could hardly be read."""
        wishes = {
            "sub_model": model, "max_sats": max_sats, "max_calls": max_calls, "max_tokens": max_tokens,
            "max_wall_s": max_seconds, "max_depth": max_depth,
        }  # fmt: skip

        async def work() -> dict[str, Any]:
            files = await self._files(paths, text)
            run = self._runs.start(Question(question, files, text or "", strategy=strategy, wishes=wishes))
            if wait:
                await self._runs.follow(run, _progress(ctx, self._runs.unit))
                if run.error is not None:
                    raise run.error
            return run.row()

        return await _result(work())

    async def rlm_status(self, run: RunId = "last") -> CallToolResult:
        """Tells how far a run is, and its answer once there is one."""
        return await _result(self._runs.status(run))

    async def rlm_cancel(self, run: RunId) -> CallToolResult:
        """Ends a run; sub-calls that are out are cancelled, and what they cost until then is paid."""
        return await _result(self._runs.cancel(run))

    async def _files(self, paths: list[str] | None, text: str | None) -> tuple[str, ...]:
        """The files that `paths` name; none if `text` is given. Raises `UsageError`, also for an empty text."""
        if (paths is None) == (text is None):
            raise UsageError("give either `paths` or `text`, not both")
        files = await asyncio.to_thread(self._readable.expand, paths or [])
        if paths is not None and not files:
            raise UsageError("`paths` contains no file")
        if text is not None and not text.strip():
            raise UsageError("`text` is empty", hint="Send the text itself, or name files in `paths`.")
        return files


class _Server(MCPServer):
    """An `MCPServer` that returns the client's own mistakes in the same form as all other errors."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            wrong = error.__cause__
            said = f"{name}: {faults(wrong)}" if isinstance(wrong, ValidationError) else str(error)
            return _failed(UsageError(said, hint="See the tool's schema for what it accepts."))


def _strict(work: Callable[..., Awaitable[CallToolResult]], title: str, annotations: ToolAnnotations) -> Tool:
    """A tool that refuses unknown arguments: a misspelt limit must not be ignored."""
    tool = Tool.from_function(work, title=title, annotations=annotations)
    loose = tool.fn_metadata.arg_model
    strict: type[ArgModelBase] = type(
        loose.__name__, (loose,), {"model_config": ConfigDict(extra="forbid"), "__module__": __name__}
    )
    tool.fn_metadata.arg_model = strict
    tool.parameters = strict.model_json_schema(by_alias=True)
    return tool


async def serve(home: Home, config: Config, readable: Readable) -> None:
    """Serves until standard input ends, and cancels the runs in progress then."""
    runs = McpRuns(home, config)
    try:
        await make_server(runs, readable).run_stdio_async()
    finally:
        await runs.close()


def _progress(ctx: Context, unit: str) -> Callable[[McpRun], Awaitable[None]]:
    """A function that reports the progress of a run to the client. The number only grows, as MCP requires."""
    last = -1

    async def hear(run: McpRun) -> None:
        nonlocal last
        done = run.tally.turns + run.tally.back + run.tally.refused + run.tally.repeated
        if done > last:
            last = done
            await ctx.report_progress(done, None, run.tally.line(unit))

    return hear


async def _result(work: Awaitable[dict[str, Any]]) -> CallToolResult:
    try:
        return _told(await work, is_error=False)
    except PylonError as error:
        return _failed(error)


def _failed(error: PylonError) -> CallToolResult:
    return _told({"error": error_row(error)}, is_error=True)


def _told(value: dict[str, Any], *, is_error: bool) -> CallToolResult:
    text = TextContent(type="text", text=orjson.dumps(value).decode())
    return CallToolResult(content=[text], structured_content=value, is_error=is_error)
