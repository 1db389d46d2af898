"""The RLM for asynchronous programs: questions about long texts, asked through a home as `pylon rlm` asks them.

    async with RlmClient() as rlm:
        answer = await rlm.ask("Who signed the treaty?", text)

`blocking` is the same for scripts and notebooks.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pylon.errors import UsageError
from pylon.node.home_client import HomeClient
from pylon.node.rlm import run as rlm
from pylon.node.rlm.resume import resume
from pylon.node.rlm.run import Question
from pylon.rlm.context import Shape
from pylon.rlm.progress import Tally
from pylon.rlm.runs import Run, find_run
from pylon.rlm.strategies import Strategy
from pylon.rlm.sublm import Answering, SubLM, sub_lm
from pylon.rlm.table import Row, call_rows
from pylon.rlm.trajectory import Event
from pylon.swarm.runs.callbacks import call, check_callbacks

type Hear = Callable[[Tally], None]

SHAPES = get_args(Shape)
STRATEGIES = get_args(Strategy)


@dataclass(frozen=True, slots=True)
class RlmAnswer:
    """The answer of a run. `text` None: there is no answer. `partial` tells that something may be missing; `reason`
    and `detail` say why the run ended. `run` is its id, `folder` its trajectory. `msat` is what the run was charged;
    `report` is all that `pylon rlm --json` prints."""

    text: str | None
    partial: bool
    reason: str
    detail: str
    run: str
    folder: Path
    msat: int
    report: dict[str, Any]

    def calls(self) -> list[Row]:
        """A row for each sub-call, as in `pylon rlm export --format csv`."""
        return call_rows(Run(self.folder))


class RlmClient(HomeClient):
    """Asks questions through a home; see `HomeClient`. `settings` are settings of `[rlm]` that override the config
    file's."""

    def __init__(self, home: Path | str | None = None, **settings: Any) -> None:
        super().__init__(home, "RLM")
        self._settings = settings

    async def ask(
        self,
        question: str,
        context: object = "",
        *,
        files: Sequence[str | Path] | str | Path = (),
        shape: Shape = "auto",
        strategy: Strategy | None = None,
        sub: SubLM | Answering | None = None,
        on_progress: Hear | None = None,
        **settings: Any,
    ) -> RlmAnswer:
        """Asks a question about `context`: a text, texts by name, or any JSON value; or about `files`: files, folders
        and globs, which are not read into this process.

        `sub` answers the sub-calls in place of the swarm: a function from prompt to answer, or any `SubLM`.
        `settings` are settings of `[rlm]`, as `max_sats=50` or `seed=1`. `on_progress` is called after each event of
        the run. If this is cancelled, the run ends, and its trajectory stays. Raises `UsageError` for arguments that
        do not fit, an unknown setting or a missing file, `SetupError` and `UnreachableError` when the root model or
        providers are missing, `SandboxError`, `ModelError`.
        """
        check_callbacks(on_progress=on_progress)
        _check(question, context, files, shape, strategy)
        own = None if sub is None else sub_lm(sub)
        node, listener = self._node, _listener(on_progress)
        paths = [files] if isinstance(files, str | Path) else files
        asked = Question(
            question,
            tuple(os.fspath(path) for path in paths),
            context,
            shape,
            strategy,
            {**self._settings, **settings},
        )
        return _answer(await rlm.ask(self._home, self._config, node, asked, listener=listener, sub=own))

    async def resume(
        self,
        run: str = "last",
        *,
        go_on: bool = False,
        sub: SubLM | Answering | None = None,
        on_progress: Hear | None = None,
        **settings: Any,
    ) -> RlmAnswer:
        """Resumes a run of this home that was interrupted, or whose budget ended; `run` is its id, the start of its
        id, or `last`. What was answered is neither asked nor paid again, and what was spent counts in its limits.

        The run keeps its settings, overridden by `settings`, as `max_calls=500`. `sub` as in `ask`: a run that had
        one needs it again. A run with a whole answer returns that. If its code behaves differently from what is
        recorded, raises `DiffersError`, or with `go_on` continues live from there. Raises `UsageError` for a run that
        does not exist, or that ended at a bound that is not raised now, and what `ask` raises.
        """
        check_callbacks(on_progress=on_progress)
        own = None if sub is None else sub_lm(sub)
        node, listener = self._node, _listener(on_progress)
        found = find_run(self._home.runs, run)
        return _answer(
            await resume(
                self._home, self._config, node, found, {**self._settings, **settings}, go_on=go_on,
                listener=listener, sub=own,
            )
        )  # fmt: skip


def _listener(on_progress: Hear | None) -> Callable[[Event, Tally], None]:
    """Passes the tally of each event of a run on to `on_progress`."""

    def heard(_: Event, tally: Tally) -> None:
        if on_progress is not None:
            call(on_progress, tally)

    return heard


def _answer(report: dict[str, Any]) -> RlmAnswer:
    return RlmAnswer(
        report["answer"], report["partial"], report["reason"], report["detail"], report["id"],
        Path(report["trajectory"]), report["paid_msat"], report,
    )  # fmt: skip


def _check(question: object, context: object, files: object, shape: object, strategy: object) -> None:
    """Checks the arguments of `ask` before anything is read. Raises `UsageError`."""
    if not isinstance(question, str) or not question.strip():
        raise UsageError("the question must be non-empty text")
    if context is None:
        raise UsageError("the context is None", hint="Give text, or anything that JSON can represent.")
    if files and context != "":
        raise UsageError("both a context and files were given", hint="Give only one of them.")
    for name, value, may in (("shape", shape, SHAPES), ("strategy", strategy, (None, *STRATEGIES))):
        if value not in may:
            raise UsageError(f"{name} must be {', '.join(map(str, may))}, not {value!r}")


async def ask(question: str, context: object = "", **options: Any) -> RlmAnswer:
    """Asks a single question. See `RlmClient.ask`; for several questions keep an `RlmClient` open."""
    async with RlmClient() as client:
        return await client.ask(question, context, **options)
