"""The RLM for code that is not asynchronous.

    with Rlm() as rlm:
        print(rlm.ask("Who signed the treaty?", text).text)

Everything runs in a thread of its own, so it works where an event loop runs already, as in Jupyter.
"""

from pathlib import Path
from typing import Any, Self

from pylon.loop_thread import LoopThread
from pylon.node.rlm_client import RlmAnswer, RlmClient


class Rlm:
    """An `RlmClient` and its thread. Raises what that raises, and `UsageError` where asking would never end: in a
    function that it calls, and in a process that was forked after it was made."""

    def __init__(self, home: Path | str | None = None, **settings: Any) -> None:
        self._client = RlmClient(home, **settings)
        self._thread = LoopThread("RLM")
        try:
            self._thread.run(self._client.__aenter__())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way, and the thread. May be called twice."""
        if self._thread.ended:
            return
        self._thread.run(self._client.close())
        self._thread.end()

    def ask(self, question: str, context: object = "", **options: Any) -> RlmAnswer:
        """See `RlmClient.ask`. `on_progress` is called in the RLM's own thread. Ctrl-C ends the run."""
        return self._thread.run(self._client.ask(question, context, **options))


def ask(question: str, context: object = "", **options: Any) -> RlmAnswer:
    """One question, by itself. See `Rlm.ask`; whoever has several keeps an `Rlm` open."""
    with Rlm() as rlm:
        return rlm.ask(question, context, **options)
