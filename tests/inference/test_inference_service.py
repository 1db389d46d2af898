import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pylon.errors import EngineFailedError, ModelError, NoRoomError, PromptError
from pylon.inference.child.supervisor import ChildLimits, doubled
from pylon.inference.engine import EngineSpec
from pylon.inference.instant import MODEL_ID
from tests.inference.children import MISBEHAVING
from tests.inference.conftest import QUICK
from tests.waiting import until

INSTANT = EngineSpec("instant", MODEL_ID, slots=4)


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def test_start_returns_while_the_model_still_loads_and_requests_wait_for_it(serve, ask) -> None:
    service = await serve(INSTANT)
    assert service.status().state == "loading"
    generation = await service.generate(ask("hello", model=MODEL_ID))
    assert "hello" in generation.text
    status = service.status()
    assert (status.state, status.active, status.slots, status.restarts) == ("ready", 0, 4, 0)
    assert status.model is not None
    assert status.model.id == MODEL_ID


async def test_whoever_watches_hears_of_each_change_of_state_until_it_stops(serve, ask) -> None:
    service = await serve(INSTANT, limits=ChildLimits(backoff_s=0.01))
    seen = []
    unwatch = service.watch(lambda: seen.append(service.state))
    await service.generate(ask("hello", model=MODEL_ID))
    os.kill(service.status().pid, signal.SIGKILL)
    await until(lambda: seen == ["ready", "loading", "ready"])
    unwatch()
    await service.close()
    assert seen == ["ready", "loading", "ready"]


async def test_many_requests_at_once_get_each_its_own_answer(serve, ask) -> None:
    service = await serve(INSTANT)
    prompts = [f"prompt {number}" for number in range(500)]
    generations = await asyncio.gather(*(service.generate(ask(prompt, model=MODEL_ID)) for prompt in prompts))
    assert all(one.text.endswith(prompt) for one, prompt in zip(generations, prompts, strict=True))


@pytest.mark.parametrize("misdeed", ["die once", "hang once", "hang unprepared once", "leave once"])
async def test_what_a_dead_or_stalled_child_had_in_hand_is_answered_by_the_next(misbehave, ask, misdeed) -> None:
    service = await misbehave()
    prompts = ["before", misdeed, "after", "more", "and more"]
    answers = await asyncio.gather(*(service.generate(ask(prompt, model="misbehaving")) for prompt in prompts))
    assert [answer.text.split(":")[0] for answer in answers] == prompts
    assert service.status().restarts == 1
    assert service.status().reason


async def test_a_child_that_is_refused_memory_says_so_and_is_replaced(misbehave, ask) -> None:
    service = await misbehave()
    answer = await service.generate(ask("take all memory once", model="misbehaving"))
    assert answer.text.startswith("take all memory")
    assert (service.status().restarts, service.status().reason) == (1, "ran out of memory")
    with pytest.raises(
        EngineFailedError, match="ran out of memory while it worked on this request, 3 times"
    ) as caught:
        await service.generate(ask("take all memory", model="misbehaving"))
    assert "inference.memory_gb" in caught.value.hint
    assert (await service.generate(ask("well", model="misbehaving"))).text.startswith("well")


@pytest.mark.parametrize("misdeed", ["garbage once", "huge frame once", "wrong fields once"])
async def test_a_child_that_sends_garbage_is_replaced(misbehave, ask, misdeed) -> None:
    service = await misbehave()
    answer = await service.generate(ask(misdeed, model="misbehaving"))
    assert answer.text.startswith(misdeed)
    assert service.status().reason == "sent something unreadable"


async def test_a_request_that_kills_its_child_is_tried_three_times_and_then_fails(misbehave, ask) -> None:
    service = await misbehave()
    with pytest.raises(EngineFailedError, match="SIGKILL"):
        await service.generate(ask("die", model="misbehaving"))
    assert service.status().restarts == 3
    assert (await service.generate(ask("well", model="misbehaving"))).text.startswith("well")


@pytest.mark.parametrize("misdeed", ["die", "hang"])
async def test_a_child_that_ends_over_a_schema_costs_no_request_but_that_one(serve, ask, misdeed) -> None:
    spec = EngineSpec("misbehaving", "misbehaving", slots=2)
    service = await serve(spec, command=MISBEHAVING, limits=replace(QUICK, requeues=0))
    beside = asyncio.create_task(service.generate(ask("endless", model="misbehaving")))
    await service.generate(ask("first", model="misbehaving"))
    with pytest.raises(EngineFailedError, match="compiled this request"):
        await service.generate(ask(f"{misdeed} unprepared", model="misbehaving", schema="{}"))
    assert (await service.generate(ask("well", model="misbehaving", schema="{}"))).text.startswith("well")
    assert service.status().restarts == 1
    assert not beside.done()
    beside.cancel()


async def test_a_child_killed_from_outside_loses_nothing(misbehave, ask, tmp_path) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    pid = service.status().pid
    prompts = [f"{n}" if n < 10 else f"held {n}" for n in range(50)]
    work = [asyncio.create_task(service.generate(ask(prompt, model="misbehaving"))) for prompt in prompts]
    await until((tmp_path / "held").exists)
    os.kill(pid, signal.SIGKILL)
    answers = await asyncio.gather(*work)
    assert [answer.text.split(":")[0] for answer in answers] == prompts
    assert service.status().pid != pid


async def test_a_stopped_child_is_killed_after_the_stall_limit(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    pid = service.status().pid
    os.kill(pid, signal.SIGSTOP)
    assert (await service.generate(ask("second", model="misbehaving"))).text.startswith("second")
    assert gone(pid)
    assert "no sign of life" in service.status().reason


async def test_an_idle_child_is_not_taken_for_a_stalled_one(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    await asyncio.sleep(2.5)  # the stall limit is 2 s
    assert service.status().restarts == 0


async def test_a_node_that_was_itself_stopped_does_not_blame_the_child(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    time.sleep(2.5)  # noqa: ASYNC251 - the whole event loop stands still, as under SIGSTOP
    assert (await service.generate(ask("second", model="misbehaving"))).text.startswith("second")
    assert service.status().restarts == 0


async def test_cancelling_frees_the_slot(misbehave, ask) -> None:
    service = await misbehave()  # two slots
    endless = [asyncio.create_task(service.generate(ask("endless", model="misbehaving"))) for _ in range(2)]
    waiting = asyncio.create_task(service.generate(ask("next", model="misbehaving")))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    endless[0].cancel()
    assert (await waiting).text.startswith("next")
    assert service.status().active == 1
    endless[1].cancel()
    await asyncio.gather(*endless, return_exceptions=True)
    assert service.status().active == 0


async def test_progress_comes_with_the_callers_id_and_not_for_every_token(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    seen = []
    # From before the child has it: on a slow machine some of it comes late.
    began = time.monotonic()
    task = asyncio.create_task(service.generate(ask("endless", key="mine", model="misbehaving"), seen.append))
    await until(lambda: len(seen) >= 4)
    assert len(seen) <= (time.monotonic() - began) / 0.25 + 1
    assert {progress.id for progress in seen} == {"mine"}
    assert seen[-1].completion_tokens > seen[0].completion_tokens
    task.cancel()


async def test_a_callers_faulty_progress_function_fails_that_caller_alone(misbehave, ask) -> None:
    service = await misbehave()

    def faulty(progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await service.generate(ask("endless", model="misbehaving"), faulty)
    assert (await service.generate(ask("next", model="misbehaving"))).text.startswith("next")
    assert service.status().restarts == 0


async def test_a_prompt_that_the_model_cannot_take_is_a_prompt_error_with_its_hint(misbehave, ask) -> None:
    service = await misbehave()
    with pytest.raises(PromptError, match="200 tokens") as caught:
        await service.generate(ask("too long", model="misbehaving"))
    assert caught.value.hint == "100 fit."


@pytest.mark.parametrize("misdeed", ["raise", "raise when taken"])
async def test_a_request_that_the_engine_trips_over_fails_without_its_text(misbehave, ask, misdeed) -> None:
    service = await misbehave()
    with pytest.raises(EngineFailedError, match="could not take the prompt") as caught:
        await service.generate(ask(misdeed, model="misbehaving"))
    assert "secret" not in str(caught.value)
    assert service.status().restarts == 0


async def test_a_prompt_larger_than_a_frame_is_a_prompt_error(serve, ask) -> None:
    service = await serve(INSTANT)
    with pytest.raises(PromptError):
        await service.generate(ask("x" * 17_000_000, model=MODEL_ID))
    with pytest.raises(PromptError):
        await service.generate(ask("\ud800", model=MODEL_ID))


async def test_another_model_is_not_answered_for(serve, ask) -> None:
    service = await serve(INSTANT)
    with pytest.raises(ModelError):
        await service.generate(ask("hello", model="needle-1"))


async def test_a_model_that_cannot_be_loaded_fails_at_once_and_for_good(misbehave, ask) -> None:
    service = await misbehave(load="unloadable")
    with pytest.raises(ModelError) as caught:
        await service.generate(ask("hello", model="misbehaving"))
    assert caught.value.hint == "Fetch them again."
    await until(lambda: service.status().pid is None)
    await asyncio.sleep(0.2)
    status = service.status()
    assert (status.state, status.restarts, status.pid) == ("failed", 0, None)


async def test_a_model_that_memory_was_too_short_for_is_there_once_others_have_made_room(
    misbehave, ask, tmp_path
) -> None:
    service = await misbehave(load="no room")
    with pytest.raises(NoRoomError):
        await service.generate(ask("hello", model="misbehaving"))
    status = service.status()
    assert (status.state, status.failure, status.hint) == ("failed", "It does not fit now.", "End what uses memory.")
    (tmp_path / "room").touch()
    await until(lambda: service.status().state == "ready")
    assert (await service.generate(ask("hello", model="misbehaving"))).text.startswith("hello")
    assert (service.status().restarts, service.status().failure) == (0, "")


async def test_what_keeps_an_engine_from_loading_is_said_in_its_own_words_while_it_is_tried_again(
    misbehave, ask, tmp_path
) -> None:
    service = await misbehave(load="no server")
    await until(lambda: service.status().restarts)
    status = service.status()
    assert (status.state, status.reason, status.hint) == ("loading", "the server does not answer", "Start it.")
    with pytest.raises(EngineFailedError, match="the server does not answer") as caught:
        await service.generate(ask("hello", model="misbehaving"))
    assert caught.value.hint == "Start it."
    status = service.status()
    assert (status.state, status.failure, status.hint) == ("failed", "the server does not answer", "Start it.")
    (tmp_path / "server").touch()
    await until(lambda: service.status().state == "ready")
    assert (await service.generate(ask("hello", model="misbehaving"))).text.startswith("hello")
    assert (service.status().failure, service.status().hint) == ("", "")


def test_waits_between_tries_double_up_to_the_longest_however_many_there_were() -> None:
    assert [doubled(30.0, times, 300.0) for times in (0, 1, 2, 3, 4, 100_000)] == [30, 60, 120, 240, 300, 300]


async def test_an_engine_that_never_loads_is_refused_after_a_few_tries_yet_tried_on(misbehave, ask) -> None:
    service = await misbehave(load="die")
    with pytest.raises(EngineFailedError, match="5 times in a row"):
        await service.generate(ask("hello", model="misbehaving"))
    assert service.status().state == "failed"
    await until(lambda: service.status().restarts > 5)


async def test_a_child_that_died_while_loading_costs_waiting_requests_nothing(misbehave, ask) -> None:
    service = await misbehave(load="die once")
    assert (await service.generate(ask("hello", model="misbehaving"))).text.startswith("hello")


async def test_a_command_that_cannot_be_started_is_a_failure_and_not_a_hang(serve, ask) -> None:
    service = await serve(INSTANT, command=("/nonexistent/python",))
    with pytest.raises(EngineFailedError, match="could not be started"):
        await service.generate(ask("hello", model=MODEL_ID))


async def test_a_fault_of_our_own_fails_requests_and_does_not_hang_them(serve, ask) -> None:
    service = await serve(INSTANT, command=("\0",))  # no OSError but a ValueError
    with pytest.raises(EngineFailedError, match="ValueError"):
        await service.generate(ask("hello", model=MODEL_ID))
    assert service.status().state == "failed"


async def test_closing_ends_the_child_and_fails_what_is_in_hand(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    pid = service.status().pid
    seen = []
    endless = asyncio.create_task(service.generate(ask("endless", model="misbehaving"), seen.append))
    await until(lambda: seen)
    await service.close()
    with pytest.raises(EngineFailedError):
        await endless
    assert gone(pid)
    assert service.status().state == "stopped"
    with pytest.raises(EngineFailedError):
        await service.generate(ask("more", model="misbehaving"))


async def test_closing_while_the_model_loads_leaves_no_process(misbehave) -> None:
    service = await misbehave(load="hang")
    await until(lambda: service.status().pid is not None)
    pid = service.status().pid
    await service.close()
    assert gone(pid)


async def test_a_hang_while_loading_is_given_more_time_than_a_stall(misbehave) -> None:
    service = await misbehave(load="hang")
    await asyncio.sleep(2.5)  # the stall limit is 2 s
    assert service.status().restarts == 0
    assert service.status().state == "loading"


def test_a_killed_node_takes_its_child_and_scratch_folder_along_even_amid_a_computation(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pylon import log\n"
        "from pylon.clock import SystemClock\n"
        "from pylon.inference.engine import *\n"
        "from pylon.inference.service import InferenceService\n"
        "log.configure(stderr=False)\n"
        "async def main():\n"
        "    spec = EngineSpec('misbehaving', 'misbehaving')\n"
        f"    service = InferenceService(spec, SystemClock(), command={MISBEHAVING!r})\n"
        "    await service.start()\n"
        "    hang = GenerationRequest('1', (Message('user', 'hang'),), Sampling(1), 'misbehaving')\n"
        "    hanging = asyncio.create_task(service.generate(hang))\n"
        "    while service.status().state != 'ready': await asyncio.sleep(0.01)\n"
        "    await asyncio.sleep(0.2)\n"
        "    print(service.status().pid, flush=True)\n"
        "    await hanging\n"
        "asyncio.run(main())\n"
    )
    node = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert node.stdout is not None
    pid = int(node.stdout.readline())
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o700]
    node.kill()
    node.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (gone(pid) and not list(tmp_path.iterdir())):
        time.sleep(0.02)
    assert gone(pid)
    assert list(tmp_path.iterdir()) == []


async def test_the_signals_that_stop_a_node_do_not_stop_its_child(misbehave, ask) -> None:
    service = await misbehave()
    await service.generate(ask("first", model="misbehaving"))
    pid = service.status().pid
    assert os.getsid(pid) != os.getsid(0), "a terminal's Ctrl-C would reach it"
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert (await service.generate(ask("second", model="misbehaving"))).text.endswith(str(pid))


def test_the_nodes_process_imports_no_mlx() -> None:
    check = (
        "import sys, pylon.inference.service\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('mlx', 'mlx_lm', 'transformers')]\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
