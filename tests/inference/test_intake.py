"""Requests on their way from the pipe to the engine."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylon.errors import ParameterError, PromptError
from pylon.frames import encode
from pylon.inference.child import intake
from pylon.inference.child.intake import Command, Intake, Prepared
from pylon.inference.child.messages import Cancel, Close, Compiling, Generate, Load
from pylon.inference.engine import EngineSpec, Failed
from tests.manual_clock import ManualClock

WITHIN_S = 20.0


class Engine:
    """Makes requests ready as their prompts say: `slow` ones when they may."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may = threading.Event()
        self.prepared: list[str] = []
        self.taken: list[str] = []

    def prepare(self, request) -> str:
        prompt = request.messages[0].content
        self.prepared.append(prompt)
        if prompt == "slow":
            self.began.set()
            self.may.wait(WITHIN_S)
        if prompt == "too long":
            raise PromptError("the prompt has 200 tokens", hint="100 fit.")
        if prompt == "odd schema":
            raise ParameterError("No schema.", hint="Leave it out.")
        if prompt == "raise":
            raise RuntimeError("quoting the secret prompt")
        return prompt

    def take(self, ready: str) -> None:
        self.taken.append(ready)

    gathered = True


class Pipe:
    def __init__(self) -> None:
        source, self._sink = os.pipe()
        self.clock = ManualClock()
        self.ended: queue.Queue[Path | None] = queue.Queue()
        self.said: list[object] = []
        self.intake = Intake(source, self.clock, self.ended.put)
        self._open = True

    def send(self, *commands: object) -> None:
        os.write(self._sink, b"".join(map(encode, commands)))

    def prepare_for(self, engine: "Engine") -> None:
        self.intake.prepare_for(engine, self.said.extend)

    def end(self) -> None:
        if self._open:
            self._open = False
            os.close(self._sink)

    def get(self) -> Command:
        return self.intake.get(WITHIN_S)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.end()
    made.ended.get(timeout=WITHIN_S)


@pytest.fixture
def asked(ask) -> Callable[..., Generate]:
    return lambda prompt, key, **sampling: Generate(ask(prompt, key=key, **sampling))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_requests_come_ready_for_the_engine_in_their_order(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.send(asked("a", "1"), asked("b", "2"))
    pipe.prepare_for(engine)
    ready = [pipe.get(), pipe.get()]
    assert engine.taken == []
    for each in ready:
        assert isinstance(each, Prepared)
        each.take()
    assert engine.taken == ["a", "b"]
    assert not pipe.intake.preparing


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("too long", Failed("1", "prompt", "the prompt has 200 tokens", "100 fit.")),
        ("odd schema", Failed("1", "parameter", "No schema.", "Leave it out.")),
        ("raise", Failed("1", "engine", "the engine could not take the prompt (RuntimeError)")),
    ],
)
def test_what_cannot_be_made_ready_is_told_and_does_not_hold_up_the_next(pipe: Pipe, asked, prompt, told) -> None:
    pipe.prepare_for(Engine())
    pipe.send(asked(prompt, "1"), asked("well", "2"))
    assert pipe.get() == told
    assert isinstance(pipe.get(), Prepared)


def test_a_request_that_is_cancelled_before_it_is_ready_goes_without_a_word(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(asked("slow", "1"), asked("never read", "2"), asked("wanted", "3"))
    assert engine.began.wait(WITHIN_S)
    pipe.send(Cancel("1"), Cancel("2"))
    until(lambda: pipe.intake._awaited == {"3"})
    engine.may.set()
    ready = pipe.get()
    assert isinstance(ready, Prepared)
    assert ready.id == "3"
    assert engine.prepared == ["slow", "wanted"]


def test_a_cancellation_does_not_wait_for_a_request_that_is_made_ready(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(asked("running", "1"))
    assert isinstance(pipe.get(), Prepared)
    pipe.send(asked("slow", "2"), Cancel("1"))
    assert pipe.get() == Cancel("1")
    assert pipe.intake.preparing
    engine.may.set()


def test_the_engine_is_not_closed_while_it_makes_a_request_ready(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(asked("slow", "1"))
    assert engine.began.wait(WITHIN_S)
    pipe.send(asked("never read", "2"), Close())
    until(lambda: pipe.intake._plain.waiting.qsize() == 2 and not pipe.intake.preparing)
    with pytest.raises(queue.Empty):
        pipe.intake.get()
    engine.may.set()
    assert pipe.get() == Close()
    assert engine.prepared == ["slow"]


def test_it_says_how_long_a_request_has_been_made_ready(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    assert pipe.intake.preparing_s == 0
    pipe.send(asked("slow", "1"))
    assert engine.began.wait(WITHIN_S)
    pipe.clock.advance(3)
    assert pipe.intake.preparing_s == 3
    engine.may.set()
    pipe.get()
    until(lambda: pipe.intake.preparing_s == 0)


def test_a_schema_holds_up_no_request_that_has_none(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(asked("slow", "1", schema="{}"), asked("quick", "2"), asked("next schema", "3", schema="{}"))
    ready = pipe.get()
    assert isinstance(ready, Prepared)
    assert ready.id == "2"
    assert engine.began.wait(WITHIN_S)
    pipe.clock.advance(3)
    assert pipe.intake.preparing_s == 3
    pipe.send(Close())
    # It is read by a thread of its own.
    until(lambda: not pipe.intake.preparing)
    engine.may.set()
    assert pipe.get() == Close()
    assert engine.prepared.count("next schema") == 0


def test_many_schemas_of_one_customer_hold_up_that_of_another_by_one(pipe: Pipe, ask) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(Generate(ask("slow", key="slow", schema="{}", customer="much")))
    assert engine.began.wait(WITHIN_S)
    many = [*((f"m{number}", "much") for number in range(50)), ("a", "a"), ("b", "b"), ("a2", "a")]
    pipe.send(*(Generate(ask(said, key=said, schema="{}", customer=customer)) for said, customer in many))
    until(lambda: pipe.intake._guided.waiting.qsize() == len(many))
    engine.may.set()
    assert [pipe.get().id for _ in range(6)] == ["slow", "m0", "a", "b", "m1", "a2"]


def test_the_end_does_not_wait_for_schemas_that_nobody_awaits_any_more(pipe: Pipe, ask) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    slow, *others = (Generate(ask(said, key=said, schema="{}", customer=said)) for said in ("slow", "x", "y"))
    pipe.send(slow)
    assert engine.began.wait(WITHIN_S)
    pipe.send(*others, Close())
    until(lambda: not pipe.intake.preparing)
    engine.may.set()
    assert pipe.get() == Close()
    assert engine.prepared == ["slow"]


def test_it_says_before_whose_schema_is_compiled_and_when_that_is_over(pipe: Pipe, asked) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(asked("slow", "1", schema="{}"), asked("odd schema", "2", schema="{}"), asked("none", "3"))
    assert engine.began.wait(WITHIN_S)
    assert pipe.said == [Compiling("1")]
    engine.may.set()
    assert {pipe.get().id for _ in range(3)} == {"1", "2", "3"}
    assert pipe.said == [Compiling("1"), Compiling(None), Compiling("2"), Compiling(None)]


def test_the_end_of_the_pipe_is_heard_amid_everything(pipe: Pipe, asked, tmp_path: Path) -> None:
    engine = Engine()
    pipe.prepare_for(engine)
    pipe.send(Load(EngineSpec("instant", "m"), tmp_path), asked("slow", "1"))
    assert engine.began.wait(WITHIN_S)
    pipe.end()
    scratch = pipe.ended.get(timeout=WITHIN_S)
    assert scratch == tmp_path
    pipe.ended.put(scratch)
    engine.may.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_no_request_is_made_ready_any_more_it_says_so_for_ever(pipe: Pipe, asked, monkeypatch) -> None:
    monkeypatch.setattr(intake, "refusal", lambda *_: 1 / 0)
    before = threading.enumerate()
    pipe.prepare_for(Engine())
    pipe.send(asked("raise", "1"))
    until(lambda: len(set(threading.enumerate()) - set(before)) == 1)  # that for schemas
    pipe.clock.advance(3)
    assert pipe.intake.preparing_s == 3


def test_what_fails_in_reading_ends_it_all(pipe: Pipe, asked, monkeypatch) -> None:
    def refused(message: object) -> None:
        raise MemoryError

    monkeypatch.setattr(intake, "to_child", refused)
    pipe.send(asked("a", "1"))
    pipe.ended.put(pipe.ended.get(timeout=WITHIN_S))
