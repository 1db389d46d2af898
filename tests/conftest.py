"""What holds for every test."""

import logging
import signal

import pytest
from hypothesis import HealthCheck, settings

# How many histories a property that names no number is tried with: `scripts/test` is for every change, `--all` for
# what has had one. How long an example takes, and is made in, says nothing on a machine that has other work.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("usual", _PATIENT)
settings.register_profile("brief", _PATIENT, max_examples=40)
settings.register_profile("thorough", _PATIENT, max_examples=250)
settings.load_profile("usual")

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
