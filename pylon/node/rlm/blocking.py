"""The RLM for code that is not asynchronous, as scripts and notebooks.

    with Rlm() as rlm:
        print(rlm.ask("Who signed the treaty?", text).text)

Everything runs in a separate thread, so it also works where an event loop is running already, as in Jupyter.
"""

from pathlib import Path
from typing import Any

from pylon.loop_thread import Blocking
from pylon.node.rlm.client import RlmAnswer, RlmClient


class Rlm(Blocking):
    """An `RlmClient` in a thread. Raises what the client raises, and `UsageError` where a call would never return:
    within a function that it calls itself, and in a process that was forked after it was made."""

    def __init__(self, home: Path | str | None = None, **settings: Any) -> None:
        self._client = RlmClient(home, **settings)
        super().__init__("RLM")

    def ask(self, question: str, context: object = "", **options: Any) -> RlmAnswer:
        """See `RlmClient.ask`. `on_progress` is called in the RLM's own thread. Ctrl-C ends the run."""
        return self._thread.run(self._client.ask(question, context, **options))

    def resume(self, run: str = "last", **options: Any) -> RlmAnswer:
        """See `RlmClient.resume`, and `ask` for `on_progress` and Ctrl-C."""
        return self._thread.run(self._client.resume(run, **options))

    async def _open(self) -> None:
        await self._client.__aenter__()

    async def _close(self) -> None:
        await self._client.close()


def ask(question: str, context: object = "", **options: Any) -> RlmAnswer:
    """Asks a single question. See `Rlm.ask`; for several questions keep an `Rlm` open."""
    with Rlm() as rlm:
        return rlm.ask(question, context, **options)
