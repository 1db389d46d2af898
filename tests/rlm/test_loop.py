"""The loop: what a root model says, and what becomes of it."""

import asyncio

import pytest

from pylon.errors import SandboxError, UnreachableError
from pylon.rlm.budget import Limits
from pylon.rlm.calls import SubCallRunner
from pylon.rlm.loop_state import Reason
from pylon.rlm.repl.protocol import Answer, CellLimits
from pylon.rlm.root import Reply, RootError, ScriptedRoot
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import FunctionSubLM, SubModels
from tests.manual_clock import ManualClock
from tests.rlm.fakes import InProcessRepl, Stage, repl
from tests.waiting import until


@pytest.mark.parametrize(
    "turn",
    [
        repl("answer['content'] = 'Paris'; answer['ready'] = True"),
        "```python\nFINAL('Paris')\n```",
        "FINAL(Paris)",
        "I know it.\n\n**FINAL(Paris)**",
        'FINAL("Paris")',
        "SUBMIT(answer='Paris')",
        repl("where = 'Paris'") + "\nFINAL_VAR(where)",
        repl("where = 'Paris'") + "\nFINAL(where)",
        "<think>FINAL(London)?</think>FINAL(Paris)",
    ],
)
async def test_every_way_to_give_an_answer_is_understood(tmp_path, turn):
    stage = Stage(tmp_path, [turn])
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason, outcome.turns) == ("Paris", False, Reason.FINAL, 1)


async def test_the_root_sees_what_its_code_printed_and_variables_stay(tmp_path):
    stage = Stage(tmp_path, [repl("x = len(context)\nprint('length', x)"), repl("FINAL(x + 1)")])
    outcome = await stage.run(context="four")
    assert outcome.answer == "5"
    shown = stage.root.chats[1][-1].content
    assert "length 4" in shown and "x: int" in shown and "turn 1 of 20" in shown


async def test_a_cell_that_raises_is_shown_and_the_next_one_goes_on(tmp_path):
    stage = Stage(tmp_path, [repl("x = 1\n1 / 0"), repl("FINAL(x)")])
    assert (await stage.run()).answer == "1"
    assert "ZeroDivisionError" in stage.root.chats[1][-1].content


async def test_output_shown_to_the_root_is_cut_and_the_trajectory_keeps_all_of_it(tmp_path):
    stage = Stage(tmp_path, [repl("print('a' * 30000)"), "FINAL(x)"], settings=LoopSettings(output_chars=500))
    await stage.run()
    assert len(stage.root.chats[1][-1].content) < 1_000
    assert stage.text(stage.events("cell")[0]["stdout"]) == "a" * 30_000 + "\n"


@pytest.mark.parametrize(
    "why", ["the sandbox ended over it. Its variables are lost.", "the REPL has no variable 'n'"]
)
async def test_a_root_hears_why_the_variable_that_it_names_gives_no_answer(tmp_path, monkeypatch, why):
    async def lost(self, name, *, seconds):
        raise SandboxError(why)

    monkeypatch.setattr(InProcessRepl, "value", lost)
    stage = Stage(tmp_path, [repl("n = 1") + "\nFINAL_VAR(n)", "FINAL(seven it is)"])
    assert (await stage.run()).answer == "seven it is"
    said = f"FINAL_VAR(n) was not understood: {why.removesuffix('.')}. SHOW_VARS() lists"
    assert said in stage.root.chats[1][-1].content


async def test_an_answer_beside_unseen_output_is_asked_for_again(tmp_path):
    guess = repl("print('it is 7')") + "\nFINAL(5)"
    stage = Stage(tmp_path, [guess, "FINAL(7)"])
    assert (await stage.run()).answer == "7"
    assert "before you had seen" in stage.root.chats[1][-1].content


async def test_a_turn_without_code_is_corrected_and_a_root_that_never_writes_any_ends_partial(tmp_path):
    stage = Stage(tmp_path, ["Let me think.", repl("FINAL(1)")])
    assert (await stage.run()).answer == "1"
    assert "```repl" in stage.root.chats[1][-1].content
    silent = Stage(tmp_path / "b", ["I would say Paris."])
    outcome = await silent.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("I would say Paris.", True, Reason.NO_CODE)
    assert outcome.turns == 3


async def test_a_root_that_repeats_itself_ends_partial_and_its_code_runs_once(tmp_path):
    ran = []
    stage = Stage(tmp_path, [repl("llm_query('again')")], lambda prompt: ran.append(prompt) or "yes")
    outcome = await stage.run()
    assert outcome.partial and outcome.reason is Reason.REPEATED
    assert ran == ["again"] and len(stage.events("cell")) == 1


async def test_of_thousands_of_blocks_in_a_turn_a_few_are_run_and_the_root_hears_of_the_rest(tmp_path):
    many = "\n".join(repl(f"last = {number}") for number in range(20_000))
    stage = Stage(tmp_path, [f"{many}\nFINAL_VAR(last)", repl("FINAL(last)")])
    assert (await stage.run()).answer == "31"
    shown = stage.root.chats[1][-1].content
    assert "20,000 blocks" in shown and "the rest was left out" in shown
    assert len(stage.events("cell")) == 33


async def test_a_turn_of_many_blocks_shows_no_more_than_its_share_and_says_what_it_leaves_out(tmp_path):
    many = "\n".join(repl(f"print('{number} ' * 500)") for number in range(10, 30))
    stage = Stage(tmp_path, [many, repl("FINAL('ok')")], settings=LoopSettings(output_chars=1_000))
    await stage.run()
    shown = stage.root.chats[1][-1].content
    assert len(shown) < 2_000
    assert "the output of blocks 1 to 15 is left out, 22,515 characters" in shown
    assert "Output of block 16:\n25 25" in shown and "Output of block 20:\n29 29" in shown


async def test_a_megabyte_of_code_is_not_run_and_does_not_fill_the_window(tmp_path):
    stage = Stage(tmp_path, [repl("x = 1\n" * 170_000), repl("FINAL('ok')")])
    assert (await stage.run()).answer == "ok"
    assert sum(len(message.content) for message in stage.root.chats[1]) < 60_000
    assert len(stage.events("cell")) == 1


async def test_a_root_that_writes_nothing_but_megabytes_of_code_ends_partial(tmp_path):
    stage = Stage(tmp_path, [repl("x = 1\n" * 170_000)])
    outcome = await stage.run()
    assert outcome.partial and outcome.reason is Reason.NO_CODE and outcome.turns == 3
    assert not stage.events("cell") and len(outcome.answer or "") < 1_000


async def test_a_root_that_never_answers_ends_with_what_the_repl_has(tmp_path):
    class Silent(ScriptedRoot):
        async def reply(self, messages, **loop):
            if len(messages) > 2:
                await asyncio.sleep(60)
            return await super().reply(messages)

    root = Silent([repl("answer['content'] = 'so far'")])
    stage = Stage(tmp_path, root, settings=LoopSettings(root_timeout_s=0.1))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("so far", True, Reason.ROOT_SILENT)


async def test_a_root_that_fails_ends_the_run_with_its_reason(tmp_path):
    class Broken(ScriptedRoot):
        async def reply(self, messages, **loop):
            raise RootError("the endpoint says 401")

    outcome = await Stage(tmp_path, Broken([""])).run()
    assert (outcome.answer, outcome.reason) == (None, Reason.ROOT_FAILED)
    assert "401" in outcome.detail


@pytest.mark.parametrize("error", [UnreachableError("no node answers"), ValueError("of a library"), OSError("of it")])
async def test_whatever_a_root_fails_with_the_run_ends_with_that_reason_and_what_it_has(tmp_path, error):
    class Broken(ScriptedRoot):
        async def reply(self, messages, **loop):
            if len(messages) > 2:
                raise error
            return await super().reply(messages)

    stage = Stage(tmp_path, Broken([repl("answer['content'] = 'so far'")]))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("so far", True, Reason.ROOT_FAILED)
    assert (str(error) if isinstance(error, UnreachableError) else type(error).__name__) in outcome.detail
    assert stage.events("final")[0]["reason"] == "root_failed"


async def test_a_root_that_refuses_for_good_is_not_asked_for_a_last_turn_and_its_hint_stays(tmp_path):
    class Refusing(ScriptedRoot):
        async def reply(self, messages, **loop):
            if len(messages) > 2:
                self.chats.append(tuple(messages))
                raise RootError("the endpoint says 401", hint="Is the key right?")
            return await super().reply(messages)

    stage = Stage(tmp_path, Refusing([repl("x = 1")]))
    outcome = await stage.run()
    assert outcome.reason is Reason.ROOT_FAILED and len(stage.root.chats) == 2
    assert outcome.fault.hint == stage.events("final")[0]["hint"] == "Is the key right?"


@pytest.mark.parametrize(("turns", "asked"), [([], 1), ([repl("x = 1")], 3)])
async def test_a_root_that_falters_has_its_last_turn_if_it_ever_said_a_word(tmp_path, turns, asked):
    class Faltering(ScriptedRoot):
        async def reply(self, messages, **loop):
            if sum(message.role == "assistant" for message in messages) >= len(turns):
                self.chats.append(tuple(messages))
                raise RootError("the endpoint says 503", lasting=False)
            return await super().reply(messages)

    stage = Stage(tmp_path, Faltering(turns))
    assert (await stage.run()).reason is Reason.ROOT_FAILED
    assert len(stage.root.chats) == asked


async def test_out_of_turns_the_root_gets_one_more_in_plain_words(tmp_path):
    def turns(messages):
        if "last turn" in messages[-1].content:
            return "Probably 3."
        return repl(f"print({len(messages)})")

    stage = Stage(tmp_path, turns, settings=LoopSettings(turns=4))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason, outcome.turns) == ("Probably 3.", True, Reason.TURNS, 4)
    assert "--turns" in outcome.hint
    assert [event["last"] for event in stage.events("turn")] == [False] * 4 + [True]


async def test_a_long_run_stays_within_the_roots_window(tmp_path):
    def turns(messages):
        turn = len(root.chats)
        return repl(f"n = {turn}\nprint('x' * 3000)") if turn < 30 else "FINAL_VAR(n)"

    root = ScriptedRoot(turns, context_tokens=4_000)
    root.max_tokens = 500
    stage = Stage(tmp_path, root, settings=LoopSettings(turns=40))
    assert (await stage.run()).answer == "29"
    assert max(sum(len(m.content) for m in chat) for chat in root.chats) < 4_000 * 4
    assert "left out" in root.chats[-1][1].content
    assert root.chats[-1][0].role == "system" and "what?" in root.chats[-1][1].content


async def test_a_named_variable_has_little_more_time_than_its_run_to_become_text(tmp_path):
    asked = []

    class Remembering(InProcessRepl):
        async def value(self, name, *, seconds):
            asked.append(seconds)
            return await super().value(name)

    turns = [repl("found = 'Paris'") + "\nFINAL_VAR(found)"]
    stage = Stage(tmp_path, turns, settings=LoopSettings(last_s=0.5), open_repl=Remembering)
    assert (await stage.run(limits=Limits(wall_s=10))).answer == "Paris"
    assert len(asked) == 1 and 0 < asked[0] < 15


@pytest.mark.parametrize("blocks", [1, 2])
async def test_a_cell_has_no_more_time_than_its_run(tmp_path, blocks):
    def turns(chat):
        return "nothing came" if "last turn" in chat[-1].content else "\n".join([repl(code)] * blocks)

    code = "x = 1" if blocks == 2 else "import time\ntime.sleep(600)"
    # No time passes but that of the cell, which takes all that there is.
    asked, clock = [], ManualClock()

    class Remembering(InProcessRepl):
        async def run(self, code, *, seconds):
            asked.append(seconds)
            clock.advance(seconds)
            return await super().run(code)

    settings = LoopSettings(last_s=0.5, cell=CellLimits(seconds=50))
    stage = Stage(tmp_path, turns, settings=settings, open_repl=Remembering, clock=clock)
    # Cut short by the loop, whatever the REPL makes of it.
    outcome = await stage.run(limits=Limits(wall_s=1.2))
    assert (outcome.answer, outcome.reason) == ("nothing came", Reason.BUDGET) and "--seconds" in outcome.hint
    assert asked == [pytest.approx(0.7)]


async def test_a_lost_sandbox_ends_the_run_with_a_last_turn(tmp_path):
    class Hanging(InProcessRepl):
        async def run(self, code, **limits):
            from pylon.errors import SandboxError

            raise SandboxError("the sandbox is gone")

    stage = Stage(
        tmp_path, lambda chat: "nothing was seen" if "last turn" in chat[-1].content else repl("1"), open_repl=Hanging
    )
    outcome = await stage.run()
    assert (outcome.answer, outcome.reason) == ("nothing was seen", Reason.SANDBOX)


async def test_cancelling_a_run_leaves_a_final_event(tmp_path):
    stage = Stage(tmp_path, [repl("llm_query('slow')")], lambda prompt: asyncio.sleep(60))
    run = asyncio.create_task(stage.run())
    await until(lambda: (tmp_path / "run").exists() and stage.events("submitted"))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    final = stage.events("final")[0]
    assert (final["answer"], final["reason"]) == (None, "interrupted")
    assert stage.events("returned")[0]["code"] == "cancelled"


@pytest.mark.parametrize("where", ["sandbox", "sub-calls"])
async def test_a_run_that_is_ended_once_it_has_its_answer_keeps_it(tmp_path, monkeypatch, where):
    closing = asyncio.Event()

    async def slow(_):
        closing.set()
        await asyncio.sleep(60)

    stage = Stage(tmp_path, [repl("FINAL('here')")])
    monkeypatch.setattr(*((InProcessRepl, "close") if where == "sandbox" else (SubCallRunner, "close")), slow)
    run = asyncio.create_task(stage.run())
    await closing.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    final = stage.events("final")[0]
    assert (stage.text(final["answer"]), final["partial"], final["reason"]) == ("here", False, "final")


async def test_a_run_that_is_ended_while_it_ends_asks_nothing_more_after_its_calls(tmp_path, monkeypatch):
    stage = Stage(tmp_path, [repl("FINAL('here')")])
    ended = list[str]()

    async def room() -> None:
        ended.append("room")
        await asyncio.Event().wait()

    async def unsettled() -> None:
        ended.append("unsettled")

    monkeypatch.setattr(stage.rlm._sub_calls, "close", room)
    monkeypatch.setattr(stage.rlm._late, "close", lambda: ended.append("late"))
    monkeypatch.setattr(stage.rlm._unsettled, "close", unsettled)
    run = asyncio.create_task(stage.run())
    await until(lambda: ended)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended == ["room", "late", "unsettled"] and stage.events("final")


async def test_cell_limits_reach_the_repl(tmp_path):
    seen = []

    class Seen(InProcessRepl):
        async def open(self, context, limits, on_calls):
            seen.append(limits)
            await super().open(context, limits, on_calls)

    cell = CellLimits(seconds=3)
    await Stage(tmp_path, ["FINAL(1)"], settings=LoopSettings(cell=cell), open_repl=Seen).run()
    assert seen == [cell]


async def test_a_reply_with_usage_calibrates_what_fits(tmp_path):
    class Dense(ScriptedRoot):
        """Every character is a token."""

        async def reply(self, messages, **loop):
            reply = await super().reply(messages)
            size = sum(len(message.content) for message in messages)
            return Reply(reply.text, size, reply.completion_tokens, self.name)

    root = Dense(
        lambda messages: repl(f"print({len(root.chats)}, 'y' * 2000)") if len(root.chats) < 8 else "FINAL(1)",
        context_tokens=16_000,
    )  # fmt: skip
    root.max_tokens = 100
    await Stage(tmp_path, root).run()
    assert max(sum(len(m.content) for m in chat) for chat in root.chats) < 16_000


@pytest.mark.parametrize("said", ["FINAL(answer)", "FINAL_VAR(answer)", "FINAL(answer) is how."])
async def test_an_answer_that_was_never_set_is_none(tmp_path, said):
    stage = Stage(tmp_path, [said, repl("FINAL(7)")])
    outcome = await stage.run()
    assert (outcome.answer, outcome.turns) == ("7", 2)
    assert "`answer` holds nothing yet" in stage.root.chats[1][-1].content
    last = Stage(tmp_path / "b", [said], settings=LoopSettings(turns=1))
    assert (await last.run()).answer is None


async def test_an_answer_that_was_too_long_for_its_sandbox_is_partial_however_it_is_given(tmp_path, monkeypatch):
    async def cut(self, name, *, seconds):
        return Answer("the start", ready=True, partial="too long")

    monkeypatch.setattr(InProcessRepl, "value", cut)
    outcome = await Stage(tmp_path / "a", ["FINAL_VAR(large)"]).run()
    assert (outcome.answer, outcome.partial, outcome.detail) == ("the start", True, "too long")
    stage = Stage(tmp_path / "b", [repl("1"), "FINAL_VAR(large)"], settings=LoopSettings(turns=1))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial) == ("the start", True) and outcome.detail.endswith("; too long")


async def test_a_root_hears_that_what_it_has_so_far_is_partial(tmp_path):
    stage = Stage(tmp_path, [repl("answer.update(content='7', partial='it is too long')"), "FINAL(8)"])
    await stage.run()
    assert "`answer` is partial: it is too long" in stage.root.chats[1][-1].content


async def test_an_answer_that_the_code_calls_partial_is(tmp_path):
    stage = Stage(tmp_path, [repl("answer.update(content='7', partial='half of it is missing', ready=True)")])
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.detail) == ("7", True, "half of it is missing")


async def test_a_last_turn_of_code_is_asked_for_again_in_words(tmp_path):
    stage = Stage(tmp_path, [repl("print('it is 7')"), repl("print(8)"), "It is 7."], settings=LoopSettings(turns=1))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("It is 7.", True, Reason.TURNS)
    assert len(stage.events("cell")) == 1


async def test_a_root_that_answers_in_code_alone_leaves_what_was_printed_last(tmp_path):
    stage = Stage(tmp_path, [repl("print('it is 7')")], settings=LoopSettings(turns=1))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial) == ("it is 7", True)
    assert "printed last" in outcome.detail and len(stage.events("turn")) == 3


async def test_a_prompt_that_no_event_carries_is_refused_at_once_and_the_others_stand(tmp_path):
    code = "r = llm_query_batched(['a', str([hash(str(n)) for n in range(9_000)]), 'b'])"
    stage = Stage(
        tmp_path, [repl(f"{code}\nprint(r[0], r[1].code, r[2])\nprint(r[1])"), "FINAL(x)"],
        sub_settings=SubSettings(event_bytes=65_536),
    )  # fmt: skip
    await stage.run()
    shown = stage.root.chats[1][-1].content
    assert "<a> too_large <b>" in shown and "37,709 bytes of plain text do" in shown
    assert len(stage.sub.jobs) == 2
    assert [event["code"] for event in stage.events("returned") if "code" in event] == ["too_large"]


async def test_the_root_is_told_the_longest_prompt_that_an_event_carries(tmp_path):
    sub = FunctionSubLM(str, models=SubModels(("m",), 32_768, 8))
    stage = Stage(tmp_path, ["FINAL(x)"], sub, sub_settings=SubSettings(event_bytes=65_536))
    await stage.run()
    assert "up to 37,709\n  bytes of UTF-8" in stage.root.chats[0][0].content
    less = Stage(tmp_path / "b", ["FINAL(x)"], sub, sub_settings=SubSettings(event_bytes=65_536))
    await less.run(limits=Limits(prompt_chars=5_000))
    assert "up to 5,000\n" in less.root.chats[0][0].content


async def test_where_asking_again_fails_what_was_printed_last_stands(tmp_path):
    def turns(messages):
        if sum(message.role == "assistant" for message in messages) > 1:
            raise RootError("gone")
        return repl("print('it is 7')")

    outcome = await Stage(tmp_path, turns, settings=LoopSettings(turns=1)).run()
    assert (outcome.answer, outcome.reason) == ("it is 7", Reason.TURNS)


async def test_what_the_codes_answer_lacked_is_no_fault_of_one_in_other_words(tmp_path):
    draft = repl("answer['content'] = 'draft'; answer['partial'] = 'cut'")
    whole = await Stage(tmp_path / "a", [draft, "FINAL(the whole of it)"]).run()
    assert (whole.answer, whole.partial, whole.detail) == ("the whole of it", False, "")
    for final in ("FINAL(answer)", "FINAL(draft)", repl("answer['ready'] = True")):
        drafted = await Stage(tmp_path / final[:9].strip("`"), [draft, final]).run()
        assert (drafted.answer, drafted.partial, drafted.detail) == ("draft", True, "cut")


async def test_a_last_turn_without_a_reply_says_so(tmp_path):
    class Hanging(ScriptedRoot):
        async def reply(self, messages, **loop):
            if "last turn" in messages[-1].content:
                await asyncio.sleep(60)
            return await super().reply(messages)

    outcome = await Stage(tmp_path, Hanging([repl("x = 1")]), settings=LoopSettings(turns=1, last_s=0.1)).run()
    assert outcome.detail.endswith("the last turn failed (no reply in time)")
