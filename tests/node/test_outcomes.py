"""What a map says of its outcomes."""

from dataclasses import asdict

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.codes import ErrorCode
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.node.outcomes import outcome_of, row_of, rows_of, summary_of
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed

ANSWER = Answer(
    "text", "a" * 64, "model", "b" * 64, Usage(7, 3), Finish.STOP, 1, 2, 3, 1, "c" * 64, "d" * 64, Msat(5)
)
FAILED = JobFailed("no", reason=Failure.REFUSED, code=ErrorCode.EXPIRED, attempts=2, hint="later")


def test_a_row_has_every_field_of_the_answer_and_what_it_cost_in_msat():
    fields = asdict(ANSWER)
    shown = {"provider": nip19.npub(ANSWER.provider), "paid_msat": fields.pop("paid")}
    wanted = {"index": 4, **fields, **shown, "error": None}
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


async def test_a_summary_counts_what_was_answered_and_paid_and_rows_are_in_order():
    summary = await summary_of([ANSWER, FAILED], 1.0, 9)
    assert await rows_of([ANSWER, FAILED] * 600) == [
        row_of(index, (ANSWER, FAILED)[index % 2]) for index in range(1_200)
    ]
    assert "outcomes" not in summary and summary["providers"][nip19.npub(ANSWER.provider)]["jobs"] == 1
    assert [summary[name] for name in ("jobs", "answered", "paid_msat", "beside_msat")] == [2, 1, 9, 4]


texts = st.text(max_size=20)
answers = st.builds(
    Answer,
    text=texts,
    provider=st.sampled_from([SecretKey.generate().public for _ in range(3)]),
    model=texts,
    sha256=texts,
    usage=st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    finish=st.none() | st.sampled_from(Finish),
    queue_ms=st.integers(0, 9),
    run_ms=st.integers(0, 9),
    latency_ms=st.integers(0, 9),
    attempts=st.integers(0, 9),
    request_id=texts,
    result_id=texts,
    paid=st.integers(0, 10**15).map(Msat),
    verified=st.lists(texts, max_size=3).map(tuple),
)
failures = st.builds(
    JobFailed,
    texts,
    reason=st.sampled_from(Failure),
    code=st.none() | st.sampled_from(ErrorCode),
    attempts=st.integers(0, 9),
    hint=texts,
)


@given(answers | failures, st.booleans())
def test_whoever_reads_a_row_has_the_outcome_that_it_was_made_of(outcome, over_the_wire):
    row = row_of(3, outcome)
    read = outcome_of(orjson.loads(orjson.dumps(row)) if over_the_wire else row)
    if isinstance(outcome, JobFailed):
        assert isinstance(read, JobFailed)
        assert (str(read), vars(read)) == (str(outcome), vars(outcome))
    else:
        assert read == outcome
        assert [type(value) for value in asdict(read).values()] == [type(value) for value in asdict(outcome).values()]
