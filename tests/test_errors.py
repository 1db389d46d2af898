"""What an error says where nobody catches it."""

import asyncio
import copy
import errno
import logging
import pickle
import traceback

import pytest

from pylon.errors import PylonError, UsageError, error_row, system_reason
from pylon.log import JsonLines, Lines
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import JobFailed

FAILED = JobFailed("no answer", reason=Failure.DEADLINE, hint="Wait longer.")


@pytest.mark.parametrize(
    "error", [UsageError("no such file", hint="Name another."), FAILED], ids=["plain", "a job's"]
)
def test_a_traceback_ends_with_what_to_do_and_says_it_once_also_of_a_copy(error: PylonError) -> None:
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        lines = "".join(traceback.format_exception(one)).splitlines()
        assert lines[-1] == one.hint == error.hint and lines.count(one.hint) == 1
        assert lines[-2].endswith(str(error))
        assert error_row(one)["message"] == str(error)


def test_an_error_that_knows_nothing_to_do_has_no_note() -> None:
    assert not hasattr(UsageError("no such file"), "__notes__")


@pytest.mark.parametrize("form", [Lines(), JsonLines()])
def test_a_log_says_a_hint_once(form: logging.Formatter) -> None:
    error = UsageError("no such file", hint="Name another.")
    record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": (UsageError, error, None)})
    assert form.format(record).count("Name another.") == 1


async def test_a_refused_connection_is_told_in_the_words_of_the_system() -> None:
    with pytest.raises(ConnectionRefusedError) as one:
        await asyncio.open_connection("127.0.0.1", 9)
    number = f"[Errno {errno.ECONNREFUSED}]"
    both = OSError(f"Multiple exceptions: {number} no ('::1', 9), {number} no ('127.0.0.1', 9)")
    assert system_reason(both) == "Connection refused"
    assert system_reason(one.value) == "Connection refused"
    assert system_reason(OSError("the name has no address")) == "the name has no address"
