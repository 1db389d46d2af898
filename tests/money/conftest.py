"""A test that fails with a database open must fail, not hang: aiosqlite's threads would hold up the exit."""

from functools import partial
from threading import Thread

import aiosqlite.core
import pytest


@pytest.fixture(autouse=True)
def threads_do_not_outlive_us(monkeypatch):
    monkeypatch.setattr(aiosqlite.core, "Thread", partial(Thread, daemon=True))
