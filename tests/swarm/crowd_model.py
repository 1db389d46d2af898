"""A modelled swarm around the shipped deciders: honest providers and liars as rules, time as a heap of events.

Only people, machines and wires are models here; who is asked, what is checked and who is believed is decided by the
program's own `Dispatcher`, `Checks` and `Reputation`.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Changed, Rescore
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.verification import Score, judge
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import Acknowledged, Published, Send, SlotJob, Tick
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.places import Fail, Fill, Unfill
from pylon.swarm.settings import CheckSettings, DispatchSettings
from tests.swarm.fakes import first_due

MODEL = OfferedModel("m", "ab" * 32)
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
WALL = 1_700_000_000.0
SERVICE_S = 1.0

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jetty", "knoll", "ledge"]


def truth(n: int) -> str:
    return orjson.dumps({"answer": n * n % 9_973}).decode()


def prose(n: int, seed: int = 0) -> str:
    rng = random.Random(n * 1_000 + seed)
    return f"The result for {n} is " + " ".join(rng.choices(WORDS, k=30)) + "."


@dataclass
class Member:
    """A provider of the model: `lie` makes its answer from (question, how many it has answered, the truth)."""

    key: str
    lie: Callable[[int, int, str], str | None] | None = None
    speed: float = 1.0
    given: int = 0
    first_lie: int | None = None
    asked_until_out: int | None = None
    free_at: float = 0.0


def kinds(*, text: bool) -> dict[str, Callable[[int, int, str], str | None]]:
    """The seven kinds of liars; None is an honest answer."""

    def wrong(n: int, seed: int) -> str:
        return (
            prose(n, seed)
            if text
            else orjson.dumps({"answer": random.Random(n * 77 + seed).randrange(9_973)}).decode()
        )

    return {
        "wrong model": lambda n, given, right: wrong(n, 1),
        "echo": lambda n, given, right: question(n, text=text).prompt,
        "truncate": lambda n, given, right: right[: len(right) // 2],
        "invent": lambda n, given, right: wrong(n, given + 1_000),
        "sleeper": lambda n, given, right: wrong(n, 2) if given >= 30 else None,
        "selective": lambda n, given, right: wrong(n, 3) if random.Random(n * 13 + given).random() < 0.2 else None,
        "colluding pair": lambda n, given, right: wrong(n, 4),
    }


def question(n: int, *, text: bool) -> JobSpec:
    prompt = f"Please work out the value that belongs to the number {n}, and give it back without a comment."
    return JobSpec(prompt, temperature=0.0, max_tokens=200, schema=None if text else SCHEMA)


@dataclass
class Told:
    """What came of a run."""

    jobs: int
    wrong: int
    failed: int
    asked: int
    requests: int
    seconds: float
    members: dict[str, Member]
    verified: Counter[tuple[str, ...]] = field(default_factory=Counter)


class Model:
    """`rescoring` gives the customer the model itself."""

    def __init__(self, members: list[Member], *, seed: int = 1, text: bool = False, rescoring: bool = False) -> None:
        self.members = {member.key: member for member in members}
        self.text = text
        self.now = 0.0
        self.reputation = Reputation()
        rng = random.Random(seed)
        self.rng = random.Random(seed + 1)
        self.checks = Checks(CheckSettings(), self.reputation, rng)
        if rescoring:
            self.checks.examination.holds = frozenset({MODEL.sha256})
        self.coordinator = Coordinator(Dispatcher(DispatchSettings(hedge_share=0.02), rng), self.checks, Circle())
        self.due: list[tuple[float, int, Send]] = []
        self.requests = 0
        for key in self.members:
            self.announce(key)

    def announce(self, key: str) -> None:
        width = self.reputation.width(key, WALL + self.now)
        member = self.members[key]
        if width == 0 and member.asked_until_out is None:
            member.asked_until_out = member.given
        listing = Listing(key, models=(MODEL,), slots=1, width=width, trust=self.reputation.trust(key))
        self.do(self.coordinator.handle(ProviderUp(listing), self.now, WALL + self.now))

    def run(self, jobs: int) -> Told:
        specs = [question(n, text=self.text) for n in range(jobs)]
        self.places: list[Answer | None] = [None] * jobs
        self.failed: set[int] = set()
        self.filled = 0
        started, asked = self.now, self.checks.examination.asked
        deadline = self.now + 10_000.0
        number = self.coordinator.begin(lambda spec, slot: SlotJob(slot, Need(), 600.0, deadline), jobs)
        self.do(self.coordinator.ask(number, enumerate(specs), self.now, WALL + self.now))
        while self.filled + len(self.failed) < jobs:
            assert self.now < deadline, "it terminates"
            at = self.due[0][0] if self.due else self.now + 1.0
            tick = first_due(self.coordinator.dispatcher._timers)
            self.now = min(at, max(self.now, tick)) if tick is not None else at
            if not self.due or self.due[0][0] > self.now:
                self.do(self.coordinator.handle(Tick(), self.now, WALL + self.now))
                continue
            _, _, send = heapq.heappop(self.due)
            self.answer(send)
        self.do(self.coordinator.end(number, self.now, WALL + self.now))
        right = [prose(n) if self.text else truth(n) for n in range(jobs)]
        wrong = sum(a is not None and a.text != r for a, r in zip(self.places, right, strict=True))
        told = Told(
            jobs,
            wrong,
            len(self.failed),
            self.checks.examination.asked - asked,
            self.requests,
            self.now - started,
            self.members,
        )
        told.verified = Counter(a.verified for a in self.places if a is not None)
        return told

    def do(self, commands: list[Any]) -> None:
        for command in commands:
            match command:
                case Send():
                    self.requests += 1
                    member = self.members[command.provider]
                    took = SERVICE_S * member.speed * self.rng.uniform(0.8, 1.2)
                    member.free_at = max(member.free_at, self.now) + took
                    heapq.heappush(self.due, (member.free_at, command.attempt, command))
                    for event in (Published(command.attempt), Acknowledged(command.attempt)):
                        self.do(self.coordinator.handle(event, self.now, WALL + self.now))
                case Fill(_, place, answer):
                    self.filled += self.places[place] is None
                    self.places[place] = answer
                case Unfill(_, place):
                    self.filled -= self.places[place] is not None
                    self.places[place] = None
                case Fail(_, place):
                    self.failed.add(place)
                case Changed(provider):
                    self.announce(provider)
                case Rescore(slot, answer):
                    n = int(answer.text.split()[3]) if self.text and answer.text.startswith("The result") else -1
                    honest = n >= 0 and answer.text == prose(n)
                    ranks = tuple(0 if honest else self.rng.choice((0, 0, 3, 40)) for _ in answer.text.split())
                    end = 0 if answer.text.endswith((".", "}")) else 400
                    verdict = judge(Score(ranks, end), greedy=True, finish=answer.finish)
                    self.do(self.coordinator.scored(slot, verdict, self.now, WALL + self.now))

    def answer(self, send: Send) -> None:
        if not self.coordinator.dispatcher.is_live(send.attempt):
            return
        member = self.members[send.provider]
        spec = self.coordinator.pieces.spec_of(send.slot)
        n = int(spec.prompt.split("number ")[1].split(",")[0])
        right = prose(n) if self.text else truth(n)
        lie = member.lie(n, member.given, right) if member.lie is not None else None
        member.given += 1
        text = right if lie is None else lie
        usage, names = Usage(30, max(1, len(text) // 4)), (f"request-{send.attempt}", f"result-{send.attempt}")
        answer = Answer(
            text, send.provider, MODEL.id, MODEL.sha256, usage, Finish.STOP, 0, 800, 1_000, 1, *names
        )  # fmt: skip
        self.do(self.coordinator.answered(send.slot, send.attempt, answer, self.now, WALL + self.now))
