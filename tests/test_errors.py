"""What an error says where nobody catches it."""

import copy
import logging
import pickle
import traceback

import pytest

from pylon.errors import PylonError, UsageError, error_row
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
