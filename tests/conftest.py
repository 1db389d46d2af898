"""What holds for every test."""

import logging
import signal

import pytest

# Whoever is started in the background without job control ignores Ctrl-C, and so do all programs that it starts:
# those that are sent one here would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logs():
    """What one test, or a command that it ran, decided about logs is nothing to the next."""
    pylon = logging.getLogger("pylon")
    handlers, propagates = [*pylon.handlers], pylon.propagate
    pylon.setLevel(logging.NOTSET)
    yield
    pylon.handlers[:] = handlers
    pylon.propagate = propagates
