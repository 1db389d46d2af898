"""An engine whose process ends amid a job: what its customer hears, and what the node says of itself."""

import sys
from pathlib import Path

import pytest

from pylon.jobs.codes import ErrorCode

MISBEHAVING = (sys.executable, str(Path(__file__).parents[1] / "inference" / "misbehaving.py"))


@pytest.mark.parametrize(
    ("misdeed", "reason"), [("take all memory", "ran out of memory"), ("die", "was killed by SIGKILL")]
)
async def test_a_job_under_which_the_engine_ends_three_times_has_failed_and_the_next_one_is_answered(
    serve, customer, misdeed, reason
):
    serving = await serve(command=MISBEHAVING)
    request = await customer.ask(serving.public, customer.job(misdeed))
    refusal = await customer.refusal(request)
    assert (refusal.code, refusal.text) == (ErrorCode.ENGINE_FAILED, "the model did not answer")
    result = await customer.result(await customer.ask(serving.public, customer.job("well")))
    assert result.text.startswith("well")
    status = await serving.provider.status()
    assert (status.engine.state, status.engine.restarts, status.engine.reason) == ("ready", 3, reason)
    assert (status.jobs["failed"], sum(status.jobs.values())) == (1, 2)
