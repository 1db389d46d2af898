"""The runs that a client of `pylon mcp` started: the task, the progress and the report of each.

Each run opens the home's node for itself, as `pylon rlm` does. So between runs this process holds no lock, and a node
can be started.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pylon import log
from pylon.clock import SystemClock
from pylon.errors import PylonError, UsageError, error_row
from pylon.money.network import Network
from pylon.node.home import Home
from pylon.node.rlm import run as rlm
from pylon.node.rlm.run import Question
from pylon.node.session import open_node
from pylon.rlm import runs
from pylon.rlm.progress import Tally
from pylon.rlm.trajectory import Event
from pylon.sections import Config, RlmSection
from pylon.tasks import end

logger = log.get("mcp")

# Each run may spend its whole budget, so a client must not have any number of runs at once.
AT_ONCE = 4
REMEMBERED = 100
REPORT_S = 0.5

type State = Literal["running", "ended", "cancelled", "failed"]
type Hear = Callable[["McpRun"], Awaitable[None]]


@dataclass(slots=True, eq=False)
class McpRun:
    """One run. `report` is what `pylon rlm --json` prints, once the run has ended; `error` says why it failed."""

    id: str
    question: str
    state: State = "running"
    tally: Tally = field(default_factory=Tally)
    report: dict[str, Any] | None = None
    error: PylonError | None = None
    task: "asyncio.Task[None] | None" = None

    def note_end(self, task: "asyncio.Task[None]") -> None:
        """Called when the task is done. A task that was cancelled may not have run at all, so it cannot set
        `state`."""
        if task.cancelled():
            self.state = "cancelled"

    def row(self) -> dict[str, Any]:
        """What the client gets: the report, or the progress."""
        if self.report is not None:
            return {"state": self.state, **self.report}
        row = {"id": self.id, "state": self.state, "in_flight": len(self.tally.out), **self.tally.counts}
        return row if self.error is None else {**row, "error": error_row(self.error)}


class McpRuns:
    """See the module. `close` cancels the runs in progress."""

    def __init__(self, home: Home, config: Config) -> None:
        self._home = home
        self._config = config
        self._runs: OrderedDict[str, McpRun] = OrderedDict()
        # The unit of the money that they spend.
        self.unit = Network(config.network).unit

    def start(self, question: Question) -> McpRun:
        """Starts a run. Raises `UsageError` for a limit above the settings', or if `AT_ONCE` runs are in progress."""
        check_wishes(self._config.rlm, question.wishes)
        if sum(run.state == "running" for run in self._runs.values()) >= AT_ONCE:
            raise UsageError(
                f"{AT_ONCE} runs are already in progress", hint="Wait for one to end, or end one with rlm_cancel."
            )
        folder = runs.new_run(self._home.runs, SystemClock().wall())
        run = McpRun(folder.name, question.question)
        self._runs[run.id] = run
        run.task = asyncio.create_task(self._run(run, question), name=f"run {run.id}")
        run.task.add_done_callback(run.note_end)
        # At most `AT_ONCE` are running, and one of these may be the oldest for an hour.
        ended = [one for one in self._runs.values() if one.state != "running"]
        for one in ended[: max(0, len(self._runs) - REMEMBERED)]:
            del self._runs[one.id]
        return run

    async def follow(self, run: McpRun, hear: Hear) -> None:
        """Waits for the end of a run, and calls `hear` every `REPORT_S` seconds. Cancelling this cancels the run."""
        assert run.task is not None  # noqa: S101 - `start` made it
        try:
            while not run.task.done():
                await hear(run)
                await asyncio.wait({run.task}, timeout=REPORT_S)
        finally:
            await self._cancel(run)

    async def status(self, name: str) -> dict[str, Any]:
        """The state of a run of this server, or of another that the home keeps. Raises `UsageError`."""
        run = next(reversed(self._runs.values()), None) if name == "last" else self._runs.get(name)
        if run is not None:
            return run.row()
        return await asyncio.to_thread(lambda: runs.summary(runs.find_run(self._home.runs, name)))

    async def cancel(self, name: str) -> dict[str, Any]:
        """Cancels a run of this server, and returns its state. Raises `UsageError`."""
        run = self._runs.get(name)
        if run is None:
            raise UsageError(
                f"this server started no run {name!r}", hint="Give the whole id; rlm_status lists the runs."
            )
        await self._cancel(run)
        return run.row()

    async def close(self) -> None:
        """Cancels all runs."""
        await asyncio.gather(*map(self._cancel, self._runs.values()))

    async def _cancel(self, run: McpRun) -> None:
        await end(run.task)

    async def _run(self, run: McpRun, question: Question) -> None:
        def heard(_: Event, tally: Tally) -> None:
            run.tally = tally

        try:
            async with open_node(self._home, self._config) as node:
                folder = self._home.runs / run.id
                run.report = await rlm.ask(self._home, self._config, node, question, listener=heard, folder=folder)
            run.state = "ended"
        except PylonError as error:
            run.state, run.error = "failed", error
        except Exception:
            logger.exception("a run failed")
            run.state, run.error = "failed", PylonError("the run failed", hint="See the server's log.")


def check_wishes(section: RlmSection, wishes: dict[str, Any]) -> None:
    """Raises `UsageError` for a limit above that of the settings: a client may only lower what a person allowed."""
    for name, value in wishes.items():
        most = getattr(section, name)
        if value is None or not isinstance(most, int | float):
            continue
        if name == "max_tokens":
            # Here 0 means no limit, both in the settings and as a wish.
            value, most = value or math.inf, most or math.inf
        if value > most:
            raise UsageError(
                f"{name} may be at most {most:g} here", hint=f"`rlm.{name}` in the config file sets this limit."
            )
