"""What `pylon rlm show` says of an event."""

import asyncio

import pytest
from rich.console import Console

from pylon.cli.output import out
from pylon.cli.rlm import _listing, _state
from pylon.cli.rlm_show import _head, _line, _lines, _print_cut
from pylon.clock import SystemClock
from pylon.rlm.loop_state import Reason, in_words
from pylon.rlm.progress import Tally
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Trajectory
from tests.node import programs

AT = {"loop": "0", "turn": 2}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"type": "budget", "spent": {"calls": 1, "tokens": 1_200, "msat": 2_500}},
            "0 turn 2: so far 1 sub-call, 1,200 tokens, 2.5 play sat",
        ),
        ({"type": "charged", "msat": 1_000}, "0 turn 2: 1 play sat also charged"),
        ({"type": "shown", "text": {"chars": 1}}, "0 turn 2: the root is told 1 character"),
        # As `pylon providers` names it.
        (
            {"type": "returned", "call": "c", "text": {"preview": "x"}, "provider": "0" * 63 + "1", "model": "m",
             "msat": 0},
            "  ← c x (npub1qqqqqqqqq… m, 0 play sat)",
        ),
        (
            {"type": "returned", "call": "c", "text": {"preview": "x"}, "provider": "", "model": "root", "msat": 0},
            "  ← c x (root, 0 play sat)",
        ),
    ],
    ids=["budget", "charged", "shown", "provider", "loop"],
)  # fmt: skip
def test_an_event_is_told_in_words(tmp_path, event, said):
    assert _line(Run(tmp_path), {**AT, **event}, "play sat") == said


def test_question_answer_and_cost_stand_before_the_events(tmp_path):
    made = Trajectory(tmp_path / "run", SystemClock())
    counts = {"msat": 2_500, "calls": 0, "tokens": 0}
    made.write("run", question=made.text("Who, and " + "x" * 500), strategy="search")
    made.write("final", answer=made.text("He\nwas " + "y" * 500), partial=True, reason="turns", spent=counts)
    made.close()
    question, _, answer, _, took, _ = _head(Run(tmp_path / "run"), "sat")
    assert (question, answer) == ("Who, and " + "x" * 500, "He\nwas " + "y" * 500)
    assert took.startswith("partial, out of turns; 0 turns, 0 sub-calls, 0 providers") and took.endswith("run run")
    (tmp_path / "run" / "events.jsonl").write_text('{"type": "run"}\n')
    assert _head(Run(tmp_path / "run"), "sat") == []


def test_a_terminal_shows_the_beginning_of_each_line_of_an_event(monkeypatch):
    monkeypatch.setattr(out, "_width", 12)
    for on_terminal, said in (
        (True, ["a cell ran …", "    printed…"]),
        (False, ["a cell ran 2 s", "    printed it"]),
    ):
        monkeypatch.setattr(out, "_force_terminal", on_terminal)
        with out.capture() as shown:
            _print_cut("a cell ran 2 s\n    printed it")
        assert shown.get().splitlines() == said


def test_calls_that_were_cancelled_together_are_one_line_and_no_failures(tmp_path):
    def gone(at: float, call: str, code: str = "cancelled") -> dict[str, object]:
        return {"type": "returned", "at": at, "call": call, "code": code, "message": "the run was ended", **AT}

    begin = {"type": "loop", "at": 1.0, "loop": "0", "depth": 0}
    out_there = [{"type": "submitted", "at": 1.0, "call": f"c{n}", "kind": "llm"} for n in range(4)]
    ended = [gone(2.0, "c1"), gone(2.0, "c2"), gone(2.5, "c3", "deadline"), gone(3.0, "c0")]
    said = list(_lines(Run(tmp_path), [begin, *ended], "sat"))
    assert said[1:] == [
        (1.0, "  ✗ 2 sub-calls cancelled: the run was ended"),
        (1.5, "  ✗ c3 deadline: the run was ended"),
        (2.0, "  ✗ c0 cancelled: the run was ended"),
    ]
    tally = Tally()
    for event in [*out_there, *ended]:
        tally.add(event)
    assert (tally.counts["failed"], tally.counts["cancelled"], tally.back) == (1, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shwo", "last"], "Did you mean 'show'?"),
        (["lst"], "Did you mean 'list'?"),
        (["exprot", "last", "-o", "x"], "Did you mean 'export'?"),
        (["shwo", "--context", "gone.txt"], "pylon init"),
        (["Who, and what?", "--sats", "1"], "--context is missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_command_that_is_written_wrongly_is_no_question(tmp_path, arguments, said):
    env = {**programs.environment(tmp_path / "home", "ws://127.0.0.1:9"), "COLUMNS": "200"}
    process = await programs.spawn("rlm", *arguments, env=env, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    assert process.returncode == (3 if said == "pylon init" else 2) and said in told.decode()


async def test_who_types_a_command_that_there_is_not_is_told_where_they_are_listed(tmp_path):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    for question, told_of in (("runs", True), ("Who signed it?", False)):
        code, report, _ = await programs.run("rlm", question, env=env)
        assert code == 2 and ("pylon rlm --help" in report["error"]["hint"]) is told_of


def test_a_list_says_in_words_how_runs_ended_that_have_no_whole_answer():
    ends = {"no_code": "no code written", "turns": "out of turns", "final": "partial", "of no Pylon": "of no Pylon"}
    rows = [{"state": "ended", "partial": True, "reason": reason} for reason in ends]
    assert [_state(row) for row in rows] == list(ends.values())
    assert _state({"state": "ended", "partial": False, "reason": "final"}) == "ended"
    assert all(in_words(reason).isprintable() and "_" not in in_words(reason) for reason in Reason)


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_is_one_line_of_the_list_and_its_id_whole(width):
    row = {
        "id": "20261128-164501-9f3c2b", "state": "ended", "reason": "interrupted", "partial": True, "turns": 12,
        "calls": 1_234, "paid_msat": 1_234_567, "question": "What is the number? " * 9, "answer": "5 " * 99,
    }  # fmt: skip
    terminal = Console(width=width, force_terminal=True, color_system=None)
    with terminal as console, console.capture() as shown:
        console.print(_listing([row, {**row, "answer": None}], "play sat", width), crop=False)
    lines = shown.get().splitlines()
    assert len(lines) == 3 and all(len(line) <= width for line in lines)
    assert all(row["id"] in line and " 1,234.567 " in line and "What is the" in line for line in lines[1:])
    assert ("5 5 5" in lines[1]) is (width > 80)
