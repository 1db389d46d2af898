"""What a map says of its outcomes."""

from dataclasses import asdict

import orjson

from pylon.jobs.codes import ErrorCode
from pylon.jobs.result import Finish
from pylon.money.msat import Msat
from pylon.money.usage import Usage
from pylon.node.outcomes import row_of, summary_of
from pylon.swarm.job import Answer, JobFailed
from pylon.swarm.moves import Failure

ANSWER = Answer(
    "text", "a" * 64, "model", "b" * 64, Usage(7, 3), Finish.STOP, 1, 2, 3, 1, "c" * 64, "d" * 64, Msat(5)
)
FAILED = JobFailed("no", reason=Failure.REFUSED, code=ErrorCode.EXPIRED, attempts=2, hint="later")


def test_a_row_has_every_field_of_the_answer_and_what_it_cost_in_msat():
    fields = asdict(ANSWER)
    wanted = {"index": 4, **fields, "paid_msat": fields.pop("paid"), "error": None}
    del wanted["paid"]
    assert orjson.loads(orjson.dumps(row_of(4, ANSWER))) == orjson.loads(orjson.dumps(wanted))
    assert row_of(0, Answer(**{**fields, "usage": None}))["usage"] is None


def test_a_row_without_an_answer_says_why():
    row = row_of(1, FAILED)
    assert row == {
        "index": 1,
        "text": None,
        "attempts": 2,
        "error": {"reason": "refused", "code": "expired", "message": "no", "hint": "later"},
    }


def test_a_summary_holds_the_rows_unless_they_were_told_as_they_came():
    full, short = (summary_of([ANSWER, FAILED], 1.0, 9, in_full=in_full) for in_full in (True, False))
    assert full.pop("outcomes") == [row_of(0, ANSWER), row_of(1, FAILED)]
    assert short == full
    assert (short["jobs"], short["answered"], short["paid_msat"], short["beside_msat"]) == (2, 1, 9, 4)
