"""Names of calls are the host's: whatever a sandbox says of its requests, no two calls of a run are named alike."""

from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.runs import Run
from pylon.rlm.table import call_rows
from tests.rlm.escapes import FORGING
from tests.rlm.fakes import Stage, repl


def paired(stage):
    """Each row of the table: its prompt and its answer."""
    text = stage.folder / "run" / "blobs"
    rows = call_rows(Run(stage.folder / "run"))
    return [tuple((text / row[name]).read_text() for name in ("prompt_sha256", "answer_sha256")) for row in rows]


async def test_calls_after_a_lost_sandbox_have_rows_of_their_own_with_their_own_answers(tmp_path, backend):
    turns = [
        repl("print(llm_query_batched(['a', 'b']))"),
        repl("import os\nos._exit(1)"),
        repl("print(llm_query_batched(['c', 'd']))"),
        repl("FINAL('all')"),
    ]
    stage = Stage(tmp_path, turns, open_repl=lambda: ChildRepl(backend))
    await stage.run()
    assert paired(stage) == [(one, f"<{one}>") for one in "abcd"]
    assert len({event["call"] for event in stage.events("submitted")}) == 4


async def test_requests_that_a_sandbox_calls_alike_are_told_apart(tmp_path, backend):
    forged = """
import json
for prompt in ("x", "y"):
    frame(json.dumps({"type": "calls", "id": "c9", "kind": "llm", "prompts": [prompt], "model": None}).encode())
print(llm_query("z"))
"""
    turns = [repl(FORGING + forged), repl("FINAL('all')")]
    stage = Stage(tmp_path, turns, open_repl=lambda: ChildRepl(backend))
    await stage.run()
    returned = {event["call"]: stage.text(event["text"]) for event in stage.events("returned")}
    assert sorted(returned.values())[:2] == ["<x>", "<y>"]
