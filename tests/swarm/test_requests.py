import asyncio
import gc
import sqlite3
from types import SimpleNamespace
from typing import Any

from pylon.swarm import moves as m
from pylon.swarm.requests import Requests


def failing(reason: str) -> asyncio.Future[int]:
    failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(failed.set_exception, sqlite3.OperationalError(reason))
    return failed


async def test_what_cannot_be_written_down_is_not_sent_and_told_of_at_once():
    told: list[Any] = []
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    # Two rows: the run's and the account's.
    journal = SimpleNamespace(sent=lambda *_: failing("the run's"))
    purse = SimpleNamespace(ordered=lambda *_: failing("the account's"))
    run = SimpleNamespace(journal=journal)
    none: Any = None
    requests = Requests(
        none, none, none, none, none, none, none, none, none, purse=purse, tell=told.append, runs={1: run}, fault=none
    )  # type: ignore[arg-type]
    flight = SimpleNamespace(attempt=7, offer=object(), request="", kind=0)
    piece = SimpleNamespace(run=1, place=0, opinion_of=None)
    await requests._publish(flight, piece, none, None, 0.0)  # type: ignore[arg-type]
    gc.collect()
    assert told == [m.SendFailed(7)]
    assert not faults
