"""What a person is told who waits for relays and providers, before anybody works on what was asked."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from pylon.cli.output import err
from pylon.node.calls.protocol import Event, Node
from pylon.node.loading import LoadingNotes
from pylon.tasks import end

# So long nothing is said: most calls have reached somebody by then.
_QUIET_S = 2.0
NO_RELAY = "no relay has said yet who is there; waiting for one …"
NOBODY = "no provider takes this yet; waiting for one …"


class Waiting:
    """Told of a `map` call's events as they come, it says what the call waits for, each thing once."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._loading = LoadingNotes(_say)
        # Whether the run has begun, which it does once a relay has said who is there; and whether anybody has taken
        # any of it, or is awaited by name.
        self._begun = asyncio.Event()
        self._settled = False
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if not self._quiet:
            self._watching = asyncio.create_task(self._watch(), name="telling of a wait")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self._watching)

    def tell(self, event: dict[str, Any]) -> None:
        """The call has said this."""
        loading = event["loading"]
        self._begun.set()
        # A prompt that is malformed fails at once, and nobody took it.
        answered = event.get("done", 0) - event.get("failed", 0)
        self._settled = bool(loading or event.get("in_flight") or answered)
        if not self._quiet:
            self._loading.hear(loading)

    async def _watch(self) -> None:
        await asyncio.sleep(_QUIET_S)
        if not self._begun.is_set():
            _say(NO_RELAY)
            await self._begun.wait()
            await asyncio.sleep(_QUIET_S)
        if not self._settled:
            _say(NOBODY)


async def map_result(
    node: Node, params: dict[str, Any], *, quiet: bool, hear: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """The result of the node's `map` call. Unless `quiet` it says what the call waits for; `hear` gets its events."""
    result: dict[str, Any] = {}
    async with Waiting(quiet=quiet) as waiting, aclosing(node.call("map", params)) as answers:
        async for answer in answers:
            if isinstance(answer, Event):
                waiting.tell(answer.data)
                hear(answer.data)
            else:
                result = answer.data
    return result


def _say(text: str) -> None:
    err.print(text, style="dim")
