"""Runs whose record is not what was written: a text is missing or cut, or somebody has edited an event."""

import re

import orjson
import pytest

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node.rlm.resume import _settings
from pylon.rlm import event_shapes
from pylon.rlm.record import read_record
from pylon.rlm.recorded_run import DiffersError
from pylon.rlm.replay import replay
from pylon.rlm.runs import CUT, Run, answer_of, list_row
from pylon.rlm.settings import LoopSettings
from pylon.rlm.table import call_rows
from pylon.rlm.trajectory import EVENTS, Trajectory
from pylon.rlm.viewer import export_rlm
from pylon.sections import RlmSection
from tests.rlm.fakes import InProcessRepl, Stage, repl
from tests.rlm.test_resume import CHILD, LIMITS, Again, Paid, events, killed, whole

LONG = "x" * 500
TURNS = [
    repl("got = llm_query_batched(['a', 'b'])\nprint(len(got))"),
    repl(f"# {LONG}\nmore = llm_query('c')\nprint('ok')"),
    repl("FINAL(' '.join(got))"),
]


def long(prompt):
    return f"<{prompt}>{LONG} end"


def blob(folder, event, name):
    return folder / "run" / "blobs" / event[name]["sha256"]


def damage(path, how):
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else path.read_bytes()[:-4])


def after(folder, kind, count):
    names = [event["type"] for event in events(folder)]
    return [place for place, name in enumerate(names) if name == kind][count - 1] + 1


@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
async def test_an_answer_that_is_not_kept_as_it_was_is_asked_anew(tmp_path, how):
    _, outcome = await whole(tmp_path, TURNS, Paid(long))
    killed(tmp_path, after(tmp_path, "shown", 2))
    damage(blob(tmp_path, events(tmp_path, "returned")[0], "text"), how)
    again = Again(tmp_path, TURNS, Paid(long))
    came = await again.run()
    assert (came.answer, came.partial, again.sub.prompts) == (outcome.answer, False, ["a"])
    assert len(again.root.chats) == 1
    # What the first time cost is spent all the same.
    assert events(tmp_path, "final")[0]["spent"]["calls"] == 4
    assert events(tmp_path, "run")[0]["before"]["lost"] == 1


async def test_one_that_is_another_now_is_told_from_what_the_code_prints(tmp_path):
    turns = [repl("got = llm_query('a')\nprint(got)"), repl("FINAL(got)")]
    await whole(tmp_path, turns, Paid(long))
    killed(tmp_path, after(tmp_path, "shown", 1))
    damage(blob(tmp_path, events(tmp_path, "returned")[0], "text"), "cut")
    with pytest.raises(DiffersError, match="prints something else"):
        await Again(tmp_path, turns, Paid(lambda prompt: "other" + LONG)).run()
    on = Again(tmp_path, turns, go_on=True)
    assert (await on.run()).answer == "other" + LONG and not on.sub.prompts


@pytest.mark.parametrize(("kind", "name"), [("turn", "reply"), ("loop", "system"), ("loop", "opening")])
async def test_what_a_root_said_or_was_told_at_first_must_be_there_and_nothing_is_asked(tmp_path, kind, name):
    await Stage(tmp_path, TURNS, Paid(long)).run(LONG, limits=LIMITS)
    killed(tmp_path, after(tmp_path, "shown", 2))
    lost = blob(tmp_path, events(tmp_path, kind)[-1], name)
    # Nor is an answer asked anew first.
    damage(blob(tmp_path, events(tmp_path, "returned")[0], "text"), "missing")
    damage(lost, "cut")
    was = (tmp_path / "run" / EVENTS).read_bytes()
    again = Again(tmp_path, TURNS, Paid(long))
    with pytest.raises(UsageError, match=re.escape(str(lost))):
        await again.run()
    assert not again.sub.jobs and not again.root.chats and (tmp_path / "run" / EVENTS).read_bytes() == was


async def test_what_a_root_was_shown_is_made_anew(tmp_path):
    turns = [repl("print('y' * 900)"), repl("FINAL('x')")]
    stage, _ = await whole(tmp_path, turns)
    killed(tmp_path, after(tmp_path, "shown", 1))
    damage(blob(tmp_path, events(tmp_path, "shown")[0], "text"), "cut")
    again = Again(tmp_path, turns)
    assert (await again.run()).answer == "x"
    assert "y" * 900 in again.root.chats[0][-1].content and "left]" in stage.root.chats[1][-1].content


def nested(messages):
    turns = TURNS_DEEP if "Your task stands" not in messages[1].content else CHILD
    return turns[sum(message.role == "assistant" for message in messages)]


TURNS_DEEP = [repl(f"deep = rlm_query('{LONG}')\nprint(len(deep))"), repl("FINAL(deep)")]


@pytest.mark.parametrize("lines", [("shown", 99), ("submitted", 2)], ids=["came back", "went on"])
async def test_a_loop_inside_reads_its_context_and_gives_its_answer_whole(tmp_path, lines):
    _, outcome = await whole(tmp_path, nested)
    kind, count = lines
    count = min(count, len(events(tmp_path, kind)))
    killed(tmp_path, after(tmp_path, kind, count))
    deep = next(event for event in events(tmp_path, "submitted") if event["kind"] == "rlm")
    damage(blob(tmp_path, deep, "prompt"), "cut")
    for event in events(tmp_path, "returned"):
        if event["call"] == deep["call"]:
            damage(blob(tmp_path, event, "text"), "empty")
    again = Again(tmp_path, nested)
    came = await again.run()
    assert (came.answer, came.partial) == (outcome.answer, False)


@pytest.mark.parametrize(("kind", "name"), [("turn", "reply"), ("returned", "text")])
async def test_a_replay_says_no_cut_text_again(tmp_path, kind, name):
    await whole(tmp_path, TURNS, Paid(long))
    lost = blob(tmp_path, next(event for event in events(tmp_path, kind) if event[name]["chars"] > 200), name)
    damage(lost, "cut")
    copy = Trajectory(tmp_path / "copy", SystemClock())
    with pytest.raises(UsageError, match=re.escape(str(lost))):
        await replay(Run(tmp_path / "run"), InProcessRepl, copy, SystemClock(), settings=LoopSettings())
    copy.close()


async def test_the_answer_of_a_run_that_has_ended_is_given_whole_or_not_at_all(tmp_path):
    await whole(tmp_path, TURNS, Paid(long))
    run = Run(tmp_path / "run")
    assert answer_of(run) == f"{long('a')} {long('b')}"
    damage(blob(tmp_path, events(tmp_path, "final")[0], "answer"), "empty")
    with pytest.raises(UsageError, match="the answer of run run is missing or damaged"):
        answer_of(run)


async def test_for_people_the_beginning_stands_there_and_says_that_it_is_no_more(tmp_path):
    await whole(tmp_path, TURNS, Paid(long))
    event = events(tmp_path, "returned")[0]
    damage(blob(tmp_path, event, "text"), "cut")
    run = Run(tmp_path / "run")
    assert run.text(event["text"]) == long("a")[:160] + CUT and run.whole(event)["text"].endswith(CUT)
    assert CUT in str(list(export_rlm(run)))
    # A short one stands in its event.
    damage(blob(tmp_path, event, "prompt"), "missing")
    assert run.text(event["prompt"]) == "a"


EDITS = [
    ("cell", lambda event: event.pop("variables"), "variables: Field required"),
    ("turn", lambda event: event.update(msat="7"), "msat: Input should be a valid integer"),
    ("returned", lambda event: event.update(verified=None), "verified"),
    ("returned", lambda event: event["text"].update(sha256="../../identity"), "text.sha256"),
    ("run", lambda event: event["limits"].pop("calls"), "limits.calls"),
    ("submitted", lambda event: event.update(type=["x"]), "type"),
    ("submitted", lambda event: event.update(type="Submitted"), "type: there is no event 'Submitted'"),
    ("shown", lambda event: event.pop("n"), "n: Field required"),
    ("budget", lambda event: event["spent"].update(msat=-5), "spent.msat"),
    ("final", lambda event: event.update(spent=None), "spent"),
]


@pytest.mark.parametrize(("kind", "edit", "says"), EDITS)
async def test_an_event_that_somebody_edited_is_named_by_its_file_and_line(tmp_path, kind, edit, says):
    await whole(tmp_path, TURNS)
    path = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    place = next(place for place, line in enumerate(lines) if line["type"] == kind)
    edit(lines[place])
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    run, copy = Run(tmp_path / "run"), Trajectory(tmp_path / "copy", SystemClock())
    told = re.escape(f"{path}, line {place + 1} is not what Pylon wrote: {says}")
    with pytest.raises(UsageError, match=told):
        read_record(run)
    with pytest.raises(UsageError, match=told):
        await replay(run, InProcessRepl, copy, SystemClock(), settings=LoopSettings())
    copy.close()
    # The list of all runs goes on.
    assert list_row(run)["id"] == "run"


async def test_a_line_in_the_middle_that_is_no_event_is_no_torn_one(tmp_path):
    await whole(tmp_path, TURNS)
    path = tmp_path / "run" / EVENTS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b'{"n": 4, \n', *lines[5:]]))
    with pytest.raises(UsageError, match="line 5 is not what Pylon wrote: is no event"):
        read_record(Run(tmp_path / "run"))


@pytest.mark.parametrize("change", ["doubled", "lost", "without a time"])
async def test_an_event_that_is_lost_or_there_twice_is_named_and_counted_no_other_way(tmp_path, change):
    await whole(tmp_path, TURNS)
    path = tmp_path / "run" / EVENTS
    lines = path.read_bytes().splitlines(keepends=True)
    place = after(tmp_path, "returned", 1)
    lines[place - 1 : place] = {
        "doubled": lines[place - 1 : place] * 2, "lost": [], "without a time": [b'{"type":"x"}\n']
    }[change]  # fmt: skip
    path.write_bytes(b"".join(lines))
    wrong = place if change == "without a time" else place + (change == "doubled")
    with pytest.raises(UsageError, match=f"line {wrong} is not what Pylon wrote: (n|type): "):
        read_record(Run(tmp_path / "run"))


async def test_a_file_of_events_that_cannot_be_read_is_named(tmp_path):
    await whole(tmp_path, TURNS)
    older = tmp_path / "run" / "events.1.jsonl"
    older.mkdir()
    with pytest.raises(UsageError, match=re.escape(f"{older} cannot be read: Is a directory")):
        read_record(Run(tmp_path / "run"))


async def test_where_the_folder_of_texts_is_gone_what_is_missing_is_named(tmp_path):
    await whole(tmp_path, TURNS, Paid(long))
    killed(tmp_path, after(tmp_path, "shown", 2))
    lost, blobs = blob(tmp_path, events(tmp_path, "loop")[0], "system"), tmp_path / "run" / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=re.escape(str(lost))):
        await Again(tmp_path, TURNS, Paid(long)).run()
    blobs.rmdir()
    blobs.write_text("no folder")
    for _ in range(2):
        # And the run is not left locked.
        with pytest.raises(UsageError, match=re.escape(f"{blobs} is not a folder")):
            Again(tmp_path, TURNS, Paid(long))


async def test_every_event_that_is_written_holds_what_must_be_read(tmp_path):
    await whole(tmp_path, nested, Paid())
    for place, event in enumerate(events(tmp_path)):
        assert event_shapes.fault(event, place) == ""
    assert call_rows(Run(tmp_path / "run"))


@pytest.mark.parametrize(("strategy", "lacks"), [("rlm", "kind, model, temperature"), ("search", "cell")])
async def test_a_run_that_does_not_say_with_what_it_ran_cannot_go_on(tmp_path, strategy, lacks):
    await whole(tmp_path, TURNS)
    begun = read_record(Run(tmp_path / "run")).begun | {"strategy": strategy}
    begun.pop("cell" if strategy == "search" else "version")
    with pytest.raises(UsageError, match=f"lacks {lacks}\n"):
        _settings(RlmSection(), Run(tmp_path / "run"), begun)
