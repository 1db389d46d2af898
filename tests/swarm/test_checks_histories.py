"""Random histories of answers, opinions and lies: every slot is decided once, and what is asked again is let go."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.allowance import MUST
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Accept, Again, Ask, Changed, CheckCommand, Reopen, Rescore, Wait
from pylon.swarm.checks.early_opinions import Question
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.checks.verification import Verdict
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing
from pylon.swarm.settings import CheckSettings

MODEL = OfferedModel("m", "ab" * 32)
ANSWER = Answer("", "", "m", MODEL.sha256, Usage(4, 3), Finish.STOP, 0, 90, 100, 1, "request", "result")
NAMES = [f"p{n}" for n in range(6)]
JOBS = 60
RUN = 1
TEXTS = ["so it is", "not so", "how is it?"]


class History:
    """What has become of each slot: `open` ones wait for a decision, `filled` ones have an answer."""

    def __init__(self, *, final: bool, seed: int) -> None:
        self.reputation = Reputation()
        self.checks = Checks(CheckSettings(), self.reputation, random.Random(seed))
        for name in NAMES:
            self.checks.observe(ProviderUp(Listing(name, models=(MODEL,))))
        self.checks.added(RUN, JOBS, final=final)
        self.final = final
        self.slots = 0
        self.open: set[int] = set()
        self.filled: dict[int, str] = {}
        # Second opinions on their way, and answers that our own model reads.
        self.asked: list[Ask] = []
        # Slots on their way, whose questions somebody else may have as well.
        self.sent: dict[str, int] = {}
        self.read: list[int] = []

    def follow(self, commands: list[CheckCommand]) -> None:
        for command in commands:
            match command:
                case Accept(slot, answer, _):
                    self.open.remove(slot)
                    self.filled[slot] = answer.provider
                case Reopen(slot):
                    assert not self.final
                    del self.filled[slot]
                    self.open.add(slot)
                case Again(slots, without):
                    for slot in slots:
                        if slot in self.filled:
                            assert not self.final and self.filled.pop(slot) == without
                        else:
                            self.open.remove(slot)
                case Ask(slot, to, _):
                    assert slot in self.open and to
                    self.asked.append(command)
                case Rescore(slot, _):
                    assert slot in self.open
                    self.read.append(slot)
                case Wait(slot, _):
                    assert slot in self.open and any(ask.slot == slot for ask in self.asked)
                case Changed():
                    pass

    def sends(self, provider: str) -> None:
        slot = self.sent[provider] = self.next()
        self.follow(self.checks.beside([Question(RUN, slot, JobSpec("how is it?"), provider)], 1))

    def next(self) -> int:
        slot, self.slots = self.slots, self.slots + 1
        self.open.add(slot)
        return slot

    def answers(self, provider: str, text: str, votes: int) -> None:
        slot = self.sent.pop(provider, None)
        votes = votes if slot is None else 1
        slot = self.next() if slot is None else slot
        asked = JobSpec("how is it?", votes=votes)
        answer = replace(ANSWER, provider=provider, text=text)
        self.follow(self.checks.answered(RUN, slot, asked, answer, 0.0))

    def opinion(self, which: int, text: str | None) -> None:
        ask = self.asked.pop(which % len(self.asked))
        if text is None:
            self.follow(self.checks.no_second(ask.slot, 0.0))
        else:
            self.follow(self.checks.second(ask.slot, replace(ANSWER, provider=ask.to[0], text=text), 0.0))


STEP = st.tuples(
    st.sampled_from(
        [
            "answer",
            "answer",
            "answer",
            "send",
            "send",
            "opinion",
            "opinion",
            "silence",
            "lie",
            "score",
            "leave",
            "hold",
        ]
    ),
    st.integers(0, 5),
    st.sampled_from([*TEXTS[:1] * 4, *TEXTS]),
    st.sampled_from([1, 1, 1, 3]),
)


@given(steps=st.lists(STEP, max_size=80), final=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_whatever_comes_every_answer_is_decided_once(
    steps: list[tuple[str, int, str, int]], final: bool, seed: int
) -> None:
    history = History(final=final, seed=seed)
    votes = 0
    for what, n, text, wanted in steps:
        match what:
            case "answer":
                votes += 2 * (wanted - 1)
                history.answers(NAMES[n], text, wanted)
            case "send" if NAMES[n] not in history.sent:
                history.sends(NAMES[n])
            case "opinion" | "silence" if history.asked:
                history.opinion(n, text if what == "opinion" else None)
            case "lie":
                seen = Seen.FORGED if n % 2 else Seen.FAULTY
                history.follow(history.checks.note(NAMES[n], seen, 0.0, "a lie"))
            case "score" if history.read:
                slot = history.read.pop(0)
                history.follow(history.checks.scored(slot, list(Verdict)[n % 3], 0.0))
            case "leave":
                history.checks.observe(ProviderDown(NAMES[n]))
            case "hold":
                history.checks.examination.holds = frozenset({MODEL.sha256}) if n % 2 else frozenset()
    while history.sent or history.asked or history.read:
        if history.sent:
            history.answers(next(iter(history.sent)), TEXTS[0], 1)
        elif history.asked:
            history.opinion(0, None)
        else:
            history.follow(history.checks.scored(history.read.pop(0), Verdict.UNCLEAR, 0.0))
    assert not history.open
    assert history.checks.examination.asked <= 0.05 * JOBS + 1 + MUST + votes
    history.checks.closed(RUN, range(history.slots))
    assert (
        not history.checks._cases
        and not history.checks._witnesses._examined
        and not history.checks._early_opinions._early
    )
