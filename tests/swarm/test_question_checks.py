"""What callers give: questions as they come, functions that fail, clients at the wrong time."""

import asyncio
import copy
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pylon import forever
from pylon.errors import MalformedError, UnreachableError, UsageError
from pylon.nostr.keys import SecretKey
from pylon.relay.server import RelayServer
from pylon.swarm.blocking import Swarm
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec, failed
from pylon.swarm.runs.question_checks import fault_in, spec_of, unaskable
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings
from tests.swarm.fakes import FakeProvider, FakeRelays, all_goes_on
from tests.swarm.test_exchange import serve
from tests.waiting import until

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays()


@pytest.fixture
async def swarm(relays: FakeRelays) -> AsyncIterator[SwarmClient]:
    FakeProvider(relays, now=time.time(), slots=8)
    async with SwarmClient(relays, SecretKey.generate(), settings=SwarmSettings(checks=None)) as client:
        assert await client.caught_up()
        yield client


# --- questions --------------------------------------------------------------------------------------------------

BAD = [
    {"prompt": None}, {"system": 5}, {"model": ""}, {"model": "m" * 201}, {"model": ["a"]},
    {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": True}, {"max_tokens": 16.0}, {"max_tokens": "5"},
    {"max_tokens": 10**12}, {"temperature": NAN}, {"temperature": "warm"}, {"top_p": INF}, {"top_k": 1.5},
    {"seed": "x"}, {"frequency_penalty": None, "stop": 5}, {"stop": (5,)}, {"messages": (("user", 5),)},
    {"messages": "abc"}, {"messages": ({"content": "x"},)}, {"schema": "{}"}, {"timeout": None}, {"timeout": "5"},
    {"timeout": NAN}, {"timeout": INF}, {"timeout": -1.0}, {"timeout": 1e300}, {"timeout": 10**400},
    {"temperature": 10**400, "votes": 0}, {"bid_msat": -1}, {"bid_msat": 1.5},
    {"votes": None}, {"votes": 0}, {"votes": True}, {"stream": 1},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=[f"{n}" for n in range(len(BAD))])
def test_a_field_that_is_none_is_named_with_what_it_must_be(fields):
    name = list(fields)[-1]
    assert fault_in(spec_of(JobSpec(**{"prompt": "x", **fields}), {})).startswith(f"{name} must be ")


def test_true_is_no_number_of_tokens_after_one_was_seen_to_be_fine():
    assert fault_in(JobSpec("x", max_tokens=1)) == ""
    assert fault_in(JobSpec("x", max_tokens=True)) != ""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": "", "model": "needle-1", "max_tokens": 1, "temperature": 0, "top_p": 1.0, "top_k": 0, "seed": 7},
        {"schema": {"type": "object"}, "stop": ("a",), "timeout": 0, "bid_msat": 0, "votes": 3, "stream": True},
        {"messages": (("user", "hi"),)},
    ],
    ids=["bare", "numbers", "others", "chat"],
)
def test_what_may_be_asked_has_no_fault(fields):
    assert fault_in(JobSpec("x", **fields)) == ""


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_who_asks_nothing_is_told_so_and_a_chat_or_a_system_prompt_is_something(prompt):
    assert fault_in(JobSpec(prompt)) == fault_in(JobSpec(prompt, system=" ")) == "the prompt is empty"
    # It has no hash.
    assert fault_in(JobSpec(prompt, schema={"type": "object"})) == "the prompt is empty"
    assert (
        fault_in(JobSpec(prompt, system="Say hello.")) == fault_in(JobSpec(prompt, messages=(("user", "hi"),))) == ""
    )


async def test_an_empty_prompt_fails_in_its_place_and_one_that_holds_nul_is_asked(relays, swarm):
    outcomes = await swarm.map(["a", "", "b\0"])
    # What is answered comes without control characters.
    assert [getattr(outcome, "text", None) for outcome in outcomes] == ["echo: a", None, "echo: b"]
    empty = outcomes[1]
    assert isinstance(empty, JobFailed) and (empty.reason, empty.attempts) == (Failure.MALFORMED, 0)
    assert len(relays.requests()) == 2


def test_lists_do_for_tuples_and_messages_may_be_objects():
    chat = [{"role": "user", "content": "hi"}, ["assistant", "yes?"], ("user", "no")]
    spec = spec_of("", {"messages": chat, "stop": ["\n"]})
    assert spec == JobSpec("", messages=(("user", "hi"), ("assistant", "yes?"), ("user", "no")), stop=("\n",))
    assert fault_in(spec) == "" and spec_of("x", {"stop": "END"}).stop == ("END",)


def test_parameters_go_over_those_of_a_spec():
    assert spec_of(JobSpec("x", seed=1, top_k=2), {"seed": 3}) == JobSpec("x", seed=3, top_k=2)


async def test_a_question_that_cannot_be_asked_leaves_its_own_place_empty_and_no_other(swarm):
    outcomes = await swarm.map(["a", JobSpec("b", max_tokens=-1), JobSpec("c", votes=None), "d"], deadline_s=20)  # type: ignore[arg-type]
    assert [isinstance(outcome, Answer) for outcome in outcomes] == [True, False, False, True]
    assert [o.text for o in outcomes if isinstance(o, Answer)] == ["echo: a", "echo: d"]
    bad = outcomes[1]
    assert isinstance(bad, JobFailed) and bad.reason is Failure.MALFORMED and "max_tokens must be" in str(bad)
    with pytest.raises(JobFailed, match="max_tokens must be"):
        await swarm.complete("hi", max_tokens=10**12)


async def test_a_map_of_nothing_but_bad_questions_ends(swarm):
    outcomes = await swarm.map([JobSpec("a", votes=0), JobSpec("b", votes=0)], deadline_s=20)
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, JobFailed)] == [Failure.MALFORMED] * 2


@pytest.mark.parametrize("job", [None, 5, NAN, b"x", ("x",), {"prompt": "x"}], ids=str)
async def test_what_is_no_question_at_all_is_refused_before_anything_is_asked(swarm, relays, job):
    stored = len(relays.stored)
    with pytest.raises(TypeError, match="a job must be a str or a JobSpec"):
        await swarm.map(["a", job])
    assert len(relays.stored) == stored


@pytest.mark.parametrize("one", ["What?", b"What?", JobSpec("What?")], ids=["text", "bytes", "spec"])
async def test_one_question_alone_is_no_list_of_them_and_its_letters_are_not_asked(swarm, relays, one):
    with pytest.raises(TypeError, match="not a single"):
        await swarm.map(one)
    assert relays.requests() == []


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        ({"priority": None}, TypeError), ({"priority": NAN}, TypeError), ({"deadline_s": "5"}, TypeError),
        ({"deadline_s": NAN}, ValueError), ({"deadline_s": 10**400}, ValueError),
        ({"deadline_s": -1}, ValueError), ({"budget_msat": -1}, ValueError), ({"budget_msat": "a"}, TypeError),
        ({"budget_msat": 1.5}, TypeError),
    ],
    ids=[f"{n}" for n in range(9)],
)  # fmt: skip
async def test_a_bound_that_is_none_is_refused_and_the_client_goes_on(swarm, bound, error):
    with pytest.raises(error):
        await swarm.map(["a"], **bound)
    assert (await swarm.complete("b", timeout=20)).text == "echo: b"


def test_an_outcome_is_copied_and_kept_with_all_that_it_says():
    one = failed(Failure.DEADLINE, None, 3)
    for again in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy([one])[0]):
        assert (str(again), again.reason, again.attempts, again.hint) == (str(one), one.reason, 3, one.hint)
        assert again.exit_code == one.exit_code


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        (DispatchSettings, {"width": 0}), (DispatchSettings, {"ack_s": NAN}), (DispatchSettings, {"attempts": "4"}),
        (CheckSettings, {"share": -1}), (CheckSettings, {"share": NAN}), (SwarmSettings, {"publishing": 0}),
        (SwarmSettings, {"run_s": NAN}), (SwarmSettings, {"allow": "a" * 64}), (SwarmSettings, {"block": ["abc"]}),
    ],
    ids=str,
)  # fmt: skip
def test_settings_with_which_nothing_would_ever_be_asked_are_refused(made, fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        made(**fields)


def test_keys_may_be_given_in_a_list():
    assert SwarmSettings(allow=["a" * 64]) == SwarmSettings(allow=frozenset({"a" * 64}))  # type: ignore[arg-type]


# --- functions and times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on_progress", "on_outcome"])
async def test_what_a_callers_function_raises_is_raised_to_it_and_touches_nobody_else(swarm, name):
    def fails(*_: object) -> None:
        raise KeyError("a fault of the caller's")

    others = asyncio.create_task(swarm.map([f"n{n}" for n in range(30)], deadline_s=20))
    with pytest.raises(KeyError, match="a fault of the caller's"):
        await asyncio.wait_for(swarm.map(["a", "b", "c"], **{name: fails}), 20)
    assert [outcome.text for outcome in await others] == [f"echo: n{n}" for n in range(30)]
    assert (await swarm.complete("after", timeout=20)).text == "echo: after"


@pytest.mark.parametrize("name", ["on_progress", "on_outcome"])
@pytest.mark.parametrize("raised", [StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError])
async def test_what_would_end_something_else_than_the_run_is_raised_as_what_it_is(swarm, name, raised):
    def fails(*_: object) -> None:
        raise raised

    with pytest.raises(UsageError, match=raised.__name__) as caught:
        await asyncio.wait_for(swarm.map(["a", "b"], **{name: fails}), 20)
    assert isinstance(caught.value.__cause__, raised)
    assert (await swarm.complete("after", timeout=20)).text == "echo: after"


async def test_an_async_function_is_refused_before_anything_is_asked_and_one_in_disguise_ends_the_run(swarm, relays):
    async def never(*_: object) -> None:
        raise AssertionError("nothing awaits it")

    for name in ("on_progress", "on_outcome"):
        for wrong in (never, partial(never, 1), "text"):
            with pytest.raises(TypeError, match=name):
                await swarm.map(["a", "b"], **{name: wrong})
        assert not relays.requests()
    with pytest.raises(UsageError, match="async"):
        await asyncio.wait_for(swarm.map(["a", "b"], on_outcome=lambda *given: never(*given)), 20)


async def test_a_broken_run_takes_no_other_with_it_where_nobody_is_there(relays):
    def fails(*_: object) -> None:
        raise KeyError("mine")

    rules = SwarmSettings(dispatch=DispatchSettings(patience_s=0.3), checks=None)
    async with SwarmClient(relays, SecretKey.generate(), settings=rules) as lonely:
        broken = asyncio.create_task(lonely.map(["a", "b", "c"], on_outcome=fails))
        healthy = asyncio.create_task(lonely.map(["d", "e"]))
        with pytest.raises(KeyError, match="mine"):
            await asyncio.wait_for(broken, 20)
        with pytest.raises(UnreachableError):
            await asyncio.wait_for(healthy, 20)


async def test_a_fault_over_one_answer_keeps_no_other_from_being_heard(swarm, monkeypatch):
    heard, faults = swarm._parts.answers.heard, []

    def fails_once(*args: Any) -> None:
        if not faults:
            faults.append(args)
            raise RuntimeError("a fault of ours")
        heard(*args)

    monkeypatch.setattr(swarm._parts.answers, "heard", fails_once)
    with pytest.raises(JobFailed):
        await swarm.complete("lost", timeout=0.3)
    assert faults and (await swarm.complete("heard", timeout=20)).text == "echo: heard"
    assert all_goes_on(swarm)


@pytest.mark.parametrize("name", ["answers", "presence"])
async def test_an_error_of_what_relays_bring_is_not_the_end_of_hearing_them(relays, monkeypatch, name):
    monkeypatch.setattr(forever, "REST_S", 0.01)
    faults, subscribe = [], relays.subscribe

    def fails_once(filters, *, name=""):
        made = subscribe(filters, name=name)
        next_batch = made.next_batch

        async def batch(most):
            if name == failing and not faults:
                faults.append(name)
                raise RuntimeError("a fault of ours")
            return await next_batch(most)

        made.next_batch = batch
        return made

    failing = name
    monkeypatch.setattr(relays, "subscribe", fails_once)
    FakeProvider(relays, now=time.time())
    # What is pushed is all there is.
    monkeypatch.setattr(relays, "query", lambda *_, **__: asyncio.sleep(0, []))
    async with SwarmClient(relays, SecretKey.generate(), settings=SwarmSettings(checks=None)) as client:
        assert (await client.complete("heard", timeout=20)).text == "echo: heard"
        assert faults == [name] and all_goes_on(client)


async def test_a_turn_that_fails_is_not_the_last(swarm, monkeypatch):
    expire, faults = swarm._parts.presence.expire, []

    def fails_once() -> None:
        if not faults:
            faults.append(1)
            raise RuntimeError("a fault of ours")
        expire()

    monkeypatch.setattr(swarm._parts.presence, "expire", fails_once)
    await until(lambda: faults)
    await asyncio.sleep(0.1)
    assert all_goes_on(swarm)


async def test_a_client_that_was_not_started_says_so(relays):
    client = SwarmClient(relays, SecretKey.generate())
    with pytest.raises(UsageError, match="has not been started"):
        await client.complete("a")


def test_a_client_of_another_event_loop_says_so(relays):
    client = SwarmClient(relays, SecretKey.generate())

    async def ask() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await client.complete("a", timeout=1)

        with pytest.raises(UsageError, match="another event loop"):
            await client.caught_up()
        with pytest.raises(UsageError, match="another event loop"):
            await client.close()

    asyncio.run(client.start())
    asyncio.run(ask())


# --- the blocking one -------------------------------------------------------------------------------------------


async def test_a_swarm_that_is_asked_where_it_would_wait_for_itself_says_so(tmp_path: Path) -> None:
    def script(url: str) -> None:
        with Swarm(url) as swarm:
            with pytest.raises(UsageError, match="would wait for itself"):
                swarm.map(["a", "b"], on_progress=lambda _: swarm.complete("c"))
            with pytest.raises(SystemExit, match="enough"):
                swarm.map(["a", "b"], on_progress=lambda _: sys.exit("enough"))
            assert swarm.complete("d", timeout=30).text.startswith("stand-in answer")
            left = swarm.stream("e")
            next(left)
        for ask in (
            lambda: swarm.complete("x"),
            lambda: swarm.map(["x"]),
            swarm.providers,
            lambda: [*swarm.stream("x")],
        ):
            with pytest.raises(UnreachableError, match="is closed"):
                ask()
        left.close()  # type: ignore[attr-defined]
        swarm.close()

    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await serve(stack, relay, tmp_path / "provider.db")
        await asyncio.to_thread(script, relay.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "relay", "", ["ws://127.0.0.1:1", "x"]], ids=str)
def test_what_is_no_address_of_a_relay_is_refused_without_waiting(url):
    with pytest.raises(MalformedError):
        Swarm(url, wait_s=60)


UNFINISHED = """
import os, sys
from pylon.swarm.blocking import Swarm
from pylon.errors import UsageError
swarm = Swarm(sys.argv[1])
pieces = swarm.stream("begun")
next(pieces)
if (child := os.fork()) == 0:
    try:
        swarm.complete("in a child")
    except UsageError as error:
        os._exit(7 if "another process" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_script_ends_that_leaves_a_stream_unfinished_and_a_child_of_it_does_not_wait_forever(tmp_path: Path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await serve(stack, relay, tmp_path / "provider.db")
        command = (sys.executable, "-W", "ignore", "-c", UNFINISHED, relay.url)
        ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, env={**os.environ})
    assert (ended.returncode, ended.stdout.decode().strip(), ended.stderr.decode()) == (0, "7", "")


async def test_a_prompt_that_no_event_carries_fails_in_its_place_and_nothing_is_sent_for_it(relays, swarm) -> None:
    # None of these reads so long a text: who waited for one that does would be told something else.
    noise = random.Random(1).randbytes(60_000).hex()
    outcomes = await swarm.map(["a", noise, "b"])
    assert [type(each) for each in outcomes] == [Answer, JobFailed, Answer]
    failure = outcomes[1]
    assert isinstance(failure, JobFailed) and (failure.reason, failure.attempts) == (Failure.TOO_LARGE, 0)
    assert "a prompt of 120,000 characters" in str(failure) and "smaller pieces" in failure.hint
    assert len(relays.requests()) == 2
    with pytest.raises(JobFailed, match="120,000 characters"):
        await swarm.complete(noise)


def test_what_the_open_form_alone_holds_is_asked_where_open_questions_are() -> None:
    spec = JobSpec("".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FA5), k=20_000))))
    assert unaskable(spec, plain=True) is None
    failure = unaskable(spec, plain=False)
    assert failure is not None and failure.reason is Failure.TOO_LARGE
