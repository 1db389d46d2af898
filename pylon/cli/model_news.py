"""What `pylon start` says of its model until that is ready: a node without one is asked for nothing."""

import asyncio
import time
from collections.abc import Callable

from pylon.inference.service import EngineStatus

# Between two looks at the engine.
_LOOK_S = 0.5


def model_news(status: EngineStatus, loaded_s: float) -> str:
    """How it stands with the model, which has been waited for `loaded_s` seconds; empty once the engine has ended.

    Whether jobs come then is another question: the node may be paused.
    """
    match status.state:
        case "ready":
            return f"the model is ready{f' after {loaded_s:.0f} s' if loaded_s >= 1 else ''}"
        case "failed":
            return _with("the model failed, so every job is refused", status.failure, status.hint)
        case "loading" if status.reason:
            return _with("the model is not there yet, and loading it is tried again", status.reason, status.hint)
        case "loading":
            return "the model is loading: no job begins before it is ready"
        case _:
            return ""


async def tell_of_model(status: Callable[[], EngineStatus], tell: Callable[[str], None]) -> None:
    """Tells what is new, until the model is ready or the engine has ended."""
    began, told = time.monotonic(), ""
    while True:
        now = status()
        news = model_news(now, time.monotonic() - began)
        if news and news != told:
            told = news
            tell(news)
        if now.state in ("ready", "unloaded", "stopped"):
            return
        await asyncio.sleep(_LOOK_S)


def _with(what: str, why: str, hint: str) -> str:
    return f"{what}: {why}{f'\n  {hint}' if hint else ''}"
